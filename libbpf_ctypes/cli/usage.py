"""The command line: docopt reads it, and what is wrong is said in words."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from .. import __version__
from .text import escape

#: Each command's words: what the first is, what it takes, how many, and an example.
COMMANDS = {
    "kprobe": ("the name of a function", "functions", 1 << 16, "vfs_read"),
    "list": ("", "one pattern", 1, ""),
    "doctor": ("", "no name", 0, ""),
    "replay": ("the name of a recording", "one recording", 1, "trace.rec"),
    "schema": ("the name of an object file", "one object file and one struct", 2, "tool.bpf.o"),
    "skeleton": ("the name of an object file", "one object file", 1, "tool.bpf.o"),
}


#: What Linux gives no process more than.
PID_MAX = 1 << 22


class UsageError(Exception):
    """What is wrong with the words given."""


def parse(doc: str, words: list[str]) -> dict[str, Any]:
    """The options of DOC, as docopt finds them in WORDS; prints DOC and exits for --help.

    Raises: UsageError.
    """
    if {"-h", "--help"} & set(words):
        _print_help(doc)
    found: dict[str, Any]
    if words in (["doctor"], ["doctor", "--json"]):  # which tells of a docopt that is missing
        found = dict.fromkeys([*COMMANDS, "--version"], False)
        return {**found, "doctor": True, "--json": len(words) > 1}
    import docopt  # what --help does without

    try:
        found = docopt.docopt(doc, words, default_help=False)
    except docopt.DocoptExit:
        # docopt's complaint is its whole usage text, or its inner state.
        raise UsageError(_diagnose(doc, words)) from None
    if found["--help"]:  # abbreviated
        _print_help(doc)
    return found


def _print_help(doc: str) -> NoReturn:
    print(doc.strip("\n"), flush=True)
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


def _options(doc: str) -> dict[str, bool]:
    """The options of DOC, each with whether it takes a value."""
    options: dict[str, bool] = {}
    for line in re.findall(r"^  (-.*?)(?:  |$)", doc, re.M):
        takes_value = bool(re.search(r"[= ][A-Z]+", line))
        options.update(dict.fromkeys(re.findall(r"(?<!\S)--?[a-z][a-z-]*", line), takes_value))
    return options


def _options_of(doc: str, command: str) -> set[str]:
    """The options that COMMAND takes, by its line in DOC; other options are other commands'."""
    known = _options(doc)
    line = re.search(rf"^  ebpf-tool {command} (.*(?:\n {{10,}}.*)*)", doc, re.M)
    if line is None or "[options]" in line[1]:
        return set(known)
    named = set(re.findall(r"--?[a-z][a-z-]*", line[1]))
    # An option may be named by its other name.
    for names in re.findall(r"^  (-\w)(?: [A-Z]+)?, (--[a-z-]+)", doc, re.M):
        if named & set(names):
            named |= set(names)
    return named


def _repeatable(doc: str) -> set[str]:
    """The options that may be given more than once, by all their names."""
    found = set(re.findall(r"\[(--?[a-z][a-z-]*)(?:[ =][A-Z]+)?\]?\.\.\.", doc))
    for names in re.findall(r"^  (-\w)(?: [A-Z]+)?, (--[a-z-]+)", doc, re.M):
        if found & set(names):
            found |= set(names)
    return found


def _nearest(word: str, known: Any) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _diagnose(doc: str, words: list[str]) -> str:
    """Why docopt did not take these words."""
    options = _options(doc)
    plain: list[str] = []
    seen: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return "'--' has no use here: no name of a function begins with '-'"
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, equals, _value = word.partition("=")
        if not word.startswith("--"):  # -d5 is -d 5, -qv is -q -v
            name, equals = word[:2], word[2:] if options.get(word[:2]) else ""
            if len(word) > 2 and options.get(name) is False:
                rest.insert(0, "-" + word[2:])
        whole = [option for option in options if option.startswith(name)]
        if name.startswith("--") and len(whole) == 1:  # docopt takes abbreviations
            name = whole[0]
        if name not in options:
            return f"unknown option {escape(name)}{_nearest(name, options)}"
        if equals and not options[name]:
            return f"option {name} takes no value"
        if options[name] and not equals:
            if not rest:
                return f"option {name} needs a value"
            rest.pop(0)
        if name in seen and name not in _repeatable(doc):
            return f"option {name} is given twice"
        seen.append(name)
    if "--version" in seen:
        others = " ".join(word for word in words if word != "--version")
        return f"--version goes alone, without {others!r}"
    if not plain:
        return f"no command given; there is: {', '.join(COMMANDS)}"
    command = plain[0]
    if command not in COMMANDS:
        return f"unknown command {command!r}{_nearest(command, COMMANDS)}"
    foreign = [name for name in seen if name not in _options_of(doc, command)]
    if foreign:
        return f"{command} takes no option {foreign[0]}"
    what, takes, most, example = COMMANDS[command]
    if len(plain) == 1 and what:
        return f"{command} needs {what}, as in 'ebpf-tool {command} {example}'"
    if len(plain) > 1 + most:
        return f"{command} takes {takes}, and {' '.join(plain[1 + most :])!r} is one too many"
    return "these words do not go together"
