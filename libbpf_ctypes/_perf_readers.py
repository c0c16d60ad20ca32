"""What is done with the samples of a perf buffer: read, decoded, collected.

Two readers with one interface: RingReader looks into the kernel's memory itself,
CallbackReader has libbpf do it, and is for machines whose memory Python may not read
that way. Both hand what they find to a Collector.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Generic, TypeVar

from ._ffi import lib
from ._interrupts import interrupts_held
from ._perf_open import PAGE_SIZE, Callbacks, has_sample_period
from ._ring import (
    BEFORE_EVENT,
    LARGE_PIECE,
    LOST,
    LOST_RECORD,
    PIECE,
    SAMPLE,
    SAMPLE_HEADER,
    Lost,
    Mixed,
    Record,
    Ring,
    Samples,
)
from .errors import DecodeError

_T = TypeVar("_T")

_LIBBPF_PERF_EVENT_CONT = -2  # enum bpf_perf_event_ret


class Collector(Generic[_T]):
    """Makes records, bytes or columns of samples, and keeps them.

    Args: with_cpu: of bytes: with their CPU's number.
        on_lost: called with a CPU and how many events it lost.

    Attributes:
        schema: a Schema, or None for bytes.
        events: what was made, but for columns.
        arrays: the columns.
        columns: whether columns are to be made.
        lost: events reported as lost.
        error: the first exception since somebody took it.
    """

    def __init__(self, with_cpu: bool, on_lost: Callable[[int, int], None] | None) -> None:
        self.events: list[_T] = []
        self.arrays: list[Any] = []
        self.columns = False
        self.lost = 0
        self.error: BaseException | None = None
        self.schema: Any = None
        self._with_cpu = with_cpu
        self._on_lost = on_lost
        self._decoders: dict[int, Callable[[Any], Iterator[_T]]] = {}
        self._types: dict[tuple[int, int], Any] = {}

    def forget(self) -> None:
        """Lets go of the functions that it calls: they may be the user's, and hold the buffer."""
        self._on_lost = self.schema = None
        self._decoders.clear()

    def keep(self, error: BaseException) -> None:
        """Keeps the first of several exceptions."""
        if self.error is None:
            self.error = error

    def add(self, record: Record) -> None:
        """Takes what was in a ring."""
        if isinstance(record, Lost):
            self.add_lost(record.cpu, record.events)
        elif isinstance(record, Mixed):
            for event in record.events:
                self._add_event(record.cpu, event)
        elif self.columns:
            self.add_columns(record.data, BEFORE_EVENT, record.stride, record.size)
        else:
            self._add_samples(record)

    def _add_samples(self, samples: Samples) -> None:
        """Decodes samples; one that cannot be is left out, and its error kept."""
        events = self.events
        try:
            if self.schema is not None:
                self.schema.check_size(samples.size)
        except DecodeError as error:
            self.keep(error)
            return
        stuck = False
        while samples.data:
            before = len(events)
            try:
                events.extend(self._decode(samples))
                return
            except BaseException as error:  # a signal handler's, too: it costs no event
                self.keep(error)
                done = len(events) - before
                skip = isinstance(error, DecodeError) or (stuck and not done)
                stuck = not (done or skip)
                samples = samples.without(done + skip)

    def _add_event(self, cpu: int, event: bytes) -> None:
        """Decodes one event of a size that the next one has not."""
        schema = self.schema
        if schema is None:
            self.add_bytes(cpu, event)
            return
        try:
            schema.check_size(len(event))
            if self.columns:
                self.add_columns(event[: schema.size], 0, schema.size, schema.size)
            else:
                self.events.append(schema.decode(event))
        except BaseException as error:
            self.keep(error)

    def _decode(self, samples: Samples) -> Any:
        """An iterator of what they become."""
        schema, cpu = self.schema, samples.cpu
        if schema is None:
            events = samples.events()
            return ((cpu, event) for event in events) if self._with_cpu else events
        if not schema.derived:
            return map(schema.decode, samples.events())
        decode = self._decoders.get(samples.stride)
        if decode is None:
            after = samples.stride - BEFORE_EVENT - schema.size
            decode = self._decoders[samples.stride] = schema.spaced(BEFORE_EVENT, after)
        return decode(samples.data)

    def add_bytes(self, cpu: int, event: bytes) -> None:
        """Takes an event without a schema."""
        self.events.append((cpu, event) if self._with_cpu else event)  # type: ignore[arg-type]

    def add_columns(self, data: Any, before: int, stride: int, size: int) -> None:
        """Makes columns of events of SIZE bytes that lie BEFORE bytes into each STRIDE."""
        from .columns import column_type, import_numpy

        try:
            self.schema.check_size(size)
            if (before, stride) not in self._types:
                self._types[before, stride] = column_type(self.schema, before, stride)
            self.arrays.append(import_numpy().frombuffer(data, self._types[before, stride]))
        except BaseException as error:
            self.keep(error)

    def add_lost(self, cpu: int, count: int) -> None:
        """Takes the kernel's report of losses."""
        self.lost += count
        if self._on_lost is None or self.error is not None:
            return
        try:
            self._on_lost(cpu, count)
        except BaseException as error:
            self.keep(error)


def online_cpus() -> list[int]:
    """The numbers of the CPUs that are online, in order: libbpf's buffers are theirs.

    Empty where /sys does not tell.
    """
    cpus: list[int] = []
    try:
        text = Path("/sys/devices/system/cpu/online").read_text(encoding="ascii")
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return []
    return cpus


class RingReader:
    """Reads the rings in memory.

    Attributes: until: of each buffer: all events sent before this time (monotonic_ns)
        were collected.
    """

    def __init__(self, pointer: Any, cpus: list[int], collector: Collector[Any]) -> None:
        self._collector = collector
        self._rings = []
        for index, cpu in enumerate(cpus):
            base, size = ctypes.c_void_p(), ctypes.c_size_t()
            lib.perf_buffer__buffer(pointer, index, ctypes.byref(base), ctypes.byref(size))
            assert base.value is not None
            mapping = (ctypes.c_ubyte * (PAGE_SIZE + size.value)).from_address(base.value)
            self._rings.append(Ring(memoryview(mapping).cast("B"), PAGE_SIZE, cpu))
        self.until = [0] * len(self._rings)
        self._marks: list[tuple[int, int] | None] = [None] * len(self._rings)

    def read(self, index: int) -> bool:
        """Reads a piece of a buffer; whether more was there."""
        ring = self._rings[index]
        # A busy ring is never empty: it is enough that all is read which was in it once.
        then, head = self._marks[index] or (time.monotonic_ns(), ring.head)
        records, more = ring.read(LARGE_PIECE if self._collector.columns else PIECE)
        add = self._collector.add
        for record in records:
            add(record)
        passed = ring.tail >= head
        self._marks[index] = None if passed else (then, head)
        if passed:
            self.until[index] = then
        return more


class CallbackReader:
    """Has libbpf read the rings, and call back for each event.

    Attributes:
        callbacks: to open the buffers with.
        until: as RingReader's.
    """

    def __init__(self, collector: Collector[Any]) -> None:
        self._collector = collector
        self._kept: list[bytes] = []  # for columns
        self._pointer: Any = None
        take = self._take_bytes() if collector.schema is None else self._take_records()
        if has_sample_period():
            self.callbacks = Callbacks(take, self._lost_function())
        else:
            self.callbacks = Callbacks(event=self._event_function(take))

    def start(self, pointer: Any, count: int) -> None:
        """Takes the opened buffers."""
        self._pointer = pointer
        self.until = [0] * count

    def read(self, index: int) -> bool:
        """Reads a buffer until it is empty; False: no more was there."""
        began = time.monotonic_ns()
        with interrupts_held():
            lib.perf_buffer__consume_buffer(self._pointer, index)
        self.until[index] = began
        if self._kept:
            data, size = b"".join(self._kept), self._collector.schema.size
            self._kept.clear()
            self._collector.add_columns(data, 0, size, size)
        return False

    # The functions hold what they need, and nothing is looked up for each event.

    def _take_bytes(self) -> Callable[[Any, int, int, int], None]:
        collector, string_at = self._collector, ctypes.string_at
        add = collector.add_bytes

        def take(_context: Any, cpu: int, address: int, size: int) -> None:
            add(cpu, string_at(address, size))

        return take

    def _take_records(self) -> Callable[[Any, int, int, int], None]:
        collector, kept = self._collector, self._kept
        schema, append = collector.schema, collector.events.append
        check_size, string_at = schema.check_size, ctypes.string_at
        size_of = schema.size

        def parse(_context: Any, _cpu: int, address: int, size: int) -> None:
            try:
                append(schema.decode(string_at(address, size)))
            except BaseException as error:
                collector.keep(error)

        if not schema.derived:
            return parse

        at = (ctypes.c_char * size_of).from_address
        read = schema.reader()
        padded = size_of + (4 - size_of) % 8

        def take(_context: Any, _cpu: int, address: int, size: int) -> None:
            try:
                if size != padded:
                    check_size(size)
                if collector.columns:
                    kept.append(string_at(address, size_of))
                else:
                    append(read(at(address)))
            except BaseException as error:
                collector.keep(error)

        return take

    def _lost_function(self) -> Callable[[Any, int, int], None]:
        add_lost = self._collector.add_lost

        def lost(_context: Any, cpu: int, count: int) -> None:
            add_lost(cpu, count)

        return lost

    def _event_function(
        self, take: Callable[[Any, int, int, int], None]
    ) -> Callable[[Any, int, int], int]:
        """The callback of perf_buffer__new_raw, which gets whole records."""
        add_lost = self._collector.add_lost
        header = (ctypes.c_char * SAMPLE_HEADER.size).from_address
        report = (ctypes.c_char * LOST_RECORD.size).from_address
        unpack, before = SAMPLE_HEADER.unpack, SAMPLE_HEADER.size

        def event(_context: Any, cpu: int, address: int) -> int:
            kind, _misc, _size, event_size = unpack(header(address))
            if kind == SAMPLE:
                take(None, cpu, address + before, event_size)
            elif kind == LOST:  # a report has 24 bytes: a sample's may not be read there
                add_lost(cpu, LOST_RECORD.unpack(report(address))[4])
            return _LIBBPF_PERF_EVENT_CONT

        return event
