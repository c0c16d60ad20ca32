"""What latency and count print: for each interval its groups, as text or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .json_lines import JsonLines, error_record
from .json_text import line

if TYPE_CHECKING:
    from ..errors import BpfError
    from .histogram import Scale
    from .rows import Row
    from .sums import Sums
    from .text import WallClock


class Section(NamedTuple):
    """An interval, or the whole trace.

    Attributes:
        number: of the interval, from 1.
        start_ns, end_ns: from when to when, of CLOCK_MONOTONIC.
        rows: what was counted in it, in order.
        groups: how many there are, with those that --top leaves out. calls: of all of them.
    """

    number: int
    start_ns: int
    end_ns: int
    rows: list[Row]
    groups: int
    calls: int

    @property
    def left_out(self) -> tuple[int, int]:
        """Groups that --top leaves out, and their calls."""
        shown = sum(row.tally.calls for row in self.rows)
        return self.groups - len(self.rows), self.calls - shown


class Report:
    """Makes text of sections. All that a report need not do does nothing here."""

    def start(self) -> str:
        """The text before the first section."""
        return ""

    def section(self, section: Section) -> str:
        """The text of a section, in whole lines."""
        raise NotImplementedError

    def error(self, error: BpfError | str) -> str:
        """The text of an error, where errors belong among the rest."""
        return ""

    def end(self, sums: Sums) -> str:
        """The text behind the last section."""
        return ""


class JsonReport(Report):
    """An object for each group, for the end of each interval, and for the end of all.

    Args:
        kind: "count" or "latency", the type of a group's object.
        scale: of the histograms; None: there are none.
        header: makes the first object.
    """

    def __init__(self, kind: str, scale: Scale | None, header: JsonLines, clock: WallClock) -> None:
        self._kind, self._scale = kind, scale
        self._header, self._clock = header, clock

    def start(self) -> str:
        return self._header.start()

    def section(self, section: Section) -> str:
        groups, calls = section.left_out
        lines = [line(self._kind, **self._group(section.number, row)) for row in section.rows]
        end = line(
            "interval",
            interval=section.number,
            start_ns=section.start_ns,
            end_ns=section.end_ns,
            time=self._clock.format(section.end_ns),
            groups=section.groups,
            calls=section.calls,
            groups_left_out=groups,
            calls_left_out=calls,
        )
        return "".join([*lines, end])

    def _group(self, interval: int, row: Row) -> dict[str, Any]:
        tally = row.tally
        found = {"interval": interval, **row.json, "calls": tally.calls}
        if self._scale is not None:
            buckets = self._scale.buckets(tally.slots)
            found["total_ns"], found["max_ns"] = tally.total_ns, tally.max_ns
            found["buckets"] = [
                {"from_ns": low, "to_ns": high, "calls": calls} for low, high, calls in buckets
            ]
        return found

    def error(self, error: BpfError | str) -> str:
        return error_record(error)

    def end(self, sums: Sums) -> str:
        return line("total", **sums.as_json())
