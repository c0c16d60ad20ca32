"""``--fields``: the chosen fields of each event, in columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Callable

from .lines import Arguments, Formatter, Frames, format_took, label_of, time_format
from .style import width_of
from .text import Memo, WallClock, escape
from .usage import UsageError

if TYPE_CHECKING:
    from ..events import CallEvent
    from .line_options import LineOptions
    from .origin import Traced
    from .stacks import Stacks
    from .style import Style

#: Each field's columns on a terminal; what is wider widens them. "time" is wider for a date.
WIDTHS = {
    "time": 16, "pid": 7, "tid": 7, "host_pid": 8, "host_tid": 8, "ns_pid": 7, "ns_tid": 7,
    "uid": 5, "gid": 5, "comm": 15, "cpu": 3, "cgroup": 6, "function": 8, "took": 12, "args": 4,
}  # fmt: skip
#: A cell that is wider does not widen its column, but moves its own line.
_WIDEST = 32
_TEXT_WIDTH, _NUMBER_WIDTH = 24, 10
_TIME_WIDTHS = {"ns": 16, "boot": 14, "wall": 32}

#: Before the name of an argument that is called as a field is.
PREFIX = "arg:"

#: Printed where a function has no argument of the field's name, or the recording not the field.
_NONE = "-"

_Cell = Callable[["CallEvent"], str]


def wanted_arguments(fields: Iterable[str]) -> list[str]:
    """The arguments among the names of fields, in order: what is no field is one."""
    names = [name for name in fields if name not in WIDTHS]
    return [name[len(PREFIX) :] if name.startswith(PREFIX) else name for name in names]


class Columns(Formatter):
    """One line for each struct call_event: with TABs between, or aligned under a heading.

    Args: functions: of the trace. stacks: follow the lines, a frame in each.
    Raises: usage.UsageError: a field that is none, and no argument of any function.
    """

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        style: Style,
        stacks: Stacks | None = None,
    ) -> None:
        self._options, self._functions = options, functions
        self._clock, self._style = clock, style
        self._arguments = Arguments(functions, raw=options.raw_args)
        self._frames = None if stacks is None else Frames(stacks)
        self._check(options.fields)
        self._cells = [self._cell(name) for name in options.fields]
        self._widths = [self._width(name) for name in options.fields]
        self._colours = [self._colour(name) for name in options.fields]

    def _check(self, fields: tuple[str, ...]) -> None:
        """Refuses what is neither a field nor an argument."""
        arguments = {argument.name for made in self._functions for argument in made.arguments}
        for name in wanted_arguments(fields):
            if name not in arguments:
                known = ", ".join([*WIDTHS, *sorted(arguments)])
                raise UsageError(f"--fields: no field or argument is called {name!r}: {known}")

    def _cell(self, name: str) -> _Cell:
        """What makes the text of a field."""
        if name not in WIDTHS:
            return self._argument(wanted_arguments([name])[0])
        if name == "args":
            return self._all_arguments
        if name == "time":
            timestamp = time_format(self._options.time, self._clock)
            return lambda event: timestamp(event.timestamp_ns)
        if name == "took":
            returns = {place for place, made in enumerate(self._functions) if made.returns}
            return lambda event: (
                format_took(event.duration_ns) if event.function in returns else _NONE
            )
        if name == "comm":
            names = Memo(escape)
            return lambda event: names[event.comm]
        if name == "function":
            labels = Memo(lambda index: label_of(self._functions, index))
            return lambda event: labels[event.function]
        if name in ("pid", "tid"):
            numbers = Memo(str)
            at = 0 if name == "pid" else 1
            return lambda event: numbers[event[at]] if event.pid or not event.host_pid else "?"
        return self._number(name)

    def _number(self, name: str) -> _Cell:
        from ..events import CallEvent

        texts = Memo(lambda number: _NONE if number is None else str(number))
        at = CallEvent._fields.index(name)
        return lambda event: texts[event[at]]

    def _argument(self, name: str) -> _Cell:
        arguments = self._arguments

        def cell(event: CallEvent) -> str:
            for label, show in arguments[event.function]:
                if label == name:
                    return show(event)
            return _NONE

        return cell

    def _all_arguments(self, event: CallEvent) -> str:
        return ", ".join(
            f"{label}={show(event)}" for label, show in self._arguments[event.function]
        )

    def _width(self, name: str) -> int:
        """The columns that a field takes at first."""
        if name == "time":
            return _TIME_WIDTHS[self._options.time]
        if name == "function":
            functions = self._functions
            longest = (width_of(label_of(functions, index)) for index in range(len(functions)))
            return max(len(name), min(max(longest, default=0), _WIDEST))
        if name in WIDTHS:
            return max(WIDTHS[name], len(name))
        (wanted,) = wanted_arguments([name])
        arguments = [argument for function in self._functions for argument in function.arguments]
        text = any(argument.text >= 0 for argument in arguments if argument.name == wanted)
        return max(_TEXT_WIDTH if text else _NUMBER_WIDTH, len(_heading(name)))

    def _colour(self, name: str) -> Callable[[str], str]:
        if name in ("pid", "tid", "comm"):
            return self._style.process
        return self._style.function if name == "function" else str

    def start(self) -> str:
        """The heading, on a terminal."""
        if not self._style.aligned:
            return ""
        names = [_heading(name) for name in self._options.fields]
        return self._style.heading(self._align(names, [str] * len(names))) + "\n"

    def format(self, events: Iterable[CallEvent]) -> str:
        cells, join, frames = self._cells, self._join, self._frames
        rows = [f"{join([cell(event) for cell in cells])}\n" for event in events]
        if frames is not None:
            rows = [row + frames[frames.key(event)] for row, event in zip(rows, events)]
        return "".join(rows)

    def _join(self, row: list[str]) -> str:
        """A line of cells."""
        if self._style.aligned:
            return self._align(row, self._colours)
        if self._style.coloured:
            row = [colour(text) for colour, text in zip(self._colours, row)]
        return "\t".join(row)

    def _align(self, row: list[str], colours: list[Callable[[str], str]]) -> str:
        """A line of cells, each padded to the widest before it in its column."""
        parts = []
        for number, text in enumerate(row):
            width = width_of(text)
            if self._widths[number] < width <= _WIDEST:
                self._widths[number] = width
            blanks = " " * (self._widths[number] - width)
            parts.append(colours[number](text) + blanks)
        return "  ".join(parts).rstrip(" ")


def _heading(name: str) -> str:
    return escape(name).upper()
