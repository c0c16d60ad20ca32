"""What the docopt text of bin/ebpf-tool says: its commands, their options and examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

#: Whom a section or an option is for, where not for all: "(latency, count)", "(not latency)".
_WHOM = re.compile(r" \((not )?([a-z, ]+)\)(?=:?$)")
#: What --help of one command fits in, with room for the prompt below it.
_LINES, _COLUMNS = 23, 80


class Option(NamedTuple):
    """An option as the text tells of it."""

    short: str  # "-d", "" where there is none
    long: str
    value: str  # what it takes, as "SECONDS"; "": nothing
    text: str
    default: str | None

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
    found = re.split(r"^(\S[^\n]*:)\n(?=  )", doc, flags=re.M)
    yield from zip(found[1::2], found[2::2])


def section(doc: str, name: str) -> list[str]:
    """The lines of a section, without their indentation."""
    body = next((body for header, body in _sections(doc) if header == f"{name}:"), "")
    return [line[2:] for line in body.split("\n\n")[0].splitlines()]


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


def usage_of(doc: str, command: str) -> str:
    """The words that may follow a command, as docopt reads them."""
    for line in re.split(r"^ebpf-tool ", "\n".join(section(doc, "Usage")), flags=re.M):
        found = re.match(r"\(([a-z| ]+)\)|\w+", line)
        if found and command in (found[1] or found[0]).split(" | "):
            return " ".join(line[found.end() :].split())
    return ""


@cache
def options(doc: str, command: str = "") -> tuple[Option, ...]:
    """All options, or those that a command takes."""
    usage = usage_of(doc, command)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
    found = []
    for header, body in _sections(doc):
        if "ptions" not in header:
            continue
        of_section = "[options]" in usage and _is_for(header, command)
        for entry in re.split(r"\n(?=  -)", "\n" + body.split("\n\n")[0])[1:]:
            option = _option(entry)
            mine = of_section and _is_for(" ".join(entry.split()), command)
            if not command or mine or named & set(option.names):
                found.append(option)
    return tuple(found)


def _is_for(text: str, command: str) -> bool:
    """Whether a header or an option is for this command, by what is in parentheses at its end."""
    found = _WHOM.search(text)
    if found is None:
        return not text.startswith("Other ")
    return (command in found[2].split(", ")) != bool(found[1])


def _option(entry: str) -> Option:
    names, text = re.split(r"  +", entry.strip(), maxsplit=1)
    text = " ".join(text.split())
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
    tail = ["", "Examples:", *(f"  {each}" for each in shown)]
    ranked = sorted(mine, key=lambda each: (not words & set(each.names), not each.short))
    for count in range(len(ranked), -1, -1):
        told = [each for each in mine if each in ranked[:count]]
        lines = ["", *_entries(told)] if told else []
        rest = [each.names[0] for each in mine if each not in told]
        if rest:
            more = f"Also {' '.join(rest)}: see 'ebpf-tool --help'."
            lines += textwrap.wrap(more, _COLUMNS - 1, break_on_hyphens=False)
        if len(head) + len(lines) + len(tail) <= _LINES:
            break
    return "\n".join([*head, *lines, *tail])


def _entries(told: list[Option]) -> list[str]:
    """A line or two for each option."""
    import textwrap

    heads = [f"  {', '.join([*each.names[:-1], each.spec])}" for each in told]
    width = max(map(len, heads)) + 2
    lines = []
    for head, each in zip(heads, told):
        text = _WHOM.sub("", each.text)
        wrapped = textwrap.wrap(text, _COLUMNS - 1 - width, break_on_hyphens=False)
        lines.append(f"{head:<{width}}{wrapped[0]}")
        lines += [" " * width + more for more in wrapped[1:]]
    return lines
