"""The event of our own object: the Python side of bpf/syscall_event.h."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from construct import Int32un, Int64un, Struct

from .schema import CString, Schema

#: struct syscall_event, 40 bytes. ``pid`` is the thread group's id, ``tid`` the
#: thread's, both as the initial pid namespace numbers them; ``syscall_nr`` is the
#: probed function's first argument register as it is; ``timestamp_ns`` is
#: nanoseconds of CLOCK_MONOTONIC (bpf_ktime_get_ns).
SYSCALL_EVENT: Struct = Struct(
    "pid" / Int32un,
    "tid" / Int32un,
    "syscall_nr" / Int64un,
    "timestamp_ns" / Int64un,
    "comm" / CString(16),
)

if TYPE_CHECKING:

    class SyscallEvent(NamedTuple):
        """A decoded struct syscall_event; see SYSCALL_EVENT."""

        pid: int
        tid: int
        syscall_nr: int
        timestamp_ns: int
        comm: str


SYSCALL_EVENT_SCHEMA: Schema[SyscallEvent] = Schema(SYSCALL_EVENT, "SyscallEvent")

if not TYPE_CHECKING:
    SyscallEvent = SYSCALL_EVENT_SCHEMA.record
    SyscallEvent.__doc__ = "A decoded struct syscall_event; see SYSCALL_EVENT."
    SyscallEvent.__module__ = __name__


class Counters(NamedTuple):
    """struct counters: what became of the calls that the program saw."""

    filtered: int
    sent: int
    refused: int

    @property
    def seen(self) -> int:
        """All calls."""
        return sum(self)
