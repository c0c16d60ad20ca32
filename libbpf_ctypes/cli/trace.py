"""``ebpf-tool kprobe``: one line for each call of kernel functions."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from .. import kernel
from ..errors import BpfError
from ..maps import Map
from ..object import BpfObject
from ..perf_buffer import PerfBuffer, pages_for
from .console import Console
from .options import Options, read_options
from .output import Output
from .session import check_choice, check_machine, check_shipped, open_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .attaching import Attached
    from .calls import Calls
    from .reading import Events

PROGRAM, EVENTS, COUNTERS = "syscall_kprobe", "EVENTS", "COUNTERS"
_RICH_PROGRAMS = ("call_kprobe", "call_kprobe_multi")
_RICH_MAPS = (
    "FUNCTIONS", "PATTERNS", "CHOSEN", "CGROUPS", "STACKS", "SCRATCH", "SPANS", "GROUPS",
)  # fmt: skip

_NEVER = 2**64 - 1


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = read_options(words)
    console = Console(quiet=options.quiet, verbose=options.debug)
    trace = _Trace(options, console)
    try:
        return trace.run()
    except BpfError as error:
        trace.tell_failure(error)
    except OSError as error:  # no descriptor left, say
        console.error(f"{options.function}: {error.strerror or error}")
    return 1


class _NotByNameError(Exception):
    """The kernel has no function of the name that was given, or several."""


class _Trace:
    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._stopping = False
        self._output: Output | None = None
        self._events: Events | None = None
        self._tracer = 0

    def run(self) -> int:
        """Traces; returns the exit status."""
        options = self._options
        check_choice(options.choice)
        check_shipped(options.object)
        if options.is_plain() and kernel.in_initial_pid_namespace():
            self._tracer = 0 if options.include_self else os.getpid()
            self._introduce(f"function: {options.words[0]}")
            try:
                return self._trace(None)
            except _NotByNameError:
                calls = self._calls()  # says what there is; or it is a system call
                return self._trace(calls)
        calls = self._calls()
        if options.dry_run:
            from .dry_run import print_plan

            if not kernel.has_kprobes():
                self._console.warning(f"This kernel has no kprobes. {kernel.VM_HINT}")
            return print_plan(calls, options, open_output(options))
        self._look_at_process_ids(calls)
        count = len(calls.functions)
        one = f"function: {calls.functions[0].label}"
        self._introduce(one if count == 1 else f"{count} functions")
        return self._trace(calls)

    def _calls(self) -> Calls:
        from .calls import Calls  # and all that the richer programs need

        return Calls(self._options, self._console)

    def _introduce(self, what: str) -> None:
        self._console.info(f"Attaching kprobe to {what}")
        seconds = f"{self._options.seconds:f}".rstrip("0").rstrip(".")
        self._console.info(f"Duration: {seconds} seconds (0 = until Ctrl+C)")

    def _trace(self, calls: Calls | None) -> int:
        options = self._options
        with BpfObject.open(options.object) as obj:
            self._catch_signals()  # not before: the file may be a pipe that nobody writes to
            self._prepare(obj, calls)
            obj.load()
            if calls is not None:
                calls.fill(obj)
            if self._output is None:
                self._output = open_output(self._options)
            with self._open_buffer(obj.maps[EVENTS], calls) as buffer:
                with self._attached(obj, calls) as attached:
                    started = time.monotonic_ns()
                    end = started + int(options.seconds * 1e9) if options.seconds else _NEVER
                    # The program keeps it: we may be busy then, or be stopped.
                    obj.variables["until_ns"].value = end
                    what = f"Kprobe attached to {self._attached_to(attached, calls)}."
                    self._console.info(f"{what} Listening for events...")
                    events = self._start_reading(buffer, self._output, calls)
                    events.listen(started / 1e9, end / 1e9)
                    traced = min(time.monotonic_ns(), end) - started
                    obj.variables["until_ns"].value = 0
                    self._console.info("Detaching kprobe...")
                    attached.close(self._progress("Detaching"))
                return events.end(obj.maps[COUNTERS], traced, attached.missed())

    @contextlib.contextmanager
    def _attached(self, obj: BpfObject, calls: Calls | None) -> Iterator[Attached]:
        """The probes. Raises: _NotByNameError: the kernel knows the name not, or more than once."""
        if calls is None:
            try:
                link = obj.programs[PROGRAM].attach_kprobe(self._options.words[0])
            except BpfError as error:
                if error.errno in (errno.ENOENT, errno.EADDRNOTAVAIL) and kernel.has_kprobes():
                    raise _NotByNameError from error
                raise
            from .attaching import Attached

            attached = Attached()
            attached.add(obj.programs[PROGRAM], link, "kprobe", 1)
        else:
            from .attaching import attach

            progress = self._progress("Attaching")
            attached = attach(
                obj, calls.plan, progress=progress, should_stop=lambda: self._stopping
            )
        try:
            yield attached
        finally:
            attached.close()

    def _progress(self, what: str) -> Any:
        from .attaching import Counter

        return Counter(self._console, what, quiet=self._options.quiet)

    def _attached_to(self, attached: Attached, calls: Calls | None) -> str:
        """The function, or how many of how many."""
        if calls is None:
            return self._options.words[0]
        count = len(calls.functions)
        if count == 1:
            return calls.functions[0].label
        of = "" if attached.count == count else f"{attached.count} of "
        return f"{of}{count} functions by {attached.method}"

    def _start_reading(
        self, buffer: PerfBuffer[Any], output: Output, calls: Calls | None
    ) -> Events:
        # What reads events takes a while to import: the probe is there already, and the
        # buffers keep what comes meanwhile.
        from .reading import Events

        self._events = Events(self._options, calls, buffer, output, self._console)
        if self._stopping:  # a signal came before there was anything to stop
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

    def _look_at_process_ids(self, calls: Calls) -> None:
        """Processes are numbered as the user sees them, if the kernel's types say how."""
        if calls.ids.namespace and not calls.ids.offsets:
            # Our number here is another process's there.
            self._console.warning(
                "This is a container on a kernel without BTF: process ids are the host's, in the "
                "events and for -p, and ebpf-tool's own calls are not left out."
            )
        elif not self._options.include_self:
            self._tracer = os.getpid()

    def _catch_signals(self) -> None:
        def stop(_number: int, _frame: object) -> None:
            self._stopping = True
            if self._events is not None:
                self._events.stop()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(signal.SIGHUP, stop)

    def _prepare(self, obj: BpfObject, calls: Calls | None) -> None:
        """Checks that the object is ours and for this machine, and sets its filters."""
        _ = obj.programs[PROGRAM], obj.maps[EVENTS], obj.maps[COUNTERS], obj.variables["until_ns"]
        check_machine(obj)
        if calls is not None:
            calls.prepare(obj, self._tracer)
            return
        for name in _RICH_MAPS:
            if name in obj.maps:  # not of an older build
                obj.maps[name].autocreate = False
        obj.variables["target_pid"].value = next(iter(self._options.choice.pids), 0)
        obj.variables["tracer_pid"].value = self._tracer

    def tell_failure(self, error: BpfError) -> None:
        """Tells of what ended the trace; under --json among the objects, too."""
        self._console.end_status()
        if self._options.lines.json and self._console.also is None:
            from .json_lines import error_record

            with contextlib.suppress(BpfError):
                output = self._output or open_output(self._options)
                output.add(error_record(error))
                output.flush(time.monotonic() + 1, force=True)
        self._console.failure(error)


def _event_schema() -> Any:
    from ..events import SYSCALL_EVENT_SCHEMA  # and construct with it

    return SYSCALL_EVENT_SCHEMA.flat()  # names are decoded once, not with each event
