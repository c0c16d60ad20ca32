"""The ring that a perf event array's program writes on one CPU, read in memory.

Knows no libbpf: a ring is a piece of memory that the kernel, or a test, fills.

Source: perf_event_open(2), "MMAP layout"; struct perf_event_mmap_page in the
kernel's include/uapi/linux/perf_event.h, which also says where barriers belong.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Union

from .errors import BpfError

#: Where struct perf_event_mmap_page keeps data_head and data_tail.
_HEAD, _TAIL_END = 1024, 1040

LOST, SAMPLE = 2, 9  # PERF_RECORD_LOST, PERF_RECORD_SAMPLE
_HEADER = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
SAMPLE_HEADER = struct.Struct("=IHHI")  # and the size of the raw data behind it
LOST_RECORD = struct.Struct("=IHHQQ")  # and the event's id, and how many are lost

#: Bytes from a sample's beginning to its event.
BEFORE_EVENT = SAMPLE_HEADER.size

#: Equal samples that are taken one by one when no more of them follow each other.
_FEW = 4

#: The bytes of a sample's header that are the same in equal samples. ``misc`` (4 and
#: 5) tells whether the CPU was in the kernel, and may differ.
_COMPARED = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11)

#: Bytes that one read takes at most, where each event becomes an object; and where none does.
PIECE, LARGE_PIECE = 1 << 18, 1 << 20


class Samples(NamedTuple):
    """Samples of one size, in a row.

    Attributes:
        cpu: where they were written.
        data: ``stride`` bytes for each: its header, its event, padding.
        stride: bytes from one to the next.
        size: bytes of each event, with the padding that perf puts behind it.
    """

    cpu: int
    data: bytes | memoryview
    stride: int
    size: int

    def without(self, number: int) -> Samples:
        """These samples but for the first ones."""
        return self._replace(data=memoryview(self.data)[number * self.stride :])

    def events(self) -> Iterator[bytes]:
        """Each event's bytes, with perf's padding."""
        data, size = self.data, self.size
        for at in range(BEFORE_EVENT, len(data), self.stride):
            yield bytes(data[at : at + size])


class Mixed(NamedTuple):
    """Samples of several sizes, in a row: each event's bytes, with perf's padding."""

    cpu: int
    events: list[bytes]


class Lost(NamedTuple):
    """The kernel's report that events found no room."""

    cpu: int
    events: int


Record = Union[Samples, Mixed, Lost]


def obstacle() -> str:
    """Why Python may not read a ring on this machine; "" if it may.

    The kernel writes an event and then moves the head, on another CPU. Who reads
    the head and then the event needs a barrier between the two, and Python has none;
    x86-64 alone keeps both orders by itself, for aligned words of 8 bytes.
    """
    machine = os.uname().machine
    if machine != "x86_64" or struct.calcsize("P") != 8:
        return f"{machine} may reorder reads of memory, and Python has no barrier for it"
    return ""


class Ring:
    """The ring of one CPU.

    Args:
        memory: the mapping: a page of the kernel's notes, and the ring.
        page_size: bytes of that page.
        cpu: whose ring it is.
    """

    def __init__(self, memory: memoryview, page_size: int, cpu: int) -> None:
        self._positions = memory[_HEAD:_TAIL_END].cast("Q")
        self._ring = memory[page_size:]
        self._size = len(self._ring)
        self._cpu = cpu

    @property
    def head(self) -> int:
        """How many bytes the kernel has written so far."""
        return self._positions[0]

    @property
    def tail(self) -> int:
        """How many of them were taken."""
        return self._positions[1]

    def read(self, most: int = PIECE) -> tuple[list[Record], bool]:
        """Takes a piece of what is there.

        Args: most: bytes, more than a record can have (64 KiB).
        Returns: the records in order; whether more was there.
        Raises: BpfError: what is there are no records. They are given up.
        """
        head, tail = self._positions
        there = head - tail
        if not there:
            return [], False
        if not 0 < there <= self._size:
            self._positions[1] = head
            raise _damaged(self._cpu, f"{there} bytes in a ring of {self._size}")
        length = min(there, most)
        start = tail % self._size
        end = start + length
        if end <= self._size:
            data = bytes(self._ring[start:end])
        else:
            data = b"".join((self._ring[start:], self._ring[: end - self._size]))
        try:
            records, used = _records(data, self._cpu)
        except BpfError:
            self._positions[1] = head
            raise
        self._positions[1] = tail + used  # from here on the kernel writes there again
        return records, used < there


def _records(data: bytes, cpu: int) -> tuple[list[Record], int]:
    """The whole records that data begins with, and how many bytes they are."""
    records: list[Record] = []
    mixed: list[bytes] = []
    at, end = 0, len(data)
    while end - at >= _HEADER.size:
        kind, _misc, size = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            raise _damaged(cpu, f"a record of {size} bytes")
        if at + size > end:
            break
        if kind == SAMPLE:
            event = _event_size(data, at, size, cpu)
            number = _count_equals(data, at, size, end)
            next_at = at + number * size
            if number < _FEW:
                first = at + BEFORE_EVENT
                mixed.extend([data[n : n + event] for n in range(first, next_at, size)])
            else:
                mixed = _set_apart(mixed, records, cpu)
                records.append(Samples(cpu, data[at:next_at], size, event))
            at = next_at
            continue
        if kind == LOST:
            if size < LOST_RECORD.size:
                raise _damaged(cpu, f"a report of losses in {size} bytes")
            mixed = _set_apart(mixed, records, cpu)
            records.append(Lost(cpu, LOST_RECORD.unpack_from(data, at)[4]))
        at += size  # other records are not for us
    _set_apart(mixed, records, cpu)
    if not at and end:
        raise _damaged(cpu, f"{end} bytes that hold no record")
    return records, at


def _set_apart(mixed: list[bytes], records: list[Record], cpu: int) -> list[bytes]:
    """Adds MIXED to the records; returns where the next ones go."""
    if not mixed:
        return mixed
    records.append(Mixed(cpu, mixed))
    return []


def _event_size(data: bytes, at: int, size: int, cpu: int) -> int:
    if size < BEFORE_EVENT:
        raise _damaged(cpu, f"a sample of {size} bytes")
    event: int = SAMPLE_HEADER.unpack_from(data, at)[3]
    if BEFORE_EVENT + event > size:
        raise _damaged(cpu, f"an event of {event} bytes in a sample of {size}")
    return event


def _count_equals(data: bytes, at: int, size: int, end: int) -> int:
    """How many samples follow each other that are like the one at AT, it being the first.

    Not one by one, but by a look at the columns that their headers make; in steps
    that grow, so that nothing is looked at again and again where sizes change often.
    """
    most = (end - at) // size
    next_at = at + size
    if most < 2 or data[next_at : next_at + 4] != data[at : at + 4]:
        return 1
    if data[next_at + 6 : next_at + 12] != data[at + 6 : at + 12]:
        return 1
    known, step = 2, _FEW
    while known < most:
        number = min(known + step, most)
        start, stop = at + known * size, at + number * size
        for offset in _COMPARED:
            column, first = data[start + offset : stop : size], data[at + offset]
            if column.count(first) != len(column):
                equal = len(column) - len(column.lstrip(bytes((first,))))
                stop = start + equal * size
                if not equal:
                    return known
        if stop < at + number * size:
            return (stop - at) // size
        known, step = number, step * 8
    return known


def _damaged(cpu: int, found: str) -> BpfError:
    reason = f"it holds {found}, which the kernel does not write"
    hint = "Another program wrote in it, or a second reader of it did."
    return BpfError(f"read the buffer of CPU {cpu}", None, reason, hint=hint)
