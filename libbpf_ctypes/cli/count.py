"""``ebpf-tool count``: how often functions are called, by whom and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .aggregate import run as run_aggregate
from .aggregate_options import read_aggregate
from .tables import CountTable, FoldedCounts

if TYPE_CHECKING:
    from .report import Report
    from .style import Style
    from .text import WallClock


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    aggregate = read_aggregate(words, times=False)

    def make(headings: tuple[str, ...], clock: WallClock, style: Style, _columns: int) -> Report:
        if aggregate.folded:
            return FoldedCounts()
        return CountTable(headings, clock, style, timed=bool(aggregate.interval))

    return run_aggregate(aggregate, make)
