"""libbpf_ctypes on the load: named records, or NumPy columns.

    python ours.py [OPTION...] OBJECT PID

Prints "attached" once it listens, and its counts as JSON at SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from libbpf_ctypes import SYSCALL_EVENT, BpfObject, PerfBuffer

_WAIT = 1.0  # seconds

stopping = threading.Event()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("object")
    parser.add_argument("pid", type=int)
    parser.add_argument("--batches", action="store_true", help="columns, not records")
    parser.add_argument("--loop", action="store_true", help="look at each record in a for loop")
    parser.add_argument("--max-latency", type=float, help="seconds; 0: a wake-up for each event")
    parser.add_argument("--pages", type=int, help="of each CPU's buffer")
    parser.add_argument("--busy-thread", action="store_true", help="a second thread that spins")
    parser.add_argument("--memory-at", type=int, nargs="*", default=[], metavar="EVENTS")
    return parser.parse_args()


def spin() -> None:
    """Pure Python that never lets go of the interpreter by itself."""
    number = 0
    while not stopping.is_set():
        for _ in range(1000):
            number += 1


class Counts:
    """What is told at the end."""

    def __init__(self, memory_at: list[int]) -> None:
        self.events = 0
        self.newest = 0
        self.numbers = 0
        self.memory: dict[int, int] = {}  # events: resident KiB
        self._memory_at = sorted(memory_at)

    def note_memory(self, *, end: bool = False) -> None:
        """Notes what is resident, at the counts asked for and at the end."""
        if end or (self._memory_at and self.events >= self._memory_at[0]):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.memory[self.events] = pages * resource.getpagesize() // 1024
        while self._memory_at and self.events >= self._memory_at[0]:
            del self._memory_at[0]


def polls(buffer: Any, poll: Any) -> Iterator[Any]:
    """What each poll brings until it is told to stop, and what is left then."""
    while not stopping.is_set():
        yield poll(_WAIT)
    while rest := poll(0):
        yield rest


def read_records(buffer: Any, counts: Counts) -> None:
    for events in polls(buffer, buffer.poll):
        if events:
            counts.events += len(events)
            counts.newest = events[-1].timestamp_ns
            counts.note_memory()


def look_at_records(buffer: Any, counts: Counts) -> None:
    numbers = newest = 0
    for events in polls(buffer, buffer.poll):
        counts.events += len(events)
        for event in events:
            numbers += event.syscall_nr
            if event.timestamp_ns > newest:
                newest = event.timestamp_ns
    counts.numbers, counts.newest = numbers, newest


def read_batches(buffer: Any, counts: Counts) -> None:
    for arrays in polls(buffer, buffer.poll_batches):
        for array in arrays:
            counts.events += len(array)
            counts.numbers += int(array["syscall_nr"].sum())
            counts.newest = max(counts.newest, int(array["timestamp_ns"].max()))
        counts.note_memory()


def main() -> None:
    options = read_options()
    arguments: dict[str, Any] = {}
    if options.max_latency is not None:
        arguments["max_latency"] = options.max_latency
    if options.pages is not None:
        arguments["pages"] = options.pages
    read = read_batches if options.batches else look_at_records if options.loop else read_records
    counts = Counts(options.memory_at)
    with BpfObject.open(options.object) as obj:
        obj.variables["target_pid"].value = options.pid
        obj.load()
        with PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT, **arguments) as buffer:

            def stop(_number: int, _frame: object) -> None:
                stopping.set()
                buffer.wake()

            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            if options.busy_thread:
                threading.Thread(target=spin).start()
            try:
                with obj.programs["syscall_kprobe"].attach_raw_tracepoint("sys_enter"):
                    os.write(1, b"attached\n")
                    read(buffer, counts)
                    counts.note_memory(end=True)
            finally:
                stopping.set()
            result = {"events": counts.events, "lost": buffer.lost, "memory": counts.memory}
    print(json.dumps({**result, "newest": counts.newest, "numbers": counts.numbers}))


if __name__ == "__main__":
    main()
