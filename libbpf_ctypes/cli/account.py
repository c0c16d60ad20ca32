"""The account at the end of a trace: each call is an event, or it is told what became of it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from ..errors import BpfError
from ..events import Counters
from ..maps import Map
from .console import Console


class Account(NamedTuple):
    """What a trace ended with.

    ``counters``: the kernel's, after the probe was detached. ``delivered``:
    the events that the tool read. ``reported``: losses that the kernel
    reported in the buffers; the last ones before the end never are, so the
    counters decide. ``reader_left``: of the lines. ``drained``: the buffers
    were read until they were empty.
    """

    counters: Counters
    delivered: int
    reported: int
    duration_ns: int
    reader_left: bool
    drained: bool


def tell(account: Account, function: str, console: Console) -> bool:
    """Prints the summary; returns whether the account adds up."""
    counters, delivered, reported, duration_ns, reader_left, drained = account
    seconds = duration_ns / 1e9
    unread = counters.sent - delivered
    lost = counters.refused + (0 if reader_left else unread)
    rate = delivered / seconds if seconds else 0.0
    console.info(f"{delivered} events, {lost} lost, {seconds:.1f} seconds, {rate:.1f} events/s")
    if lost:
        console.error(
            f"{lost} events were lost: {counters.refused} found the buffer full, "
            f"{lost - counters.refused} were not read in time. Narrow the trace with -p, "
            "give them more room with --buffer, or write to a file rather than to a terminal."
        )
    elif not delivered:
        console.info(_why_nothing(function, counters))
    complete = unread == 0 or (unread > 0 and not drained)
    if not complete or reported > counters.refused:
        console.error(
            f"The accounts do not add up: {counters}, delivered={delivered}, "
            f"reported lost={reported}. Do not trust this trace; please report it."
        )
        return False
    return True


def _why_nothing(function: str, counters: Counters) -> str:
    if counters.filtered:
        calls = f"{function} was called {counters.filtered} times"
        return f"No event: {calls}, always by a process that is left out (-p, or ebpf-tool itself)."
    return (
        f"No event: {function} was not called. Callers that the compiler inlined it into do not "
        "count, and another function may do the work: try one of its callers."
    )


def read_counters(counters: Map[Any, Any]) -> Counters:
    """The sum of the CPUs' counters."""
    layout = struct.Struct("=4Q")
    if counters.value_size != layout.size:
        reason = f"its values have {counters.value_size} bytes, not {layout.size}"
        raise BpfError(f"read map {counters.name}", None, reason)
    rows = [layout.unpack(value) for value in counters.lookup_percpu(bytes(4))]
    return Counters(*(sum(column) for column in zip(*rows)))
