"""``ebpf-tool latency``: how long calls of functions take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .aggregate import run as run_aggregate
from .aggregate_options import read_aggregate
from .tables import Histograms

if TYPE_CHECKING:
    from .report import Report
    from .style import Style
    from .text import WallClock


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    aggregate = read_aggregate(words, times=True)

    def make(headings: tuple[str, ...], clock: WallClock, style: Style, columns: int) -> Report:
        timed = bool(aggregate.interval)
        return Histograms(headings, aggregate.scale, clock, style, width=columns, timed=timed)

    return run_aggregate(aggregate, make)
