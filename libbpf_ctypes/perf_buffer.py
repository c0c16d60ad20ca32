"""Reading events out of a perf event array."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar, overload

from . import _ring
from ._ffi import lib
from ._handle import Descriptor
from ._interrupts import interrupts_held
from ._perf_open import Callbacks, check_pages, open_buffers, wakeup_events
from ._perf_open import pages_for as pages_for
from ._perf_readers import CallbackReader, Collector, RingReader, online_cpus
from ._reader import ENOUGH, Reader, check_seconds, checked_schema
from .enums import MapType
from .errors import BpfError
from .maps import Map, check_map

if TYPE_CHECKING:
    from .schema import Schema

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_E = TypeVar("_E")


class PerfBuffer(Reader[_T]):
    """A reader of a perf event array, one buffer per online CPU.

    Args:
        map: the map, of type PERF_EVENT_ARRAY; its object is loaded.
        schema: a construct Struct or a Schema to decode the events with; None:
            events are bytes as the kernel hands them out, padding included. It
            is held against the struct of the same name in the object's BTF, where
            there is one (see drift.check). Or a function that returns one, called
            by the first poll: what it imports need not delay the attaching.
        with_cpu: without a schema: events are pairs of their CPU's number and
            these bytes.
        on_lost: called as ``on_lost(cpu, count)`` when the kernel reports that
            COUNT events found no room; from poll(), in its thread.
        pages: pages of each CPU's buffer, a power of two. None: as many as hold 50 ms
            of a CPU that sends flat out (4 MiB; less with more than 8 CPUs); where
            the user may not lock so much, fewer, with a warning in the log.
        max_latency: seconds that an event may wait for others while somebody polls: the
            reader is woken when a quarter of a buffer, or 4096 events, are there, and
            looks by itself so often. 0: a wake-up for each event, which costs
            the traced process some microseconds each time.

    Attributes:
        pages: pages of each CPU's buffer.
        why_callback: why libbpf reads the buffers, with a call of Python for each event;
            "" where they are read in memory, which is faster.
        lost: events reported as lost so far (by the kernel, with the next event of
            that CPU: losses after its last event are never reported).

    Events come by poll(), ``for event in buffer``, and in a task of asyncio by
    ``await buffer.poll_async()`` and ``async for event in buffer``.

    An exception of on_lost or of the decoder is raised by poll() when the
    kernel's buffers are in order again; no event is dropped by it. A handle may
    be closed at any time, from on_lost, other tasks and other threads too. A handler of
    signals should not raise, which may cost events, but call wake(); Ctrl-C's
    own is held while events are taken.

    Raises: LayoutError: the schema's fields are not the object's. BpfError, with
        a hint: not a perf event array, not loaded, pages not
        a power of two, over the locked-memory limit, no privilege.

    Source: libbpf's ``perf_buffer__new`` (libbpf 0.6, its sample_period 1.2),
        before libbpf 1.2 ``perf_buffer__new_raw`` (0.6); ``perf_buffer__buffer``
        (1.0); bpf_perf_event_output (Linux 4.4).
    """

    @overload
    def __init__(
        self: PerfBuffer[bytes],
        map: Map[Any, Any],
        schema: None = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int | None = None,
        max_latency: float = 0.1,
        with_cpu: Literal[False] = False,
    ) -> None: ...

    @overload
    def __init__(
        self: PerfBuffer[tuple[int, bytes]],
        map: Map[Any, Any],
        schema: None = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int | None = None,
        max_latency: float = 0.1,
        with_cpu: Literal[True],
    ) -> None: ...

    @overload
    def __init__(
        self: PerfBuffer[_E],
        map: Map[Any, Any],
        schema: Schema[_E],
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int | None = None,
        max_latency: float = 0.1,
    ) -> None: ...

    @overload
    def __init__(
        self,
        map: Map[Any, Any],
        schema: Any,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int | None = None,
        max_latency: float = 0.1,
    ) -> None: ...

    def __init__(
        self,
        map: Map[Any, Any],
        schema: Any = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int | None = None,
        max_latency: float = 0.1,
        with_cpu: bool = False,
    ) -> None:
        check_map("read a map", map)
        operation = f"read map {map.name}"
        if with_cpu and schema is not None:
            raise BpfError(operation, errno.EINVAL, "with_cpu is for events without a schema")
        if map.type != MapType.PERF_EVENT_ARRAY:
            reason = f"it is of type {map.type.name}, not PERF_EVENT_ARRAY"
            raise BpfError(operation, errno.EINVAL, reason)
        if pages is not None:
            check_pages(operation, pages)
        check_seconds(operation, max_latency)
        fd = map.fd
        others = (c for c in map._parent._open_children() if isinstance(c, PerfBuffer))
        if any(other._read_fd == fd for other in others):
            reason = "another PerfBuffer reads it, and would get nothing any more"
            raise BpfError(operation, errno.EBUSY, reason, hint="Close that one first.")
        self._collected: Collector[_T] = Collector(with_cpu, on_lost)
        self._given = schema
        if not _comes_later(schema):
            self._resolve_schema(map)
        self._columns_checked = False
        self._next = 0
        self._read_fd: int = fd
        # perf_buffer__free looks at it, and the map may be closed by then.
        self._map_fd = Descriptor(os.dup(fd))
        try:
            pointer = self._open(operation, map, pages, max_latency)
            with _freed_on_error(pointer):
                epoll_fd = int(lib.perf_buffer__epoll_fd(pointer))
            super().__init__(pointer, map, self._collected, epoll_fd, max_latency)
        except BaseException:
            self._map_fd.close()
            raise
        self._until = self._reader.until  # kept when the reader is gone
        map._parent._adopt(self)

    def _open(
        self, operation: str, map: Map[Any, Any], pages: int | None, max_latency: float
    ) -> Any:
        """Opens the buffers, and the reader that this machine allows."""
        collected = self._collected

        def wake_after(pages: int) -> int:
            size = -1 if collected.schema is None else collected.schema.size
            return wakeup_events(pages, size) if max_latency else 1

        def open_for(callbacks: Callbacks) -> Any:
            pointer, self.pages = open_buffers(
                operation, self._map_fd.fd, pages, wake_after, callbacks
            )
            with _freed_on_error(pointer):
                self._count = int(lib.perf_buffer__buffer_cnt(pointer))
            return pointer

        self._reader: RingReader | CallbackReader
        self.why_callback = _ring.obstacle()
        if not self.why_callback:
            cpus = online_cpus()
            pointer = open_for(Callbacks())
            with _freed_on_error(pointer):
                if cpus and cpus == online_cpus() and self._count <= len(cpus):
                    self._reader = RingReader(pointer, cpus[: self._count], collected)
                    return pointer
            lib.perf_buffer__free(pointer)
            self.why_callback = "it is not known which CPU each buffer belongs to"
        self._resolve_schema(map)  # the callback is made for it
        reader = self._reader = CallbackReader(collected)
        pointer = open_for(reader.callbacks)
        reader.start(pointer, self._count)
        return pointer

    def resolve_schema(self) -> None:
        """Calls the function that was given in place of a schema, if nobody did yet.

        poll() does it, too. Raises: as the function, and LayoutError.
        """
        self._as_parameter_  # noqa: B018 - raises if closed or forked
        self._resolve_schema(self._parent)

    def _resolve_schema(self, map: Any) -> None:
        given = self._given
        if given is not None:
            self._collected.schema = checked_schema(map, given() if _comes_later(given) else given)
            self._given = None

    @property
    def lost(self) -> int:
        """Events that the kernel reported as lost so far.

        It reports with the next event of that CPU: losses after its last event never are.
        """
        return self._collected.lost

    @property
    def read_until(self) -> int:
        """All events sent before this time were handed out: nanoseconds of CLOCK_MONOTONIC.

        For who merges the CPUs' events by their own times; 0 before the first poll.
        A program takes an event's time before it sends it, and may be interrupted
        in between: allow for some milliseconds.
        """
        return min(self._until)

    def fileno(self) -> int:
        """The file descriptor that is readable when a batch of events is there.

        For select, poll and epoll; then call ``poll(0)``. Fewer events do not
        make it readable: call ``poll(0)`` every max_latency, too, or open with
        ``max_latency=0``.

        Source: ``perf_buffer__epoll_fd`` (libbpf 0.2).
        """
        self._as_parameter_  # noqa: B018 - raises if closed or forked
        return self._fd

    def poll_batches(self, timeout: float | None = None) -> list[Any]:
        """Waits for events and reads them as columns.

        Args:
            timeout: as for poll().

        Returns: read-only NumPy structured arrays, see columns.column_type(): the events
            of one CPU each, in order; several arrays of one CPU follow each other.
            An empty list when the time is over.
        Raises: as poll(). BpfError: no NumPy; no schema, or one that only
            construct can parse.
        Source: ``perf_buffer__buffer`` (libbpf 1.0).
        """
        self._need_columns()
        return self._poll(timeout, self._collected.arrays, columns=True)

    async def poll_batches_async(self, timeout: float | None = None) -> list[Any]:
        """poll_batches() for a task of asyncio, as poll_async() is poll()."""
        self._need_columns()
        return await self._poll_async(timeout, self._collected.arrays, columns=True)

    def batches(self) -> Iterator[Any]:
        """Yields the events as columns as they come, an array for each batch of a CPU.

        Waits for them; ends when the buffer is closed. See poll_batches().
        """
        self._need_columns()
        return self._iterate(self.poll_batches, self._collected.arrays)

    def _need_columns(self) -> None:
        """Raises BpfError unless events can be columns; warns if that gains little here."""
        self.resolve_schema()
        schema = self._collected.schema
        if schema is None:
            reason = "events without a schema have no columns"
            raise BpfError("make columns of events", errno.EINVAL, reason)
        if self._columns_checked:
            return
        from .columns import column_type

        column_type(schema)
        if self.why_callback:
            logger.warning(
                "Batches are made event by event, through a callback: %s.", self.why_callback
            )
        self._columns_checked = True

    def _prepare(self, columns: bool) -> None:
        self._resolve_schema(self._parent)
        self._collected.columns = columns

    def _consume(self) -> None:
        """Reads what the buffers hold, a piece of each CPU's once around."""
        self._more = True  # if it raises: the wake-up was for all CPUs, and comes only once
        with interrupts_held():
            self._more = self._consume_round()

    def _consume_round(self) -> bool:
        collected, left_some = self._collected, False
        for _ in range(self._count):
            index, self._next = self._next, (self._next + 1) % self._count
            left_some |= self._reader.read(index)
            if collected.error is not None or self._closing or len(collected.events) >= ENOUGH:
                return True
        return left_some

    def _release(self, pointer: Any) -> None:
        del self._reader  # it looks into the memory that goes now
        self._collected.forget()
        lib.perf_buffer__free(pointer)
        self._map_fd.close()
        super()._release(pointer)

    def __repr__(self) -> str:
        return f"<PerfBuffer{' (closed)' if self.closed else ''}, {self.lost} lost>"


def _comes_later(schema: Any) -> bool:
    """Whether it is a function that returns a schema, and neither a schema nor a declaration."""
    return callable(schema) and not hasattr(schema, "parse") and not hasattr(schema, "decode")


@contextmanager
def _freed_on_error(pointer: Any) -> Iterator[None]:
    """Frees opened buffers that no PerfBuffer owns yet."""
    try:
        yield
    except BaseException:
        lib.perf_buffer__free(pointer)
        raise
