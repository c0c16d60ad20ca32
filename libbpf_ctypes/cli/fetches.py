"""How the BPF program gets a value at the call: struct fetch and comparison of call_event.h."""

from __future__ import annotations

import struct
from typing import NamedTuple

#: Places a fetch can begin at, beside the argument registers 0 to 7. Of a tracepoint there
#: is its record in place of them.
STACK_POINTER, CURRENT_TASK, RETURN_VALUE = 8, 9, 10
RECORD = 0
#: Pointers that a fetch can follow, values and texts that an event has room for.
MAX_STEPS, MAX_VALUES, MAX_TEXTS = 5, 8, 4
#: Bytes of a text with its NUL: one of so many may be cut.
TEXT_SIZE = 256

_FETCH = struct.Struct("=8B6I")
_COMPARISON = struct.Struct("=QQBB6x")
_IN_USE, _AT_RETURN, _IN_RECORD = 1, 2, 4
_ALL = 2**64 - 1

#: Operators of a comparison; SIGNED is added for those that look at the sign.
EQUAL, NOT_EQUAL, LESS, LESS_OR_EQUAL, GREATER, GREATER_OR_EQUAL, MATCHES = range(1, 8)
SIGNED = 8


class Fetch(NamedTuple):
    """A value: read from a register, or by following pointers from there.

    Attributes:
        source: an argument register (0 to 7) or RECORD, STACK_POINTER, CURRENT_TASK; with
            RETURN_VALUE it is read when the call returns.
        steps: reads: value = *(value + offsets[i]).
        size: bytes of the last read: 1, 2, 4 or 8.
        text: n: the string at value + offsets[steps] goes to texts[n - 1]; 0: a number.
        left, right: shifts, which cut the value to its bits.
        is_signed: the right shift keeps the sign.
        in_record: what is read last is where the text is in the record: its low 16 bits, and
            the last offset is added.
    """

    source: int
    steps: int = 0
    size: int = 8
    text: int = 0
    left: int = 0
    right: int = 0
    is_signed: bool = False
    offsets: tuple[int, ...] = ()
    in_record: bool = False

    def pack(self) -> bytes:
        """As struct fetch: 32 bytes."""
        offsets = (*self.offsets, *(0,) * (MAX_STEPS + 1 - len(self.offsets)))
        flags = _IN_USE
        flags |= _AT_RETURN if self.source == RETURN_VALUE else 0
        flags |= _IN_RECORD if self.in_record else 0
        return _FETCH.pack(*self[:6], int(self.is_signed), flags, *offsets)


#: A place that is not in use.
NO_FETCH = bytes(_FETCH.size)


class Comparison(NamedTuple):
    """Compares a value with a constant, or a text with a pattern.

    Attributes:
        mask: the value's bits that count.
        value: as the fetch gives it: sign-extended where that is signed.
        operator: EQUAL to GREATER_OR_EQUAL, with SIGNED from LESS on; MATCHES.
        pattern: for MATCHES, its index.
    """

    fetch: Fetch
    mask: int = _ALL
    value: int = 0
    operator: int = EQUAL
    pattern: int = 0

    def pack(self) -> bytes:
        """As struct comparison: 56 bytes."""
        mask, value = self.mask & _ALL, self.value & _ALL
        return self.fetch.pack() + _COMPARISON.pack(mask, value, self.operator, self.pattern)


NO_COMPARISON = bytes(_FETCH.size + _COMPARISON.size)
