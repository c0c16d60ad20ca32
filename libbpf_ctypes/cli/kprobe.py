"""``ebpf-tool kprobe``: one line for each call of a kernel function."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import kernel
from ..errors import BpfError
from ..maps import Map
from ..object import BpfObject
from ..paths import KPROBE_OBJECT
from ..perf_buffer import PerfBuffer, pages_for
from . import usage
from .console import Console, wants_debug
from .lines import LineOptions, read_line_options
from .output import Output

if TYPE_CHECKING:
    from .reading import Events

PROGRAM, EVENTS, COUNTERS = "syscall_kprobe", "EVENTS", "COUNTERS"

_NEVER = 2**64 - 1
_YEARS = 10 * 366 * 86400

_BUFFER_MAX = 1 << 32


class Options(NamedTuple):
    """The command line, checked."""

    function: str
    seconds: float
    include_self: bool
    lines: LineOptions
    record: str | None
    buffer: int  # bytes of each CPU's; 0: the library's default
    unsorted: bool
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
        buffer=0 if words["--buffer"] is None else usage.size(words, "--buffer", _BUFFER_MAX),
        unsorted=words["--unsorted"],
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
        self._events: Events | None = None

    def run(self) -> int:
        options = self._options
        self._look_at_process_ids()
        self._console.info(f"Attaching kprobe to function: {options.function}")
        seconds = f"{options.seconds:f}".rstrip("0").rstrip(".")
        self._console.info(f"Duration: {seconds} seconds (0 = until Ctrl+C)")
        if options.object == KPROBE_OBJECT and not KPROBE_OBJECT.exists():
            reason = f"none is shipped for {os.uname().machine}"
            hint = "Add the machine to bpf/Makefile, or name an object of yours with --object."
            raise BpfError("find kprobe.bpf.o", None, reason, hint=hint)
        with BpfObject.open(options.object) as obj:
            self._catch_signals()  # not before: the file may be a pipe that nobody writes to
            self._prepare(obj)
            obj.load()
            output = self._open_output()
            with self._open_buffer(obj.maps[EVENTS]) as buffer:
                with obj.programs[PROGRAM].attach_kprobe(options.function) as link:
                    started = time.monotonic_ns()
                    end = started + int(options.seconds * 1e9) if options.seconds else _NEVER
                    # The program keeps it: we may be busy then, or be stopped.
                    obj.variables["until_ns"].value = end
                    what = f"Kprobe attached to {options.function}. Listening for events..."
                    self._console.info(what)
                    events = self._start_reading(buffer, output)
                    events.listen(end / 1e9)
                    traced = min(time.monotonic_ns(), end) - started
                    self._console.info("Detaching kprobe...")
                    link.close()
                return events.end(obj.maps[COUNTERS], traced)

    def _start_reading(self, buffer: PerfBuffer[Any], output: Output) -> Events:
        # What reads events takes a while to import: the probe is there already, and the
        # buffers keep what comes meanwhile.
        from .reading import Events

        self._events = Events(self._options, buffer, output, self._console)
        if self._stopping:  # a signal came before there was anything to stop
            self._events.stop()
        return self._events

    def _open_output(self) -> Output:
        """Where the lines go."""
        if sys.stdout is not None:
            return Output(sys.stdout.fileno(), sys.stdout.encoding)
        if self._options.record is None:
            hint = "Leave it open, or record to a file with --record."
            raise BpfError("write the output", None, "stdout is closed", hint=hint)
        return Output(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def _open_buffer(self, events: Map[Any, Any]) -> PerfBuffer[Any]:
        """The buffer of events: raw ones for a recording, which are decoded later."""

        def on_lost(cpu: int, count: int) -> None:
            assert self._events is not None  # it is told by a poll
            self._events.say_lost(cpu, count)

        pages = pages_for(self._options.buffer) if self._options.buffer else None
        if self._options.record is None:
            return PerfBuffer(events, _event_schema, on_lost=on_lost, pages=pages)
        return PerfBuffer(events, on_lost=on_lost, pages=pages, with_cpu=True)

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
            if self._events is not None:
                self._events.stop()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(signal.SIGHUP, stop)

    def _prepare(self, obj: BpfObject) -> None:
        """Checks that the object is ours and for this machine, and sets its filters."""
        _ = obj.programs[PROGRAM], obj.maps[EVENTS], obj.maps[COUNTERS], obj.variables["until_ns"]
        machine = obj.variables["machine"].value
        if machine != os.uname().machine.encode() + b"\0":
            reason = f"it is built for another machine ({machine!r}, not {os.uname().machine})"
            hint = "Take the object of this machine's folder in the package's data folder."
            raise BpfError(f"use {obj.source}", None, reason, hint=hint)
        obj.variables["target_pid"].value = self._options.lines.pid
        obj.variables["tracer_pid"].value = self._tracer


def _event_schema() -> Any:
    from ..events import SYSCALL_EVENT_SCHEMA  # and construct with it

    return SYSCALL_EVENT_SCHEMA.flat()  # names are decoded once, not with each event


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
