#!/usr/bin/env python3
"""Prints each TCP connection that a process begins: who, and where to.

Usage: tcpconnect.py [-p PID] [-P PORT] [-d SECONDS]

Options:
  -p PID      only by this process; 0: by all [default: 0]
  -P PORT     only to this port; 0: to all [default: 0]
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from shared import events, number, run, tracing

from libbpf_ctypes import BpfObject, PerfBuffer, Schema, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.variables["only_pid"].value = number(words, "-p")
        obj.variables["only_port"].value = number(words, "-P")
        obj.load()
        # Kernels before 5.8 have no ring buffer, but this one.
        buffer = PerfBuffer(obj.maps["events"], Schema.from_btf(obj, "connect_event"))
        links = obj.attach()
        tracing(obj, links, f"{'PID':>7} {'COMM':<16} {'PORT':>5} ADDRESS")
        for event in events(obj, buffer, seconds):
            size = 4 if event.family == socket.AF_INET else 16
            address = ip_address(event.address[:size])
            print(f"{event.pid:>7} {escape(event.comm):<16} {event.port:>5} {address}", flush=True)


if __name__ == "__main__":
    run(__doc__, main)
