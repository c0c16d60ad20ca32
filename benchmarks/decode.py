#!/usr/bin/env python3
"""What decoding one event costs, side by side: ours, construct's, compiled construct's, ctypes'.

    python benchmarks/decode.py [ROUNDS]

The ways take turns in each round, so that a busy machine slows all of them; the
fastest round is printed in nanoseconds per event, and how many times ours
each takes. Texts that were decoded before are remembered (4096 of them), so that
it matters how many names the events have. Needs construct, and this checkout.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import construct

from libbpf_ctypes.events import SYSCALL_EVENT, SYSCALL_EVENT_SCHEMA
from libbpf_ctypes.schema import Schema

EVENTS = 6000  # and so many names, where each event has one of its own


class CEvent(ctypes.Structure):
    """struct syscall_event as ctypes has it: its fields are converted when they are read."""

    _fields_ = [
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("syscall_nr", ctypes.c_uint64),
        ("timestamp_ns", ctypes.c_uint64),
        ("comm", ctypes.c_char * 16),
    ]


def read_ctypes(data: bytes) -> tuple[Any, ...]:
    """All fields, as a program that prints them reads them."""
    event = CEvent.from_buffer_copy(data)
    return event.pid, event.tid, event.syscall_nr, event.timestamp_ns, event.comm


def head(chance: random.Random) -> bytes:
    """The numbers of an event as they are: process ids, a descriptor, nanoseconds since boot."""
    pid, tid = chance.randrange(1, 1 << 22), chance.randrange(1, 1 << 22)
    register = chance.choice([2**32 - 100, chance.randrange(64), chance.randrange(1 << 47)])
    return struct.pack("=IIQQ", pid, tid, register, chance.randrange(10**15))


def syscall_events(names: int) -> list[bytes]:
    """Events of so many programs, in turn."""
    chance = random.Random(1)
    comms = [f"worker/{number}".encode().ljust(16, b"\0") for number in range(names)]
    return [head(chance) + comms[number % names] for number in range(EVENTS)]


def run(decode: Callable[[bytes], Any], events: Iterable[bytes]) -> float:
    """Nanoseconds per event of one pass."""
    started = time.perf_counter_ns()
    for event in events:
        decode(event)
    return (time.perf_counter_ns() - started) / EVENTS


def measure(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each way's fastest round."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            took[name].append(way())
    return {name: min(times[1:]) for name, times in took.items()}


def table(title: str, took: dict[str, float]) -> None:
    """Prints one comparison; the first line is ours."""
    ours = next(iter(took.values()))
    print(title)
    for name, nanoseconds in took.items():
        print(f"  {name:42}{nanoseconds:9.0f} ns {nanoseconds / ours:8.1f} x")


def compare(title: str, schema: Schema[Any], events: list[bytes], others: dict[str, Any]) -> Any:
    """The ways to decode these events."""
    compiled = schema.declaration.compile()
    decoders = {
        "Schema.decode": schema.decode,
        **others,
        "compiled construct's parse": compiled.parse,
        "construct's parse": schema.declaration.parse,
    }
    ways: dict[str, Callable[[], float]] = {
        name: partial(run, decode, events) for name, decode in decoders.items()
    }
    padded = [event + b"\xff" * 4 for event in events]
    ways["Schema.decode of samples with padding"] = partial(run, schema.decode, padded)
    joined = b"".join(events)

    def many() -> float:
        started = time.perf_counter_ns()
        for _ in schema.decode_many(joined):
            pass
        return (time.perf_counter_ns() - started) / EVENTS

    ways["Schema.decode_many"] = many
    took = measure(ways, int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    table(title, took)
    return took["compiled construct's parse"] / took["Schema.decode"]


NESTED = construct.Struct(
    "kind" / construct.Enum(construct.Int32un, open=1, close=2),
    "ports" / construct.Array(4, construct.Int16ub),
    "source" / construct.Struct("address" / construct.Bytes(16), "port" / construct.Int16ub),
    construct.Padding(2),
    "comm" / construct.PaddedString(16, "utf8"),
)


def main() -> int:
    """Prints the tables; 1 if ours takes more than 1/10 of compiled construct, names repeating."""
    chance = random.Random(2)
    ctypes_ways = {
        "ctypes from_buffer_copy": CEvent.from_buffer_copy,
        "ctypes from_buffer_copy, 5 fields read": read_ctypes,
    }
    print(f"Python {sys.version.split()[0]}, construct {construct.__version__}, {EVENTS} events")
    ratios = [
        compare(f"SYSCALL_EVENT (5 fields), {what}", SYSCALL_EVENT_SCHEMA, events, ctypes_ways)
        for what, events in (
            ("one name", syscall_events(1)),
            ("100 names", syscall_events(100)),
        )
    ]
    # The worst case: no name was decoded before, or it was long ago.
    new = syscall_events(EVENTS)
    compare("SYSCALL_EVENT, a new name each time", SYSCALL_EVENT_SCHEMA, new, ctypes_ways)
    schema: Schema[Any] = Schema(NESTED, "Nested")
    texts = [b"worker/%d" % number for number in range(100)]
    tails = [text.ljust(16, b"\0") for text in texts]
    events = [
        chance.randbytes(schema.fields.fixed - 16) + chance.choice(tails) for _ in range(EVENTS)
    ]
    compare("Enum, Array, nested Struct, PaddedString", schema, events, {})
    print(
        f"compiled construct takes {min(ratios):.1f} times ours where names repeat; the aim is 10"
    )
    assert SYSCALL_EVENT_SCHEMA.declaration is SYSCALL_EVENT
    return 0 if min(ratios) >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
