"""Reading events out of a perf event array."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import threading
import time
from collections.abc import Iterator
from ctypes import POINTER, c_char, string_at
from typing import Any, Callable, Generic, Literal, TypeVar, overload

from . import kernel
from ._ffi import LostFn, SampleFn, lib
from ._handle import Handle
from ._interrupts import interrupts_held
from .enums import MapType
from .errors import BpfError, ClosedError
from .log import calling
from .maps import Map

_T = TypeVar("_T")

#: Pages of each CPU's buffer: 256 KiB where a page is 4 KiB, some 5,000 events
#: of 40 bytes, and within what any user may lock (perf_event_mlock_kb, 516).
DEFAULT_PAGES = 64

#: A poll returns once it holds so many events, and goes on with the next CPU
#: when it is called again: neither memory nor the time away is unbounded.
_ENOUGH = 16384

#: 4 GiB of each CPU; what the kernel multiplies must not overflow.
_MAX_PAGES = 1 << 20

_FOREVER = 1e9  # seconds: a deadline that time.monotonic() can be added to


class PerfBuffer(Handle, Generic[_T]):
    """A reader of a perf event array, one buffer per online CPU.

    Args:
        map: the map, of type PERF_EVENT_ARRAY; its object is loaded.
        schema: a construct Struct or a Schema to decode the events with; None:
            events are bytes as the kernel hands them out, padding included. It
            is held against the struct of the same name in the object's BTF, where
            there is one (see drift.check).
        with_cpu: without a schema: events are pairs of their CPU's number and
            these bytes.
        on_lost: called as ``on_lost(cpu, count)`` when the kernel reports that
            COUNT events found no room; from poll(), in its thread.
        pages: pages of each CPU's buffer, a power of two.

    Attributes:
        lost: events reported as lost so far (by the kernel, with the next event of
            that CPU: losses after its last event are never reported).

    An exception of on_lost or of the decoder is raised by poll() when the
    kernel's buffers are in order again; no event is dropped by it. A handle may
    be closed at any time, from on_lost and from other threads too.

    Raises: LayoutError: the schema's fields are not the object's. BpfError, with
        a hint: not a perf event array, not loaded, pages not
        a power of two, over the locked-memory limit, no privilege.

    Source: libbpf's ``perf_buffer__new`` (libbpf 0.6, this signature 1.0);
        bpf_perf_event_output (Linux 4.4).
    """

    _close_order = 1

    @overload
    def __init__(
        self: PerfBuffer[bytes],
        map: Map,
        schema: None = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int = DEFAULT_PAGES,
        with_cpu: Literal[False] = False,
    ) -> None: ...

    @overload
    def __init__(
        self: PerfBuffer[tuple[int, bytes]],
        map: Map,
        schema: None = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int = DEFAULT_PAGES,
        with_cpu: Literal[True],
    ) -> None: ...

    @overload
    def __init__(
        self,
        map: Map,
        schema: Any,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int = DEFAULT_PAGES,
    ) -> None: ...

    def __init__(
        self,
        map: Map,
        schema: Any = None,
        *,
        on_lost: Callable[[int, int], None] | None = None,
        pages: int = DEFAULT_PAGES,
        with_cpu: bool = False,
    ) -> None:
        operation = f"read map {map.name}"
        if with_cpu and schema is not None:
            raise BpfError(operation, errno.EINVAL, "with_cpu is for events without a schema")
        if map.type != MapType.PERF_EVENT_ARRAY:
            reason = f"it is of type {map.type.name}, not PERF_EVENT_ARRAY"
            raise BpfError(operation, errno.EINVAL, reason)
        if not 1 <= pages <= _MAX_PAGES or pages & (pages - 1):
            reason = f"{pages} pages are not a power of two up to {_MAX_PAGES}"
            raise BpfError(operation, errno.EINVAL, reason, hint="Take 8, 16, 32, 64, …")
        if any(isinstance(other, PerfBuffer) for other in map._parent._open_children(map)):
            reason = "another PerfBuffer reads it, and would get nothing any more"
            raise BpfError(operation, errno.EBUSY, reason, hint="Close that one first.")
        if schema is not None:
            from .drift import check  # construct comes in only with a schema
            from .schema import as_schema

            schema = as_schema(schema)
            check(map._parent, schema)
        self.lost = 0
        self._on_lost = on_lost
        self._events: list[_T] = []
        self._error: BaseException | None = None
        self._poller: int | None = None
        self._closing = False
        self._closed_event = threading.Event()
        self._more = False
        self._next = 0
        self._callbacks = (
            SampleFn(self._sample_function(schema, with_cpu)),
            LostFn(self._lost_function()),
        )
        fd = map.fd
        self._wake_fds = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with calling(operation, _hint):
                pointer = lib.perf_buffer__new(fd, pages, *self._callbacks, None, None)
        except BaseException:
            self._close_wake_fds()
            raise
        super().__init__(pointer, map)
        self._count = int(lib.perf_buffer__buffer_cnt(self))
        self._waiter = select.poll()
        self._waiter.register(self.fileno(), select.POLLIN)
        self._waiter.register(self._wake_fds[0], select.POLLIN)
        map._parent._adopt(self)

    # The callbacks hold no reference to the buffer itself but through these
    # closures, and close() drops them: no cycle outlives it.

    def _sample_function(self, schema: Any, with_cpu: bool) -> Callable[..., None]:
        append = self._events.append
        if schema is None:

            def raw(_context: Any, _cpu: int, data: int, size: int) -> None:
                append(string_at(data, size))  # type: ignore[arg-type]

            def raw_with_cpu(_context: Any, cpu: int, data: int, size: int) -> None:
                append((cpu, string_at(data, size)))  # type: ignore[arg-type]

            return raw_with_cpu if with_cpu else raw

        size_of, check_size, decode = schema.size, schema.check_size, schema.decode
        if not schema.derived:

            def parse(_context: Any, _cpu: int, data: int, size: int) -> None:
                try:
                    append(decode(string_at(data, size)))
                except BaseException as error:
                    self._keep(error)

            return parse

        read = schema.reader()
        view = POINTER(c_char * size_of)
        cast = ctypes.cast

        def sample(_context: Any, _cpu: int, data: int, size: int) -> None:
            try:
                if size != padded:
                    check_size(size)
                append(read(cast(data, view)[0]))
            except BaseException as error:
                self._keep(error)

        padded = size_of + (4 - size_of) % 8
        return sample

    def _lost_function(self) -> Callable[..., None]:
        def lost(_context: Any, cpu: int, count: int) -> None:
            self.lost += count
            if self._on_lost is None or self._error is not None:
                return
            try:
                self._on_lost(cpu, count)
            except BaseException as error:
                self._keep(error)

        return lost

    def _keep(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def fileno(self) -> int:
        """The file descriptor that is readable when events are there.

        For select, poll, epoll and asyncio; then call ``poll(0)``.

        Source: ``perf_buffer__epoll_fd`` (libbpf 0.2).
        """
        return int(lib.perf_buffer__epoll_fd(self))

    def poll(self, timeout: float | None = None) -> list[_T]:
        """Waits for events and reads them.

        Args:
            timeout: seconds; 0: do not wait; None: until there is an event.

        Returns: the events read, each CPU's in order; an empty list when the
            time is over. Signal handlers run during the wait, which goes on.
        Raises: BpfError: closed, or being polled by another thread (EBUSY);
            what on_lost or the decoder raised. The events read by then are
            returned by the next poll.
        """
        me = threading.get_ident()
        if timeout is not None and not timeout >= 0:
            raise BpfError("poll", errno.EINVAL, f"{timeout} is not a time to wait")
        with self._lock:
            self._as_parameter_  # noqa: B018 - raises if closed or forked
            if self._closing:
                raise ClosedError(f"use {self!r}", None, "it is being closed")
            if self._poller is not None:
                reason = "another poll is under way"
                raise BpfError("poll", errno.EBUSY, reason, hint="One thread reads a buffer.")
            self._poller = me
        try:
            self._wait(timeout)
        finally:
            with self._lock:
                self._poller = None
                closing = self._closing
            if closing:
                self._finish()
        error, self._error = self._error, None
        if error is not None:
            raise error
        events = self._events[:]
        self._events.clear()  # the same list: the callback appends to it
        return events

    def _wait(self, timeout: float | None) -> None:
        """Reads what is there, else waits for it; returns with something, or too late."""
        deadline = None if timeout is None else time.monotonic() + min(timeout, _FOREVER)
        if self._more or timeout == 0:
            self._consume()
        while not (self._events or self._error or self._closing):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            # Rounded up: a wait of a fraction of a millisecond must not spin. In
            # pieces: poll(2) counts milliseconds in an int.
            ready = self._waiter.poll(None if left is None else int(min(left, 3600) * 1000) + 1)
            if not self._closing:
                self._consume()
            if any(fd == self._wake_fds[0] for fd, _ in ready):
                os.read(self._wake_fds[0], 4096)
                break

    def _consume(self) -> None:
        """Runs the callbacks for what the buffers hold, each CPU's once around."""
        with interrupts_held():
            self._more = self._consume_round()

    def _consume_round(self) -> bool:
        for _ in range(self._count):
            lib.perf_buffer__consume_buffer(self._pointer, self._next)
            self._next = (self._next + 1) % self._count
            if self._error is not None or len(self._events) >= _ENOUGH or self._closing:
                return True  # the wake-up was for all CPUs, and comes only once
        return False

    def wake(self) -> None:
        """Ends the wait of a poll under way, or of the next one; safe in a signal handler."""
        if not self.closed:
            with contextlib.suppress(BlockingIOError):  # it is full: the poll will wake
                os.write(self._wake_fds[1], b"\0")

    def __iter__(self) -> Iterator[_T]:
        """Yields events as they come; waits for them; ends when it is closed."""
        while not (self.closed or self._closing):
            try:
                events = self.poll()
            except ClosedError:
                return
            yield from events

    def close(self) -> None:
        """Closes the buffers; events not yet read are dropped. Twice does no harm.

        While another thread polls, that poll ends first; inside on_lost the
        buffer is freed when the poll under way returns.
        """
        with self._lock:
            if self.closed:
                return
            self._closing = True
            poller = self._poller
            polled = poller is not None and os.getpid() == self._owner
            if polled:
                self.wake()  # under the lock: the poll cannot end, and free the pipe, meanwhile
        if not polled:
            self._finish()
        elif poller != threading.get_ident():
            self._closed_event.wait()

    def _finish(self) -> None:
        super().close()
        self._closed_event.set()

    def _release(self, pointer: Any) -> None:
        lib.perf_buffer__free(pointer)
        self._close_wake_fds()
        self._callbacks = ()  # type: ignore[assignment]

    def _close_wake_fds(self) -> None:
        for fd in self._wake_fds:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<PerfBuffer{' (closed)' if self.closed else ''}, {self.lost} lost>"


def _hint(error: BpfError) -> str:
    if error.errno == errno.EPERM and not kernel.missing_capabilities():
        return kernel.lockdown_hint() or kernel.memlock_hint()
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOMEM:
        return "The kernel has no memory for buffers of this size: take fewer pages."
    return ""
