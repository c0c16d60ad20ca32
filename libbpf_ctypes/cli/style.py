"""How lines look: aligned on a terminal, coloured where that is wanted."""

from __future__ import annotations

import os
from typing import NamedTuple

_CYAN, _GREEN, _BOLD, _RESET = "\x1b[36m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


class Style(NamedTuple):
    """``aligned``: in columns, padded with blanks. ``coloured``: with escape sequences."""

    aligned: bool = False
    coloured: bool = False

    def process(self, text: str) -> str:
        """TEXT in the colour of processes."""
        return f"{_CYAN}{text}{_RESET}" if self.coloured else text

    def function(self, text: str) -> str:
        """TEXT in the colour of functions."""
        return f"{_GREEN}{text}{_RESET}" if self.coloured else text

    def heading(self, text: str) -> str:
        """TEXT as the line above columns."""
        return f"{_BOLD}{text}{_RESET}" if self.coloured else text


#: As in a pipe or a file: nothing but the text.
PLAIN = Style()


def style_of(color: str, fd: int) -> Style:
    """The style of what is written to FD.

    Args: color: "always", "never" or "auto": on a terminal that has colours, unless the
        environment sets NO_COLOR.
    """
    terminal = os.isatty(fd)
    if color == "auto":
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
        return Style(terminal, terminal and not plain)
    return Style(terminal, color == "always")


def width_of(text: str) -> int:
    """The columns that printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(character: str) -> int:
    import unicodedata  # of names in other letters only

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int) -> str:
    """TEXT with blanks behind it, up to so many columns."""
    return text + " " * (width - width_of(text))


def cut(text: str, width: int) -> str:
    """What of printable TEXT fits into so many columns."""
    while width_of(text) > width:
        text = text[: max(0, len(text) - max(1, (width_of(text) - width) // 2))]
    return text
