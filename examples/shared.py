"""What the examples have in common: how they begin and end, and how they show times."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

from docopt import docopt

from libbpf_ctypes import BpfError, BpfObject, PerfBuffer, RingBuffer, escape

T = TypeVar("T")
_FOREVER = 1e9


def run(doc: str, main: Callable[[dict[str, Any]], None]) -> None:
    """Runs MAIN with the options that DOC describes; ends the process: 0 is success."""
    name = Path(sys.argv[0]).name
    try:
        main(docopt(doc))
        print(end="", flush=True)  # here, where an error is told
    except KeyboardInterrupt:
        pass
    except BpfError as error:
        sys.exit(f"{name}: {escape(str(error))}")
    except OSError as error:  # of the output: a full disk, or a pipe as head(1) leaves it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python would flush at its end
        if error.errno != errno.EPIPE:
            sys.exit(f"{name}: write the output: {error.strerror}")


def number(words: Mapping[str, str], option: str) -> int:
    """The value of an option; what is no whole number ends the process."""
    if not re.fullmatch(r"[0-9]{1,10}", words[option]) or int(words[option]) >= 1 << 32:
        sys.exit(f"{option} takes a whole number of 32 bits, not {words[option]!r}")
    return int(words[option])


def tracing(obj: BpfObject, links: Sequence[object], columns: str = "") -> None:
    """Says that it has begun, and prints the heading."""
    print(f"{len(links)} programs of {obj.name} attached; Ctrl-C ends it.", file=sys.stderr)
    if columns:
        print(columns, flush=True)


def wait(seconds: int) -> None:
    """Waits so long, or with 0 for ever; for Ctrl-C at the longest."""
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(seconds or _FOREVER)


def events(obj: BpfObject, buffer: RingBuffer[T] | PerfBuffer[T], seconds: int) -> Iterator[T]:
    """The events of so many seconds, or with 0 without end; then says how many were lost."""
    end = time.monotonic() + (seconds or _FOREVER)
    with contextlib.suppress(KeyboardInterrupt):
        while (left := end - time.monotonic()) > 0:
            yield from buffer.poll(left)
    if lost := int(obj.variables["lost"].value):
        print(f"{lost} events were lost: there was no room for them.", file=sys.stderr)


def histogram(counts: Mapping[int, int]) -> None:
    """Prints how many took up to 2^N microseconds, by N."""
    slots = [slot for slot, count in counts.items() if count]
    if not slots:
        print("nothing")
        return
    print(f"{'microseconds':>21}   count")
    for slot in range(min(slots), max(slots) + 1):
        low, high = 2**slot // 2, 2**slot - 1
        count = counts.get(slot, 0)
        bar = "#" * math.ceil(40 * count / max(counts.values()))
        print(f"{low:>9} - {high:>9} {count:>7} {bar}".rstrip())
    print(f"{sum(counts.values())} in all", flush=True)
