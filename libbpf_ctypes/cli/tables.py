"""The text of count and latency: tables, folded stacks, histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folded import fold
from .histogram import below, draw, duration, quantile
from .report import Report
from .style import pad, width_of

if TYPE_CHECKING:
    from .histogram import Scale
    from .report import Section
    from .rows import Row
    from .style import Style
    from .text import WallClock


class CountTable(Report):
    """A line for each group: aligned under a heading on a terminal, else with TABs between.

    Args:
        headings: of the cells.
        timed: sections are intervals: tell when each ends.
    """

    def __init__(
        self, headings: tuple[str, ...], clock: WallClock, style: Style, *, timed: bool
    ) -> None:
        self._headings = ("calls", *headings)
        self._clock, self._style, self._timed = clock, style, timed

    def section(self, section: Section) -> str:
        time = self._clock.format(section.end_ns) if self._timed else ""
        table = [(str(row.tally.calls), *row.cells) for row in section.rows]
        if self._style.aligned:
            lines = self._aligned(table, time)
        else:
            lines = ["\t".join((time, *cells) if time else cells) for cells in table]
        text = lines[: len(lines) - len(table)]
        for line, row in zip(lines[len(text) :], section.rows):
            text.append(line)
            text += [f"    {frame}" for frame in (*row.kernel, *row.user)]
        groups, calls = section.left_out
        if self._style.aligned and groups:
            text.append(f"and {groups} more with {calls} calls")
        return "".join(f"{line}\n" for line in text)

    def _aligned(self, table: list[tuple[str, ...]], time: str) -> list[str]:
        """What is above the lines, and the lines: calls to the right, all else to the left."""
        heading = self._style.heading
        if not table:
            return [heading(f"{time}: no calls")] if time else []
        whole = [tuple(name.upper() for name in self._headings), *table]
        widths = [max(map(width_of, column)) for column in zip(*whole)]
        lines = []
        for calls, *cells in whole:
            padded = (pad(cell, width) for cell, width in zip(cells, widths[1:]))
            lines.append("  ".join([calls.rjust(widths[0]), *padded]).rstrip(" "))
        above = [heading(time), heading(lines[0])] if time else [heading(lines[0])]
        return [*above, *lines[1:]]


class FoldedCounts(Report):
    """What makes flame graphs takes: each stack from its outermost function on, and its calls."""

    def section(self, section: Section) -> str:
        return "".join(
            f"{fold(row.cells, row.user, row.kernel)} {row.tally.calls}\n" for row in section.rows
        )


class Histograms(Report):
    """A histogram for each group, below what can be said of it in a line.

    Args:
        headings: of the cells.
        width: columns of a line.
        timed: sections are intervals: tell when each ends.
    """

    def __init__(
        self,
        headings: tuple[str, ...],
        scale: Scale,
        clock: WallClock,
        style: Style,
        *,
        width: int,
        timed: bool,
    ) -> None:
        self._headings, self._scale, self._width = headings, scale, width
        self._clock, self._style, self._timed = clock, style, timed

    def section(self, section: Section) -> str:
        lines = []
        if self._timed:
            calls = "" if section.calls else ": no calls"
            lines.append(self._style.heading(f"{self._clock.format(section.end_ns)}{calls}"))
        for row in section.rows:
            lines += [self._style.function(headline(self._headings, row, self._scale))]
            lines += [f"    {frame}" for frame in (*row.kernel, *row.user)]
            lines += [*draw(self._scale, self._scale.buckets(row.tally.slots), self._width), ""]
        groups, calls_left = section.left_out
        if groups:
            lines += [f"and {groups} more group{'s' * (groups != 1)} with {calls_left} calls", ""]
        return "".join(f"{line}\n" for line in lines)


def headline(headings: tuple[str, ...], row: Row, scale: Scale) -> str:
    """What a group is, and how long its calls took."""
    named = zip(headings, row.cells)
    what = ", ".join(cell if name == "function" else f"{name}={cell}" for name, cell in named)
    tally, buckets = row.tally, scale.buckets(row.tally.slots)
    calls = tally.calls
    longest = "" if tally.max_ns is None else f", longest {duration(tally.max_ns)}"
    half, most = (below(scale, quantile(buckets, share)) for share in (0.5, 0.99))
    return (
        f"{what or 'stack'}: {calls} call{'s' * (calls != 1)}, {duration(tally.total_ns)} in all, "
        f"mean {duration(tally.total_ns / calls)}{longest}; half {half}, 99% {most}"
    )
