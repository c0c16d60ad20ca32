#!/usr/bin/env python3
"""Prints each process that ends: its exit status or signal, and how long it ran.

Usage: exitsnoop.py [--failed] [-d SECONDS]

Options:
  --failed    only those that did not end with status 0
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from shared import events, number, run, tracing

from libbpf_ctypes import BpfObject, RingBuffer, Schema, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def ending(code: int) -> str:
    """What wait(2) tells of a process, in words."""
    if not os.WIFSIGNALED(code):
        return f"status {os.WEXITSTATUS(code)}"
    number = os.WTERMSIG(code)
    names = {int(known): known.name for known in signal.Signals}
    return names.get(number, f"signal {number}") + (" (core)" if os.WCOREDUMP(code) else "")


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.variables["only_failed"].value = words["--failed"]
        obj.load()
        buffer = RingBuffer(obj.maps["events"], Schema.from_btf(obj, "exit_event"))
        links = obj.attach()
        tracing(obj, links, f"{'PID':>7} {'PARENT':>7} {'COMM':<16} {'SECONDS':>9} ENDED BY")
        for event in events(obj, buffer, seconds):
            ran = f"{event.duration_ns / 1e9:>9.3f}"
            who = f"{event.pid:>7} {event.parent:>7} {escape(event.comm):<16}"
            print(who, ran, ending(event.code), flush=True)


if __name__ == "__main__":
    run(__doc__, main)
