"""``ebpf-tool kprobe``: one line for each call of a kernel function."""

from __future__ import annotations

import errno
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .. import kernel
from ..errors import BpfError
from ..events import SYSCALL_EVENT_SCHEMA, Counters, SyscallEvent
from ..maps import Map
from ..object import BpfObject
from ..paths import KPROBE_OBJECT
from ..perf_buffer import PerfBuffer
from . import usage
from .account import Account, tell
from .argument import Argument, first_argument
from .console import Console, wants_debug
from .deadline import Deadline
from .lines import LineOptions, line_formatter, read_line_options, sample_decoder
from .output import Output, OutputClosedError
from .recorder import Recorder
from .text import WallClock

PROGRAM, EVENTS, COUNTERS = "syscall_kprobe", "EVENTS", "COUNTERS"

#: After the deadline the probe is off; what the buffers hold is read for so long.
DRAIN_SECONDS = 0.15

#: With no event for so many seconds, look whether somebody still reads the output.
_LOOK_AFTER = 1.0

_YEARS = 10 * 366 * 86400


class Options(NamedTuple):
    """The command line, checked."""

    function: str
    seconds: float
    include_self: bool
    lines: LineOptions
    record: str | None
    object: Path
    quiet: bool
    debug: bool


def read_options(words: dict[str, Any]) -> Options:
    """The options in docopt's words. Raises: usage.UsageError."""
    function = words["FUNCTION"]
    if words["--object"] == "":
        raise usage.UsageError("--object takes a file, not ''")
    if not function or not function.isprintable() or " " in function:
        raise usage.UsageError(f"{function!r} is not the name of a kernel function")
    return Options(
        function=function,
        seconds=usage.number(words, "--duration", _YEARS),
        include_self=words["--include-self"],
        lines=read_line_options(words),
        record=words["--record"],
        object=KPROBE_OBJECT if words["--object"] is None else Path(words["--object"]),
        quiet=words["--quiet"],
        debug=wants_debug(words["--verbose"]),
    )


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = read_options(words)
    console = Console(quiet=options.quiet, verbose=options.debug)
    try:
        return _Trace(options, console).run()
    except BpfError as error:
        console.failure(error)
    except OSError as error:  # no descriptor left, say
        console.error(f"{options.function}: {error.strerror or error}")
    return 1


class _Trace:
    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._stopping = False
        self._buffer: PerfBuffer[Any] | None = None
        self._recorder: Recorder | None = None
        self._delivered = 0
        self._reader_left = False  # the reader of stdout
        self._drained = False
        self._lost_said = 0
        self._lost_said_at = 0.0
        self._clock = WallClock()

    def run(self) -> int:
        options = self._options
        self._look_at_process_ids()
        self._console.info(f"Attaching kprobe to function: {options.function}")
        seconds = f"{options.seconds:f}".rstrip("0").rstrip(".")
        self._console.info(f"Duration: {seconds} seconds (0 = until Ctrl+C)")
        if options.object == KPROBE_OBJECT and not KPROBE_OBJECT.exists():
            reason = f"none is shipped for {platform.machine()}"
            hint = "Add the machine to bpf/Makefile, or name an object of yours with --object."
            raise BpfError("find kprobe.bpf.o", None, reason, hint=hint)
        with BpfObject.open(options.object) as obj:
            self._catch_signals()  # not before: the file may be a pipe that nobody writes to
            self._prepare(obj)
            obj.load()
            argument = first_argument(options.function, raw=options.lines.raw_args)
            output = self._open_output()
            with self._open_buffer(obj.maps[EVENTS]) as self._buffer:
                with obj.programs[PROGRAM].attach_kprobe(options.function) as link:
                    self._start_recording(argument)
                    deadline = Deadline(link, options.seconds, self._console)
                    what = f"Kprobe attached to {options.function}. Listening for events..."
                    self._console.info(what)
                    try:
                        self._listen(self._buffer, output, argument, deadline.end)
                    except BpfError:  # what came before it was traced
                        output.flush(time.monotonic() + DRAIN_SECONDS, force=True)
                        raise
                    duration = deadline.detach()
                _await_calls_in_flight(obj.maps[COUNTERS])
                if not self._reader_left:
                    self._drain(self._buffer, output, argument)
                account = Account(
                    _read_counters(obj.maps[COUNTERS]),
                    self._delivered,
                    self._buffer.lost,
                    duration,
                    self._reader_left,
                    self._drained,
                )
                return self._account(account, output)

    def _open_output(self) -> Output:
        """Where the lines go."""
        if sys.stdout is not None:
            return Output(sys.stdout.fileno(), sys.stdout.encoding)
        if self._options.record is None:
            hint = "Leave it open, or record to a file with --record."
            raise BpfError("write the output", None, "stdout is closed", hint=hint)
        return Output(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def _open_buffer(self, events: Map) -> PerfBuffer[Any]:
        """The buffer of events: raw ones for a recording, which are decoded later."""
        if self._options.record is None:
            return PerfBuffer(events, SYSCALL_EVENT_SCHEMA, on_lost=self._say_lost)
        return PerfBuffer(events, on_lost=self._say_lost, with_cpu=True)

    def _start_recording(self, argument: Argument) -> None:
        """Opens the recording. Only now: a probe that is refused must not cost an older one."""
        options = self._options
        if options.record is not None:
            self._recorder = Recorder(
                options.record,
                options.function,
                options.lines.pid,
                argument,
                self._clock,
                self._console,
            )

    def _look_at_process_ids(self) -> None:
        """The kernel numbers processes as the host does: says so where we do not."""
        if kernel.in_initial_pid_namespace():
            _check_process(self._options.lines.pid)
            self._tracer = 0 if self._options.include_self else os.getpid()
            return
        self._tracer = 0  # our number here is another process's there
        self._console.warning(
            "This is a container: process ids are the host's, in the events and for -p, "
            "and ebpf-tool's own calls are not left out."
        )

    def _catch_signals(self) -> None:
        def stop(_number: int, _frame: object) -> None:
            self._stopping = True
            if self._buffer is not None:
                self._buffer.wake()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(signal.SIGHUP, stop)

    def _prepare(self, obj: BpfObject) -> None:
        """Checks that the object is ours and for this machine, and sets its filters."""
        _ = obj.programs[PROGRAM], obj.maps[EVENTS], obj.maps[COUNTERS]
        machine = obj.variables["machine"].value
        if machine != platform.machine().encode() + b"\0":
            reason = f"it is built for another machine ({machine!r}, not {platform.machine()})"
            hint = "Take the object of this machine's folder in the package's data folder."
            raise BpfError(f"use {obj.source}", None, reason, hint=hint)
        obj.variables["target_pid"].value = self._options.lines.pid
        obj.variables["tracer_pid"].value = self._tracer

    def _listen(
        self,
        buffer: PerfBuffer[Any],
        output: Output,
        argument: Argument,
        end: float | None,
    ) -> None:
        """Prints events until the deadline, a signal, or nobody reads any more."""
        format_events = self._formatter(argument)
        try:
            while not self._stopping:
                now = time.monotonic()
                if end is not None and now >= end:
                    break
                if not output.blocked():
                    waits = [w for w in (output.due(), end and end - now) if w is not None]
                    events = buffer.poll(min([*waits, _LOOK_AFTER]))
                    if events:
                        self._delivered += len(events)
                        output.add(format_events(events))
                    else:
                        output.check_reader()
                # A slow reader must not keep us from the deadline, nor from a signal.
                output.flush(now + 0.1 if end is None else min(end, now + 0.1))
        except OutputClosedError:
            self._reader_left = True

    def _drain(self, buffer: PerfBuffer[Any], output: Output, argument: Argument) -> None:
        """Prints what the buffers still hold, for a bounded time."""
        format_events = self._formatter(argument)
        end = time.monotonic() + DRAIN_SECONDS
        try:
            while not output.blocked() and time.monotonic() < end:
                events = buffer.poll(0)
                if not events:
                    self._drained = True
                    break
                self._delivered += len(events)
                output.add(format_events(events))
                output.flush(end)
            output.flush(end, force=True)
        except OutputClosedError:
            self._reader_left = True

    def _formatter(self, argument: Argument) -> Callable[[list[Any]], str]:
        """A function that makes lines of what the buffer gives, and records that before."""
        lines, recorder, clock = self._options.lines, self._recorder, self._clock
        format_events = line_formatter(lines, argument, clock)
        wall = lines.time == "wall"

        def format_now(events: list[SyscallEvent]) -> str:
            if wall:
                clock.adjust()
            return format_events(events)

        if recorder is None:
            return format_now
        decode = sample_decoder(recorder.header)

        def record(samples: list[tuple[int, bytes]]) -> str:
            recorder.add(samples)
            return (format_now if recorder.failed else format_events)(decode(samples))

        return record

    def _say_lost(self, cpu: int, count: int) -> None:
        """Tells of losses while they happen, at most once a second."""
        if self._recorder is not None:
            self._recorder.lost(cpu, count)
        now = time.monotonic()
        if now - self._lost_said_at >= 1 and self._buffer is not None:
            new, self._lost_said = self._buffer.lost - self._lost_said, self._buffer.lost
            self._lost_said_at = now
            self._console.warning(f"{new} events lost: they come faster than they are read")

    def _account(self, account: Account, output: Output) -> int:
        """Tells how it ended; returns the exit status."""
        good = tell(account, self._options.function, self._console)
        if self._recorder is not None:
            self._recorder.end(account)
            good = good and not self._recorder.failed
        if output.unwritten() and not self._reader_left:
            lines = f"{output.unwritten()} lines were not written"
            self._console.error(f"{lines}: nobody reads the output.")
            good = False
        return 0 if good else 1


def _check_process(pid: int) -> None:
    """Refuses a -p that can never match, and says what -p does not see."""
    if not pid:
        return
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        there = "there is no process of this number"
        reason = there if error.errno == errno.ENOENT else error.strerror or ""
        hint = "" if Path("/proc/self/status").exists() else "/proc is not mounted: mount it first."
        raise BpfError(f"trace process {pid}", None, reason, hint=hint) from None
    group = next((line.split()[1] for line in status.splitlines() if line[:5] == "Tgid:"), pid)
    if int(group) != pid:
        reason = f"it is a thread of process {group}"
        raise BpfError(f"trace process {pid}", None, reason, hint=f"Use -p {group}.")


def _await_calls_in_flight(counters: Map) -> None:
    """Waits, for a tenth of a second at most, until each call seen was sent or not.

    A task may be preempted in the middle of the program when it is detached.
    """
    for _ in range(10):
        now = _read_counters(counters)
        if now.seen == now.filtered + now.sent + now.refused:
            return
        time.sleep(0.01)


def _read_counters(counters: Map) -> Counters:
    """The sum of the CPUs' counters."""
    layout = struct.Struct("=4Q")
    if counters.value_size != layout.size:
        reason = f"its values have {counters.value_size} bytes, not {layout.size}"
        raise BpfError(f"read map {counters.name}", None, reason)
    rows = [layout.unpack(value) for value in counters.lookup_percpu(bytes(4))]
    return Counters(*(sum(column) for column in zip(*rows)))
