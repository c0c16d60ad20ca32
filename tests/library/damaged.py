"""Opens damaged variants of an object, each in a process of its own, and reports as JSON.

Run by test_refused.py: ``python damaged.py OBJECT truncate|corrupt``. A crash of
libbpf ends only the process that opened the variant, and is reported.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from libbpf_ctypes import BpfError, BpfObject, library_version

VARIANTS = 600
SEED = 20261122


def truncated(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """OBJECT cut at every multiple of 97 bytes."""
    for size in range(0, len(whole), 97):
        yield size, whole[:size]


def corrupted(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """OBJECT with one byte changed, in many places."""
    chance = random.Random(SEED)
    for _ in range(VARIANTS):
        at = chance.randrange(len(whole))
        changed = bytearray(whole)
        changed[at] ^= chance.randrange(1, 256)
        yield at, bytes(changed)


def use(data: bytes) -> str:
    """Opens an object and looks at everything in it; what came of it, in a word."""
    try:
        with BpfObject.open(data) as obj:
            for program in obj.programs.values():
                _ = program.name, program.section, program.type, repr(program)
            for bpf_map in obj.maps.values():
                _ = bpf_map.name, bpf_map.type, bpf_map.value_size, repr(bpf_map)
            for variable in obj.variables.values():
                _ = variable.name, variable.type, variable.value
    except BpfError as error:
        return "refused" if str(error) else "refused without a word"
    except BaseException as error:
        return repr(error)
    return "opened"


def outcome(use: Callable[[bytes], str], data: bytes) -> str:
    """What USE makes of an object's bytes, in a child process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(30)  # a circle of types must not hang the test
        os.write(write, use(data).encode()[:4096])
        os._exit(0)
    os.close(write)
    word = os.read(read, 4096).decode()
    os.close(read)
    status = os.waitpid(child, 0)[1]
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else word


def main() -> None:
    """Prints [[place, outcome], ...]."""
    library_version()  # loaded once, before the children
    whole = Path(sys.argv[1]).read_bytes()
    variants = {"truncate": truncated, "corrupt": corrupted}[sys.argv[2]]
    print(json.dumps([[place, outcome(use, data)] for place, data in variants(whole)]))


if __name__ == "__main__":
    main()
