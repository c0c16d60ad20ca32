"""What goes on in the guest while the commands of docs/questions/ run: a small busy server."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from . import cast

REPORTS = "/srv/reports"
SECRET = "/srv/secret.key"
PAUSE = 0.2
NOBODY = 65534
CONTAINER = "c0de" * 16


def cleaner() -> None:
    """Deletes reports in three ways."""
    for name in ("monday", "tuesday", "new", "wednesday"):
        Path(f"{REPORTS}/{name}.txt").touch()
    os.unlink(f"{REPORTS}/monday.txt")  # noqa: PTH108  # unlink(2)
    path = ctypes.create_string_buffer(f"{REPORTS}/tuesday.txt".encode())
    cast.LIBC.unlinkat(cast.AT_FDCWD, path, 0)
    cast.LIBC.rename(f"{REPORTS}/new.txt".encode(), f"{REPORTS}/wednesday.txt".encode())


def hog() -> None:
    """Writes much."""
    descriptor = os.open("/srv/everything.log", os.O_WRONLY | os.O_CREAT, 0o644)
    for _ in range(5):
        os.pwrite(descriptor, b"", 0)
        os.write(descriptor, bytes(1 << 20))
    os.ftruncate(descriptor, 0)
    os.close(descriptor)


def login() -> None:
    """Reads the users."""
    os.close(os.open("/etc/passwd", os.O_RDONLY))


def web() -> None:
    """Serves a page, in its container."""
    os.close(os.open("/etc/hosts", os.O_RDONLY))
    descriptor = os.open("/dev/null", os.O_WRONLY)
    os.write(descriptor, bytes(512))
    os.close(descriptor)


def watchdog() -> None:
    """Ends a process, gently and not so."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            named("victim")
            os.write(writer, b"1")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        os.kill(child, number)
        os.waitpid(child, 0)


def starter() -> None:
    """Starts a program."""
    child = os.fork()
    if child == 0:
        os.execv("/bin/true", ["true"])
    os.waitpid(child, 0)


def archive() -> None:
    """Has the reports to itself for a while."""
    descriptor = os.open("/srv/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    time.sleep(PAUSE)
    os.close(descriptor)


def report() -> None:
    """Waits until it has the reports to itself."""
    descriptor = os.open("/srv/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)


def script() -> None:
    """Reads what it may not read, and starts a program."""
    with contextlib.suppress(PermissionError):
        os.close(os.open(SECRET, os.O_RDONLY))
    starter()


def nobody() -> None:
    """Becomes an ordinary user."""
    Path(SECRET).touch(0o600)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def container() -> None:
    """Becomes the first process of a container."""
    name = f"docker-{CONTAINER}.scope"
    cast.enter_cgroup(Path("/sys/fs/cgroup/shop.slice") / name)
    cast.new_pid_namespace()


#: By the name of the process: what it becomes first, and what it does again and again.
SCENES: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "cleaner": (lambda: Path(REPORTS).mkdir(parents=True, exist_ok=True), cleaner),
    "hog": (lambda: None, hog),
    "login": (lambda: None, login),
    "web": (container, web),
    "watchdog": (lambda: None, watchdog),
    "starter": (lambda: None, starter),
    "script": (nobody, script),
    "archive": (lambda: None, archive),
    "report": (lambda: None, report),
}


def named(name: str) -> None:
    """Gives this process its name."""
    cast.LIBC.prctl(cast.PR_SET_NAME, name.encode())


def start() -> list[int]:
    """Starts all of them. Returns: what to kill in the end."""
    pids = []
    for name, (become, act) in SCENES.items():
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            become()
            named(name)
            while True:
                act()
                time.sleep(PAUSE)
        pids.append(pid)
    return pids


def stop(pids: list[int]) -> None:
    """Ends them, and what they started."""
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
