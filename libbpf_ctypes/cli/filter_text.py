"""The text of a ``--filter``: its words, and how a mistake in it is shown."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from .text import escape

_TOKENS = re.compile(
    r"""\s*(?:
    (?P<number>-?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]{0,99}|0)(?!\w))
    |(?P<name>\*?[A-Za-z_]\w*(?:(?:\.|->)[A-Za-z_]\w*|\[\d{1,9}\])*(?::(?:str|u?int|u?long)\b)?)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>()&|!])
    )""",
    re.X | re.S,
)


class Token(NamedTuple):
    kind: str  # "number", "name", "string", "sign", "end"
    text: str
    start: int
    end: int


class Mistake(Exception):
    """What is wrong, and with which characters of the filter."""

    def __init__(self, reason: str, start: int, end: int) -> None:
        super().__init__(reason)
        self.start, self.end = start, end


def point(text: str, mistake: Mistake) -> str:
    """The mistake with the filter, and a caret under what is meant."""
    before, meant = escape(text[: mistake.start]), escape(text[mistake.start : mistake.end])
    marks = "^" + "~" * (_columns(meant) - 1)
    return f"--filter: {mistake}\n  {escape(text)}\n  {' ' * _columns(before)}{marks}"


def _columns(text: str) -> int:
    """How wide a terminal shows a text."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def tokens(text: str) -> list[Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKENS.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            _refuse_character(text, at)
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind), match.end(kind)))
        at = match.end()
    return [*found, Token("end", "", len(text.rstrip()), len(text.rstrip()))]


def _refuse_character(text: str, at: int) -> NoReturn:
    if text[at] in "\"'":
        raise Mistake("this string has no end", at, len(text))
    if text[at] == "=":
        raise Mistake("a comparison is written ==", at, at + 1)
    if text[at].isdigit() or text[at] == "-":
        found = re.compile(r"-?\w*").match(text, at)
        end = max(found.end() if found else 0, at + 1)
        raise Mistake("this is no number", at, end)
    raise Mistake(f"{text[at]!r} has no meaning here", at, at + 1)


def number(text: str) -> int:
    """As C and Python write them: 0x10, 020, 0o20, 0b11."""
    digits = text.lstrip("-")
    if re.fullmatch("0[0-7]+", digits):
        digits = "0o" + digits[1:]
    value = int(digits, 0)
    return -value if text.startswith("-") else value


def unquote(text: str) -> str:
    r"""The pattern in a string: \" is a quote; other backslashes are the pattern's own."""
    quote = text[0]
    return text[1:-1].replace(f"\\{quote}", quote)
