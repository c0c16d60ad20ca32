#!/usr/bin/env python3
"""Shows how long block devices took for their requests.

Usage: biolatency.py [-D DEVICE] [-d SECONDS]

Options:
  -D DEVICE   only this one, as sda
  -d SECONDS  how long; 0: until Ctrl-C [default: 0]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from shared import histogram, number, run, tracing, wait

from libbpf_ctypes import BpfObject, escape

OBJECT = Path(__file__).with_suffix(".bpf.o")


def device_number(name: str) -> int:
    """The kernel's number of a device."""
    if Path("/sys/class/block", name, "partition").exists():
        sys.exit(f"{name} is a partition: the kernel tells of whole devices only")
    try:
        major, minor = Path("/sys/class/block", name, "dev").read_text().split(":")
    except OSError:
        sys.exit(f"there is no block device {name!r}")
    return int(major) << 20 | int(minor)


def device_name(device: int) -> str:
    """A device's name, by its number."""
    number = f"{device >> 20}:{device & 0xFFFFF}"
    path = Path("/sys/dev/block", number)
    return escape(path.resolve().name) if path.exists() else number


def main(words: dict[str, Any]) -> None:
    seconds = number(words, "-d")
    with BpfObject.open(OBJECT) as obj:
        if words["-D"] is not None:
            obj.variables["only_device"].value = device_number(words["-D"])
        obj.load()
        links = obj.attach()
        tracing(obj, links)
        wait(seconds)
        for link in links:
            link.close()

        histograms: dict[int, dict[int, int]] = {}
        for bucket, count in obj.maps["histograms"].items():
            histograms.setdefault(bucket.device, {})[bucket.slot] = count
        if not histograms:
            print("no requests")
        for device, counts in sorted(histograms.items()):
            print(f"\n{device_name(device)}:")
            histogram(counts)


if __name__ == "__main__":
    run(__doc__, main)
