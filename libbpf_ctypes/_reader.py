"""What readers of events have in common: one poll at a time, which close() and wake() end."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable, Generic, Protocol, TypeVar

from ._handle import Handle
from .errors import BpfError, ClosedError

_FOREVER = 1e9  # seconds: a deadline that time.monotonic() can be added to


_T = TypeVar("_T")


#: A poll returns once it holds so many events, and goes on with the others when it is
#: called again: neither memory nor the time away is unbounded.
ENOUGH = 16384


def check_seconds(operation: str, seconds: float) -> None:
    """Raises BpfError unless somebody can wait so long."""
    if not seconds >= 0:
        raise BpfError(operation, errno.EINVAL, f"{seconds} is not a time to wait")


def checked_schema(map: Any, schema: Any) -> Any:
    """The Schema of a map's events, held against its object's BTF. Raises: LayoutError."""
    from .drift import check  # construct comes in only with a schema
    from .schema import as_schema

    schema = as_schema(schema)
    check(map._parent, schema)
    return schema


class Collected(Protocol):
    """What polls have taken: events in order, and the first error since somebody took it."""

    events: list[Any]
    error: BaseException | None


class Reader(Handle, Generic[_T]):
    """A handle on buffers of events, which one thread polls.

    It may be closed at any time, from what a poll calls and from other threads too.

    Args: pointer, parent: as Handle's.
        collected: where _consume() leaves what it takes.
        fd: readable when events are there.
        max_latency: seconds after which a waiting poll looks for events by itself;
            0: it relies on FD.
    """

    _close_order = 1

    def __init__(
        self, pointer: Any, parent: object, collected: Collected, fd: int, max_latency: float
    ) -> None:
        super().__init__(pointer, parent)
        self._collected: Collected = collected
        self._more = False  # it is known that there is more
        self._max_latency = max_latency
        self._poller: int | None = None
        self._closing = False
        self._closed_event = threading.Event()
        self._consumed = time.monotonic()
        self._wake_fds: tuple[int, ...] = ()
        try:
            self._wake_fds = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self.close()
            raise
        self._waiter = select.poll()
        self._waiter.register(fd, select.POLLIN)
        self._waiter.register(self._wake_fds[0], select.POLLIN)

    def _consume(self) -> None:
        """Takes what the buffers hold."""
        raise NotImplementedError

    def _prepare(self, columns: bool) -> None:
        """Called in each poll, before it takes anything; COLUMNS: as columns."""

    def poll(self, timeout: float | None = None) -> list[_T]:
        """Waits for events and reads them.

        Args:
            timeout: seconds; 0: do not wait; None: until there is an event.

        Returns: the events read, each buffer's in order; an empty list when the
            time is over. Signal handlers run during the wait, which goes on.
        Raises: BpfError: closed, or being polled by another thread (EBUSY);
            what a callback or the decoder raised. The events read by then are
            returned by the next poll.
        """
        self._poll(timeout, self._collected.events)
        # The same list: the callbacks append to it.
        events = self._collected.events[:]
        self._collected.events.clear()
        return events

    def __iter__(self) -> Iterator[_T]:
        """Yields events as they come; waits for them; ends when it is closed.

        What a loop that is left has not taken yet comes with the next poll.
        """
        return self._iterate(self.poll, self._collected.events)

    def _iterate(self, poll: Callable[[], list[Any]], kept: list[Any]) -> Iterator[Any]:
        """Yields what polls bring; what is not taken goes back into KEPT."""
        while not (self.closed or self._closing):
            try:
                found = iter(poll())
            except ClosedError:
                return
            try:
                yield from found
            finally:
                kept[:0] = found

    def _poll(self, timeout: float | None, found: list[Any], *, columns: bool = False) -> None:
        """Polls until something is in FOUND, or somebody is to be told of an error."""
        collected = self._collected
        with self._polling(timeout):
            self._prepare(columns)
            self._wait(timeout, lambda: found or collected.error, more=self._more)
        error, collected.error = collected.error, None
        if error is not None:
            raise error

    @contextlib.contextmanager
    def _polling(self, timeout: float | None) -> Iterator[None]:
        """Around a poll. Raises: BpfError: closed, or another poll is under way."""
        if timeout is not None:
            check_seconds("poll", timeout)
        with self._lock:
            self._as_parameter_  # noqa: B018 - raises if closed or forked
            if self._closing:
                raise ClosedError(f"use {self!r}", None, "it is being closed")
            if self._poller is not None:
                reason = "another poll is under way"
                raise BpfError("poll", errno.EBUSY, reason, hint="One thread reads a buffer.")
            self._poller = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._poller = None
                closing = self._closing
            if closing:
                self._finish()

    def _wait(self, timeout: float | None, enough: Callable[[], Any], *, more: bool) -> None:
        """Takes what is there, waits for more; returns with ENOUGH, or too late.

        Args: timeout: seconds; None: for ever. enough: whether something was taken.
            more: that there is more is known without waiting.
        """
        now = time.monotonic()
        deadline = None if timeout is None else now + min(timeout, _FOREVER)
        if more or timeout == 0:
            self._take()
        while not (enough() or self._closing):
            ends = [] if deadline is None else [deadline]
            if self._max_latency:
                ends.append(self._consumed + min(self._max_latency, _FOREVER))
            if deadline is not None and deadline <= now:
                break
            # Rounded up: a wait of a fraction of a millisecond must not spin. In
            # pieces: poll(2) counts milliseconds in an int.
            wait = max(0.0, min(ends) - now) if ends else None
            ready = self._waiter.poll(None if wait is None else int(min(wait, 3600) * 1000) + 1)
            if not self._closing:
                self._take()
            if any(fd == self._wake_fds[0] for fd, _ in ready):
                os.read(self._wake_fds[0], 4096)
                break
            now = time.monotonic()

    def _take(self) -> None:
        self._consume()
        self._consumed = time.monotonic()

    def wake(self) -> None:
        """Ends the wait of a poll under way, or of the next one; safe in a signal handler."""
        # Under the lock: close() must not free the pipe meanwhile. It lets its own thread in.
        with self._lock, contextlib.suppress(BlockingIOError):  # it is full: the poll will wake
            if not self.closed:
                os.write(self._wake_fds[1], b"\0")

    def close(self) -> None:
        """Closes the buffers; events not yet read are dropped. Twice does no harm.

        While another thread polls, that poll ends first; inside what a poll calls the
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
        for fd in self._wake_fds:
            os.close(fd)
