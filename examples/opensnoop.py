#!/usr/bin/env python3
"""Prints each file that is opened: by whom, and what came of it.

Usage: opensnoop.py [--failed] [-p PID] [-d SECONDS]

Options:
  --failed    only files that could not be opened
  -p PID      only by this process; 0: by all [default: 0]
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from shared import events, number, run, tracing

from libbpf_ctypes import BpfObject, RingBuffer, Schema, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.variables["only_pid"].value = number(words, "-p")
        obj.variables["only_failed"].value = words["--failed"]
        obj.variables["own_pid"].value = os.getpid()
        obj.load()
        buffer = RingBuffer(obj.maps["events"], Schema.from_btf(obj, "open_event"))
        links = obj.attach()
        tracing(obj, links, f"{'PID':>7} {'UID':>6} {'COMM':<16} {'RESULT':>7} PATH")
        for event in events(obj, buffer, seconds):
            failed = errno.errorcode.get(-event.result)
            who = f"{event.pid:>7} {event.uid:>6} {escape(event.comm):<16}"
            print(who, f"{failed or event.result:>7}", escape(event.path), flush=True)


if __name__ == "__main__":
    run(__doc__, main)
