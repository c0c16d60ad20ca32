#!/usr/bin/env python3
"""Counts the system calls of each process, and names the most frequent ones.

Usage: syscount.py [-p PID] [-n COUNT] [-d SECONDS]

Options:
  -p PID      only of this process; 0: of all [default: 0]
  -n COUNT    so many processes, and calls of each [default: 10]
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from shared import number, run, tracing, wait

from libbpf_ctypes import BpfObject, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def main(words: dict[str, Any]) -> None:
    most, seconds = number(words, "-n"), number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.variables["only_pid"].value = number(words, "-p")
        obj.variables["own_pid"].value = os.getpid()
        table = bytes(obj.variables["names"].value)
        names = [table[at : at + 32].rstrip(b"\0").decode() for at in range(0, len(table), 32)]
        obj.load()
        links = obj.attach()
        tracing(obj, links)
        wait(seconds)
        for link in links:
            link.close()

        totals: Counter[int] = Counter()
        calls: dict[int, Counter[str]] = {}
        for call, count in obj.maps["counts"].items():
            name = names[call.number] if call.number < len(names) else ""
            calls.setdefault(call.pid, Counter())[name or f"#{call.number}"] += count
            totals[call.pid] += count
        processes = obj.maps["processes"]
        print(f"{'PID':>7} {'COMM':<16} {'CALLS':>9}")
        for pid, total in totals.most_common(most):
            shown = ", ".join(f"{name} {count}" for name, count in calls[pid].most_common(most))
            comm = escape(processes[pid].comm) if pid in processes else "?"
            print(f"{pid:>7} {comm:<16} {total:>9}  {shown}")
        if lost := int(obj.variables["lost"].value):
            print(f"{lost} calls were not counted: there was no room for them")


if __name__ == "__main__":
    run(__doc__, main)
