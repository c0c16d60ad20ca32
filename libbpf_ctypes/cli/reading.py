"""What ``ebpf-tool kprobe`` does from the moment that its probe is attached."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from ..events import Counters, SyscallEvent
from ..maps import Map
from ..perf_buffer import PerfBuffer
from .account import Account, read_counters, refused_cpus, tell, total
from .argument import first_argument
from .console import Console
from .lines import line_formatter
from .output import Output
from .stream import Stream
from .text import WallClock

if TYPE_CHECKING:
    from .kprobe import Options
    from .recorder import Recorder


class Events:
    """Reads, records and prints the events, tells of losses, and gives account of all.

    Args: options: of the command. buffer: opened, its probe attached.
    Raises: BpfError: the recording cannot be written; the object's event is another.
    """

    def __init__(
        self, options: Options, buffer: PerfBuffer[Any], output: Output, console: Console
    ) -> None:
        self._options = options
        self._buffer = buffer
        self._output = output
        self._console = console
        self._clock = WallClock()
        self._lost_said = 0
        self._lost_said_at = 0.0
        argument = first_argument(options.function, raw=options.lines.raw_args)
        self._recorder: Recorder | None = None
        if options.record is None:
            buffer.resolve_schema()  # now, and not with the first event
        else:
            from .recorder import Recorder

            self._recorder = Recorder(
                options.record,
                options.function,
                options.lines.pid,
                argument,
                self._clock,
                console,
            )
        self._format_events = line_formatter(options.lines, argument, self._clock)
        format_events = self._format_now if options.lines.time == "wall" else self._format_events
        self._stream = Stream(
            buffer, output, format_events, self._recorder, merge=not options.unsorted
        )
        gc.freeze()  # what is loaded stays: collections need not look through it again

    def stop(self) -> None:
        """Ends listen(); safe in a signal handler."""
        self._stream.stop()

    def listen(self, end: float) -> None:
        """Prints events until END (of time.monotonic), stop(), or nobody reads any more."""
        self._stream.listen(end)

    def end(self, counters: Map[Any, Any], duration_ns: int) -> int:
        """Prints what is left, the probe being detached, and the account; the exit status."""
        stream = self._stream
        if not stream.reader_left:
            stream.drain()
        rows = self._counted(counters)
        account = Account(
            total(rows),
            stream.delivered,
            self._buffer.lost,
            duration_ns,
            stream.reader_left,
            stream.drained,
            refused_cpus(rows),
        )
        good = tell(account, self._options.function, self._console)
        if self._recorder is not None:
            self._recorder.end(account)
            good = good and not self._recorder.failed
        if self._output.unwritten() and not stream.reader_left:
            lines = f"{self._output.unwritten()} lines were not written"
            self._console.error(f"{lines}: nobody reads the output, or too slowly.")
            good = False
        return 0 if good else 1

    def _counted(self, counters: Map[Any, Any]) -> list[Counters]:
        """The kernel's counters, each CPU's.

        An event is counted after it is sent, and a task that runs the program at a uprobe
        may be preempted in between: that one is waited for, a tenth of a second at most.
        """
        for _ in range(10):
            if total(read_counters(counters)).sent >= self._stream.delivered:
                break
            time.sleep(0.01)
        return read_counters(counters)

    def say_lost(self, cpu: int, count: int) -> None:
        """Tells of losses while they happen, at most once a second."""
        if self._recorder is not None:
            self._recorder.lost(cpu, count)
        now = time.monotonic()
        if now - self._lost_said_at >= 1:
            new, self._lost_said = self._buffer.lost - self._lost_said, self._buffer.lost
            self._lost_said_at = now
            self._console.warning(f"{new} events lost: they come faster than they are read")

    def _format_now(self, events: list[SyscallEvent]) -> str:
        """Lines with dates, by the clock as it is now."""
        if self._recorder is None or self._recorder.failed:  # else it is the recording's
            self._clock.adjust()
        return self._format_events(events)
