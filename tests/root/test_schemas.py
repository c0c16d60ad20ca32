"""PerfBuffer with schemas: held against the object's BTF, derived or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import construct
import pytest
from construct import Int32un, Int64un, Struct

from libbpf_ctypes import (
    SYSCALL_EVENT,
    BpfObject,
    LayoutError,
    Link,
    PerfBuffer,
    Schema,
    SyscallEvent,
)
from libbpf_ctypes.schema import CString

from .conftest import call_open64
from .test_perf_buffer import PATH

DRIFTED = Struct(
    "pid" / Int32un,
    "tid" / Int32un,
    "syscall_nr" / construct.Int64sn,
    "timestamp_ns" / Int64un,
    "comm" / CString(16),
)


def test_a_drifted_schema_opens_nothing(loaded: BpfObject) -> None:
    events = loaded.maps["EVENTS"]
    before = sorted(Path("/proc/self/fd").iterdir())
    schema: Any
    for schema in (DRIFTED, Schema(DRIFTED, "SyscallEvent"), "syscall_event" / DRIFTED):
        with pytest.raises(LayoutError) as caught:
            PerfBuffer(events, schema)
        assert "syscall_nr: s64 at 8 (8 bytes) in the schema, u64 at 8" in str(caught.value)
        assert "timestamp_ns" not in str(caught.value)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    PerfBuffer(events, SYSCALL_EVENT).close()  # the map is free


def test_the_objects_own_schema_reads_its_events(
    loaded: BpfObject, attach: Callable[[], Link]
) -> None:
    schema = Schema.from_btf(loaded, "syscall_event")
    reader: PerfBuffer[Any] = PerfBuffer(loaded.maps["EVENTS"], schema)
    with reader as buffer, attach():
        register = call_open64(PATH)
        got: list[Any] = [e for e in buffer.poll(0) if e.syscall_nr == register]
    assert len(got) == 1
    assert got[0]._fields == SyscallEvent._fields


def test_what_only_construct_parses_is_read_too(
    loaded: BpfObject, attach: Callable[[], Link]
) -> None:
    hexadecimal = Struct(*SYSCALL_EVENT.subcons[:2], "syscall_nr" / construct.Hex(Int64un))
    varying = Struct(*hexadecimal.subcons, "rest" / construct.GreedyBytes)
    for declaration in (Struct(*hexadecimal.subcons, construct.Padding(24)), varying):
        schema: Schema[Any] = Schema(declaration, "Other")
        assert not schema.derived
        reader: PerfBuffer[Any] = PerfBuffer(loaded.maps["EVENTS"], schema)
        with reader as buffer, attach():
            register = call_open64(PATH)
            assert register in {event.syscall_nr for event in buffer.poll(0)}


def test_raw_samples_are_decoded_later(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    schema = Schema.from_btf(loaded, "syscall_event")
    with PerfBuffer(loaded.maps["EVENTS"]) as buffer, attach():
        register = call_open64(PATH, 3)
        samples = buffer.poll(0)
    many = [e for e in schema.decode_many(samples) if e.syscall_nr == register]
    assert len(many) == 3
    assert [e for e in map(schema.decode, samples) if e.syscall_nr == register] == many
