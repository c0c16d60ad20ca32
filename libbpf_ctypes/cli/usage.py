"""The command line: docopt reads it, and what is wrong is said in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

from .. import __version__
from . import synopsis
from .text import escape

_FUNCTIONS = ("the name of a function", "functions", 1 << 16)

#: Each command's words: what the first is, what it takes, how many, and an example.
COMMANDS = {
    "kprobe": (*_FUNCTIONS, "vfs_read"),
    "kretprobe": (*_FUNCTIONS, "vfs_read"),
    "uprobe": (*_FUNCTIONS, "libc:open64"),
    "uretprobe": (*_FUNCTIONS, "libc:open64"),
    "tracepoint": ("the name of a tracepoint", "tracepoints", 1 << 16, "sched:sched_switch"),
    "latency": (*_FUNCTIONS, "vfs_read"),
    "count": (*_FUNCTIONS, "vfs_read"),
    "list": ("", "one pattern", 1, ""),
    "doctor": ("", "no name", 0, ""),
    "replay": ("the name of a recording", "one recording", 1, "trace.rec"),
    "schema": ("the name of an object file", "one object file and one struct", 2, "tool.bpf.o"),
    "skeleton": ("the name of an object file", "one object file", 1, "tool.bpf.o"),
}

#: The commands that print events, all by one module.
EVENTS = ("kprobe", "kretprobe", "uprobe", "uretprobe", "tracepoint")

#: What Linux gives no process more than.
PID_MAX = 1 << 22


class UsageError(Exception):
    """What is wrong with the words given."""


def parse(doc: str, words: list[str]) -> dict[str, Any]:
    """The options of DOC, as docopt finds them in WORDS; prints help and exits for --help.

    What other commands take is there, too, as if it were not given.

    Raises: UsageError.
    """
    if {"-h", "--help"} & set(words):
        _print_help(doc, words)
    every = synopsis.options(doc)
    found = _nothing_given(doc, every)
    if words in (["doctor"], ["doctor", "--json"]):  # which tells of a docopt that is missing
        return {**found, "doctor": True, "--json": len(words) > 1}
    plain, seen = _take_apart(doc, words, every)
    if "--help" in seen:  # abbreviated
        _print_help(doc, words)
    if list(seen) == ["--version"] and not plain:
        return {**found, "--version": True}
    _check(doc, words, plain, seen)
    import docopt  # what --help does without

    try:
        text = synopsis.reduced(doc, plain[0], seen)
        found.update(docopt.docopt(text, words, default_help=False))
    except docopt.DocoptExit:
        # docopt's complaint is its whole usage text, or its inner state.
        raise UsageError("these words do not go together") from None
    return found


def command_of(words: dict[str, Any]) -> str:
    """The command that was given."""
    return next(name for name in COMMANDS if words[name])


def _nothing_given(doc: str, every: Iterable[synopsis.Option]) -> dict[str, Any]:
    """What docopt would find of all commands together, were none given."""
    found: dict[str, Any] = dict.fromkeys(COMMANDS, False)
    found.update({"FUNCTION": [], "PATTERN": None, "FILE": None, "STRUCT": None})
    many = synopsis.repeatable(doc)
    for each in every:
        none: Any = each.default if each.value else False
        found[each.long] = none if each.long not in many else [] if each.value else 0
    return found


def _print_help(doc: str, words: list[str]) -> NoReturn:
    """Prints the help of the command among WORDS, or the whole."""
    command = next((word for word in words if word in COMMANDS), "")
    print(synopsis.screen(doc, command) if command else doc.strip("\n"), flush=True)
    raise SystemExit(0)


def print_version() -> int:
    """Prints the versions of this package and of libbpf; 0, or 1 without libbpf."""
    from .._ffi import library_path, library_version
    from ..errors import LibraryError

    status, libbpf = 0, ""
    try:
        libbpf = f"libbpf {library_version()} ({escape(library_path())})"
    except LibraryError as error:
        status, libbpf = 1, f"libbpf: {escape(str(error))}"
    print(f"ebpf-tool {__version__}\n{libbpf}", flush=True)
    return status


def number(words: dict[str, Any], option: str, maximum: float) -> float:
    """The value of OPTION as a number from 0 to MAXIMUM. Raises: UsageError."""
    text = words[option]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= maximum or not re.fullmatch(r"[0-9]*\.?[0-9]+", text):
        raise UsageError(f"{option} takes a number from 0 to {maximum:.0f}, not {text!r}")
    return value


def whole_number(words: dict[str, Any], option: str, maximum: int) -> int:
    """The value of OPTION as a whole number from 1 to MAXIMUM. Raises: UsageError."""
    text = words[option]
    if not re.fullmatch(r"[0-9]{1,20}", text) or not 1 <= int(text) <= maximum:
        raise UsageError(f"{option} takes a whole number from 1 to {maximum}, not {text!r}")
    return int(text)


def numbers(words: dict[str, Any], option: str, minimum: int, maximum: int) -> tuple[int, ...]:
    """The values of a repeatable OPTION as whole numbers. Raises: UsageError."""
    found = []
    for text in words[option]:
        if not re.fullmatch(r"[0-9]{1,20}", text) or not minimum <= int(text) <= maximum:
            raise UsageError(
                f"{option} takes a whole number from {minimum} to {maximum}, not {text!r}"
            )
        found.append(int(text))
    return tuple(found)


def size(words: dict[str, Any], option: str, maximum: int) -> int:
    """The value of OPTION in bytes, as "512K", "4M" or a plain number. Raises: UsageError."""
    text = words[option]
    found = re.fullmatch(r"([0-9]{1,12})([KMG]?)(?:i?B)?", text, re.I)
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    value = int(found[1]) * units[found[2].upper()] if found else 0
    if not 1 <= value <= maximum:
        most = f"up to {maximum >> 30}G"
        raise UsageError(f"{option} takes a size as 512K or 16M, {most}, not {text!r}")
    return value


def choice(words: dict[str, Any], option: str, choices: tuple[str, ...]) -> str:
    """The value of OPTION, one of CHOICES. Raises: UsageError."""
    text: str = words[option]
    if text not in choices:
        raise UsageError(f"{option} takes {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}")
    return text


def _nearest(word: str, known: Any) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _take_apart(
    doc: str, words: list[str], every: Iterable[synopsis.Option]
) -> tuple[list[str], dict[str, str]]:
    """The words that are no options, and the options as given, by their long names.

    Raises: UsageError.
    """
    known = {name: each for each in every for name in each.names}
    plain: list[str] = []
    seen: dict[str, str] = {}
    many = synopsis.repeatable(doc)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            raise UsageError("'--' has no use here: no name of a function begins with '-'")
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, equals, _value = word.partition("=")
        if not word.startswith("--"):  # -d5 is -d 5, -qv is -q -v
            name = word[:2]
            equals = word[2:] if name in known and known[name].value else ""
            if len(word) > 2 and name in known and not known[name].value:
                rest.insert(0, "-" + word[2:])
        elif name not in known:  # docopt takes abbreviations
            own = [*synopsis.options(doc, plain[0] if plain else ""), known["--help"]]
            whole = {each.long for each in own if each.long.startswith(name)}
            name = whole.pop() if len(whole) == 1 else name
        if name not in known:
            raise UsageError(f"unknown option {escape(name)}{_nearest(name, known)}")
        option = known[name]
        if equals and not option.value:
            raise UsageError(f"option {name} takes no value")
        if option.value and not equals:
            if not rest:
                raise UsageError(f"option {name} needs a value")
            rest.pop(0)
        if option.long in seen and name not in many:
            raise UsageError(f"option {name} is given twice")
        seen[option.long] = name
    return plain, seen


def _check(doc: str, words: list[str], plain: list[str], seen: dict[str, str]) -> None:
    """Raises UsageError if the command is none, or does not take what is given."""
    if "--version" in seen:
        others = " ".join(word for word in words if word != "--version")
        raise UsageError(f"--version goes alone, without {others!r}")
    if not plain:
        raise UsageError(f"no command given; there is: {', '.join(COMMANDS)}")
    command = plain[0]
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{_nearest(command, COMMANDS)}")
    own = {each.long for each in synopsis.options(doc, command)}
    foreign = [given for name, given in seen.items() if name not in own]
    if foreign:
        raise UsageError(f"{command} takes no option {foreign[0]}")
    what, takes, most, example = COMMANDS[command]
    if len(plain) == 1 and what:
        raise UsageError(f"{command} needs {what}, as in 'ebpf-tool {command} {example}'")
    if len(plain) > 1 + most:
        raise UsageError(
            f"{command} takes {takes}, and {' '.join(plain[1 + most :])!r} is one too many"
        )
