"""Makes known calls of known functions, compiled from SOURCE, and tells what they were.

    python known_calls.py LIBRARY

Prints {"pid"}; at a line on its stdin it makes the calls and prints them as JSON, with the time
before and after each; at another line it ends. One call of hang() has begun before the first line,
one ends after the second.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
import time
from typing import Any

SOURCE = """
#include <time.h>
#include <unistd.h>

#define ONCE __attribute__((noinline))

ONCE long nap(long us)
{
	struct timespec time = { 0, us * 1000 };

	nanosleep(&time, 0);
	return -us;
}

ONCE int fail(int how) { return how ? -1 : 7; }
ONCE long hang(long fd) { char byte; return read(fd, &byte, 1); }

ONCE long recurse(long depth)
{
	usleep(50);
	return depth ? recurse(depth - 1) + 2 : 1;
}

ONCE long inner(long number) { return number + 1; }
ONCE long middle(long number) { return inner(number) + 1; }
ONCE long outer(long number) { return middle(number) + 1; }
"""
#: How long each thread naps, in microseconds: in several buckets, and not at the edge of one.
NAPS = [700, 1500, 3000, 6000, 12000, 1500, 3000, 3000] * 3
DEPTH = 7
NOBODY = 2**31 - 1  # no process has this number
THREADS = ("kc-one", "kc-two", "kc-three")
PR_SET_NAME = 15


class Thread(threading.Thread):
    """A thread with a name, and what it called."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        super().__init__()
        self.library, self.comm = library, name
        self.calls: list[dict[str, Any]] = []

    def call(self, name: str, argument: int) -> None:
        """Makes a call."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_int if name == "fail" else ctypes.c_long
        number = ctypes.c_long(argument)
        before = time.monotonic_ns()
        result = function(number)
        after = time.monotonic_ns()
        self.calls.append(
            {"call": name, "argument": argument, "result": result, "before": before, "after": after}
            | {"tid": threading.get_native_id(), "comm": self.comm}
        )

    def run(self) -> None:
        """All of its calls."""
        ctypes.CDLL(None).prctl(PR_SET_NAME, self.comm.encode())
        for us in NAPS:
            self.call("nap", us)
        for how in (0, 1, 0, 1, 1):
            self.call("fail", how)
        self.call("recurse", DEPTH)
        self.call("outer", 10)
        for pid in (1, os.getpid(), NOBODY):
            with contextlib.suppress(ProcessLookupError):
                os.getpgid(pid)


def hang(library: ctypes.CDLL) -> tuple[threading.Thread, int]:
    """A thread that is within hang() until its pipe is written to."""
    reader, writer = os.pipe()
    thread = threading.Thread(target=library.hang, args=(ctypes.c_long(reader),))
    thread.start()
    sleeping = f"/proc/self/task/{thread.native_id}/wchan"
    while "pipe" not in open(sleeping).read():  # noqa: PTH123, SIM115
        time.sleep(0.01)
    return thread, writer


def main() -> None:
    """Plays it."""
    library = ctypes.CDLL(sys.argv[1])
    before, first = hang(library)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    sys.stdin.readline()
    os.write(first, b"1")
    before.join()
    threads = [Thread(library, name) for name in THREADS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    within, last = hang(library)
    print(json.dumps([call for thread in threads for call in thread.calls]), flush=True)
    sys.stdin.readline()
    os.write(last, b"1")
    within.join()


if __name__ == "__main__":
    main()
