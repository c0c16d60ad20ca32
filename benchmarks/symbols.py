#!/usr/bin/env python3
"""What names of functions cost: reading the tables of symbols, and looking addresses up in them.

    python benchmarks/symbols.py [FILE...]

For the kernel's list, and each FILE (libc without one): seconds and MB of memory to read it,
functions per second that are found by addresses within them, each address for the first time;
with pyelftools installed also the seconds in which that reads the same table. Each is
measured in a process of its own. Needs this checkout.
"""

from __future__ import annotations

import importlib.util
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from libbpf_ctypes.cli.demangle import can_demangle, demangle
from libbpf_ctypes.cli.elf_symbols import ElfSymbols
from libbpf_ctypes.cli.kernel_symbols import KernelSymbols
from libbpf_ctypes.kernel import Kallsyms

LOOK_UPS = 10_000
KERNEL = "the kernel"


def per_second(look_up: Callable[[int], object], places: Iterable[int]) -> float:
    chosen = list(places)
    random.Random(1).shuffle(chosen)
    del chosen[LOOK_UPS:]
    started = time.perf_counter()
    for place in chosen:
        look_up(place)
    return len(chosen) / (time.perf_counter() - started)


def memory() -> float:
    """The most that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_kernel() -> str:
    before, started = memory(), time.perf_counter()
    symbols = KernelSymbols()
    seconds, taken = time.perf_counter() - started, memory() - before
    places = [int(line.split()[0], 16) for line in Kallsyms().code()]
    if symbols.hidden:
        return f"{KERNEL}: hides its addresses from this user"
    speed = per_second(lambda place: symbols.name(place, place), places)
    return row(KERNEL, len(places), seconds, taken, speed)


def measure_file(path: str) -> str:
    before, started = memory(), time.perf_counter()
    symbols = ElfSymbols.open(path)
    seconds, taken = time.perf_counter() - started, memory() - before
    addresses = {each.address for each in symbols.functions()}
    places = [place for place in map(symbols.offset_of, addresses) if place is not None]

    def look_up(place: int) -> str | None:
        found = symbols.at(place)
        return demangle(found[0]) if found else None

    return row(path, len(places), seconds, taken, per_second(look_up, places)) + pyelftools(path)


def row(name: str, functions: int, seconds: float, megabytes: float, speed: float) -> str:
    return (
        f"{name}: {functions} functions read in {seconds:.3f} s, {megabytes:.0f} MB; "
        f"{speed:.0f} found per second"
    )


def pyelftools(path: str) -> str:
    if importlib.util.find_spec("elftools") is None:
        return ""
    from elftools.elf.elffile import ELFFile

    started = time.perf_counter()
    with Path(path).open("rb") as file:
        for kind in (".symtab", ".dynsym"):
            section = ELFFile(file).get_section_by_name(kind)
            if section is not None:
                found = [(each["st_value"], each.name) for each in section.iter_symbols()]
                seconds = time.perf_counter() - started
                return f"; pyelftools: {kind}'s {len(found)} symbols in {seconds:.1f} s"
    return ""


def libc() -> str:
    """The libc that this process has mapped."""
    found = re.search(r"/\S*/libc\.so\.6", Path("/proc/self/maps").read_text(encoding="utf-8"))
    return found[0] if found else sys.executable


def main(words: list[str]) -> None:
    if words[:1] == ["--one"]:
        print(measure_kernel() if words[1] == KERNEL else measure_file(words[1]))
        return
    print("" if can_demangle() else "Without demangling: pycxxfilt is missing.", end="")
    for name in [KERNEL, *(words or [libc()])]:
        subprocess.run([sys.executable, __file__, "--one", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
