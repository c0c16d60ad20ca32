"""Reading events out of BPF ring buffers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple, TypeVar, Union, overload

from ._ffi import lib
from ._interrupts import interrupts_held
from ._perf_readers import Collector
from ._reader import ENOUGH, Reader, check_seconds, checked_schema
from ._types import callback_class
from .enums import MapType
from .errors import BpfError
from .log import calling
from .maps import Map, check_map

if TYPE_CHECKING:
    from .schema import Schema

_T = TypeVar("_T")
_E = TypeVar("_E")
#: A Mapping's type does not let a key's class be a subclass: they are Maps.
_Maps = Union[Map[Any, Any], Mapping[Any, Any]]


class RingStatistics(NamedTuple):
    """How full a ring buffer is, in bytes, headers and what is not yet submitted included.

    Attributes:
        map: the map's name.
        size: what the ring holds.
        available: what waits for the reader.
        consumer_position: what was read since the map was made.
        producer_position: what was written since then.
    """

    map: str
    size: int
    available: int
    consumer_position: int
    producer_position: int


class _Ring(NamedTuple):
    """One map's ring as libbpf reads it."""

    pointer: Any
    callback: Any  # libbpf holds a pointer to it
    fd: int
    name: str


class RingBuffer(Reader[_T]):
    """A reader of ring buffers, each of which all CPUs share: its events come in order.

    Args:
        map: the map, of type RINGBUF; its object is loaded. Or several of them, with the
            schema of each: ``RingBuffer({opens: OPEN, exits: EXIT})``; types of records tell
            their maps apart. They are read in turn: a busy one does not hide the others.
        schema: of one map: a construct Struct or a Schema to decode the events with; None:
            events are bytes. It is held against the struct of the same name in the
            object's BTF, where there is one (see drift.check).
        with_map: events are pairs of their Map and the bytes or record.
        max_latency: seconds after which a waiting poll looks for events by itself, which
            a program may send without a wake-up (BPF_RB_NO_WAKEUP); 0: never.

    poll(), iteration, wake() and close() are those of PerfBuffer, for asyncio too, and so is
    what becomes of exceptions. A ring buffer loses nothing by itself: a program that finds it
    full gets NULL from bpf_ringbuf_reserve(), or -EAGAIN from bpf_ringbuf_output(), and may
    count that in a map.

    Raises: LayoutError: the schema's fields are not the object's. BpfError: not a ring
        buffer, not loaded, being read by another RingBuffer (EBUSY).

    Source: ``ring_buffer__new``, ``ring_buffer__consume`` (libbpf 0.0.9);
        BPF_MAP_TYPE_RINGBUF (Linux 5.8).
    """

    @overload
    def __init__(
        self: RingBuffer[bytes],
        map: Map[Any, Any],
        schema: None = None,
        *,
        with_map: Literal[False] = False,
        max_latency: float = 0.1,
    ) -> None: ...

    @overload
    def __init__(
        self: RingBuffer[tuple[Map[Any, Any], Any]],
        map: _Maps,
        schema: Any = None,
        *,
        with_map: Literal[True],
        max_latency: float = 0.1,
    ) -> None: ...

    @overload
    def __init__(
        self: RingBuffer[_E], map: Map[Any, Any], schema: Schema[_E], *, max_latency: float = 0.1
    ) -> None: ...

    @overload
    def __init__(
        self: RingBuffer[Any], map: Mapping[Any, Any], *, max_latency: float = 0.1
    ) -> None: ...

    @overload
    def __init__(self, map: _Maps, schema: Any, *, max_latency: float = 0.1) -> None: ...

    def __init__(
        self,
        map: _Maps,
        schema: Any = None,
        *,
        with_map: bool = False,
        max_latency: float = 0.1,
    ) -> None:
        schemas = _schemas(map, schema)
        self._names = ", ".join(each.name for each in schemas)
        operation = f"read map {self._names}"
        check_seconds(operation, max_latency)
        collected: Collector[_T] = Collector(with_cpu=False, on_lost=None)
        self._next = 0
        self._rings: list[_Ring] = []
        # A ring_buffer for each map: ring_buffer__consume begins with its first ring each time.
        with contextlib.ExitStack() as stack:
            try:
                self._epoll = stack.enter_context(select.epoll())
            except OSError as error:
                raise BpfError(operation, error.errno) from None
            for each, its_schema in schemas.items():
                _check(operation, each)
                callback = _callback(each, its_schema, collected, with_map)
                with calling(operation):
                    pointer = lib.ring_buffer__new(each.fd, callback, None, None)
                    stack.callback(lib.ring_buffer__free, pointer)
                self._epoll.register(lib.ring_buffer__epoll_fd(pointer), select.EPOLLIN)
                self._rings.append(_Ring(pointer, callback, each.fd, each.name))
            stack.pop_all()  # what is open is released with the handle now
        parents = tuple(schemas)
        super().__init__(self._rings, parents, collected, self._epoll.fileno(), max_latency)
        for each in schemas:
            each._parent._adopt(self)

    def fileno(self) -> int:
        """The file descriptor that is readable when events are there.

        For select, poll and epoll; then call ``poll(0)``.

        Source: ``ring_buffer__epoll_fd`` (libbpf 0.3).
        """
        self._as_parameter_  # noqa: B018 - raises if closed or forked
        return self._fd

    def statistics(self) -> list[RingStatistics]:
        """How full each map's ring is.

        Raises: LibraryError: this libbpf is older.
        Source: ``ring_buffer__ring``, ``ring__size``, ``ring__avail_data_size``,
            ``ring__consumer_pos``, ``ring__producer_pos`` (libbpf 1.3).
        """
        with self._lock, calling("tell how full a ring buffer is"):  # close() frees under the lock
            self._as_parameter_  # noqa: B018 - raises if closed or forked
            return [_statistics(ring) for ring in self._rings]

    def _consume(self) -> None:
        self._more = True
        with interrupts_held():
            for _ in self._rings:
                ring = self._rings[self._next]
                self._next = (self._next + 1) % len(self._rings)
                try:
                    lib.ring_buffer__consume(ring.pointer)
                except BpfError as error:
                    if error.errno != errno.EAGAIN:  # our callback's: there are enough
                        raise
                    return
                if self._closing:
                    return
        self._more = False

    def _release(self, pointer: Any) -> None:
        with self._lock:
            self._epoll.close()
            for ring in self._rings:
                lib.ring_buffer__free(ring.pointer)
            self._rings.clear()
        super()._release(pointer)

    def __repr__(self) -> str:
        state = " (closed)" if self.closed else ""
        return f"<RingBuffer of {self._names}{state}>"


def _schemas(map: _Maps, schema: Any) -> dict[Map[Any, Any], Any]:
    """The maps to read, with their schemas. Raises: BpfError."""
    if isinstance(map, Map):
        return {map: schema}
    if not isinstance(map, Mapping) or schema is not None or not map:
        reason = "it takes a Map, or a mapping of each Map to its schema, one or more"
        raise BpfError("read maps", errno.EINVAL, reason)
    for each in map:
        check_map("read maps", each)
    return dict(map)


def _check(operation: str, map: Map[Any, Any]) -> None:
    """Raises BpfError unless the map can be read."""
    if map.type != MapType.RINGBUF:
        reason = f"it is of type {map.type.name}, not RINGBUF"
        raise BpfError(operation, errno.EINVAL, reason)
    others = (other for other in map._parent._open_children() if isinstance(other, RingBuffer))
    if any(map.fd == ring.fd for other in others for ring in other._rings):
        reason = f"another RingBuffer reads {map.name}, and each would get a part of the events"
        raise BpfError(operation, errno.EBUSY, reason, hint="Close that one first.")


def _statistics(ring: _Ring) -> RingStatistics:
    pointer = lib.ring_buffer__ring(ring.pointer, 0)
    return RingStatistics(
        ring.name,
        int(lib.ring__size(pointer)),
        int(lib.ring__avail_data_size(pointer)),
        int(lib.ring__consumer_pos(pointer)),
        int(lib.ring__producer_pos(pointer)),
    )


def _callback(map: Map[Any, Any], schema: Any, collected: Collector[Any], with_map: bool) -> Any:
    """What libbpf calls for each event of a map; it stops libbpf when there are enough."""
    events, append, string_at = collected.events, collected.events.append, ctypes.string_at
    decode = bytes if schema is None else checked_schema(map, schema).decode
    make: Callable[[bytes], Any] = decode
    if with_map:

        def make(data: bytes) -> Any:
            return map, decode(data)

    def take(_context: Any, address: int, size: int) -> int:
        try:
            append(make(string_at(address, size)))
        except BaseException as error:
            collected.keep(error)
        return -errno.EAGAIN if collected.error is not None or len(events) >= ENOUGH else 0

    return callback_class("ring_buffer_sample_fn")(take)
