"""The peer in BCC's Python, for the system's interpreter, which python3-bpfcc belongs to.

    /usr/bin/python3 bcc_reader.py [--best] PID              on the load
    /usr/bin/python3 bcc_reader.py --uprobe LIBRARY:FUNCTION how long until it is attached

By itself it is as BCC's own examples are: a wake-up for each event, 8 pages,
event() to decode. --best: a wake-up for 512 events, 256 pages, what can be
hoisted out of the callback is. Both read all fields. Prints "attached", and its
counts as JSON at SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import threading
from typing import Any, Callable

from bcc import BPF

EVENT = """
struct syscall_event {
    u32 pid;
    u32 tid;
    u64 syscall_nr;
    u64 timestamp_ns;
    char comm[16];
};
BPF_PERF_OUTPUT(events);
"""

BODY = """
    struct syscall_event event;

    event.pid = pid_tgid >> 32;
    event.tid = pid_tgid;
    event.syscall_nr = NUMBER;
    event.timestamp_ns = bpf_ktime_get_ns();
    bpf_get_current_comm(event.comm, sizeof(event.comm));
    events.perf_submit(ctx, &event, sizeof(event));
    return 0;
}
"""

LOAD = (
    EVENT
    + """
RAW_TRACEPOINT_PROBE(sys_enter)
{
    u64 pid_tgid = bpf_get_current_pid_tgid();

    if (pid_tgid >> 32 != TARGET_PID)
        return 0;
"""
    + BODY.replace("NUMBER", "ctx->args[1]")
)

# The register is not read: this one is only attached, and pt_regs is the kernel's own.
UPROBE = (
    EVENT
    + """
int on_call(void *ctx)
{
    u64 pid_tgid = bpf_get_current_pid_tgid();
"""
    + BODY.replace("NUMBER", "0")
)


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
        self.events = self.lost = self.newest = 0
        self.last: tuple[Any, ...] = ()
        self.stopping = False

    def on_lost(self, count: int) -> None:
        self.lost += count

    def stop(self, _number: int, _frame: object) -> None:
        self.stopping = True


def spin(counts: Counts) -> None:
    """Pure Python that never lets go of the interpreter by itself."""
    number = 0
    while not counts.stopping:
        for _ in range(1000):
            number += 1


def plain_callback(bpf: Any, counts: Counts) -> Callable[[int, int, int], None]:
    def on_event(_cpu: int, data: int, _size: int) -> None:
        event = bpf["events"].event(data)
        counts.last = (
            event.pid,
            event.tid,
            event.syscall_nr,
            event.timestamp_ns,
            event.comm.decode(),
        )
        counts.events += 1

    return on_event


def best_callback(counts: Counts) -> Callable[[int, int, int], None]:
    cast, pointer = ctypes.cast, ctypes.POINTER(Event)

    def on_event(_cpu: int, data: int, _size: int) -> None:
        event = cast(data, pointer)[0]
        counts.last = (
            event.pid,
            event.tid,
            event.syscall_nr,
            event.timestamp_ns,
            event.comm.decode(),
        )
        counts.events += 1

    return on_event


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--busy-thread", action="store_true")
    parser.add_argument("--uprobe", metavar="LIBRARY:FUNCTION")
    parser.add_argument("pid", nargs="?", default="0")
    options = parser.parse_args()
    counts = Counts()
    signal.signal(signal.SIGINT, counts.stop)
    signal.signal(signal.SIGTERM, counts.stop)
    text = UPROBE if options.uprobe else LOAD.replace("TARGET_PID", str(int(options.pid)))
    bpf = BPF(text=text)
    if options.best:
        callback = best_callback(counts)
        bpf["events"].open_perf_buffer(callback, 256, counts.on_lost, wakeup_events=512)
    else:
        bpf["events"].open_perf_buffer(plain_callback(bpf, counts), lost_cb=counts.on_lost)
    if options.uprobe:
        library, _, symbol = options.uprobe.rpartition(":")
        bpf.attach_uprobe(name=library, sym=symbol, fn_name="on_call")
    if options.busy_thread:
        threading.Thread(target=spin, args=(counts,)).start()
    os.write(1, b"attached\n")
    while not counts.stopping:
        before = counts.events
        bpf.perf_buffer_poll(timeout=100)
        if counts.events == before:  # what no wake-up has told of
            bpf.perf_buffer_consume()
    newest = counts.last[3] if counts.last else 0
    print(json.dumps({"events": counts.events, "lost": counts.lost, "newest": newest}))


if __name__ == "__main__":
    main()
