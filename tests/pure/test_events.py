"""The shipped event: the fast decoder says what construct says."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import SYSCALL_EVENT, DecodeError, SyscallEvent
from libbpf_ctypes.events import SYSCALL_EVENT_SCHEMA
from libbpf_ctypes.schema import MAX_PADDING, as_schema

SIZE = 40
events = st.binary(min_size=SIZE, max_size=SIZE)


@given(events)
def test_decoder_agrees_with_construct(raw: bytes) -> None:
    expected = SYSCALL_EVENT.parse(raw)
    decoded = SYSCALL_EVENT_SCHEMA.decode(raw)
    assert decoded._asdict() == {name: expected[name] for name in SyscallEvent._fields}


@given(events, st.binary(max_size=MAX_PADDING))
def test_padding_after_an_event_is_cut(raw: bytes, padding: bytes) -> None:
    expected = SYSCALL_EVENT_SCHEMA.decode(raw)
    assert SYSCALL_EVENT_SCHEMA.decode(raw + padding) == expected
    assert SYSCALL_EVENT_SCHEMA.decode(bytearray(raw + padding)) == expected
    assert SYSCALL_EVENT_SCHEMA.decode(memoryview(raw + padding)) == expected


@pytest.mark.parametrize("size", [0, 1, 36, 39, 48, 49, 80, 65536])
def test_any_other_length_is_refused_with_both_sizes(size: int) -> None:
    with pytest.raises(DecodeError) as caught:
        SYSCALL_EVENT_SCHEMA.decode(bytes(size))
    assert f"{size} bytes" in str(caught.value)
    assert str(SIZE) in str(caught.value)
    assert isinstance(caught.value, ValueError)


@given(events)
def test_what_was_parsed_is_built_back_the_same(raw: bytes) -> None:
    event = SYSCALL_EVENT_SCHEMA.decode(raw)
    built = SYSCALL_EVENT.build(event._asdict())
    assert SYSCALL_EVENT_SCHEMA.decode(built) == event
    assert built[:24] == raw[:24], "only what follows the name's NUL may be lost"
    assert raw[24:].startswith(built[24:].rstrip(b"\0"))
    assert SYSCALL_EVENT.build(SYSCALL_EVENT.parse(built)) == built


def test_the_event_of_known_bytes() -> None:
    raw = (
        (7).to_bytes(4, sys.byteorder)
        + (8).to_bytes(4, sys.byteorder)
        + b"\xff" * 8
        + (10**18).to_bytes(8, sys.byteorder)
        + b"sshd\0garbage".ljust(16, b"\1")
    )
    event = SYSCALL_EVENT_SCHEMA.decode(raw)
    assert event == SyscallEvent(7, 8, 2**64 - 1, 10**18, "sshd")
    assert isinstance(event, SyscallEvent)
    assert type(event).__name__ == "SyscallEvent"
    assert type(event).__module__ == "libbpf_ctypes.events"
    assert type(event)._fields == ("pid", "tid", "syscall_nr", "timestamp_ns", "comm")
    assert event.comm == "sshd"


def test_names_of_all_sixteen_bytes_and_of_no_character_set() -> None:
    raw = bytes(24) + bytes(range(0xF0, 0x100))
    comm = SYSCALL_EVENT_SCHEMA.decode(raw).comm
    assert comm.encode("utf-8", "surrogateescape") == raw[24:]


def test_one_declaration_has_one_record_type() -> None:
    assert as_schema(SYSCALL_EVENT) is SYSCALL_EVENT_SCHEMA
    assert as_schema(SYSCALL_EVENT_SCHEMA) is SYSCALL_EVENT_SCHEMA
    assert SYSCALL_EVENT_SCHEMA.record is SyscallEvent
