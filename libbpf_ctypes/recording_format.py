"""Recordings of traces: the format, in construct. docs/recording-format.md explains it.

All numbers are little-endian, whatever machine wrote them; only the samples
are as the kernel left them, in the byte order that the header names.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

from construct import (
    Adapter,
    Bytes,
    Const,
    Flag,
    GreedyBytes,
    GreedyRange,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Prefixed,
    PrefixedArray,
    Struct,
    this,
)

#: The first byte is none of any text, and the last shows a transfer as text.
MAGIC = b"\x89bpfrec\n"
VERSION = 1

#: Bytes of a chunk's payload at most: what a reader must be ready to hold.
MAX_PAYLOAD = 1 << 20
#: Bytes of a sample at most: the kernel's own limit is 64 KiB (u16 in perf_event_header).
MAX_SAMPLE = 1 << 16

#: More would only keep its reader busy.
MAX_FIELDS = 1024

# The types of chunks; a reader skips those it does not know.
HEADER, SAMPLES, LOST, CLOCK, END, FUNCTIONS, STACKS = 1, 2, 3, 4, 5, 6, 7

# The kinds of fields of an event.
INTEGER, FLOAT, BYTES, TEXT = 0, 1, 2, 3

LITTLE, BIG = 0, 1


class _Text(Adapter):  # type: ignore[misc]
    """UTF-8 with its length before it; other bytes become lone surrogates, and come back."""

    def _decode(self, obj: bytes, context: Any, path: Any) -> str:
        return obj.decode("utf-8", "surrogateescape")

    def _encode(self, obj: str, context: Any, path: Any) -> bytes:
        return obj.encode("utf-8", "surrogateescape")


TEXT_FIELD = _Text(Prefixed(Int16ul, GreedyBytes))

#: The beginning of the file.
PREAMBLE = Struct("magic" / Const(MAGIC), "version" / Int32ul)

#: What stands before each payload; see checksum().
CHUNK = Struct("type" / Int32ul, "length" / Int32ul, "checksum" / Int32ul)

CLOCK_PAYLOAD = Struct("offset_ns" / Int64sl, "zone" / Int32sl)
HEADER_PAYLOAD = Struct(
    "tool_version" / TEXT_FIELD,
    "function" / TEXT_FIELD,
    "pid" / Int32ul,
    "machine" / TEXT_FIELD,
    "byte_order" / Int8ul,
    "kernel_release" / TEXT_FIELD,
    "host_name" / TEXT_FIELD,
    "boot_id" / TEXT_FIELD,
    "clock" / CLOCK_PAYLOAD,
    "argument"
    / Struct(
        "name" / TEXT_FIELD,
        "typed" / Flag,
        "kind" / Int8ul,
        "type_name" / TEXT_FIELD,
        "size" / Int32ul,
        "signed" / Flag,
        "is_bool" / Flag,
    ),
    "event" / TEXT_FIELD,
    "size" / Int32ul,
    "fields"
    / PrefixedArray(
        Int16ul,
        Struct(
            "name" / TEXT_FIELD,
            "offset" / Int32ul,
            "size" / Int32ul,
            "kind" / Int8ul,
            "signed" / Flag,
        ),
    ),
)
SAMPLE = Struct("cpu" / Int32ul, "size" / Int32ul, "data" / Bytes(this.size))
SAMPLES_PAYLOAD = GreedyRange(SAMPLE)
LOST_PAYLOAD = Struct("cpu" / Int32ul, "events" / Int64ul)
END_PAYLOAD = Struct(
    "samples" / Int64ul,
    "reported_lost" / Int64ul,
    "seen" / Int64ul,
    "filtered" / Int64ul,
    "sent" / Int64ul,
    "refused" / Int64ul,
    "duration_ns" / Int64ul,
    "reader_left" / Flag,
    "drained" / Flag,
)
#: What follows in the end chunk; older recordings stop before it.
END_MORE = Struct(
    "unreadable" / Int64ul,
    "missed" / Int64sl,
    "refused_cpus" / PrefixedArray(Int32ul, Struct("cpu" / Int32ul, "events" / Int64ul)),
    "beyond" / Int64ul,
)
#: What follows in turn; recordings made before there were returns stop before it.
END_RETURNS = Struct(
    "begun" / Int64ul,
    "ended" / Int64ul,
    "no_room" / Int64ul,
    "unmatched" / Int64ul,
    "no_stack" / Int64ul,
)


class Clock(NamedTuple):
    """How the events' clock becomes a date, from here on.

    ``offset_ns``: nanoseconds from CLOCK_MONOTONIC to CLOCK_REALTIME; ``zone``:
    seconds by which the recorder's local time was ahead of UTC.
    """

    offset_ns: int
    zone: int


class Argument(NamedTuple):
    """The traced function's first argument; ``kind`` is BTF's. Untyped without BTF."""

    name: str = ""
    typed: bool = False
    kind: int = 0
    type_name: str = ""
    size: int = 0
    signed: bool = False
    is_bool: bool = False


class Field(NamedTuple):
    """A field of the event: its place in bytes, and its kind (INTEGER, FLOAT, BYTES, TEXT)."""

    name: str
    offset: int
    size: int
    kind: int
    signed: bool


class Header(NamedTuple):
    """What a recording says of itself; ``pid`` is the live command's -p, 0 without."""

    tool_version: str
    function: str
    pid: int
    machine: str
    byte_order: int
    kernel_release: str
    host_name: str
    boot_id: str
    clock: Clock
    argument: Argument
    event: str
    size: int
    fields: tuple[Field, ...]


class Samples(NamedTuple):
    """Samples of one poll, each with its CPU, as the kernel handed them out."""

    samples: list[tuple[int, bytes]]


class Lost(NamedTuple):
    """The kernel reported that so many events of this CPU found no room."""

    cpu: int
    events: int


class Functions(NamedTuple):
    """Functions of the trace, after those that came before: see docs/recording-format.md."""

    functions: list[dict[str, Any]]


class Stacks(NamedTuple):
    """Stacks of the samples that follow: see docs/recording-format.md."""

    stacks: list[dict[str, Any]]


class End(NamedTuple):
    """The account at the end of a trace.

    ``samples``: those in the recording; ``reported_lost``: the Lost records'
    sum; ``seen`` to ``refused``: the kernel's counters (struct counters);
    ``reader_left``: of the live command's lines; ``drained``: all was read;
    ``unreadable``: of the filtered, those that the filter could not judge;
    ``missed``: by the kernel, -1: unknown; ``refused_cpus``: the refused of each CPU
    that has any; ``beyond``: events that came after the last that was asked for;
    ``begun`` to ``no_stack``: as in struct counters.
    """

    samples: int
    reported_lost: int
    seen: int
    filtered: int
    sent: int
    refused: int
    duration_ns: int
    reader_left: bool
    drained: bool
    unreadable: int = 0
    missed: int = -1
    refused_cpus: tuple[tuple[int, int], ...] = ()
    beyond: int = 0
    begun: int = 0
    ended: int = 0
    no_room: int = 0
    unmatched: int = 0
    no_stack: int = 0


def checksum(offset: int, kind: int, payload: bytes) -> int:
    """CRC-32 (zlib's) of where the chunk lies, its type, its length and its payload.

    Args: offset: bytes from the file's beginning to the chunk. With it, a chunk
        that is missing, doubled or moved is found, too.
    """
    words = Int64ul.build(offset) + Int32ul.build(kind) + Int32ul.build(len(payload))
    return zlib.crc32(payload, zlib.crc32(words))
