"""What a process does while the examples watch it; tells about it as JSON on stdout.

    python example_load.py FOLDER

Prints what will be known before, waits for a line on stdin, does it, prints what came of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: How often; each is counted by a test.
SYSCALLS, SLEEPS, PACKETS, LOOKUPS, WRITES = 1000, 100, 37, 5, 64
#: An IP protocol that nobody else uses (RFC 3692).
PROTOCOL = 253


def loop_device(folder: Path) -> str:
    """The name of a block device over a file; the process's end leaves it to detach()."""
    file = folder / "disk"
    file.write_bytes(bytes(1 << 20))
    subprocess.run(["modprobe", "-q", "loop"], check=False)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"losetup: {done.stderr}")
    return done.stdout.strip()


def write_blocks(device: str) -> None:
    """Writes blocks that do not wait in the page cache, one after the other."""
    disk = os.open(device, os.O_RDWR | os.O_DIRECT)
    block = mmap.mmap(-1, 4096)  # aligned, as such writes must be
    for number in range(WRITES):
        os.pwrite(disk, block, 4096 * number)
    os.close(disk)


def run(command: list[str]) -> dict[str, int]:
    """Runs a program to its end."""
    process = subprocess.Popen(command)
    return {"pid": process.pid, "status": process.wait()}


def connect() -> int:
    """Makes a TCP connection of its own; returns the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        return int(server.getsockname()[1])


def connect_by_ipv6() -> int | None:
    """The same by IPv6, where there is any."""
    with (
        contextlib.suppress(OSError),
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
    ):
        socket.create_connection(server.getsockname()[:2]).close()
        return int(server.getsockname()[1])
    return None


def send_packets() -> None:
    """Sends packets of a protocol that nobody else uses to this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as sender:
        for _ in range(PACKETS):
            sender.sendto(b"16 bytes of data", ("127.0.0.1", 0))


def work(folder: Path, device: str) -> dict[str, Any]:
    """All of it; returns what a test must know."""
    path = folder / "a file\x1b[31m"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    os.close(fd)
    if os.uname().machine == "x86_64":  # open(2) itself, which the C library does without
        os.close(ctypes.CDLL(None).syscall(2, os.fsencode(path), os.O_RDONLY))
    with contextlib.suppress(OSError):
        os.open(folder / "missing", os.O_RDONLY)
    for _ in range(SYSCALLS):
        os.getppid()
    for _ in range(SLEEPS):
        time.sleep(0.001)
    for number in range(LOOKUPS):
        socket.getaddrinfo(f"127.0.0.{number}", 80)
    with contextlib.suppress(OSError):
        socket.getaddrinfo("no address", 80, flags=socket.AI_NUMERICHOST)
    send_packets()
    write_blocks(device)
    killed = f"kill -{int(signal.SIGTERM)} $$"
    return {
        "folder": str(folder),
        "fd": fd,
        "ports": [connect(), connect_by_ipv6()],
        "exited": run(["/bin/sh", "-c", "exit 7", "first word", ""]),
        "killed": run(["/bin/sh", "-c", killed]),
    }


def main() -> None:
    """Does it when it is told to."""
    folder = Path(sys.argv[1])
    device = loop_device(folder)
    try:
        print(
            json.dumps({"pid": os.getpid(), "uid": os.getuid(), "device": Path(device).name}),
            flush=True,
        )
        sys.stdin.readline()
        print(json.dumps(work(folder, device)), flush=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


if __name__ == "__main__":
    main()
