"""The account at the end of a trace: each call is an event, or it is told what became of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
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
    were read until they were empty. ``refused_cpus``: each CPU that lost events in
    its buffer, and how many. ``missed``: calls that the kernel did not run the program
    for (recursion, maxactive); None: it does not tell, or was not asked. ``beyond``: events that
    were read behind the last of --events, and are no lines.
    """

    counters: Counters
    delivered: int
    reported: int
    duration_ns: int
    reader_left: bool
    drained: bool
    refused_cpus: tuple[tuple[int, int], ...] = ()
    missed: int | None = None
    beyond: int = 0

    @property
    def shown(self) -> int:
        """Events that became lines."""
        return self.delivered - self.beyond

    @property
    def unread(self) -> int:
        """Events that were sent, and that the tool did not read."""
        return self.counters.sent - self.delivered

    @property
    def lost(self) -> int:
        """Events that are not among the lines, though nobody left them out."""
        return self.counters.refused + (0 if self.reader_left else self.unread)

    @property
    def adds_up(self) -> bool:
        """Whether each call is accounted for."""
        complete = self.unread == 0 or (self.unread > 0 and not self.drained)
        by_cpu = sum(count for _cpu, count in self.refused_cpus)
        return (
            complete
            and self.reported <= self.counters.refused
            and self.counters.ended <= self.counters.begun
            and by_cpu in (0, self.counters.refused)
        )

    @property
    def incomplete(self) -> bool:
        """Whether --strict fails: calls are missing, for whatever reason."""
        counters = self.counters
        kept = not (counters.unreadable or counters.no_room or counters.no_stack)
        return not kept or bool(self.lost or self.missed)


def tell(account: Account, function: str, console: Console, *, replayed: bool = False) -> bool:
    """Prints the summary; returns whether the account adds up. Args: replayed: of a recording."""
    counters, delivered = account.counters, account.delivered
    if not account.adds_up:
        console.error(
            f"The accounts do not add up: {counters}, delivered={delivered}, "
            f"reported lost={account.reported}, by CPU={dict(account.refused_cpus)}. "
            "Do not trust this trace; please report it."
        )
    if account.lost:
        console.error(
            f"{account.lost} events were lost: {counters.refused} found the buffer full"
            f"{_by_cpu(account.refused_cpus)}, {account.lost - counters.refused} were not read in "
            "time. Narrow the trace with -p, give them more room with --buffer, or write to a file "
            "rather than to a terminal."
        )
    if counters.unreadable:
        console.error(
            f"{counters.unreadable} calls were left out since what --filter asks for could not be "
            "read: its page was not in memory yet, or the pointer was wrong."
        )
    if account.missed:
        console.error(
            f"{account.missed} calls were missed by the kernel: the function was called within "
            "another probe, or by too many at once."
        )
    _tell_room(counters, console)
    if not delivered and not account.lost:
        console.info(why_nothing(function, counters))
    unreadable = f"{counters.unreadable} unreadable, " if counters.unreadable else ""
    unread = f"{account.unread} not read, " if account.unread else ""
    room = f"{counters.no_room} found no room, " if counters.no_room else ""
    flying = f"{counters.in_flight} not returned, " if counters.in_flight else ""
    missed = f"{account.missed} missed"
    if account.missed is None:
        missed = "missed: not " + ("recorded" if replayed else "known before Linux 6.7")
    console.info(
        f"{counters.seen} calls seen: {counters.filtered} filtered, {unreadable}{delivered} "
        f"delivered, {unread}{room}{flying}{counters.refused} lost; {missed}"
    )
    before = begun_before(counters)
    if before:
        console.info(
            f"{before} more returned whose calls were not seen: begun before the trace, or by a "
            "process that forked in them"
        )
    seconds = account.duration_ns / 1e9
    rate = account.shown / seconds if seconds else 0.0
    if account.beyond:
        console.info(f"{account.beyond} more came before the trace ended; -n leaves them out")
    console.info(
        f"{account.shown} events, {account.lost} lost, {seconds:.1f} seconds, {rate:.1f} events/s"
    )
    return account.adds_up


def _tell_room(counters: Counters, console: Console) -> None:
    """Says what the kernel's maps had no room for."""
    if counters.no_room:
        console.error(
            f"{counters.no_room} calls were left out: too many others were under way, or there "
            "were too many groups to count. Narrow the trace with -p or --filter."
        )
    if counters.no_stack:
        console.error(
            f"{counters.no_stack} stacks are not shown: there was no room for so many different "
            "ones. Narrow the trace with -p or --filter."
        )


def begun_before(counters: Counters) -> int:
    """Returns of calls that were not seen to begin, or that a parent of a fork began: so many
    at least.

    What was left out when it began returns without a match, too, if it returns in time.
    """
    at_return = counters.ended - counters.sent - counters.refused
    left_out = counters.filtered - at_return + counters.unreadable + counters.no_room
    return max(0, counters.unmatched - left_out)


def exit_status(account: Account, *, strict: bool) -> int:
    """The exit status of a trace that ended so. Args: strict: any loss fails it."""
    if not account.adds_up:
        return 1
    return 3 if strict and account.incomplete else 0


#: CPUs that are named at most, those that lost most.
_MOST_CPUS = 8


def _by_cpu(refused: tuple[tuple[int, int], ...]) -> str:
    """Where events were lost, as " (CPU 0: 5, CPU 3: 1)"."""
    if not refused:
        return ""
    most = sorted(refused, key=lambda pair: -pair[1])[:_MOST_CPUS]
    named = ", ".join(f"CPU {cpu}: {count}" for cpu, count in sorted(most))
    more = len(refused) - len(most)
    return f" ({named}, and {more} more)" if more else f" ({named})"


class Losses:
    """Tells of losses while they happen, at most once a second.

    They are known by two ways: the buffers report them, but not before they are read and have
    room again; the kernel's own counters know each at once.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[int, int] = {}  # by CPU
        self._reported: dict[int, int] = {}
        self._told: dict[int, int] = {}
        self._next = self._look = 0.0

    @property
    def known(self) -> int:
        """Events that are known to be lost."""
        return sum(self._known.values())

    def add(self, cpu: int, events: int) -> None:
        """Takes a buffer's report; it is told by tell()."""
        self._reported[cpu] = self._reported.get(cpu, 0) + events
        self._know(cpu, self._reported[cpu])

    def _know(self, cpu: int, events: int) -> None:
        self._known[cpu] = max(self._known.get(cpu, 0), events)

    def tell(self, now: float, counted: Callable[[], list[Counters]]) -> None:
        """Tells what came since the last time, if that is a second ago.

        Args: now: seconds. counted: reads the kernel's counters.
        """
        if now < self._next:
            return
        if now >= self._look:
            self._look = now + 1
            for cpu, events in refused_cpus(counted()):
                self._know(cpu, events)
        news = {cpu: all_of - self._told.get(cpu, 0) for cpu, all_of in self._known.items()}
        cpus = sorted(cpu for cpu, events in news.items() if events)
        if not cpus:
            return
        where = f"CPU {cpus[0]}" if len(cpus) == 1 else f"{len(cpus)} CPUs"
        self._console.warning(
            f"{sum(news.values())} events lost on {where}: they come faster than they are read"
        )
        self._told, self._next = dict(self._known), now + 1


def why_nothing(function: str, counters: Counters) -> str:
    """Why a trace has nothing to show. Args: function: that was traced, or how many."""
    were = "were" if " " in function else "was"  # "2 names", "vfs_read vfs_write"
    if counters.in_flight or begun_before(counters):
        return f"No event: no wanted call of {function} both began and returned within the trace."
    if counters.seen:
        calls = f"{function} {were} called {counters.seen} times"
        return (
            f"No event: {calls}, and each call is left out by the options, or is ebpf-tool's own."
        )
    return (
        f"No event: {function} {were} not called. Callers that the compiler inlined it into do not "
        "count, and another function may do the work: try one of its callers."
    )


def read_counters(counters: Map[Any, Any]) -> list[Counters]:
    """Each CPU's counters, in the order of the CPUs' numbers."""
    layout = struct.Struct(f"={len(Counters._fields)}Q")
    if counters.value_size != layout.size:
        reason = f"its values have {counters.value_size} bytes, not {layout.size}"
        raise BpfError(f"read map {counters.name}", None, reason)
    return [Counters(*layout.unpack(value)) for value in counters.lookup_percpu(bytes(4))]


def total(rows: list[Counters]) -> Counters:
    """The sum of the CPUs' counters."""
    return Counters(*(sum(column) for column in zip(*rows)))


def refused_cpus(rows: list[Counters]) -> tuple[tuple[int, int], ...]:
    """Each CPU that lost events in its buffer, and how many: see Account."""
    return tuple((cpu, row.refused) for cpu, row in enumerate(rows) if row.refused)
