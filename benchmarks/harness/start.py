"""From a process's start to its probe in place, as anybody can see it.

A uprobe's breakpoint is written into every process that maps the file. So this
process maps the library, and looks at the function's first bytes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time

from .process import FailedError, memory_kib
from .session import Session

_SECONDS = 20.0


class Function:
    """The first bytes of the library's function, in this process."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        pointer = ctypes.cast(self._library.target, ctypes.c_void_p)
        self._bytes = (ctypes.c_char * 4).from_address(pointer.value or 0)
        self._clean = self._bytes.raw

    def await_probe(self, there: bool, process: subprocess.Popen[bytes] | None = None) -> None:
        """Spins until a probe is there, or gone."""
        deadline = time.monotonic() + _SECONDS
        while (self._bytes.raw != self._clean) is not there:
            if time.monotonic() > deadline:
                raise FailedError(f"no {'probe' if there else 'end of it'} in {_SECONDS:.0f} s")
            if process is not None and process.poll() is not None:
                raise FailedError(f"it ended with status {process.returncode}, without a probe")


def start(session: Session) -> None:
    """Each command's time from just before its start to the breakpoint."""
    function = Function(str(session.peers.setup.library))
    commands = session.peers.starts()
    for name in ("command", "bpftrace", "BCC"):
        if name not in commands:
            session.fail("start", name, session.peers.missing[name])
    os.sched_setaffinity(0, {session.machine.producer_cpu})  # who spins, spins elsewhere
    for number, name in session.each_round(commands):
        if session.failed("start", name):
            continue
        words, environment = commands[name]
        machine = session.machine
        process = None
        try:
            function.await_probe(False)
            began = time.perf_counter_ns()
            process = machine.start(
                words,
                machine.reader_cpu,
                environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            function.await_probe(True, process)
            figures = {"start_ns": time.perf_counter_ns() - began}
            figures["hwm_kib"] = memory_kib(process.pid, "VmHWM")
            process.send_signal(signal.SIGINT)
            process.wait(_SECONDS)
            function.await_probe(False)
        except (FailedError, subprocess.TimeoutExpired) as error:
            session.fail("start", name, error)
        else:
            session.keep("start", number, name, figures)
        finally:
            if process is not None:
                machine.kill(process)
    os.sched_setaffinity(0, {session.machine.reader_cpu})
