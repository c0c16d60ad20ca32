"""Running ebpf-tool and other programs in the guest, many at the same time, by one process."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from tests.root.example_runs import read, run_here  # noqa: E402
from tests.vm import cast  # noqa: E402

PATIENCE = 1800  # seconds, which nothing takes that does not hang, on a busy machine either
CGROUPS = Path("/sys/fs/cgroup")


class Run:
    """A program that runs and whose output goes to files.

    Args: columns: of a terminal that its stdout is; 0: a file. stdin: a descriptor; else empty.
    """

    def __init__(
        self,
        name: str,
        place: Path,
        run: Callable[[], object],
        columns: int = 0,
        stdin: int | None = None,
    ) -> None:
        self.out, self.err = place / f"{name}.out", place / f"{name}.err"
        self.status: int | None = None
        self._terminal, inner = pty.openpty() if columns else (-1, -1)
        if columns:
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.pid = os.fork()
            if self.pid == 0:
                os.dup2(os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, 0)
                sys.stdin = os.fdopen(0)  # without what this process has read of its own
                os.dup2(inner if columns else out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                status = 99
                try:
                    status = int(str(run()))
                finally:
                    os._exit(status)
        if columns:
            os.close(inner)

    def read_terminal(self) -> None:
        """Begins to read its terminal, by a thread: after the last fork, which copies locks."""
        self._reader = threading.Thread(target=self._read_terminal, daemon=True)
        self._reader.start()

    def _read_terminal(self) -> None:
        """Copies what the terminal is sent to the file, to its end."""
        with self.out.open("ab") as out:
            while True:
                try:
                    data = os.read(self._terminal, 65536)
                except OSError:  # EIO: nobody writes any more
                    break
                out.write(data)
                out.flush()

    def ended(self) -> bool:
        """Whether it ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self, ready: Callable[[], object]) -> None:
        """Waits until it is ready, or ends; without it the test sees what is missing."""
        end = time.monotonic() + PATIENCE
        while not ready() and not self.ended() and time.monotonic() < end:
            time.sleep(0.05)

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        if not self.ended():
            os.kill(self.pid, signal.SIGINT)

    def finish(self) -> dict[str, Any]:
        """Waits for its end, which was asked for; what came of it."""
        self.wait(lambda: False)
        if self._terminal >= 0 and self.ended():
            self._reader.join(PATIENCE)
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = -signal.SIGKILL
        return {"status": self.status, "out": read(self.out), "err": read(self.err)}


def execute(*command: str, **environment: str) -> Callable[[], object]:
    """Becomes another program."""
    path = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
    return lambda: os.execve(path, command, {**os.environ, **environment})


def tool(words: list[str], box: int | None = None) -> Callable[[], object]:
    """Becomes ebpf-tool, in the container of the process BOX where there is one."""

    def run() -> int:
        if box is not None:
            cast.join_pid_namespace(box)
            cast.mount_proc()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return run_here([str(ROOT / "bin" / "ebpf-tool"), *words])

    return run


def preload() -> None:
    """Imports what the command imports: under emulation that takes each of them seconds."""
    import difflib  # noqa: F401
    import encodings.ascii  # noqa: F401
    import pkgutil
    from importlib import import_module

    import construct  # noqa: F401
    import docopt  # noqa: F401

    import libbpf_ctypes
    from libbpf_ctypes import cli, drift  # noqa: F401

    for name in libbpf_ctypes.__all__:
        getattr(libbpf_ctypes, name)
    for module in pkgutil.iter_modules(cli.__path__):
        import_module(f"{cli.__name__}.{module.name}")


def remember_answers() -> None:
    """Has the kernel list its functions but once: each list takes it a second, emulated."""
    from libbpf_ctypes import kernel, library_version

    library_version()  # loads libbpf
    kallsyms = kernel._KALLSYMS.read_text(encoding="utf-8", errors="replace")
    listed = SimpleNamespace(read_text=lambda **_options: kallsyms)
    kernel._KALLSYMS = listed  # type: ignore[assignment]
    kernel.ftraceable = cache(kernel.ftraceable)
    kernel.blacklist = cache(kernel.blacklist)
    kernel.ftraceable()
    kernel.blacklist()


def mount_all() -> None:
    """Mounts what a host has mounted, where it is missing."""
    places = {"tracefs": "/sys/kernel/tracing", "debugfs": "/sys/kernel/debug"}
    for kind, place in {**places, "cgroup2": str(CGROUPS)}.items():
        if not os.path.ismount(place):
            subprocess.run(["mount", "-t", kind, "none", place], check=True)
