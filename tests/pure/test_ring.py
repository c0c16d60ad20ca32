"""The reader of a perf ring, against a writer that does as the kernel does."""

from __future__ import annotations

import os
import struct
import types
from collections.abc import Callable
from typing import Any, Union

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import BpfError, _ring
from libbpf_ctypes._ring import BEFORE_EVENT, Lost, Mixed, Record, Ring, Samples
from libbpf_ctypes.schema import Schema

PAGE = 4096

#: What was written: an event's bytes with perf's padding, or how many were lost.
Written = Union[bytes, int]


class Kernel:
    """Writes records as perf_output_begin() and bpf_event_output() do: 8-byte aligned, wrapping."""

    def __init__(self, size: int, start: int = 0) -> None:
        self.memory = bytearray(PAGE + size)
        self.size = size
        self._put("<QQ", start, start)
        self.ring = Ring(memoryview(self.memory), PAGE, cpu=7)

    def _put(self, form: str, *values: int) -> None:
        struct.pack_into(form, self.memory, 1024, *values)

    @property
    def positions(self) -> tuple[int, int]:
        """data_head and data_tail."""
        head, tail = struct.unpack_from("<QQ", self.memory, 1024)
        return head, tail

    def write(self, record: bytes) -> bool:
        """Appends a record; False if it finds no room."""
        head, tail = self.positions
        if head - tail + len(record) > self.size:
            return False
        for number, byte in enumerate(record):
            self.memory[PAGE + (head + number) % self.size] = byte
        self._put("<QQ", head + len(record), tail)
        return True

    def sample(self, event: bytes, misc: int = 1) -> bytes:
        """A PERF_RECORD_SAMPLE of an event whose size and 4 more are a multiple of 8."""
        assert len(event) % 8 == 4
        return struct.pack("<IHHI", 9, misc, 12 + len(event), len(event)) + event

    def lost(self, number: int) -> bytes:
        """A PERF_RECORD_LOST."""
        return struct.pack("<IHHQQ", 2, 0, 24, 99, number)


def flat(records: list[Record]) -> list[Written]:
    """What the records hold, one by one."""
    found: list[Written] = []
    for record in records:
        assert record.cpu == 7
        if isinstance(record, Lost):
            found.append(record.events)
        elif isinstance(record, Mixed):
            assert record.events, "no samples without an event"
            found.extend(record.events)
        else:
            events = list(record.events())
            assert events, "no samples without an event"
            assert len(record.data) == len(events) * record.stride
            found.extend(events)
    return found


events = st.sampled_from([4, 12, 44, 44, 44, 100]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), events, st.sampled_from([1, 2])),
        st.tuples(st.just("lost"), st.integers(1, 1 << 40)),
        st.tuples(st.just("other"), st.integers(1, 8)),
        st.tuples(st.just("read")),
    ),
    max_size=120,
)


@given(steps=steps, start=st.integers(0, 1 << 50).map(lambda n: n * 8))
def test_what_was_written_is_read_once_and_in_order(
    steps: list[tuple[Any, ...]], start: int
) -> None:
    kernel = Kernel(1024, start)
    written: list[Written] = []
    read: list[Written] = []
    for kind, *values in [*steps, ("read",)]:
        if kind in ("sample", "lost"):
            if kernel.write(getattr(kernel, kind)(*values)):
                written.append(values[0])
        elif kind == "other":
            kernel.write(struct.pack("<IHH", 5, 0, 8 * values[0]) + bytes(8 * values[0] - 8))
        elif kind == "read":
            records, more = kernel.ring.read()
            assert not more
            read.extend(flat(records))
            head, tail = kernel.positions
            assert head == tail
    assert read == written


def test_equal_samples_are_one_piece_and_a_ring_is_read_in_pieces() -> None:
    size = 1 << 20
    kernel = Kernel(size, start=size - 100)
    sample = kernel.sample(b"x" * 44)
    number = size // len(sample)
    head, tail = kernel.positions
    ring = bytearray(size)
    for byte, value in enumerate(sample * number):
        ring[(tail + byte) % size] = value
    kernel.memory[PAGE:] = ring
    struct.pack_into("<Q", kernel.memory, 1024, head + number * len(sample))
    kernel.ring = Ring(memoryview(kernel.memory), PAGE, cpu=7)
    pieces, more = [], True
    while more:
        records, more = kernel.ring.read()
        assert len(records) == 1
        pieces += flat(records)
        assert len(records[0].data) <= 1 << 18  # type: ignore[union-attr]
    assert pieces == [b"x" * 44] * number


@pytest.mark.parametrize("offset", [0, 3, 6, 8, 11])
def test_samples_that_differ_in_their_headers_are_told_apart(offset: int) -> None:
    """Each compared byte of a header, changed in one of many samples."""
    kernel = Kernel(PAGE)
    plain = kernel.sample(b"x" * 44)
    changed = bytearray(plain)
    changed[offset] ^= 8 if offset == 8 else 1 if offset != 6 else 64
    for record in [*[plain] * 4, bytes(changed), *[plain] * 4]:
        kernel.write(record)
    if offset == 11:  # an event of more than its sample
        with pytest.raises(BpfError, match="an event of"):
            kernel.ring.read()
        return
    records, _ = kernel.ring.read()
    numbers = [
        len(r.data) // r.stride if isinstance(r, Samples) else len(r.events)
        for r in records
        if not isinstance(r, Lost)
    ]
    assert len(records) > 1
    assert max(numbers) <= 4


@given(st.lists(st.integers(0, 4), max_size=300), st.integers(1, 40))
def test_runs_of_any_length_are_told_apart(kinds: list[int], run: int) -> None:
    """Equal samples in runs, as they come from programs that send several events."""
    kernel = Kernel(1 << 20)
    written = [bytes([kind]) * (8 * kind + 4) for kind in kinds for _ in range(run)]
    for event in written:
        kernel.write(kernel.sample(event))
    assert flat(kernel.ring.read(1 << 20)[0]) == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda k: k.write(struct.pack("<IHH", 9, 1, 0)),
        lambda k: k.write(struct.pack("<IHH", 9, 1, 4)),
        lambda k: k.write(struct.pack("<IHH", 9, 1, 8)),
        lambda k: k.write(struct.pack("<IHHI", 9, 1, 16, 5) + b"four"),
        lambda k: k.write(struct.pack("<IHHQ", 2, 0, 16, 1)),
        lambda k: k.write(struct.pack("<IHH", 9, 1, 64)),
        lambda k: struct.pack_into("<Q", k.memory, 1024, 1 << 40),
        lambda k: struct.pack_into("<QQ", k.memory, 1024, 0, 64),
    ],
)
def test_what_the_kernel_never_writes_is_told_and_given_up(damage: Callable[[Kernel], Any]) -> None:
    kernel = Kernel(1024)
    damage(kernel)
    with pytest.raises(BpfError, match="which the kernel does not write"):
        kernel.ring.read()
    assert kernel.ring.read() == ([], False)
    kernel.write(kernel.sample(b"next"))
    assert flat(kernel.ring.read()[0]) == [b"next"]


@given(st.binary(max_size=1024))
def test_any_bytes_are_records_or_the_documented_error(data: bytes) -> None:
    kernel = Kernel(1024)
    kernel.memory[PAGE : PAGE + len(data)] = data
    struct.pack_into("<Q", kernel.memory, 1024, len(data))
    try:
        for _ in range(200):
            records, more = kernel.ring.read()
            flat(records)
            if not more:
                break
        else:
            raise AssertionError("it never ends")
    except BpfError as error:
        assert "CPU 7" in str(error)
    head, tail = kernel.positions
    assert tail <= head


@given(number=st.integers(4, 40), taken=st.integers(0, 50), data=st.data())
def test_a_schema_decodes_them_where_they_lie(number: int, taken: int, data: st.DataObject) -> None:
    schema: Schema[Any] = Schema(
        construct.Struct("a" / construct.Int32ul, "b" / construct.Int16ub), "E"
    )
    raw = data.draw(st.lists(st.binary(min_size=12, max_size=12), min_size=number, max_size=number))
    kernel = Kernel(1024 * 8)
    for event in raw:
        kernel.write(kernel.sample(event))
    [samples] = kernel.ring.read()[0]
    assert isinstance(samples, Samples)
    decode = schema.spaced(BEFORE_EVENT, samples.stride - BEFORE_EVENT - schema.size)
    assert list(decode(samples.data)) == [schema.decode(event) for event in raw]
    rest = samples.without(taken)
    assert [bytes(event) for event in rest.events()] == raw[taken:]
    assert list(decode(rest.data)) == [schema.decode(event) for event in raw[taken:]]


def test_only_x86_64_is_read_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, told in (("x86_64", ""), ("aarch64", "aarch64 may reorder"), ("i686", "i686")):
        uname = types.SimpleNamespace(machine=machine)
        monkeypatch.setattr(os, "uname", lambda uname=uname: uname)
        assert _ring.obstacle().startswith(told)
        assert bool(_ring.obstacle()) == bool(told)
