"""Reading events out of BPF ring buffers."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any, Callable, TypeVar, overload

from ._ffi import lib
from ._interrupts import interrupts_held
from ._perf_readers import Collector
from ._reader import ENOUGH, Reader, check_seconds, checked_schema
from ._types import callback_class
from .enums import MapType
from .errors import BpfError
from .log import calling
from .maps import Map

if TYPE_CHECKING:
    from .schema import Schema

_T = TypeVar("_T")
_E = TypeVar("_E")


class RingBuffer(Reader[_T]):
    """A reader of a ring buffer, which all CPUs share: events come in order.

    Args:
        map: the map, of type RINGBUF; its object is loaded.
        schema: a construct Struct or a Schema to decode the events with; None: events
            are bytes. It is held against the struct of the same name in the
            object's BTF, where there is one (see drift.check).
        max_latency: seconds after which a waiting poll looks for events by itself, which
            a program may send without a wake-up (BPF_RB_NO_WAKEUP); 0: never.

    poll(), iteration, wake() and close() are those of PerfBuffer, and so is what becomes of
    exceptions. A ring buffer loses nothing by itself: a program that finds it
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
        max_latency: float = 0.1,
    ) -> None: ...

    @overload
    def __init__(
        self: RingBuffer[_E], map: Map[Any, Any], schema: Schema[_E], *, max_latency: float = 0.1
    ) -> None: ...

    @overload
    def __init__(self, map: Map[Any, Any], schema: Any, *, max_latency: float = 0.1) -> None: ...

    def __init__(self, map: Map[Any, Any], schema: Any = None, *, max_latency: float = 0.1) -> None:
        operation = f"read map {map.name}"
        check_seconds(operation, max_latency)
        collected: Collector[_T] = Collector(with_cpu=False, on_lost=None)
        callback = _callback(operation, map, schema, collected)
        self._name = map.name
        self._callback = callback  # libbpf holds a pointer to it
        pointer = None
        try:
            with calling(operation):
                pointer = lib.ring_buffer__new(map.fd, callback, None, None)
                fd = int(lib.ring_buffer__epoll_fd(pointer))
        except BaseException:  # Ctrl-C, or a handler of the log, after libbpf's success too
            if pointer is not None:
                lib.ring_buffer__free(pointer)
            raise
        super().__init__(pointer, map, collected, fd, max_latency)
        map._parent._adopt(self)

    def fileno(self) -> int:
        """The file descriptor that is readable when events are there.

        For select, poll, epoll and asyncio; then call ``poll(0)``.

        Source: ``ring_buffer__epoll_fd`` (libbpf 0.0.9).
        """
        return int(lib.ring_buffer__epoll_fd(self))

    def _consume(self) -> None:
        self._more = True
        try:
            with interrupts_held():
                lib.ring_buffer__consume(self._pointer)
        except BpfError as error:
            if error.errno != errno.EAGAIN:  # which is our own callback's: there are enough
                raise
        else:
            self._more = False

    def _release(self, pointer: Any) -> None:
        lib.ring_buffer__free(pointer)
        super()._release(pointer)

    def __repr__(self) -> str:
        state = " (closed)" if self.closed else ""
        return f"<RingBuffer of {self._name}{state}>"


def _callback(operation: str, map: Map[Any, Any], schema: Any, collected: Collector[Any]) -> Any:
    """The callback for a map's events. Raises: BpfError: it cannot be read."""
    if map.type != MapType.RINGBUF:
        reason = f"it is of type {map.type.name}, not RINGBUF"
        raise BpfError(operation, errno.EINVAL, reason)
    if any(isinstance(other, RingBuffer) for other in map._parent._open_children(map)):
        reason = "another RingBuffer reads it, and each would get a part of the events"
        raise BpfError(operation, errno.EBUSY, reason, hint="Close that one first.")
    if schema is not None:
        schema = checked_schema(map, schema)
    return callback_class("ring_buffer_sample_fn")(_function(collected, schema))


def _function(collected: Collector[Any], schema: Any) -> Callable[[Any, int, int], int]:
    """What libbpf calls for each event; it stops libbpf when there are enough."""
    events, append, string_at = collected.events, collected.events.append, ctypes.string_at
    decode = None if schema is None else schema.decode

    def take(_context: Any, address: int, size: int) -> int:
        try:
            data = string_at(address, size)
            append(data if decode is None else decode(data))
        except BaseException as error:
            collected.keep(error)
        return -errno.EAGAIN if collected.error is not None or len(events) >= ENOUGH else 0

    return take
