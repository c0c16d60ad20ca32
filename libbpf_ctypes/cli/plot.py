"""``--plot``: histograms as an SVG, and how they changed over time. Needs matplotlib."""

from __future__ import annotations

import io
import os
import warnings
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ..errors import BpfError
from .histogram import duration
from .output import open_file
from .stacks import function_of
from .tables import headline

if TYPE_CHECKING:
    from .histogram import Scale
    from .rows import Row

#: Groups with a histogram of their own, those that took most time.
_PANELS = 8
#: Intervals side by side; of more, two become one.
_COLUMNS = 480
#: Characters of a stack's functions, innermost first.
_TITLE = 120
#: Bounds that are written below a histogram.
_TICKS = 12

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a "$" in a name is one
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ebpf-tool",  # the same numbers make the same file
}
_COLOUR, _COLOURS = "#2f6690", "Blues"


class Plot:
    """Collects what is to be drawn. Opened first: what it lacks is told before the trace.

    Args: path: of the SVG; what was in it is lost.
    Raises: BpfError: matplotlib is missing, or the file cannot be written.
    """

    def __init__(self, path: str, scale: Scale) -> None:
        try:
            import matplotlib.figure  # noqa: F401  # takes a while: not behind the trace
        except ImportError as error:
            hint = "pip install 'libbpf-ctypes[plot]'"
            raise BpfError("draw a plot", None, f"matplotlib: {error}", hint=hint) from None
        self._path, self._scale = path, scale
        self._fd = open_file(path)
        self._start = 0
        # When each interval ended, and its calls by slot.
        self._columns: list[tuple[int, list[int]]] = []

    def add(self, start_ns: int, end_ns: int, rows: list[Row]) -> None:
        """Takes an interval."""
        self._start = self._start or start_ns
        self._columns.append((end_ns, _sum([self._scale.used(row.tally.slots) for row in rows])))
        if len(self._columns) > _COLUMNS:
            pairs = list(zip(self._columns[::2], self._columns[1::2]))
            merged = [(end, _sum([one, other])) for (_end, one), (end, other) in pairs]
            self._columns = merged + self._columns[2 * len(merged) :]

    def draw(self, headings: tuple[str, ...], rows: list[Row]) -> None:
        """Writes the file. Args: rows: of the whole trace. Raises: BpfError: it cannot."""
        text = self._svg(headings, sorted(rows, key=lambda row: -row.tally.total_ns))
        try:
            fd, self._fd = self._fd, -1
            with os.fdopen(fd, "wb") as file:
                file.write(text)
        except OSError as error:
            operation = f"write to {self._path}"
            raise BpfError(operation, error.errno, error.strerror or "") from None

    def _svg(self, headings: tuple[str, ...], rows: list[Row]) -> bytes:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        shown = rows[:_PANELS]
        over_time = len(self._columns) > 1 and any(any(slots) for _end, slots in self._columns)
        panels = max(1, len(shown)) + over_time
        with rc_context(_SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # letters that a font lacks
            figure = Figure(figsize=(9, 2.4 * panels), layout="constrained")
            axes = list(figure.subplots(panels, squeeze=False).flat)
            if over_time:
                self._draw_intervals(figure, axes.pop(0))
            for axis, row in zip(axes, shown):
                self._draw_row(axis, headings, row)
            if not shown:
                axes[0].set_title("no calls")
            if len(rows) > len(shown):
                figure.supxlabel(f"and {len(rows) - len(shown)} more groups")
            image = io.BytesIO()
            figure.savefig(image, format="svg", metadata={"Date": None})
        return image.getvalue()

    def _draw_row(self, axis: Any, headings: tuple[str, ...], row: Row) -> None:
        buckets = self._scale.buckets(row.tally.slots)
        axis.bar(range(len(buckets)), [bucket.calls for bucket in buckets], 0.94, color=_COLOUR)
        title = headline(headings, row, self._scale)
        frames = [function_of(frame) for frame in (*row.kernel, *row.user)]
        if frames:  # they tell the groups of --by stack apart
            title += "\n" + " < ".join(frames)[:_TITLE]
        axis.set_title(title, loc="left", fontsize=9)
        bounds = [self._scale.bound(bucket.low) for bucket in buckets]
        bounds.append("" if buckets[-1].high is None else self._scale.bound(buckets[-1].high))
        every = -(-len(bounds) // _TICKS)
        places = [number - 0.5 for number in range(len(bounds))]
        axis.set_xticks(places[::every], bounds[::every])
        _finish(axis, "calls")

    def _draw_intervals(self, figure: Any, axis: Any) -> None:
        from matplotlib.colors import LogNorm

        used = [slot for slot, calls in enumerate(_sum([s for _end, s in self._columns])) if calls]
        first, last = used[0], used[-1]
        edges = [0.0, *((end - self._start) / 1e9 for end, _slots in self._columns)]
        cells = [
            [slots[slot] if slot < len(slots) else 0 for _end, slots in self._columns]
            for slot in range(first, last + 1)
        ]
        most = max(map(max, cells))
        # Where there were no calls the paper shows.
        norm = LogNorm(0.5, most + 1)
        shown = [[calls or float("nan") for calls in row] for row in cells]
        heights = range(first, last + 2)
        mesh = axis.pcolormesh(edges, heights, shown, norm=norm, cmap=_COLOURS)
        every = -(-len(heights) // _TICKS)
        lows = [self._scale.bounds(slot)[0] for slot in heights[:-1]]
        axis.set_yticks(heights[:-1][::every], [duration(low) for low in lows[::every]])
        figure.colorbar(mesh, ax=axis, label="calls", format="%g")
        axis.set_title("all groups, over time", loc="left", fontsize=9)
        _finish(axis, "took")
        axis.set_xlabel("seconds")

    def close(self) -> None:
        """Closes the file, if draw() did not."""
        if self._fd >= 0:
            os.close(self._fd)


def _finish(axis: Any, label: str) -> None:
    axis.set_ylabel(label)
    axis.spines[["top", "right"]].set_visible(False)


def _sum(rows: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip_longest(*rows, fillvalue=0)]
