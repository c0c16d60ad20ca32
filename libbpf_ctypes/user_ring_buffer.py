"""Sending to BPF programs: the user ring buffer."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import time
from collections.abc import Iterator
from typing import Any

from ._ffi import lib
from ._handle import Handle
from ._reader import check_seconds, checked_schema
from .enums import MapType
from .errors import BpfError
from .in_kernel import check_u32
from .log import calling
from .maps import Map, check_map

#: Seconds of one piece of a wait for room, after which a close() in another thread is seen.
_PIECE = 0.05


class UserRingBuffer(Handle):
    """A writer of a user ring buffer, whose reader is a BPF program.

    The program takes what was sent with bpf_user_ringbuf_drain(), whenever it runs::

        with UserRingBuffer(obj.maps["REQUESTS"], REQUEST) as requests:
            requests.send({"pid": 42, "command": 1}, timeout=1)

    Several threads may send. It may be closed at any time.

    Args:
        map: the map, of type USER_RINGBUF; its object is loaded.
        schema: a construct Struct or a Schema to build records with. It is held against the
            struct of the same name in the object's BTF, where there is one.

    Raises: LayoutError: the schema's fields are not the object's. BpfError: not a user ring
        buffer, not loaded, another UserRingBuffer writes it (EBUSY); LibraryError: libbpf
        is older.

    Source: ``user_ring_buffer__new``, ``user_ring_buffer__reserve``,
        ``user_ring_buffer__submit``, ``user_ring_buffer__discard`` (libbpf 1.1);
        BPF_MAP_TYPE_USER_RINGBUF (Linux 6.1).
    """

    _close_order = 1

    def __init__(self, map: Map[Any, Any], schema: Any = None) -> None:
        check_map("write a map", map)
        self._name = map.name
        operation = f"write map {self._name}"
        if map.type != MapType.USER_RINGBUF:
            reason = f"it is of type {map.type.name}, not USER_RINGBUF"
            raise BpfError(operation, errno.EINVAL, reason)
        self._fd: int = map.fd
        others = (c for c in map._parent._open_children() if isinstance(c, UserRingBuffer))
        if any(other._fd == self._fd for other in others):
            reason = "another UserRingBuffer writes it, and each would overwrite the other's"
            raise BpfError(operation, errno.EBUSY, reason, hint="Close that one first.")
        self._schema = None if schema is None else checked_schema(map, schema)
        with calling(operation):
            super().__init__(lib.user_ring_buffer__new(self._fd, None), map)
        map._parent._adopt(self)

    def send(self, event: Any, timeout: float | None = 0) -> None:
        """Sends an event; the program sees all of it, or nothing.

        Args:
            event: bytes; with a schema also a record, or a mapping of its fields.
            timeout: seconds to wait for room; 0: do not wait; None: until there is room.

        Raises: DecodeError: the record does not fit the schema. BpfError: the buffer is full
            (ENOSPC), the event is larger than the buffer (E2BIG), it is closed.
        """
        for seconds in self._attempts(event, timeout):
            with self._room() as waiter:
                waiter.poll(seconds)

    async def send_async(self, event: Any, timeout: float | None = None) -> None:
        """send() for a task of asyncio, which waits for room while other tasks run.

        A task that is cancelled has sent nothing. Several tasks may send.
        """
        from ._async import Waiting

        for seconds in self._attempts(event, timeout):
            with self._room() as waiter:
                waiting = Waiting((waiter.fileno(),))
                try:
                    await waiting.wait(seconds)
                finally:
                    waiting.end()

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[bytearray]:
        """Takes room for an event now, to be filled and sent::

            with requests.reserve(16) as data:
                data[:8] = …

        Args: size: bytes.
        Yields: a bytearray of zeros, sent at the end; where an exception leaves the
            ``with``, or its size was changed, the room is given back, and nothing is sent.
        Raises: as send(), which does not wait.
        """
        operation = f"send to map {self._name}"
        size = check_u32(operation, "the size", size)
        with self._lock:
            address = self._reserve(operation, size)
        if not address:
            raise _full(operation)
        data = bytearray(size)
        filled = False
        try:
            yield data
            if len(data) != size:
                reason = f"it has {len(data)} bytes now, and room for {size} was reserved"
                raise BpfError(operation, errno.EINVAL, reason)
            filled = True
        finally:
            # The C library's memory is gone where it was closed meanwhile: that raises.
            with self._lock:
                if filled:
                    self._submit(address, bytes(data))
                elif not self.closed:
                    lib.user_ring_buffer__discard(self, address)

    def _build(self, operation: str, event: Any) -> bytes:
        if isinstance(event, (bytes, bytearray, memoryview)):
            return bytes(event)
        if self._schema is None:
            reason = f"an event without a schema is bytes, not {type(event).__name__}"
            raise BpfError(operation, errno.EINVAL, reason)
        return bytes(self._schema.build(event))

    def _attempts(self, event: Any, timeout: float | None) -> Iterator[float]:
        """Sends an event, and yields how many seconds to wait for room before it tries again."""
        operation = f"send to map {self._name}"
        if timeout is not None:
            check_seconds(operation, timeout)
        data = self._build(operation, event)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._try_send(operation, data):
            left = _PIECE if deadline is None else min(deadline - time.monotonic(), _PIECE)
            if left <= 0:
                raise _full(operation)
            yield left

    def _try_send(self, operation: str, data: bytes) -> bool:
        """Sends it if there is room."""
        with self._lock:  # libbpf leaves it to its users that one at a time reserves
            address = self._reserve(operation, len(data))
            if address:
                self._submit(address, data)
        return bool(address)

    def _reserve(self, operation: str, size: int) -> int:
        """The address of room for so many bytes; 0: it is full."""
        if not 0 < size < 1 << 30:
            raise BpfError(operation, errno.E2BIG if size > 0 else errno.EINVAL, f"{size} bytes")
        try:
            with calling(operation, _hint):
                return int(lib.user_ring_buffer__reserve(self, size))
        except BpfError as error:
            if error.errno != errno.ENOSPC:
                raise
            return 0

    def _submit(self, address: int, data: bytes) -> None:
        _ = self._as_parameter_  # raises if it is closed
        ctypes.memmove(address, data, len(data))
        lib.user_ring_buffer__submit(self, address)

    def _room(self) -> select.epoll:
        """What is readable once the program has taken something."""
        waiter = select.epoll()
        try:
            with self._lock:
                _ = self._as_parameter_
                # Once for each time: it is writable as soon as a single byte is free.
                waiter.register(self._fd, select.EPOLLOUT | select.EPOLLET)
            waiter.poll(0)
        except BaseException:
            waiter.close()
            raise
        return waiter

    def _release(self, pointer: Any) -> None:
        with self._lock:
            lib.user_ring_buffer__free(pointer)

    def __repr__(self) -> str:
        return f"<UserRingBuffer of {self._name}{' (closed)' if self.closed else ''}>"


def _full(operation: str) -> BpfError:
    hint = "The program takes events only when it runs: wait longer, or make the map larger."
    return BpfError(operation, errno.ENOSPC, "the buffer is full", hint=hint)


def _hint(error: BpfError) -> str:
    return "The event is larger than the buffer." if error.errno == errno.E2BIG else ""
