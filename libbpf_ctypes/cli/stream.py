"""The way of the events: out of the buffer, put in order, recorded, printed."""

from __future__ import annotations

import contextlib
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Callable

from ..errors import BpfError
from ..events import SyscallEvent
from ..perf_buffer import PerfBuffer
from .merge import PATIENCE, Merger
from .output import Output, OutputClosedError

if TYPE_CHECKING:
    from .recorder import Recorder

#: After the deadline the probe is off. What the buffers hold is read and printed, as long as
#: somebody takes a part of it in every such time, and so long at most.
_DRAIN_PATIENCE, _DRAIN_SECONDS = 0.5, 10.0

_NO_LIMIT = 1 << 63

#: With no event for so many seconds, look whether somebody still reads the output.
_LOOK_AFTER = 1.0

#: Makes events of samples with their CPUs.
Decode = Callable[["list[tuple[int, bytes]]"], "list[Any]"]

#: Of an event, and of a pair of an event and its sample: the event's time.
_TIME = SyscallEvent._fields.index("timestamp_ns")


class Stream:
    """Reads a buffer and prints its events.

    Args:
        buffer: of SyscallEvents; of samples with their CPUs where there is a decode.
        output: where the text goes.
        format_events: makes text of events.
        decode: makes events of samples.
        recorder: writes the samples, before their lines; goes with a decode.
        merge: put the events of all CPUs in the order of their times.
        limit: stop after so many events; 0: never.
        wait: waits for room for more events where they go; see Formatter.wait().
        on_turn: called again and again; returns in how many seconds next, or None: whenever.

    Attributes:
        delivered: events that were read.
        beyond: events of them that came after the limit.
        reader_left: nobody reads the lines any more.
        drained: the buffers were read until they were empty.
    """

    def __init__(
        self,
        buffer: PerfBuffer[Any],
        output: Output,
        format_events: Callable[[list[Any]], str],
        *,
        decode: Decode | None = None,
        recorder: Recorder | None = None,
        merge: bool,
        limit: int = 0,
        wait: Callable[[float], bool] = lambda deadline: True,
        on_turn: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._buffer = buffer
        self._output = output
        self._format = format_events
        self._decode = decode
        self._recorder = recorder
        time_of = itemgetter(_TIME) if decode is None else _time_of_pair
        self._merger: Merger[Any] | None = Merger(time_of) if merge else None
        self._left = limit or _NO_LIMIT
        self._wait = wait
        self._on_turn = on_turn
        self._turn_due: float | None = None
        self._stopping = False
        self.delivered = 0
        self.beyond = 0
        self.reader_left = False
        self.drained = False

    def stop(self) -> None:
        """Ends listen(), or drain(); safe in a signal handler."""
        self._stopping = True
        self._buffer.wake()

    def listen(self, end: float) -> None:
        """Prints events until END (of time.monotonic), stop(), or nobody reads any more."""
        output = self._output
        try:
            while not self._stopping:
                now = time.monotonic()
                if now >= end or not self._left:
                    break
                # A slow reader must not keep us from the deadline, nor from a signal.
                soon = min(end, now + 0.1)
                if output.blocked() or not self._wait(soon):
                    pass  # the buffers fill: losses are counted there
                elif not self._read(self._patience(now, end)):
                    output.check_reader()
                output.flush(soon)
                self._turn_due = self._on_turn()
        except OutputClosedError:
            self.reader_left = True
        except BpfError:
            self._print_what_came()
            raise

    def drain(self) -> None:
        """Prints what the buffers still hold, for a bounded time; stop() ends it, too."""
        end = time.monotonic() + _DRAIN_SECONDS
        self._stopping = False
        try:
            while time.monotonic() < end and not self._stopping:
                if not self._wait(min(end, time.monotonic() + 0.1)):
                    continue
                if not self._output.blocked() and not self._read(0):
                    self.drained = True
                    break
                if not self._write_some(end, force=False):
                    break
            self._print(self._held())
        except OutputClosedError:
            self.reader_left = True
        except BpfError:
            self._print_what_came()
            raise
        self.finish()

    def finish(self) -> None:
        """Writes what is left, as long as somebody takes a part of it; stop() ends it, too."""
        end = time.monotonic() + _DRAIN_SECONDS
        try:
            while time.monotonic() < end and not self._stopping:
                if not self._write_some(end, force=True):
                    break
        except OutputClosedError:
            self.reader_left = True

    def _print_what_came(self) -> None:
        """Prints what was read before an error: it was traced."""
        with contextlib.suppress(BpfError, OutputClosedError):
            self._read(0)
        with contextlib.suppress(OutputClosedError):
            self._print(self._held())
            self._output.flush(time.monotonic() + _DRAIN_PATIENCE, force=True)

    def _write_some(self, end: float, *, force: bool) -> bool:
        """Writes what waits; False: there is nothing left, or nobody takes any of it."""
        output = self._output
        before = output.waiting()
        output.flush(min(end, time.monotonic() + _DRAIN_PATIENCE), force=force)
        after = output.waiting()
        return after < before or (not force and not output.blocked())

    def _patience(self, now: float, end: float) -> float:
        """Seconds to wait for events, before something else is to be done."""
        waits = [_LOOK_AFTER, self._output.due(), self._turn_due, end - now]
        if self._merger is not None and len(self._merger):
            waits.append(PATIENCE)
        return min(wait for wait in waits if wait is not None)

    def _read(self, timeout: float) -> bool:
        """Reads events, and prints those whose turn has come; whether any were read."""
        found: list[Any] = self._buffer.poll(timeout)
        self.delivered += len(found)
        items = found if self._decode is None else self._pairs(found, self._decode)
        if self._merger is not None:
            items = self._merger.add(items, self._buffer.read_until)
        self._print(items)
        return bool(found)

    def _pairs(self, samples: list[tuple[int, bytes]], decode: Decode) -> list[Any]:
        """The samples with their events in front."""
        try:
            return list(zip(decode(samples), samples))
        except BpfError:
            self._print(self._held())
            if self._recorder is not None:
                self._recorder.add(samples)  # it records what came, whatever it is
            raise

    def _held(self) -> list[Any]:
        return [] if self._merger is None else self._merger.rest()

    def _print(self, items: list[Any]) -> None:
        """Records and formats events, or pairs of them with their samples."""
        if not items:
            return
        if len(items) > self._left:
            self.beyond += len(items) - self._left
            items = items[: self._left]
        self._left -= len(items)
        if self._decode is not None:
            if self._recorder is not None:
                self._recorder.add([sample for _event, sample in items])
            items = [event for event, _sample in items]
        self._output.add(self._format(items))


def _time_of_pair(pair: tuple[SyscallEvent, Any]) -> int:
    return pair[0].timestamp_ns
