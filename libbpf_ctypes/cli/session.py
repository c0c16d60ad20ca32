"""What each command that attaches our programs looks at first, and where its output goes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .. import kernel
from ..errors import BpfError
from ..paths import KPROBE_OBJECT
from .options import read_cpus
from .output import Output, OutputClosedError, open_file
from .usage import UsageError

if TYPE_CHECKING:
    from ..object import BpfObject
    from .console import Console
    from .options import Choice, Options


def check_shipped(path: Path) -> None:
    """Raises: BpfError: it is to be our own object, and there is none for this machine."""
    if path == KPROBE_OBJECT and not KPROBE_OBJECT.exists():
        reason = f"none is shipped for {os.uname().machine}"
        hint = "Add the machine to bpf/Makefile, or name an object of yours with --object."
        raise BpfError("find kprobe.bpf.o", None, reason, hint=hint)


def check_machine(obj: BpfObject) -> None:
    """Raises: BpfError: the object is not ours, or is for another machine."""
    machine = obj.variables["machine"].value
    if machine != os.uname().machine.encode() + b"\0":
        reason = f"it is built for another machine ({machine!r}, not {os.uname().machine})"
        hint = "Take the object of this machine's folder in the package's data folder."
        raise BpfError(f"use {obj.source}", None, reason, hint=hint)


def open_output(options: Options) -> Output:
    """Where the lines go. Raises: BpfError."""
    at_once = options.line_buffered
    if not options.lines.is_text:
        return Output(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    if options.output is not None:
        return Output(open_file(options.output), immediate=at_once)
    if sys.stdout is not None:
        return Output(sys.stdout.fileno(), options.lines.encoding, immediate=at_once)
    if options.record is None:
        hint = "Leave it open, or write to a file with -o."
        raise BpfError("write the output", None, "stdout is closed", hint=hint)
    return Output(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))


def tell_failure(
    error: BpfError, options: Options, console: Console, output: Output | None
) -> None:
    """Tells of what ended a trace; under --json among the objects, too."""
    console.end_status()
    if options.lines.json and console.also is None:
        from .json_lines import error_record

        with contextlib.suppress(BpfError, OutputClosedError):
            output = output or open_output(options)
            output.add(error_record(error))
            output.flush(time.monotonic() + 1, force=True)
    console.failure(error)


def check_choice(choice: Choice) -> None:
    """Refuses what can never match. Raises: BpfError."""
    # In a container without BTF they are the host's, of which its /proc does not tell.
    if kernel.in_initial_pid_namespace() or kernel.BTF.exists():
        for pid in choice.pids:
            _check_process(pid)
        for tid in choice.tids:
            _check_thread(tid)
    _check_cpus(choice.cpus)


def _check_process(pid: int) -> None:
    """Refuses a -p that can never match, and says what -p does not see."""
    group = _thread_group(pid, f"trace process {pid}", "process")
    if group != pid:
        reason = f"it is a thread of process {group}"
        hint = f"Use -p {group}, or --tid {pid}."
        raise BpfError(f"trace process {pid}", None, reason, hint=hint)


def _check_thread(tid: int) -> None:
    """Refuses a --tid that can never match."""
    _thread_group(tid, f"trace thread {tid}", "thread")


def _check_cpus(chosen: tuple[int, ...]) -> None:
    """Refuses a --cpu that can never match."""
    try:
        text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()
        there = read_cpus(text)
    except (OSError, ValueError, UsageError):
        return  # no sysfs: it is not known
    if chosen and not set(chosen) & set(there):
        what = "CPU" if len(chosen) == 1 else "CPUs"
        operation = f"trace {what} {', '.join(map(str, chosen[:8]))}"
        raise BpfError(operation, None, f"this machine has CPUs {text}")


def _thread_group(number: int, operation: str, what: str) -> int:
    """The process that a thread is of. Raises: BpfError: there is none."""
    try:
        status = Path(f"/proc/{number}/status").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        there = f"there is no {what} of this number"
        reason = there if error.errno in (errno.ENOENT, errno.ESRCH) else error.strerror or ""
        hint = "" if Path("/proc/self/status").exists() else "/proc is not mounted: mount it first."
        raise BpfError(operation, None, reason, hint=hint) from None
    lines = status.splitlines()
    return int(next((line.split()[1] for line in lines if line[:5] == "Tgid:"), number))
