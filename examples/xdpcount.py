#!/usr/bin/env python3
"""Counts the packets that a network interface receives, by protocol.

Usage: xdpcount.py INTERFACE [-d SECONDS]

Options:
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from shared import number, run, tracing, wait

from libbpf_ctypes import BpfObject

OBJECT = Path(__file__).with_suffix(".bpf.o")
OTHER = 256
NAMES = {
    value: name.partition("_")[2].lower()
    for name, value in vars(socket).items()
    if name.startswith("IPPROTO_") and name != "IPPROTO_IP"
}


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        obj.load()
        with obj.programs["count"].attach_xdp(words["INTERFACE"]) as link:
            tracing(obj, [link])
            wait(seconds)

        protocols = obj.maps["protocols"]
        print(f"{'PROTOCOL':<12} {'PACKETS':>10} {'BYTES':>13}")
        for protocol in protocols:
            traffic = protocols.sum(protocol)  # of all CPUs
            if traffic.packets:
                name = NAMES.get(protocol, f"ip {protocol}") if protocol != OTHER else "not ip"
                print(f"{name:<12} {traffic.packets:>10} {traffic.bytes:>13}")


if __name__ == "__main__":
    run(__doc__, main)
