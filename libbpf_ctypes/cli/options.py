"""The command line of what traces, checked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..paths import KPROBE_OBJECT
from . import usage
from .console import wants_debug
from .line_options import LineOptions, read_line_options
from .origin import RETURNED
from .text import escape

_YEARS = 10 * 366 * 86400
_BUFFER_MAX = 1 << 32
_EVENTS_MAX = 1 << 62
_ID_MAX = (1 << 32) - 1
_CPU_MAX = 1 << 16

#: A function's name as /proc/kallsyms has it, without a pattern or an offset.
_NAME = re.compile(r"(?:\w[\w.-]*:)?[A-Za-z_][\w.]*")


#: What the commands probe, in the kernel's word; of others it is kprobe. In latency and count
#: it is written before the names.
_KINDS = {"uprobe": "uprobe", "uretprobe": "uprobe", "tracepoint": "tracepoint"}


class Choice(NamedTuple):
    """Which calls are traced; the kernel decides it.

    Attributes: empty, and 1 of ``sample``: every call.
    """

    pids: tuple[int, ...]
    tids: tuple[int, ...]
    uids: tuple[int, ...]
    comms: tuple[str, ...]
    cgroup: str
    cpus: tuple[int, ...]
    filter: str
    sample: int

    def is_one_process_at_most(self) -> bool:
        """Whether nothing is chosen but a process."""
        return len(self.pids) < 2 and self == _NONE._replace(pids=self.pids)


_NONE = Choice((), (), (), (), "", (), "", 1)


class Options(NamedTuple):
    """The command line."""

    command: str
    kind: str  # of what is probed: kprobe, uprobe or tracepoint
    words: tuple[str, ...]  # of functions
    address: str | None
    all_of: bool
    choice: Choice
    include_self: bool
    all_args: bool
    args: tuple[str, ...]
    kernel_stack: bool
    user_stack: bool
    slower_ns: int  # quicker returns are left out
    failed: bool  # only returns of errors
    ret: str  # format of the return value; "": by its type
    seconds: float
    events: int  # 0: no limit
    lines: LineOptions
    record: str | None
    output: str | None
    line_buffered: bool
    unsorted: bool
    buffer: int  # bytes of each CPU's; 0: the library's default
    strict: bool
    dry_run: bool
    object: Path
    quiet: bool
    debug: bool

    @property
    def function(self) -> str:
        """What is traced, in a word or so."""
        return self.words[0] if len(self.words) == 1 else f"{len(self.words)} names"

    @property
    def of_kernel(self) -> bool:
        """Whether it is functions of the kernel that are traced."""
        return self.kind == "kprobe"

    @property
    def sums(self) -> bool:
        """Whether calls are summed up in the kernel: there are no events."""
        return self.command in ("latency", "count")

    @property
    def returns(self) -> bool:
        """Whether calls are traced when they return."""
        return self.command in ("kretprobe", "uretprobe", "latency")

    @property
    def probe(self) -> str:
        """What is attached, in the kernel's word."""
        returns = {"kprobe": "kretprobe", "uprobe": "uretprobe"}
        return returns[self.kind] if self.returns else self.kind

    def is_plain(self) -> bool:
        """Whether the plain program does: one function by name, its first argument."""
        return (
            self.command == "kprobe"
            and len(self.words) == 1
            and _NAME.fullmatch(self.words[0]) is not None
            and not self.words[0].startswith("syscall:")
            and self.choice.is_one_process_at_most()
            and not (self.address or self.all_of or self.all_args or self.args)
            and not (self.kernel_stack or self.user_stack)
            and not (self.lines.fields or self.lines.format != "lines" or self.dry_run)
        )


def read_options(words: dict[str, Any]) -> Options:
    """The options in docopt's words. Raises: usage.UsageError."""
    for option in ("--object", "--output", "--record"):
        if words[option] == "":
            raise usage.UsageError(f"{option} takes a file, not ''")
    if (
        words["--record"]
        and words["--output"]
        and _is_one_file(words["--record"], words["--output"])
    ):
        raise usage.UsageError("--record and --output name the same file")
    command = usage.command_of(words)
    kind, names = _read_names(command, words["FUNCTION"])
    _check_kind(kind, words)
    lines = read_line_options(words)
    if words["--record"] is not None and words["--dry-run"]:
        raise usage.UsageError("--dry-run traces nothing: leave --record out")
    if lines.raw_args and any(":" in spec for spec in words["--arg"]):
        raise usage.UsageError("--raw-args prints numbers as they are: leave it or the format out")
    if words["--ret"] and any(spec.partition(":")[0] == RETURNED for spec in words["--arg"]):
        raise usage.UsageError("--arg ret is what --ret prints: leave one of them out")
    return Options(
        command=command,
        kind=kind,
        words=names,
        address=words["--address"],
        all_of=words["--all"],
        choice=_read_choice(words, lines),
        include_self=words["--include-self"],
        all_args=words["--args"],
        args=tuple(words["--arg"]),
        kernel_stack=words["--kernel-stack"],
        user_stack=words["--user-stack"],
        slower_ns=0
        if words["--slower"] is None
        else round(usage.number(words, "--slower", _YEARS * 1000) * 1e6),
        failed=words["--failed"],
        ret=words["--ret"] or "",
        seconds=usage.number(words, "--duration", _YEARS),
        events=0
        if words["--events"] is None
        else usage.whole_number(words, "--events", _EVENTS_MAX),
        lines=lines,
        record=words["--record"],
        output=words["--output"],
        line_buffered=words["--line-buffered"],
        unsorted=words["--unsorted"],
        buffer=0 if words["--buffer"] is None else usage.size(words, "--buffer", _BUFFER_MAX),
        strict=words["--strict"],
        dry_run=words["--dry-run"],
        object=KPROBE_OBJECT if words["--object"] is None else Path(words["--object"]),
        quiet=words["--quiet"],
        debug=wants_debug(words["--verbose"]),
    )


def _check_kind(kind: str, words: dict[str, Any]) -> None:
    """Raises: usage.UsageError: latency's or count's options say nothing of what is probed."""
    if kind == "tracepoint" and words["--all"]:
        raise usage.UsageError("--all is of functions: a tracepoint's name stands for one")
    if kind != "kprobe" and words["--address"] is not None:
        raise usage.UsageError("--address is of the kernel's functions")


def _read_names(command: str, words: list[str]) -> tuple[str, tuple[str, ...]]:
    """What is probed, and the names of it. Raises: usage.UsageError: what can be no name."""
    kind, names = _KINDS.get(command, "kprobe"), tuple(words)
    if command in ("latency", "count"):
        kind, names = _without_kind(words)
        if command == "latency" and kind == "tracepoint":
            raise usage.UsageError("latency is of functions: a tracepoint does not return")
    what = {"tracepoint": "a tracepoint", "uprobe": "a binary's function"}
    for name in names:
        if name.startswith("-"):  # docopt takes -5 for an argument
            raise usage.UsageError(f"unknown option {escape(name)}")
        # A module's name may begin with a digit: 8021q.
        odd = kind == "kprobe" and (" " in name or name.rpartition(":")[2][:1].isdigit())
        if not name or not name.isprintable() or odd:
            raise usage.UsageError(
                f"{name!r} is not the name of {what.get(kind, 'a kernel function')}"
            )
    return kind, names


def _without_kind(words: list[str]) -> tuple[str, tuple[str, ...]]:
    """The kind that is written before the names, and these. Raises: usage.UsageError."""
    found = [word.partition(":") for word in words]
    kinds = [kind if kind in ("uprobe", "tracepoint") else "" for kind, _, _ in found]
    if len(set(kinds)) > 1:
        raise usage.UsageError("functions of the kernel, uprobe: and tracepoint: go not together")
    if not kinds[0]:
        return "kprobe", tuple(words)
    return kinds[0], tuple(name for _, _, name in found)


def _read_choice(words: dict[str, Any], lines: LineOptions) -> Choice:
    for option in ("--address", "--cgroup", "--filter", "--cpu", "--ret"):
        if words[option] is not None and not words[option].strip():
            raise usage.UsageError(f"{option} takes more than {words[option]!r}")
    if "" in words["--comm"]:
        raise usage.UsageError("--comm takes the name of a process, or a pattern, not ''")
    return Choice(
        pids=lines.pids,
        tids=usage.numbers(words, "--tid", 1, usage.PID_MAX),
        uids=tuple(_user(text) for text in words["--uid"]),
        comms=tuple(words["--comm"]),
        cgroup=words["--cgroup"] or "",
        cpus=() if words["--cpu"] is None else read_cpus(words["--cpu"]),
        filter=words["--filter"] or "",
        sample=1 if words["--sample"] is None else _sample(words["--sample"]),
    )


def _is_one_file(one: str, other: str) -> bool:
    """Whether two paths are of the same file, which need not be there yet."""
    return os.path.realpath(one) == os.path.realpath(other)


def _user(text: str) -> int:
    """The number of a user. Raises: usage.UsageError."""
    if re.fullmatch(r"[0-9]{1,10}", text) and int(text) < _ID_MAX:
        return int(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise usage.UsageError(f"--uid: there is no user {text!r}") from None


def read_cpus(text: str) -> tuple[int, ...]:
    """The numbers of a list such as "0,2-3". Raises: usage.UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _CPU_MAX:
            raise usage.UsageError(f"--cpu takes numbers of CPUs as 0,2-3, not {text!r}")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _sample(text: str) -> int:
    """The N of 1/N. Raises: usage.UsageError."""
    match = re.fullmatch(r"1/([0-9]{1,9})", text)
    if match is None or not int(match[1]) >= 1:
        raise usage.UsageError(f"--sample takes one of N, as 1/100, not {text!r}")
    return int(match[1])
