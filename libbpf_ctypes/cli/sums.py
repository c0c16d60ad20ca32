"""The account of latency and count: each call is in a group, or it is told what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .account import begun_before, why_nothing

if TYPE_CHECKING:
    from ..events import Counters
    from .console import Console


class Sums(NamedTuple):
    """What they ended with.

    Attributes:
        counters: the kernel's, after the probes were detached.
        calls: that the groups hold. groups: how many there are.
        duration_ns: how long was traced.
        missed: calls that the kernel did not run the program for; None: it does not tell.
        times: calls were followed to their return.
    """

    counters: Counters
    calls: int
    groups: int
    duration_ns: int
    missed: int | None
    times: bool

    @property
    def adds_up(self) -> bool:
        """Whether each call is accounted for."""
        return self.calls == self.counters.sent

    @property
    def incomplete(self) -> bool:
        """Whether --strict fails: calls are missing, for whatever reason."""
        counters = self.counters
        return bool(counters.no_room or counters.no_stack or counters.unreadable or self.missed)

    def as_json(self) -> dict[str, Any]:
        """The fields of the object at the end."""
        counters = self.counters
        found: dict[str, Any] = {
            "seen": counters.seen,
            "filtered": counters.filtered,
            "unreadable": counters.unreadable,
            "counted": self.calls,
            "groups": self.groups,
            "no_room": counters.no_room,
            "no_stack": counters.no_stack,
        }
        if self.times:
            found |= {"not_returned": counters.in_flight, "unmatched": counters.unmatched}
        return {
            **found,
            "missed": self.missed,
            "duration_ns": self.duration_ns,
            "adds_up": self.adds_up,
        }


def exit_status(sums: Sums, *, strict: bool) -> int:
    """The exit status of a trace that ended so. Args: strict: any loss fails it."""
    if not sums.adds_up:
        return 1
    return 3 if strict and sums.incomplete else 0


def tell(sums: Sums, function: str, room: int, console: Console) -> None:
    """Prints the summary. Args: room: groups that there was room for."""
    counters = sums.counters
    if not sums.adds_up:
        console.error(
            f"The accounts do not add up: {counters}, counted={sums.calls}. Do not trust this "
            "trace; please report it."
        )
    for count, text in (
        (
            counters.no_room,
            f"calls were left out: there is room for {room} groups, and for so many calls at a "
            "time. Group them by less, or choose fewer calls.",
        ),
        (counters.no_stack, "stacks found no room: their calls are counted without them."),
        (
            counters.unreadable,
            "calls were left out since what --filter or --by asks for could not be read: its "
            "page was not in memory yet, or the pointer was wrong.",
        ),
        (
            sums.missed or 0,
            "calls were missed by the kernel: the function was called within another probe, or "
            "by too many at once.",
        ),
    ):
        if count:
            console.error(f"{count} {text}")
    if not (sums.calls or counters.no_room or counters.unreadable):
        console.info(why_nothing(function, counters))
    console.info(_summary(sums))


def _summary(sums: Sums) -> str:
    counters = sums.counters
    parts = [f"{counters.filtered} filtered"]
    parts += [f"{counters.unreadable} unreadable"] if counters.unreadable else []
    parts += [f"{counters.no_room} without room"] if counters.no_room else []
    parts += [f"{counters.in_flight} not returned"] if counters.in_flight else []
    parts.append(f"{sums.calls} counted in {sums.groups} group{'s' * (sums.groups != 1)}")
    missed = "missed: not known before Linux 6.7"
    if sums.missed is not None:
        missed = f"{sums.missed} missed"
    before = begun_before(counters)
    older = f"; at least {before} returned whose calls were not seen" if before else ""
    seconds = sums.duration_ns / 1e9
    return f"{counters.seen} calls in {seconds:.1f} seconds: {', '.join(parts)}{older}; {missed}"
