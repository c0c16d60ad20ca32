"""Recordings of traces: the format, in construct. docs/recording-format.md explains it.

All numbers are little-endian, whatever machine wrote them; only the samples
are as the kernel left them, in the byte order that the header names.
"""

from __future__ import annotations

import sys
import zlib
from keyword import iskeyword
from typing import Any, NamedTuple

import construct
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

from .schema import CString, Schema

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


def layout_of(declaration: Struct) -> tuple[int, int, tuple[Field, ...]]:
    """This machine's byte order (LITTLE, BIG), an event's size in bytes, and its fields.

    Args: declaration: a flat Struct of native byte order. An Array's elements become fields
        of their own: "values" is "values0", "values1" and so on.
    Raises: ValueError: a field that a recording cannot describe.
    """
    fields: list[Field] = []
    offset = 0
    for sub in declaration.subcons:
        inner = sub.subcon if isinstance(sub, construct.Renamed) else sub
        names = [sub.name]
        if isinstance(inner, construct.Array):
            names = [f"{sub.name}{number}" for number in range(inner.count)]
            inner = inner.subcon
        for name in names:
            size = inner.sizeof()
            if name:
                fields.append(Field(name, offset, size, *_kind(inner)))
            offset += size
    return (LITTLE if sys.byteorder == "little" else BIG), offset, tuple(fields)


def _kind(subcon: Any) -> tuple[int, bool]:
    """The kind of a field, and whether it is signed."""
    if isinstance(subcon, construct.FormatField):
        code = subcon.fmtstr[1:]
        return (FLOAT, True) if code in "efd" else (INTEGER, code.islower())
    if isinstance(subcon, CString):
        return TEXT, False
    if isinstance(subcon, Bytes):
        return BYTES, False
    raise ValueError(f"a recording has no kind of field for {subcon!r}")


def schema_of(header: Header) -> Schema[Any]:
    """The decoder of a recording's samples, by the layout in its header.

    Raises: ValueError: the layout is none.
    """
    names = [field.name for field in header.fields]
    if len(names) > MAX_FIELDS:
        raise ValueError(f"it has {len(names)} fields, more than {MAX_FIELDS}")
    if len(set(names)) < len(names) or not all(map(_is_plain_name, names)):
        raise ValueError("its fields' names are not all different, or not names")
    subcons: list[Any] = []
    at = 0
    for field in sorted(header.fields, key=lambda field: field.offset):
        if field.offset < at or not field.size:
            raise ValueError(f"the field {field.name!r} overlaps another")
        if field.offset > at:
            subcons.append(construct.Padding(field.offset - at))
        subcons.append(field.name / _subcon(field, header.byte_order))
        at = field.offset + field.size
    if not at <= header.size <= MAX_SAMPLE:
        raise ValueError(f"its fields have {at} bytes, and the event {header.size}")
    if header.size > at:
        subcons.append(construct.Padding(header.size - at))
    schema: Schema[Any] = Schema(Struct(*subcons), "Event")
    return schema


def _is_plain_name(name: str) -> bool:
    """Whether a named tuple takes it. Of ASCII: Python takes some other letters for the same."""
    plain = name.isascii() and name.isidentifier() and not name.startswith("_")
    return plain and not iskeyword(name)


def _subcon(field: Field, byte_order: int) -> Any:
    order = "b" if byte_order == BIG else "l"
    if field.kind == INTEGER and field.size in (1, 2, 4, 8):
        return getattr(construct, f"Int{8 * field.size}{'s' if field.signed else 'u'}{order}")
    if field.kind == FLOAT and field.size in (2, 4, 8):
        return getattr(construct, f"Float{8 * field.size}{order}")
    if field.kind == TEXT:
        return CString(field.size)
    if field.kind == BYTES:
        return Bytes(field.size)
    raise ValueError(f"the field {field.name!r} is of kind {field.kind} and {field.size} bytes")
