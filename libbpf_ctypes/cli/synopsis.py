"""What the docopt text of bin/ebpf-tool says: its commands, their options and examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

#: Whom a section or an option is for, where not for all: "(latency, count)", "(not latency)".
_WHOM = re.compile(r" \((not )?([a-z, ]+)\)$")
#: What --help of one command fits in, with room for the prompt below it.
_LINES, _COLUMNS = 23, 80


class Option(NamedTuple):
    """An option as the text tells of it."""

    short: str  # "-d", "" where there is none
    long: str
    value: str  # what it takes, as "SECONDS"; "": nothing
    text: str
    default: str | None
    whom: str  # " (latency)", " (not latency)"; "": for all

    @property
    def names(self) -> tuple[str, ...]:
        """Its names, the short one first."""
        return (self.short, self.long) if self.short else (self.long,)

    @property
    def spec(self) -> str:
        """Its long name and what it takes."""
        return f"{self.long}={self.value}" if self.value else self.long


def _sections(doc: str) -> Iterator[tuple[str, str]]:
    """The header and the body of each section."""
    found = re.split(r"^(\S[^\n]*):\n(?=  )", doc, flags=re.M)
    yield from zip(found[1::2], (body.split("\n\n")[0] for body in found[2::2]))


def section(doc: str, name: str) -> list[str]:
    """The lines of a section, without their indentation."""
    body = next((body for header, body in _sections(doc) if header == name), "")
    return [line[2:] for line in body.splitlines()]


def commands(doc: str) -> dict[str, str]:
    """What each command does, by its name."""
    found = {}
    for line in section(doc, "Commands"):
        name, text = line.split(None, 1)
        found[name] = text
    return found


def examples(doc: str, command: str) -> list[str]:
    """The examples of a command."""
    return [line for line in section(doc, "Examples") if line.split()[1] == command]


def text_of(doc: str, option: Option, command: str) -> str:
    """What an option does for a command: "; count: lines or json" is in place of the rest."""
    parts = []
    for part in option.text.split("; "):
        found = re.match(r"(?:for )?([a-z]+)(: | )", part)
        if found is None or found[1] not in commands(doc):
            parts.append(part)
        elif found[1] == command:
            parts = [] if found[2] == ": " else parts
            parts.append(part[found.end() :])
    return "; ".join(parts)


def functions_of(doc: str, command: str) -> str:
    """What a FUNCTION is to a command, "" if it takes none."""
    found = re.search(r"^A FUNCTION .*?(?=\n\n)", doc, re.M | re.S)
    if found is None or "FUNCTION" not in positionals(doc, command):
        return ""
    first, *others = re.split(r"(?<=\.) ", " ".join(found[0].split()))
    mine = [each for each in others if re.search(rf"(?<![\w:]){command}(?![\w:])", each)]
    its_own = [re.sub("^For .*? it is ", "A FUNCTION is ", each) for each in mine]
    return " ".join(its_own if its_own != mine else [first, *mine])


def usage_of(doc: str, command: str) -> str:
    """The words that may follow a command, as docopt reads them."""
    for line in re.split(r"^ebpf-tool ", "\n".join(section(doc, "Usage")), flags=re.M):
        found = re.match(r"\(([a-z| ]+)\)|\w+", line)
        if found and command in (found[1] or found[0]).split(" | "):
            return " ".join(line[found.end() :].split())
    return ""


@cache
def groups(doc: str) -> tuple[tuple[str, tuple[Option, ...]], ...]:
    """The headers of the options' sections, each with its options."""
    return tuple(
        (header, tuple(_option(entry) for entry in re.split(r"\n(?=  -)", "\n" + body)[1:]))
        for header, body in _sections(doc)
        if "ptions" in header
    )


@cache
def options(doc: str, command: str = "") -> tuple[Option, ...]:
    """All options, or those that a command takes."""
    usage = usage_of(doc, command)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
    found: list[Option] = []
    for header, group in groups(doc):
        of_group = "[options]" in usage and header != "Other options" and _is_for(header, command)
        for option in group:
            mine = of_group or named & set(option.names)
            if not command or (mine and _is_for(option.whom, command)):
                found.append(option)
    return tuple(found)


def _is_for(whom: str, command: str) -> bool:
    """Whether what is in parentheses at the end of a text names this command."""
    found = _WHOM.search(whom)
    return found is None or (command in found[2].split(", ")) != bool(found[1])


def _option(entry: str) -> Option:
    names, text = re.split(r"  +", entry.strip(), maxsplit=1)
    text = " ".join(text.split())
    whom = _WHOM.search(text)
    text = _WHOM.sub("", text)
    default = re.search(r" ?\[default: (.*)\]", text)
    if default:
        text = text.replace(default[0], "")
    words = [re.split(r"[= ]", name) for name in names.split(", ")]
    return Option(
        words[0][0] if len(words) > 1 else "",
        words[-1][0],
        words[-1][1] if len(words[-1]) > 1 else "",
        text,
        default[1] if default else None,
        whom[0] if whom else "",
    )


@cache
def repeatable(doc: str) -> set[str]:
    """The options that may be given more than once, by all their names."""
    usage = "\n".join(section(doc, "Usage"))
    found = set(re.findall(r"\[(--?[a-z][a-z-]*)(?:[ =][A-Z]+)?\]?\.\.\.", usage))
    return found | {name for each in options(doc) if found & set(each.names) for name in each.names}


def positionals(doc: str, command: str) -> str:
    """The words that are no options, as docopt reads them: "FILE [STRUCT]"."""
    return " ".join(re.sub(r"\[(?:-.*?|options)\](?:\.\.\.)?", "", usage_of(doc, command)).split())


def reduced(doc: str, command: str, given: Iterable[str]) -> str:
    """The text as docopt needs it for this command and these options, by their long names.

    docopt's time grows with the square of the options that it is told of.
    """
    mine = [each for each in options(doc, command) if each.long in given]
    repeated = "".join(f" [{each.spec}]..." for each in mine if each.long in repeatable(doc))
    lines = [f"Usage: ebpf-tool {command} {positionals(doc, command)}{repeated} [options]", ""]
    lines += [f"  {', '.join([*each.names[:-1], each.spec])}" for each in mine]
    return "\n".join([*lines, ""])


def screen(doc: str, command: str) -> str:
    """The help of one command, on one screen: what its examples use, and what has a letter.

    The other options are only named.
    """
    import textwrap

    shown = examples(doc, command)
    words = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", "\n".join(shown)))
    mine = [each for each in options(doc, command) if each.long != "--help"]
    takes = " ".join([positionals(doc, command), *["[options]"][: len(mine)]]).strip()
    head = [f"Usage: ebpf-tool {command} {takes}".strip(), ""]
    head += textwrap.wrap(f"Prints {commands(doc)[command]}.", _COLUMNS - 1)
    head += textwrap.wrap(functions_of(doc, command), _COLUMNS - 1, break_on_hyphens=False)
    tail = ["", "Examples:", *(f"  {each}" for each in shown)]
    ranked = sorted(mine, key=lambda each: (not words & set(each.names), not each.short))
    room = max(0, _LINES - len(head) - len(tail) - 1)  # an option takes a line at least
    for count in range(min(len(ranked), room), -1, -1):
        told = [each for each in mine if each in ranked[:count]]
        lines = ["", *_entries(doc, command, told)] if told else []
        rest = [each.names[0] for each in mine if each not in told]
        if rest:
            more = f"Also {' '.join(rest)}: see 'ebpf-tool --help'."
            lines += textwrap.wrap(more, _COLUMNS - 1, break_on_hyphens=False)
        if len(head) + len(lines) + len(tail) <= _LINES:
            break
    return "\n".join([*head, *lines, *tail])


def _entries(doc: str, command: str, told: list[Option]) -> list[str]:
    """A line or two for each option."""
    import textwrap

    heads = [f"  {', '.join([*each.names[:-1], each.spec])}" for each in told]
    width = max(map(len, heads)) + 2
    lines = []
    for head, each in zip(heads, told):
        text = text_of(doc, each, command)
        text += "" if each.default is None else f" [default: {each.default}]"
        wrapped = textwrap.wrap(text, _COLUMNS - 1 - width, break_on_hyphens=False)
        lines.append(f"{head:<{width}}{wrapped[0]}")
        lines += [" " * width + more for more in wrapped[1:]]
    return lines
