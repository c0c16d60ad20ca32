"""What ``ebpf-tool kprobe`` does from the moment that its probe is attached."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Callable

from ..events import Counters
from ..maps import Map
from ..perf_buffer import PerfBuffer
from .account import Account, Losses, exit_status, read_counters, refused_cpus, tell, total
from .argument import first_argument
from .console import Console
from .lines import Formatter, Lines
from .origin import here
from .output import Output
from .stream import Decode, Stream
from .style import style_of
from .text import WallClock

if TYPE_CHECKING:
    from ..events import CallEvent
    from .calls import Calls
    from .options import Options
    from .recorder import Recorder
    from .stacks import Stacks


class Events:
    """Reads, records and prints the events, tells of losses, and gives account of all.

    Args:
        options: of the command.
        calls: of the rich programs; None: the plain one sends struct syscall_event.
        buffer: opened, its probes attached.
        counters: the kernel's, of what became of the calls.
        stacks: of the events, if they have any.
    Raises: BpfError: the recording cannot be written; the object's event is another.
        UsageError: --fields names what there is not.
    """

    def __init__(
        self,
        options: Options,
        calls: Calls | None,
        buffer: PerfBuffer[Any],
        counters: Map[Any, Any],
        output: Output,
        console: Console,
        stacks: Stacks | None = None,
    ) -> None:
        self._options, self._stacks = options, stacks
        self._buffer, self._counters = buffer, counters
        self._output = output
        self._console = console
        self._clock = WallClock()
        self._losses = Losses(console)
        self._recorder: Recorder | None = None
        self._formatter: Formatter
        decode = self._prepare_plain() if calls is None else self._prepare_rich(calls)
        if options.lines.format != "lines":
            console.also = lambda error: output.add(self._formatter.error(error))
        output.add(self._formatter.start())
        dated = options.lines.time == "wall" or options.lines.format != "lines"
        format_events = self._format_now if dated else self._formatter.format
        self._stream = Stream(
            buffer,
            output,
            format_events,
            decode=decode,
            recorder=self._recorder,
            merge=not options.unsorted,
            limit=options.events,
            wait=self._formatter.wait,
            on_turn=self._turn,
        )
        gc.freeze()  # what is loaded stays: collections need not look through it again

    def _prepare_plain(self) -> Decode | None:
        """For struct syscall_events; returns what decodes them, if the buffer does not."""
        options = self._options
        argument = first_argument(options.words[0], raw=options.lines.raw_args)
        style = style_of(options.lines.color, self._output.fd)
        self._formatter = Lines(options.lines, argument, self._clock, style)
        if options.record is None:
            self._buffer.resolve_schema()  # now, and not with the first event
            return None
        from .recorder import Recorder

        pid = next(iter(options.choice.pids), 0)
        what = options.words[0]
        self._recorder = Recorder(options.record, what, pid, argument, self._clock, self._console)
        return self._recorder.decode

    def _prepare_rich(self, calls: Calls) -> Decode:
        """For struct call_events; returns what decodes them."""
        from .formatters import call_formatter

        options = self._options
        style = style_of(options.lines.color, self._output.fd)
        self._formatter = call_formatter(
            options.lines,
            calls.traced,
            self._clock,
            style,
            here(),
            self._stacks,
            self._console,
        )
        if options.record is None:
            return self._decoder(calls.schema.decode)
        from .recorded import function_record
        from .recorder import Recorder

        pids = options.choice.pids
        records = [function_record(function) for function in calls.traced]
        self._recorder = Recorder(
            options.record,
            " ".join(options.words),
            pids[0] if len(pids) == 1 else 0,
            None,
            self._clock,
            self._console,
            calls=(records, calls.schema),
            stacks=self._stacks,
        )
        return self._recorder.decode

    def _decoder(self, decode: Callable[[bytes], CallEvent]) -> Decode:
        stacks = self._stacks
        if stacks is None:
            return lambda samples: [decode(data) for _cpu, data in samples]

        def decode_all(samples: list[tuple[int, bytes]]) -> list[CallEvent]:
            events = [decode(data) for _cpu, data in samples]
            for event in events:  # at once: a process ends, and with it what its addresses mean
                stacks.user(event.user_stack, event.pid)
            return events

        return decode_all

    def stop(self) -> None:
        """Ends listen(); safe in a signal handler."""
        self._stream.stop()
        self._formatter.stop()

    def listen(self, started: float, end: float) -> None:
        """Prints events until END, stop(), or nobody reads any more; times of time.monotonic."""
        self._console.start_status(self._output, started, self._options.seconds)
        try:
            self._stream.listen(end)
        finally:
            self._console.end_status()

    def end(self, duration_ns: int, missed: int | None) -> int:
        """Prints what is left, the probes being detached, and the account; the exit status.

        Args: missed: calls that the kernel did not run the program for; None: it does not tell.
        """
        stream = self._stream
        if not stream.reader_left:
            stream.drain()
        rows = self._counted()
        account = Account(
            total(rows),
            stream.delivered,
            self._buffer.lost,
            duration_ns,
            stream.reader_left,
            stream.drained,
            refused_cpus(rows),
            missed,
            stream.beyond,
        )
        tell(account, self._options.function, self._console)
        status = exit_status(account, strict=self._options.strict)
        if self._recorder is not None:
            self._recorder.end(account)
            status = status or int(self._recorder.failed)
        self._output.add(self._formatter.end(account))
        status = status or int(self._formatter.failed)
        stream.finish()
        if self._output.unwritten() and not stream.reader_left:
            lines = f"{self._output.unwritten()} lines were not written"
            self._console.error(f"{lines}: nobody reads the output, or too slowly.")
            return 1
        return status

    def fail(self) -> None:
        """Writes what the formatter held back: an error ended the trace, and was told."""
        self._output.add(self._formatter.end(None))
        self._stream.finish()

    def _counted(self) -> list[Counters]:
        """The kernel's counters, each CPU's.

        An event is counted after it is sent, and a task that runs the program at a uprobe
        may be preempted in between: that one is waited for, a second at most.
        """
        for _ in range(100):
            if total(self._read_counters()).sent >= self._stream.delivered:
                break
            time.sleep(0.01)
        return self._read_counters()

    def _read_counters(self) -> list[Counters]:
        return read_counters(self._counters)

    def lost(self, cpu: int, count: int) -> None:
        """Takes a report of losses; they are told while they happen, and recorded."""
        self._losses.add(cpu, count)
        self._formatter.lost(cpu, count)
        if self._recorder is not None:
            self._recorder.lost(cpu, count)

    def _turn(self) -> float | None:
        """What is to be done beside the events; returns in how many seconds again."""
        self._losses.tell(time.monotonic(), self._read_counters)
        if not self._output.waiting():
            self._console.update_status(self._stream.delivered, self._losses.known)
        waits = [self._console.status_due(), self._formatter.turn()]
        return min((wait for wait in waits if wait is not None), default=None)

    def _format_now(self, events: list[Any]) -> str:
        """Text with dates, by the clock as it is now."""
        if self._recorder is None or self._recorder.failed:  # else it is the recording's
            self._clock.adjust()
        return self._formatter.format(events)
