#!/usr/bin/env python3
"""Prints each host name that a process looks up, and how long the C library took for it.

Usage: gethostlatency.py [-l LIBRARY] [-p PID] [-d SECONDS]

Options:
  -l LIBRARY  the C library, if it is not the system's libc.so.6
  -p PID      only of this process; 0: of all [default: 0]
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared import events, number, run, tracing

from libbpf_ctypes import BpfObject, RingBuffer, Schema, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def main(words: dict[str, Any]) -> None:
    seconds, pid = number(words, "-d"), number(words, "-p") or -1
    library = words["-l"] or "libc.so.6"
    with BpfObject.open(OBJECT) as obj:
        obj.load()
        begin, end = obj.programs["begin"], obj.programs["end"]
        buffer = RingBuffer(obj.maps["events"], Schema.from_btf(obj, "lookup_event"))
        links = [
            begin.attach_uprobe(library, "getaddrinfo", pid=pid),
            end.attach_uprobe(library, "getaddrinfo", pid=pid, retprobe=True),
        ]
        tracing(obj, links, f"{'PID':>7} {'COMM':<16} {'MS':>9} {'RESULT':>6} HOST")
        for event in events(obj, buffer, seconds):
            who = f"{event.pid:>7} {escape(event.comm):<16}"
            took = f"{event.duration_ns / 1e6:>9.3f} {event.result:>6}"
            print(who, took, escape(event.host), flush=True)


if __name__ == "__main__":
    run(__doc__, main)
