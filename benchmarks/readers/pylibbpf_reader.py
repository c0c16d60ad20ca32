"""The peer pylibbpf, a binding compiled against its own libbpf.

    python pylibbpf_reader.py OBJECT

It sets no variables: OBJECT is compiled for one process. Its buffers are as it
opens them, 8 pages and a wake-up for each event; it has nothing to change that
but the pages. Prints "attached", and its counts as JSON at SIGINT or SIGTERM.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

from pylibbpf import BpfObject


class Event(ctypes.Structure):
    """struct syscall_event"""

    _fields_ = (
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("syscall_nr", ctypes.c_uint64),
        ("timestamp_ns", ctypes.c_uint64),
        ("comm", ctypes.c_char * 16),
    )


class Counts:
    """What is told at the end."""

    def __init__(self) -> None:
        self.events = self.lost = 0
        self.last: tuple[Any, ...] = ()
        self.stopping = False

    def on_event(self, _cpu: int, event: Any) -> None:
        self.last = (
            event.pid,
            event.tid,
            event.syscall_nr,
            event.timestamp_ns,
            event.comm.decode(),
        )
        self.events += 1

    def on_lost(self, _cpu: int, count: int) -> None:
        self.lost += count

    def stop(self, _number: int, _frame: object) -> None:
        self.stopping = True


def main() -> None:
    counts = Counts()
    signal.signal(signal.SIGINT, counts.stop)
    signal.signal(signal.SIGTERM, counts.stop)
    obj = BpfObject(sys.argv[1], structs={"syscall_event": Event})
    obj.load()
    buffer = obj["EVENTS"].open_perf_buffer(
        counts.on_event, struct_name="syscall_event", lost_callback=counts.on_lost
    )
    obj.get_program("syscall_kprobe").attach()
    os.write(1, b"attached\n")
    while not counts.stopping:
        buffer.poll(100)
    newest = counts.last[3] if counts.last else 0
    print(json.dumps({"events": counts.events, "lost": counts.lost, "newest": newest}))


if __name__ == "__main__":
    main()
