"""What the words of tracepoint name: the kernel's tracepoints, with the fields of their records."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import NamedTuple, Union

from .. import kernel
from ..errors import BpfError
from .formats import Name
from .functions import Function, glob_regex
from .text import escape
from .usage import UsageError
from .user_functions import UserFunction

#: The first bytes of a record are the kernel's own: to BPF they are something else.
_COMMON = 8
_LISTED = 12
_FIELD = re.compile(
    r"\s*field:(?P<declaration>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);"
    r"(?:\s*signed:(?P<signed>[01]);)?\s*"
)
_DECLARATION = re.compile(r"(?P<type>.*[\s*])(?P<name>\w+)(?P<array>\[[^\]]*\])?")
#: Of a system call's arguments BPF sees the registers alone.
_CALLS = "syscalls"
#: What every tracepoint of a system call has, and its name says already.
_NUMBER = "__syscall_nr"


class Field(NamedTuple):
    """A field of a tracepoint's record.

    Attributes:
        type: in C: ``const char *``, ``char``.
        offset, size: of it in the record.
        signed: whether it is a signed number.
        is_array: of so many elements as fit in SIZE; of ``data_loc`` of any number.
        data_loc: "data", "rel": the array lies behind the record, its offset is here, from
            the record's beginning, or from this field's end; "": it lies here.
    """

    name: str
    type: str
    offset: int
    size: int
    signed: bool
    is_array: bool
    data_loc: str


class Tracepoint(NamedTuple):
    """A tracepoint of the running kernel.

    Attributes:
        category, name: its folders below events/.
        label: what the user sees and types: ``sched:sched_switch``.
        fields: as its format file lists them, without the kernel's own.
        words: by a field's name: names of its values, as the tracepoint itself prints them.
    """

    category: str
    name: str
    label: str
    fields: tuple[Field, ...]
    words: dict[str, tuple[Name, ...]]

    @property
    def probe(self) -> str:
        """By what it is traced."""
        return "tracepoint"

    @property
    def symbol(self) -> str:
        """Its name."""
        return self.name

    @property
    def module(self) -> str:
        """Its category."""
        return self.category

    @property
    def syscall(self) -> str:
        """No function of a system call, whose arguments would be unwrapped."""
        return ""


#: What can be traced.
Probed = Union[Function, UserFunction, Tracepoint]


def find_tracepoints(words: list[str]) -> list[Tracepoint]:
    """The tracepoints that these words name, each once, in the words' order, a glob's by name.

    Args: words: ``CATEGORY:NAME``, also as patterns: ``sched:*``.
    Raises: UsageError; BpfError: there is none, or tracefs cannot be read. The hint lists what
        there is.
    """
    events = _events_folder(words[0])
    found: dict[tuple[str, str], None] = {}
    for word in words:
        found.update(dict.fromkeys(_names(word, events)))
    return [_read(events, *each) for each in found]


def tracepoint_names(events: Path) -> list[tuple[str, str]]:
    """Category and name of all tracepoints. Args: events: tracefs's folder."""
    return sorted(path.parts[-3:-1] for path in events.glob("*/*/format"))  # type: ignore[misc]


def _events_folder(word: str) -> Path:
    """Where tracefs lists the tracepoints. Raises: BpfError."""
    for root in kernel.TRACEFS:
        events = Path(root, "events")
        try:
            if next(events.iterdir(), None) is not None:
                return events
        except PermissionError as error:
            operation, hint = f"find {escape(word)}", "Only root can read tracefs, by default."
            raise BpfError(operation, error.errno, error.strerror or "", hint=hint) from None
        except OSError:
            continue
    hint = "Mount it: 'mount -t tracefs tracefs /sys/kernel/tracing'."
    raise BpfError(f"find {escape(word)}", errno.ENOENT, "tracefs is not mounted", hint=hint)


def _names(word: str, events: Path) -> list[tuple[str, str]]:
    """Category and name of what a word means. Raises: UsageError, BpfError: there is none."""
    category, colon, name = word.partition(":")
    if not colon or not category or not name or not re.fullmatch(r"[\w*?!\[\]:-]+", word):
        raise UsageError(f"{word!r} is no CATEGORY:NAME, as sched:sched_switch")
    if not set(word) & set("*?["):
        if _is_there(events, category, name):
            return [(category, name)]
        raise _not_found(category, name, events)
    wanted = re.compile(f"{glob_regex(category)}:{glob_regex(name)}")
    found = [each for each in tracepoint_names(events) if wanted.fullmatch(":".join(each))]
    # ftrace's own records are no tracepoints: they have no number that can be attached to.
    found = [each for each in found if _is_there(events, *each)]
    if not found:
        reason = "no tracepoint's name matches"
        raise BpfError(f"find {word}", errno.ENOENT, reason, hint=f"{events} lists what there is.")
    return found


def _is_there(events: Path, category: str, name: str) -> bool:
    return (events / category / name / "id").exists() and category != "ftrace"


def _not_found(category: str, name: str, events: Path) -> BpfError:
    """What there is instead."""
    import difflib

    known = [each for each in tracepoint_names(events) if each[0] != "ftrace"]
    same = [":".join(each) for each in known if each[1] == name]
    near = same or difflib.get_close_matches(f"{category}:{name}", map(":".join, known), 4)
    if not near and any(each[0] == category for each in known):
        near = [":".join(each) for each in known if each[0] == category][:_LISTED]
    hint = f"There is: {', '.join(near)}." if near else f"{events} lists what there is."
    reason = "there is no such tracepoint"
    return BpfError(f"find {category}:{name}", errno.ENOENT, reason, hint=hint)


def _read(events: Path, category: str, name: str) -> Tracepoint:
    """A tracepoint with what its format file says. Raises: BpfError."""
    from .print_format import names_in  # and ast with it

    operation = f"read the fields of {category}:{name}"
    try:
        text = (events / category / name / "format").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BpfError(operation, error.errno, error.strerror or "") from None
    fields, behind, printed = read_format(text, category)
    if not behind:
        raise BpfError(operation, None, f"its format makes no sense: {text[:80]!r}")
    return Tracepoint(category, name, f"{category}:{name}", fields, names_in(printed))


def read_format(text: str, category: str = "") -> tuple[tuple[Field, ...], bool, str]:
    """The fields of a format file, whether it has any, and how its record is printed."""
    fields, some = [], False
    head, _, printed = text.partition("print fmt:")
    for line in head.splitlines():
        match = _FIELD.fullmatch(line)
        if match is None:
            continue
        some = True
        made = _field(match)
        if made is None or made.offset < _COMMON:
            continue
        if category != _CALLS or not (made.data_loc or made.name == _NUMBER):
            fields.append(made)
    return tuple(fields), some, printed


def _field(match: re.Match[str]) -> Field | None:
    text = match["declaration"].strip()
    data_loc = ""
    for prefix, what in (("__data_loc ", "data"), ("__rel_loc ", "rel")):
        if text.startswith(prefix):
            text, data_loc = text[len(prefix) :], what
    if data_loc:  # "char[] name"
        kind, _, name = text.rpartition(" ")
        found = _DECLARATION.fullmatch(f"{kind.partition('[')[0]} {name}")
    else:
        found = _DECLARATION.fullmatch(text)
    if found is None:
        return None
    return Field(
        escape(found["name"]),
        escape(" ".join(found["type"].split())),
        int(match["offset"]),
        int(match["size"]),
        match["signed"] == "1",
        bool(data_loc or found["array"]),
        data_loc,
    )
