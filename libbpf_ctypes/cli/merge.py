"""Events of several CPUs, put in the order of their times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

#: Seconds that an event may need from its time's being taken to the buffer: an interrupt,
#: or another task, may come between. Who needs longer comes late, and out of order.
PATIENCE = 0.01
_PATIENCE_NS = int(PATIENCE * 1e9)

#: Items that are held at most: with more the older ones go on as they are.
_MOST = 1 << 14


class Merger(Generic[_T]):
    """Holds items back until none can come any more that belongs before them.

    Args: time_of: an item's time, nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self, time_of: Callable[[_T], int]) -> None:
        self._time_of = time_of
        self._held: list[_T] = []
        self._next = 0

    def add(self, items: list[_T], read_until: int) -> list[_T]:
        """Takes items; returns those whose turn has come, in order.

        Args: items: each CPU's in order. read_until: all that were sent before this
            time, nanoseconds of CLOCK_MONOTONIC, have been added.
        """
        held = self._held
        held += items
        # Not each item is to be sorted again with each batch.
        if read_until < self._next and len(held) <= _MOST:
            return []
        self._next = read_until + _PATIENCE_NS
        held.sort(key=self._time_of)  # takes the CPUs' runs as they are, and merges them
        end = self._count_before(read_until - _PATIENCE_NS)
        if len(held) - end > _MOST:
            end = len(held) - _MOST // 2
        ready = held[:end]
        del held[:end]
        return ready

    def _count_before(self, time_ns: int) -> int:
        """How many of the sorted items are of a time before this one."""
        low, high = 0, len(self._held)
        while low < high:
            middle = (low + high) // 2
            if self._time_of(self._held[middle]) < time_ns:
                low = middle + 1
            else:
                high = middle
        return low

    def rest(self) -> list[_T]:
        """All items that are still held, in order."""
        rest, self._held = sorted(self._held, key=self._time_of), []
        return rest

    def __len__(self) -> int:
        return len(self._held)
