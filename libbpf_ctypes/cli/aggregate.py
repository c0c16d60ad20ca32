"""What latency and count have in common: the kernel sums up, and it is read and told."""

from __future__ import annotations

import contextlib
import os
import select
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from ..errors import BpfError
from .account import read_counters, total
from .console import Console
from .json_lines import JsonLines
from .origin import here
from .output import Output, OutputClosedError
from .probing import Probing, StoppedError
from .report import JsonReport, Report, Section
from .rows import Labels, Row
from .session import open_output, tell_failure
from .style import style_of
from .sums import Sums, exit_status, tell
from .tally import prepare_groups, read_tallies, since
from .text import WallClock

if TYPE_CHECKING:
    from ..events import Counters
    from ..maps import Map
    from ..object import BpfObject
    from .aggregate_options import Aggregate
    from .calls import Calls
    from .plot import Plot
    from .stacks import Stacks
    from .style import Style
    from .tally import Tallies

#: Seconds: to look whether somebody still reads the output; whether there are stacks of
#: processes to be named, which may end; to write what is left, as long as somebody reads.
_LOOK, _NAME, _FINISH, _PATIENCE = 1.0, 0.2, 10.0, 0.5

#: Makes the text of a command, of its headings, the clock, the style, and a line's columns.
MakeText = Callable[["tuple[str, ...]", WallClock, "Style", int], Report]


def run(aggregate: Aggregate, make_text: MakeText) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = aggregate.options
    console = Console(quiet=options.quiet, verbose=options.debug)
    made = _Run(aggregate, console)
    try:
        return made.run(make_text)
    except StoppedError:
        return made.end_by_signal()
    except BpfError as error:
        made.tell_failure(error)
    except OSError as error:  # no descriptor left, say
        console.error(f"{options.function}: {error.strerror or error}")
    return 1


class _Wait:
    """Waits for a time to be over, or for wake()."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """Ends wait(), and those that follow; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            if self._write >= 0:
                os.write(self._write, b"x")

    def wait(self, seconds: float) -> None:
        """Waits so long."""
        select.select([self._read], [], [], max(0.0, seconds))

    def close(self) -> None:
        """Nobody waits any more; wake() does no harm."""
        write, self._write = self._write, -1
        os.close(write)
        os.close(self._read)


class _Run:
    """A trace of one of the two, from its options to its account."""

    _groups: Map[Any, Any]
    _counters: Map[Any, Any]
    _labels: Labels
    _report: Report
    _room: int

    def __init__(self, aggregate: Aggregate, console: Console) -> None:
        self._aggregate, self._console = aggregate, console
        self._options = aggregate.options
        self._probing = Probing(self._options, console)
        self._clock = WallClock()
        self._output: Output | None = None
        self._plot: Plot | None = None
        self._before: Tallies = {}
        self._number = self._since_ns = 0

    def run(self, make_text: MakeText) -> int:
        """Sums up; returns the exit status."""
        probing = self._probing
        probing.check()
        calls = probing.calls()
        if self._options.dry_run:
            return probing.dry_run(calls)
        with contextlib.ExitStack() as stack:
            if self._aggregate.plot:
                from .plot import Plot

                self._plot = Plot(self._aggregate.plot, self._aggregate.scale)
                stack.callback(self._plot.close)
            probing.introduce(calls)
            wait = stack.enter_context(contextlib.closing(_Wait()))
            prepare = partial(self._prepare, calls)
            obj = stack.enter_context(probing.loaded(calls, wait.wake, prepare))
            self._output = output = open_output(self._options)
            stacks = calls.stacks(obj)
            if stacks is not None:
                stack.callback(stacks.close)
            self._make_report(obj, calls, stacks, make_text)
            attached = stack.enter_context(probing.attached(obj, calls))
            started, end = probing.begin(obj, attached, calls)
            reader_left = not self._listen(output, wait, started, end)
            traced = probing.finish(obj, attached, started, end)
            rows = self._print_last(started + traced)
            sums = self._sums(rows, traced, attached.missed())
            tell(sums, self._options.function, self._room, self._console)
            output.add(self._report.end(sums))
            status = exit_status(sums, strict=self._options.strict)
            if not reader_left:
                status = self._finish(output) or status
            if self._plot is not None:
                self._plot.draw(self._labels.headings, rows)
            return status

    def _prepare(self, calls: Calls, obj: BpfObject) -> None:
        """Sets how the object sums up, before it is loaded."""
        self._room = prepare_groups(
            obj,
            self._aggregate.by,
            self._aggregate.scale if self._aggregate.times else None,
            functions=len(calls.functions),
            with_text=any(made.text >= 0 for each in calls.traced for made in each.arguments),
        )

    def _make_report(
        self, obj: BpfObject, calls: Calls, stacks: Stacks | None, make_text: MakeText
    ) -> None:
        aggregate, lines, output = self._aggregate, self._options.lines, self._output
        assert output is not None
        self._groups, self._counters = obj.maps["GROUPS"], obj.maps["COUNTERS"]
        inside = bool(calls.ids.namespace and calls.ids.offsets)
        self._labels = Labels(aggregate.by, calls.traced, stacks, in_container=inside)
        if lines.json:
            header = JsonLines(lines, calls.traced, self._clock, here())
            kind = "latency" if aggregate.times else "count"
            scale = aggregate.scale if aggregate.times else None
            self._report = JsonReport(kind, scale, header, self._clock)
            self._console.also = lambda error: output.add(self._report.error(error))
        else:
            style = style_of(lines.color, output.fd)
            columns = _columns(output.fd) if style.aligned else _COLUMNS
            self._report = make_text(self._labels.headings, self._clock, style, columns)
        output.add(self._report.start())

    def _listen(self, output: Output, wait: _Wait, started: int, end: int) -> bool:
        """Prints intervals until END, or a signal; False: nobody reads them any more."""
        interval = int(self._aggregate.interval * 1e9)
        self._since_ns, due = started, started + interval
        self._console.start_status(output, started / 1e9, self._options.seconds)
        try:
            while not self._probing.stopping and (now := time.monotonic_ns()) < end:
                if interval and now >= due:
                    if not output.blocked():  # else this interval goes on with the next one
                        self._print(read_tallies(self._groups), now)
                    due += interval * (1 + (now - due) // interval)
                elif self._aggregate.by.of_processes:
                    self._labels.rows(read_tallies(self._groups))  # which names their stacks
                output.flush(min(end, now + 10**8) / 1e9)
                output.check_reader()
                if not output.waiting():
                    counters = self._counted()
                    self._console.update_status(counters.sent, counters.no_room)
                left = (min(end, due) if interval else end) - time.monotonic_ns()
                wait.wait(min(left / 1e9, self._patience(output)))
        except OutputClosedError:
            return False
        finally:
            self._console.end_status()
        return True

    def _patience(self, output: Output) -> float:
        """Seconds until something else is to be done than to wait for the interval's end."""
        waits = [_LOOK, output.due(), self._console.status_due()]
        if self._aggregate.by.of_processes:
            waits.append(_NAME)
        return min(wait for wait in waits if wait is not None)

    def _counted(self) -> Counters:
        return total(read_counters(self._counters))

    def _print(self, tallies: Tallies, now: int) -> None:
        """Prints what came since the last interval."""
        rows = self._labels.rows(since(tallies, self._before))
        largest = (lambda row: row.tally.total_ns) if self._aggregate.times else _calls_of
        rows.sort(key=lambda row: (-largest(row), row[:3]))
        self._number += 1
        shown = rows[: self._aggregate.top or None]
        calls = sum(map(_calls_of, rows))
        section = Section(self._number, self._since_ns, now, shown, len(rows), calls)
        self._clock.adjust()
        if self._output is not None:
            self._output.add(self._report.section(section))
        if self._plot is not None:
            self._plot.add(self._since_ns, now, rows)
        self._before, self._since_ns = tallies, now

    def _print_last(self, end: int) -> list[Row]:
        """Prints the last interval, the probes being detached; what the whole trace counted."""
        tallies = read_tallies(self._groups)
        self._print(tallies, end)
        return self._labels.rows(tallies)

    def _sums(self, rows: list[Row], duration_ns: int, missed: int | None) -> Sums:
        calls, times = sum(map(_calls_of, rows)), self._aggregate.times
        return Sums(self._counted(), calls, len(rows), duration_ns, missed, times)

    def _finish(self, output: Output) -> int:
        """Writes what is left, as long as somebody takes a part of it; the exit status."""
        self._probing.stopping = 0  # another signal ends it
        end = time.monotonic() + _FINISH
        try:
            while not self._probing.stopping and time.monotonic() < end:
                before = output.waiting()
                output.flush(min(end, time.monotonic() + _PATIENCE), force=True)
                if output.waiting() in (0, before):
                    break
        except OutputClosedError:
            return 0
        if not output.unwritten():
            return 0
        lines = f"{output.unwritten()} lines were not written"
        self._console.error(f"{lines}: nobody reads the output, or too slowly.")
        return 1

    def end_by_signal(self) -> int:
        """Ends this process: nothing was traced."""
        return self._probing.end_by_signal()

    def tell_failure(self, error: BpfError) -> None:
        """Tells of what ended it."""
        tell_failure(error, self._options, self._console, self._output)
        if self._output is not None:
            with contextlib.suppress(BpfError, OutputClosedError):
                self._output.flush(time.monotonic() + 1, force=True)


#: Columns of a line where no terminal says how many there are, and the most that are used.
_COLUMNS, _MOST_COLUMNS = 80, 120


def _columns(fd: int) -> int:
    try:
        return min(os.get_terminal_size(fd).columns or _COLUMNS, _MOST_COLUMNS)
    except OSError:
        return _COLUMNS


def _calls_of(row: Row) -> int:
    return row.tally.calls
