"""How a number becomes words: names of constants and flags, signs, bases.

A Format is plain data, so that a recording can carry it: what was ``O_CLOEXEC`` where it was
recorded is so where it is replayed, whatever that machine's numbers are.
"""

from __future__ import annotations

from typing import NamedTuple

from .text import escape

#: How what has no name is written.
DECIMAL, HEXADECIMAL, OCTAL, BOOLEAN, POINTER, TEXT = range(6)

_ALL = 2**64 - 1

#: A name, and when it holds: number & mask == value.
Name = tuple[int, int, str]


class Format(NamedTuple):
    """How a value is printed.

    Attributes:
        base: DECIMAL to TEXT.
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
        return hex(number & _ALL) if self.base == POINTER else number

    def words(self, value: int) -> str:
        """A value of the event as a line has it."""
        number = self.signed_value(value)
        if self.base == BOOLEAN:
            return "true" if number else "false"
        if self.base == POINTER and not number:
            return "NULL"
        if not self.names:
            return self._plain(number)
        bits, found, done = number & self._bits, [], 0
        for mask, wanted, name in self.names:
            mask &= self._bits
            if bits & mask == wanted & self._bits and not mask & done:
                found.append(name)
                done |= mask
        if not found:
            return self._plain(number)
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
        if self.base in (HEXADECIMAL, POINTER):
            return hex(number & self._bits)
        if self.base == OCTAL:
            return f"0{number & self._bits:o}" if number else "0"
        return str(number)


def named(constants: tuple[tuple[str, int], ...], size: int) -> tuple[Name, ...]:
    """The names of an enum's constants: each stands for the whole value."""
    bits = (1 << 8 * size) - 1
    return tuple((_ALL, value & bits, escape(name)) for name, value in constants)
