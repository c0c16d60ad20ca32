"""``ebpf-tool kprobe`` and its kin: one line for each call, or return."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .. import kernel
from ..errors import BpfError
from ..maps import Map
from ..perf_buffer import PerfBuffer, pages_for
from .console import Console
from .options import Options, read_options
from .probing import COUNTERS, EVENTS, NotByNameError, Probing, StoppedError
from .session import open_output, tell_failure

if TYPE_CHECKING:
    from ..object import BpfObject
    from .calls import Calls
    from .output import Output
    from .reading import Events
    from .stacks import Stacks


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = read_options(words)
    console = Console(quiet=options.quiet, verbose=options.debug)
    trace = _Trace(options, console)
    try:
        return trace.run()
    except StoppedError:
        return trace.end_by_signal()
    except BpfError as error:
        trace.tell_failure(error)
    except OSError as error:  # no descriptor left, say
        console.error(f"{options.function}: {error.strerror or error}")
    return 1


class _Trace:
    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._probing = Probing(options, console)
        self._output: Output | None = None
        self._events: Events | None = None

    def run(self) -> int:
        """Traces; returns the exit status."""
        self._probing.check()
        if self._options.is_plain() and kernel.in_initial_pid_namespace():
            self._probing.introduce(None)
            try:
                return self._trace(None)
            except NotByNameError:
                calls = self._probing.calls()  # says what there is; or it is a system call
                return self._trace(calls)
        calls = self._probing.calls()
        if self._options.dry_run:
            return self._probing.dry_run(calls)
        self._probing.introduce(calls)
        return self._trace(calls)

    def _trace(self, calls: Calls | None) -> int:
        probing = self._probing
        with contextlib.ExitStack() as closing, probing.loaded(calls, self._stop) as obj:
            if self._output is None:
                self._output = open_output(self._options)
            with self._open_buffer(obj.maps[EVENTS], calls) as buffer:
                stacks = None if calls is None else calls.stacks(obj)
                if stacks is not None:
                    closing.callback(stacks.close)
                if not self._options.lines.is_text:  # first tell what it lacks
                    self._start_reading(obj, buffer, self._output, calls, stacks)
                with probing.attached(obj, calls) as attached:
                    started, end = probing.begin(obj, attached, calls)
                    # What reads events takes a while to import: the probe is there already,
                    # and the buffers keep what comes meanwhile.
                    events = self._events or self._start_reading(
                        obj, buffer, self._output, calls, stacks
                    )
                    events.listen(started / 1e9, end / 1e9)
                    traced = probing.finish(obj, attached, started, end)
                return events.end(traced, attached.missed())

    def _stop(self) -> None:
        if self._events is not None:
            self._events.stop()

    def _start_reading(
        self,
        obj: BpfObject,
        buffer: PerfBuffer[Any],
        output: Output,
        calls: Calls | None,
        stacks: Stacks | None,
    ) -> Events:
        from .reading import Events

        counters = obj.maps[COUNTERS]
        self._events = Events(self._options, calls, buffer, counters, output, self._console, stacks)
        if self._probing.stopping:  # a signal came before there was anything to stop
            self._events.stop()
        return self._events

    def _open_buffer(self, events: Map[Any, Any], calls: Calls | None) -> PerfBuffer[Any]:
        """The buffer of events: raw ones for a recording, which are decoded later."""

        def on_lost(cpu: int, count: int) -> None:
            assert self._events is not None  # it is told by a poll
            self._events.lost(cpu, count)

        pages = pages_for(self._options.buffer) if self._options.buffer else None
        if calls is None and self._options.record is None:
            return PerfBuffer(events, _event_schema, on_lost=on_lost, pages=pages)
        return PerfBuffer(events, on_lost=on_lost, pages=pages, with_cpu=True)

    def tell_failure(self, error: BpfError) -> None:
        """Tells of what ended the trace."""
        tell_failure(error, self._options, self._console, self._output)
        self._let_go()

    def end_by_signal(self) -> int:
        """Ends this process: nothing was traced."""
        self._let_go()
        return self._probing.end_by_signal()

    def _let_go(self) -> None:
        if self._events is not None:
            with contextlib.suppress(BpfError):  # the first is told
                self._events.fail()


def _event_schema() -> Any:
    from ..events import SYSCALL_EVENT_SCHEMA  # and construct with it

    return SYSCALL_EVENT_SCHEMA.flat()  # names are decoded once, not with each event
