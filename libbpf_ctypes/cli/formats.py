"""How the values of an event become words: names of constants and flags, signs, bases, texts.

A Format is plain data, so that a recording can carry it: what was ``O_CLOEXEC`` where it was
recorded is so where it is replayed, whatever that machine's numbers are.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from .fetches import TEXT_SIZE
from .text import escape

#: How what has no name is written.
DECIMAL, HEXADECIMAL, OCTAL, BOOLEAN, POINTER, TEXT = range(6)
#: A decimal number, and a pointer, that may be an error of the kernel: -ENOENT.
ERROR, ERROR_POINTER = 6, 7

_POINTERS, _ERRORS = (POINTER, ERROR_POINTER), (ERROR, ERROR_POINTER)
_ALL = 2**64 - 1

#: Errors that the kernel keeps to itself, or that Python calls by another name.
_KERNELS_ERRORS = {
    35: "EDEADLK",
    95: "EOPNOTSUPP",
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK",
    517: "EPROBE_DEFER",
    518: "EOPENSTALE",
    519: "ENOPARAM",
    521: "EBADHANDLE",
    522: "ENOTSYNC",
    523: "EBADCOOKIE",
    524: "ENOTSUPP",
    525: "ETOOSMALL",
    526: "ESERVERFAULT",
    527: "EBADTYPE",
    528: "EJUKEBOX",
    529: "EIOCBQUEUED",
    530: "ERECALLCONFLICT",
    531: "ENOGRACE",
}

#: A name, and when it holds: number & mask == value.
Name = tuple[int, int, str]


class Format(NamedTuple):
    """How a value is printed.

    Attributes:
        base: DECIMAL to ERROR_POINTER.
        size: bytes of the value.
        signed: of an integer.
        names: (mask, value, name), in the order they are tried; a name that holds is
            written, and its mask's bits are done with; what is left is written as a number.
        limit: bytes of a text that may have no NUL, 0: it has one.
    """

    base: int = DECIMAL
    size: int = 8
    signed: bool = False
    names: tuple[Name, ...] = ()
    limit: int = 0

    def number(self, value: int) -> int | bool | str:
        """A value of the event as JSON has it: a pointer is "0x…"."""
        number = self.signed_value(value)
        if self.base == BOOLEAN:
            return bool(number)
        return hex(number & _ALL) if self.base in _POINTERS else number

    def words(self, value: int) -> str:
        """A value of the event as a line has it."""
        number = self.signed_value(value)
        if self.base == BOOLEAN:
            return "true" if number else "false"
        if self.base in _POINTERS and not number:
            return "NULL"
        if self.base in _ERRORS:
            error = error_name((1 << 8 * self.size) - (number & self._bits))
            if error:
                return f"-{error}"
        if not self.names:
            return self._plain(number)
        bits, found, done = number & self._bits, [], 0
        for mask, wanted, name in self.names:
            mask &= self._bits
            if mask and bits & mask == wanted & self._bits and not mask & done:
                found.append(name)
                done |= mask
        if not found:
            return self._plain(number) if number else "0"
        if bits & ~done:
            found.append(hex(bits & ~done))
        return "|".join(found)

    @property
    def _bits(self) -> int:
        return (1 << 8 * self.size) - 1

    def signed_value(self, value: int) -> int:
        """A value of the event, cut to its size, with its sign."""
        value &= self._bits
        sign = 1 << 8 * self.size - 1
        return (value ^ sign) - sign if self.signed else value

    def _plain(self, number: int) -> str:
        if self.base in (HEXADECIMAL, *_POINTERS):
            return hex(number & self._bits)
        if self.base == OCTAL:
            return f"0{number & self._bits:o}" if number else "0"
        return str(number)


def error_name(number: int) -> str:
    """The name of an error, from its positive number; "": there is none."""
    return _KERNELS_ERRORS.get(number) or errno.errorcode.get(number, "")


def named(constants: tuple[tuple[str, int], ...], size: int) -> tuple[Name, ...]:
    """The names of an enum's constants: each stands for the whole value."""
    bits = (1 << 8 * size) - 1
    return tuple((_ALL, value & bits, escape(name)) for name, value in constants)


class ShownArgument(NamedTuple):
    """An argument, or what it leads to, as events have it.

    Attributes:
        name: as the user typed it: "dfd", "how.flags".
        type: in C.
        value: its index in an event's values.
        text: its index in an event's texts; -1: it is a number.
        format: how it is printed; plain data, for recordings.
    """

    name: str
    type: str
    value: int
    text: int
    format: Format

    def words(self, number: int) -> str:
        """A number as a line has it."""
        return self.format.words(number)

    def number(self, number: int) -> int | bool | str:
        """A number as JSON has it."""
        return self.format.number(number)


def text_of(argument: ShownArgument, event: Any) -> str | None:
    """A text of an event, as it was read; None: the pointer was NULL.

    Args: event: with ``values`` and ``texts``; that it was readable is looked at before.
    """
    if not event.values[argument.value]:
        return None
    text: str = event.texts[argument.text]
    limit = argument.format.limit
    if limit:
        encoded = text.encode("utf-8", "surrogateescape")[:limit]
        text = encoded.decode("utf-8", "surrogateescape")
    return text


def is_readable(argument: ShownArgument, event: Any) -> bool:
    """Whether the value could be read: a page may not have been there."""
    return not event.unreadable >> argument.value & 1


def is_cut(argument: ShownArgument, event: Any) -> bool:
    """Whether a text filled what an event has room for, and may have gone on."""
    if argument.text < 0 or 0 < argument.format.limit < TEXT_SIZE:  # what lies behind an array
        return False
    return bool(event.values[argument.value] == TEXT_SIZE)


def format_value(argument: ShownArgument, event: Any) -> str:
    """An argument of an event as a line has it.

    Args: event: with ``values``, ``texts`` and ``unreadable``.
    """
    if not is_readable(argument, event):
        return "<unreadable>"
    if argument.text < 0:
        return argument.words(event.values[argument.value])
    text = text_of(argument, event)
    if text is None:
        return "NULL"
    quoted = escape(text).replace('"', '\\"')
    return f'"{quoted}"{"..." if is_cut(argument, event) else ""}'


def json_value(argument: ShownArgument, event: Any) -> int | bool | str | None:
    """An argument of an event as JSON has it; a NULL text, or what is unreadable, is None."""
    if not is_readable(argument, event):
        return None
    if argument.text >= 0:
        return text_of(argument, event)
    return argument.number(event.values[argument.value])
