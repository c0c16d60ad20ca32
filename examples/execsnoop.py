#!/usr/bin/env python3
"""Prints each program that a process begins to run, with its arguments.

Usage: execsnoop.py [-u UID] [-d SECONDS]

Options:
  -u UID      only of this user
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared import events, number, run, tracing

from libbpf_ctypes import BpfObject, RingBuffer, Schema, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def command_line(event: Any) -> str:
    """The arguments, as a shell user would read them."""
    raw: bytes = event.arguments[: event.size]
    words = raw.decode(errors="surrogateescape").removesuffix("\0").split("\0")
    line = " ".join(escape(word) if word else "''" for word in words)
    return line + (" ..." if event.size > len(event.arguments) else "")


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        if words["-u"] is not None:
            obj.variables["only_uid"].value = number(words, "-u")
        obj.load()
        buffer = RingBuffer(obj.maps["events"], Schema.from_btf(obj, "exec_event"))
        links = obj.attach()
        tracing(obj, links, f"{'PID':>7} {'PARENT':>7} {'UID':>6} {'COMM':<16} ARGUMENTS")
        for event in events(obj, buffer, seconds):
            who = f"{event.pid:>7} {event.parent:>7} {event.uid:>6} {escape(event.comm):<16}"
            print(who, command_line(event), flush=True)


if __name__ == "__main__":
    run(__doc__, main)
