"""What every traced command does around its own part: checks, loads, attaches, detaches."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

from .. import kernel
from ..errors import BpfError
from ..object import BpfObject
from .session import check_choice, check_machine, check_shipped, open_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .attached import Attached
    from .calls import Calls
    from .console import Console
    from .options import Options

PROGRAM, EVENTS, COUNTERS = "syscall_kprobe", "EVENTS", "COUNTERS"
#: What the plain program does without.
_RICH_MAPS = (
    "FUNCTIONS", "PATTERNS", "CHOSEN", "CGROUPS", "STACKS", "SCRATCH", "SPANS", "GROUPS",
)  # fmt: skip

NEVER = 2**64 - 1


class NotByNameError(Exception):
    """The kernel has no function of the name that was given, or several."""


class StoppedError(Exception):
    """A signal came before the first probe was attached."""


class Probing:
    """Probes by the options of a command.

    Attributes: stopping: the signal that asked to end; 0: none did.
    """

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._tracer = 0
        self.stopping = 0

    def check(self) -> None:
        """Refuses what can never match. Raises: BpfError."""
        check_choice(self._options.choice)
        check_shipped(self._options.object)
        switch = kernel.switched_off() if self._options.of_kernel else ""
        if switch:
            self._console.warning(
                f"Kprobes are switched off, and may tell nothing: 'echo 1 > {switch}'."
            )

    def calls(self) -> Calls:
        """What the rich programs are told. Raises: UsageError, BpfError."""
        from .calls import Calls  # and all that the richer programs need

        return Calls(self._options, self._console)

    def dry_run(self, calls: Calls) -> int:
        """Prints what would be done; returns the exit status."""
        from .dry_run import print_plan

        if self._options.of_kernel and not kernel.has_kprobes():
            self._console.warning(f"This kernel has no kprobes. {kernel.VM_HINT}")
        return print_plan(calls, self._options, open_output(self._options))

    def introduce(self, calls: Calls | None) -> None:
        """Says what is about to be attached."""
        if calls is None:
            self._tracer = 0 if self._options.include_self else os.getpid()
            what = f"function: {self._options.words[0]}"
        else:
            self._look_at_process_ids(calls)
            count = len(calls.functions)
            one = f"{calls.noun}: {calls.functions[0].label}"
            what = one if count == 1 else f"{count} {calls.noun}s"
        probe = self._options.probe
        self._console.info(f"Attaching {probe} to {what}".replace("tracepoint to ", "to ", 1))
        seconds = f"{self._options.seconds:f}".rstrip("0").rstrip(".")
        self._console.info(f"Duration: {seconds} seconds (0 = until Ctrl+C)")

    @contextlib.contextmanager
    def loaded(
        self,
        calls: Calls | None,
        on_stop: Callable[[], object] = lambda: None,
        prepare: Callable[[BpfObject], object] = lambda _obj: None,
    ) -> Iterator[BpfObject]:
        """The object, ready to be attached.

        Args: on_stop: called by a signal, too. prepare: sets more before it is loaded.
        """
        with BpfObject.open(self._options.object) as obj:
            # Not before: the file may be a pipe that nobody writes to.
            self._catch_signals(on_stop)
            self._prepare(obj, calls)
            prepare(obj)
            obj.load()
            if calls is not None:
                calls.fill(obj)
            yield obj

    @contextlib.contextmanager
    def attached(self, obj: BpfObject, calls: Calls | None) -> Iterator[Attached]:
        """The probes.

        Raises: NotByNameError: the kernel knows the name not, or more than once. StoppedError.
        """
        if calls is None:
            try:
                link = obj.programs[PROGRAM].attach_kprobe(self._options.words[0])
            except BpfError as error:
                if error.errno in (errno.ENOENT, errno.EADDRNOTAVAIL) and kernel.has_kprobes():
                    raise NotByNameError from error
                raise
            from .attached import Attached

            attached = Attached()
            attached.add(obj.programs[PROGRAM], link, "kprobe", 1)
        else:
            attached = calls.attach(
                obj, progress=self.progress("Attaching"), should_stop=lambda: bool(self.stopping)
            )
            if not attached.count:
                raise StoppedError
        try:
            yield attached
        finally:
            attached.close()

    def begin(self, obj: BpfObject, attached: Attached, calls: Calls | None) -> tuple[int, int]:
        """All probes begin; returns the trace's beginning and end, in CLOCK_MONOTONIC's ns."""
        started = time.monotonic_ns()
        end = started + int(self._options.seconds * 1e9) if self._options.seconds else NEVER
        # The program keeps it: we may be busy then, or be stopped.
        obj.variables["until_ns"].value = end
        probe = self._options.probe.capitalize()
        what = f"{probe} attached to {self._attached_to(attached, calls)}."
        self._console.info(f"{what} Listening for events...")
        return started, end

    def finish(self, obj: BpfObject, attached: Attached, started: int, end: int) -> int:
        """The probes end, and are detached; returns the trace's nanoseconds."""
        traced = min(time.monotonic_ns(), end) - started
        obj.variables["until_ns"].value = 0
        self._console.info(f"Detaching {self._options.probe}...")
        attached.close(self.progress("Detaching"))
        return traced

    def end_by_signal(self) -> int:
        """Ends this process as the signal does that asked to."""
        signal.signal(self.stopping, signal.SIG_DFL)
        os.kill(os.getpid(), self.stopping)
        return 128 + self.stopping  # it is blocked

    def progress(self, what: str) -> Any:
        """Tells of a long way."""
        from .progress import Counter

        return Counter(self._console, what, quiet=self._options.quiet)

    def _attached_to(self, attached: Attached, calls: Calls | None) -> str:
        """The function, or how many of how many."""
        if calls is None:
            return self._options.words[0]
        count = len(calls.functions)
        if count == 1:
            return calls.functions[0].label
        of = "" if attached.count == count else f"{attached.count} of "
        return f"{of}{count} {calls.noun}s by {attached.method}"

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

    def _catch_signals(self, on_stop: Callable[[], object]) -> None:
        def stop(number: int, _frame: object) -> None:
            self.stopping = number
            on_stop()

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
