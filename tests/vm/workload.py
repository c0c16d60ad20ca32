"""Known calls by known processes and threads; tells what it did as JSON on stdout.

    python workload.py opens PROCESSES THREADS CALLS
    python workload.py io CALLS
    python workload.py flood SECONDS

Waits for a line on stdin before it begins.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PR_SET_NAME = 15
LIBC = ctypes.CDLL(None, use_errno=True)


def name_thread(name: str) -> None:
    """Sets the calling thread's comm."""
    LIBC.prctl(PR_SET_NAME, name.encode())


def opens_of_a_process(index: int, threads: int, calls: int) -> list[dict[str, Any]]:
    """THREADS threads, each with a name and a directory of its own, each open CALLS times."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[index % len(cpus)]})
    records: list[dict[str, Any]] = []
    barrier = threading.Barrier(threads)

    def worker(number: int) -> None:
        folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        comm = f"gt-{index}-{number}"
        path = b"no-such-file"
        barrier.wait()
        name_thread(comm)
        for _ in range(calls):
            LIBC.openat(folder, path, os.O_RDONLY)
        name_thread("done")
        records.append(
            {
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "comm": comm,
                "argument": folder,
                "calls": calls,
                "cpu": cpus[index % len(cpus)],
            }
        )

    workers = [threading.Thread(target=worker, args=(n,)) for n in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return records


def opens(processes: int, threads: int, calls: int) -> list[dict[str, Any]]:
    """The same in several processes at once."""
    pipes = []
    for index in range(processes):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, json.dumps(opens_of_a_process(index, threads, calls)).encode())
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    records: list[dict[str, Any]] = []
    for reader in pipes:
        with os.fdopen(reader, "rb") as pipe:
            records += json.load(pipe)
    while processes:
        os.wait()
        processes -= 1
    return records


def io(calls: int) -> list[dict[str, Any]]:
    """Reads and writes one byte CALLS times each, under a name of its own."""
    zero = os.open("/dev/zero", os.O_RDONLY)
    null = os.open("/dev/null", os.O_WRONLY)
    buffer = ctypes.create_string_buffer(1)
    name_thread("gt-io")
    for _ in range(calls):
        LIBC.read(zero, buffer, 1)
        LIBC.write(null, buffer, 1)
    name_thread("done")
    return [{"pid": os.getpid(), "comm": "gt-io", "calls": calls}]


def flood(seconds: float) -> list[dict[str, Any]]:
    """Writes one byte as often as it can, on every CPU."""
    for _ in range(os.cpu_count() or 1):
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_WRONLY)
            buffer = ctypes.create_string_buffer(1)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for _ in range(100):
                    LIBC.write(null, buffer, 1)
            os._exit(0)
    for _ in range(os.cpu_count() or 1):
        os.wait()
    return []


if __name__ == "__main__":
    kinds: dict[str, Callable[..., list[dict[str, Any]]]] = {
        "opens": opens,
        "io": io,
        "flood": flood,
    }
    sys.stdin.readline()
    print(json.dumps(kinds[sys.argv[1]](*(int(word) for word in sys.argv[2:]))))
