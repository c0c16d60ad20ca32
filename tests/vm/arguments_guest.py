"""Runs in the guest: makes known calls while ebpf-tool traces them; prints its lines, as JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]

from tests.root.example_runs import read  # noqa: E402
from tests.vm.running import Run, remember_answers, tool  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
NAMES = "openat mmap socket kill umount mount fallocate rename unlink access lseek fcntl mkdir"
CALLS = [f"syscall:{name}" for name in NAMES.split()]
AT_FDCWD = -100


def trace(place: Path, name: str, call: Callable[[], object], *words: str) -> dict[str, Any]:
    """What the tool printed of this process's calls, without what is before the function."""
    run = Run(name, place, tool(["kprobe", *words, "-p", str(os.getpid())]))
    run.wait(lambda: "Listening" in read(run.err))
    call()
    run.interrupt()
    done = run.finish()
    lines = [
        line.partition(": ")[2].rpartition(", timestamp=")[0] for line in done["out"].splitlines()
    ]
    return {"lines": lines, "err": done["err"], "status": done["status"]}


def system_calls() -> None:
    """One call of each of CALLS that nobody else makes so."""
    os.open("/etc/hostname", os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.open('/nonexist/"é\n', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    LIBC.openat(AT_FDCWD, ctypes.c_void_p(8), 0)
    LIBC.openat(77, ctypes.c_char_p(b"x" * 300), os.O_DIRECTORY | os.O_PATH)
    mmap.mmap(-1, 8192, prot=mmap.PROT_READ).close()
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    os.kill(os.getpid(), 0)
    os.kill(os.getpid(), signal.SIGURG)  # is ignored
    LIBC.umount2(b"/nowhere", 2)
    LIBC.mount(b"none", b"/nowhere", b"tmpfs", 0x1001, None)
    LIBC.fallocate(99, 3, ctypes.c_long(-4), ctypes.c_long(5))
    with contextlib.suppress(OSError):
        Path("/nowhere/a").rename("/nowhere/b")
    with contextlib.suppress(OSError):
        Path("/nowhere/c").unlink()
    os.access("/nowhere/d", os.R_OK | os.X_OK)
    with contextlib.suppress(OSError):
        os.lseek(98, -3, os.SEEK_END)
    LIBC.fcntl(97, 1)
    with contextlib.suppress(OSError):
        Path("/nowhere/e/f").mkdir(0o751)


def opens() -> None:
    for path, flags in (("/nonexist/a", os.O_RDONLY), ("/other/b", os.O_CREAT)):
        with contextlib.suppress(OSError):
            os.open(path, flags | os.O_WRONLY, 0o604)
    with contextlib.suppress(OSError):
        os.open("/nonexist/c", os.O_RDWR | os.O_CREAT, 0o604)


def reads() -> None:
    with Path("/etc/hostname").open("rb", buffering=0) as file:
        file.read(3)
        file.read(777)


def maps() -> None:
    page = mmap.PAGESIZE
    path = Path("/tmp/maps")
    path.write_bytes(bytes(4 * page))
    with path.open("rb") as file:
        for number in (1, 3):
            mmap.mmap(file.fileno(), page, access=mmap.ACCESS_READ, offset=number * page).close()


def arguments(*names: str) -> list[str]:
    return [word for name in names for word in ("--arg", name)]


def main() -> None:
    own_name = "file->f_path.dentry->d_name.name"
    wanted = 'filename == "/nonexist/*" and how.flags & O_CREAT'
    cases: dict[str, tuple[Any, ...]] = {
        "system calls": (system_calls, *CALLS, "--args"),
        "filtered": (
            opens, "do_sys_openat2", *arguments("how.flags", "how->mode"), "--filter", wanted
        ),
        "followed": (
            reads, "vfs_read", *arguments(own_name, "count:hex", "*pos", "current->tgid"),
            "--filter", "count == 777",
        ),
        "on the stack": (maps, "do_mmap", *arguments("pgoff"), "--filter", "pgoff == 3"),
    }  # fmt: skip
    remember_answers()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: trace(Path(folder), name, *case) for name, case in cases.items()}
    print(json.dumps({"pid": os.getpid(), **found}))


if __name__ == "__main__":
    main()
