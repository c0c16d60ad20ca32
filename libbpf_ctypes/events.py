"""The events of our own object: the Python side of bpf/syscall_event.h and bpf/call_event.h."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from construct import Array, Int32un, Int64un, Struct

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


#: Of struct call_event: how many values and texts an event can carry, and bytes of a text.
CALL_VALUES, CALL_TEXTS, CALL_TEXT_SIZE = 8, 4, 256

#: struct call_event: SYSCALL_EVENT's fields, ``pid`` and ``tid`` as the tracer's pid namespace
#: numbers them (0: the process is not in it), and what ``ebpf-tool`` prints beyond. Of a return
#: time and CPU are the return's, ``duration_ns`` is the time since the call began, and all else
#: is as it was then. The kernel sends as many texts as a trace uses: see
#: events.call_event_schema().
CALL_EVENT: Struct = Struct(
    *SYSCALL_EVENT.subcons,
    "function" / Int32un,
    "cpu" / Int32un,
    "uid" / Int32un,
    "gid" / Int32un,
    "host_pid" / Int32un,
    "host_tid" / Int32un,
    "ns_pid" / Int32un,
    "ns_tid" / Int32un,
    "cgroup" / Int64un,
    "unreadable" / Int64un,
    "duration_ns" / Int64un,
    "kernel_stack" / Int64un,
    "user_stack" / Int64un,
    "values" / Array(CALL_VALUES, Int64un),
    "texts" / Array(CALL_TEXTS, CString(CALL_TEXT_SIZE)),
)

if TYPE_CHECKING:

    class CallEvent(NamedTuple):
        """A decoded struct call_event; see CALL_EVENT."""

        pid: int
        tid: int
        syscall_nr: int
        timestamp_ns: int
        comm: str
        function: int
        cpu: int
        uid: int
        gid: int
        host_pid: int
        host_tid: int
        ns_pid: int
        ns_tid: int
        cgroup: int
        unreadable: int
        duration_ns: int
        kernel_stack: int
        user_stack: int
        values: list[int]
        texts: list[str]


@lru_cache(maxsize=CALL_TEXTS + 1)
def call_event_schema(texts: int) -> Schema[CallEvent]:
    """The schema of struct call_event with so many texts, 0 to CALL_TEXTS."""
    fields = [*CALL_EVENT.subcons[:-1], "texts" / Array(texts, CString(CALL_TEXT_SIZE))]
    return Schema(Struct(*fields), "CallEvent")


CALL_EVENT_SCHEMA: Schema[CallEvent] = call_event_schema(CALL_TEXTS)

if not TYPE_CHECKING:
    CallEvent = CALL_EVENT_SCHEMA.record
    CallEvent.__doc__ = "A decoded struct call_event; see CALL_EVENT."
    CallEvent.__module__ = __name__


class Counters(NamedTuple):
    """struct counters: what became of the calls that the program saw.

    ``begun`` were kept until they return, ``ended`` of those have returned and are among the
    others, too; ``no_room`` could not be kept or counted; ``unmatched`` are returns of calls
    that were not kept; ``no_stack`` stacks could not be kept.
    """

    filtered: int
    sent: int
    refused: int
    unreadable: int = 0
    begun: int = 0
    ended: int = 0
    no_room: int = 0
    unmatched: int = 0
    no_stack: int = 0

    @property
    def in_flight(self) -> int:
        """Calls that had not returned, or whose return was missed."""
        return self.begun - self.ended

    @property
    def seen(self) -> int:
        """All calls."""
        return sum(self[:4]) + self.no_room + self.in_flight
