#!/usr/bin/env python3
"""Shows how long tasks that could run waited for a CPU.

Usage: runqlat.py [-p PID] [-d SECONDS]

Options:
  -p PID      only the threads of this process; 0: all [default: 0]
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared import histogram, number, run, tracing, wait

from libbpf_ctypes import BpfObject

OBJECT = Path(__file__).with_suffix(".bpf.o")


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.variables["only_pid"].value = number(words, "-p")
        obj.load()
        links = obj.attach()
        tracing(obj, links)
        wait(seconds)
        for link in links:
            link.close()
        histogram(dict(obj.maps["histogram"]))


if __name__ == "__main__":
    run(__doc__, main)
