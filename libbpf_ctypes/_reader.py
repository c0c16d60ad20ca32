"""What readers of events have in common: one poll at a time, which close() and wake() end."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Callable, Generic, Protocol, TypeVar

from ._handle import Handle
from .errors import BpfError, ClosedError

if TYPE_CHECKING:
    from ._async import Waiting

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
    from .object import BpfObject
    from .schema import as_schema

    schema = as_schema(schema)
    if isinstance(map._parent, BpfObject):
        check(map._parent, schema)
    return schema


class Collected(Protocol):
    """What polls have taken: events in order, and the first error since somebody took it."""

    events: list[Any]
    error: BaseException | None


class Reader(Handle, Generic[_T]):
    """A handle on buffers of events, which one thread, or one task of asyncio, polls.

    It may be closed at any time, from what a poll calls, from other threads and tasks too.

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
        self._queue: deque[_T] = deque()  # taken by ``async for``, and not handed out yet
        self._more = False  # it is known that there is more
        self._max_latency = max_latency
        self._poller: int | None = None
        self._suspended: Waiting | None = None  # the poll under way, while no code of it runs
        self._closing = False
        self._closed_event = threading.Event()
        self._consumed = time.monotonic()
        self._fd = fd
        self._wake_fds: tuple[int, ...] = ()
        try:
            self._wake_fds = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.close()
            raise BpfError("read events", error.errno) from None
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
        Raises: BpfError: closed, or being polled by another thread or task (EBUSY);
            what a callback or the decoder raised. The events read by then are
            returned by the next poll.
        """
        return self._poll(timeout, self._collected.events)

    async def poll_async(self, timeout: float | None = None) -> list[_T]:
        """poll() for a task of asyncio: other tasks run while it waits, and once in any case.

        A task that is cancelled loses no event: the next poll returns them.
        """
        return await self._poll_async(timeout, self._collected.events)

    def __iter__(self) -> Iterator[_T]:
        """Yields events as they come; waits for them; ends when it is closed.

        What a loop that is left has not taken yet comes with the next poll.
        """
        return self._iterate(self.poll, self._collected.events)

    def __aiter__(self) -> AsyncIterator[_T]:
        """Iteration for a task of asyncio, as ``async for event in buffer``.

        What a loop that is left, or cancelled, has not taken yet comes with the next poll.
        """
        from ._async import Events

        return Events(self)

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

    def _poll(self, timeout: float | None, found: list[Any], *, columns: bool = False) -> list[Any]:
        """Polls until something is in FOUND, or somebody is to be told of an error."""
        with self._polling(timeout):
            self._prepare(columns)
            for seconds in self._waits(timeout, self._enough(found)):
                self._waiter.poll(_milliseconds(seconds))
            return self._taken(found)

    async def _poll_async(
        self, timeout: float | None, found: list[Any], *, columns: bool = False
    ) -> list[Any]:
        enough = self._enough(found)
        with self._polling(timeout):
            self._prepare(columns)
            if enough() or self._more or timeout == 0:
                await self._suspend(0, enough)
            for seconds in self._waits(timeout, enough):
                await self._suspend(seconds, enough)
            return self._taken(found)

    def _enough(self, found: list[Any]) -> Callable[[], Any]:
        """A function that tells whether a poll has something to return or to raise."""
        collected = self._collected
        if found is not collected.events:  # they are columns
            return lambda: found or collected.error
        queue = self._queue
        return lambda: found or collected.error or queue

    def _taken(self, found: list[Any]) -> list[Any]:
        """What a poll returns; raises what it has to tell."""
        collected = self._collected
        if collected.error is not None:
            error, collected.error = collected.error, None
            try:
                raise error
            finally:  # or its traceback and this frame would keep each other, and the reader
                del error
        events = found[:]  # the same list stays: the callbacks append to it
        found.clear()
        if self._queue and found is collected.events:
            events[:0] = self._queue
            self._queue.clear()
        return events

    @contextlib.contextmanager
    def _polling(self, timeout: float | None) -> Iterator[None]:
        """Around a poll. Raises: BpfError: closed, or another poll is under way."""
        if timeout is not None:
            check_seconds("poll", timeout)
        thread, polling = threading.get_ident(), False
        try:
            with self._lock:
                self._as_parameter_  # noqa: B018 - raises if closed or forked
                if self._closing:
                    raise ClosedError(f"use {self!r}", None, "it is being closed")
                if self._poller is not None:
                    reason = "another poll is under way"
                    hint = "One thread, or one task, reads a buffer."
                    raise BpfError("poll", errno.EBUSY, reason, hint=hint)
                # No Ctrl-C comes between these two; one that comes next ends this poll.
                self._poller, polling = thread, True
            yield
        finally:
            if polling:
                with self._lock:
                    self._poller = None
                    closing = self._closing
                if closing:
                    self._finish()

    def _waits(self, timeout: float | None, enough: Callable[[], Any]) -> Iterator[float | None]:
        """Takes what is there, yields how long to wait for more; ends with ENOUGH, or too late.

        Yields: seconds; None: for ever. A shorter wait does no harm.
        """
        now = time.monotonic()
        deadline = None if timeout is None else now + min(timeout, _FOREVER)
        if self._more or timeout == 0:
            self._take()
        while not (enough() or self._closing):
            ends = [] if deadline is None else [deadline]
            if self._max_latency:
                ends.append(self._consumed + min(self._max_latency, _FOREVER))
            if deadline is not None and deadline <= now:
                break
            yield max(0.0, min(ends) - now) if ends else None
            if self._closing:  # the descriptors may be closed by now
                break
            self._take()
            if self._was_woken():
                break
            now = time.monotonic()

    async def _suspend(self, seconds: float | None, enough: Callable[[], Any]) -> None:
        """Lets other tasks run for so long, or until events are there."""
        from ._async import Waiting

        if seconds != 0 and self._waiter.poll(0):
            seconds = 0
        waiting = Waiting((self._fd, self._wake_fds[0]) if seconds != 0 else ())
        try:
            if seconds != 0 and not self._max_latency:
                # A perf buffer tells only once that it is ready: perhaps it told add_reader().
                self._take()
                seconds = 0 if enough() else seconds
            with self._lock:
                if self._closing:  # by what _take() called, or by another thread
                    return
                self._suspended = waiting
            await waiting.wait(seconds)
        finally:
            with self._lock:
                self._suspended = None
            waiting.end()

    def _take(self) -> None:
        self._consume()
        self._consumed = time.monotonic()

    def _was_woken(self) -> bool:
        try:
            return bool(os.read(self._wake_fds[0], 4096))
        except BlockingIOError:
            return False

    def wake(self) -> None:
        """Ends the wait of a poll under way, or of the next one; safe in a signal handler."""
        # Under the lock: close() must not free the pipe meanwhile. It lets its own thread in.
        with self._lock, contextlib.suppress(BlockingIOError):  # it is full: the poll will wake
            if not self.closed:
                os.write(self._wake_fds[1], b"\0")

    def close(self) -> None:
        """Closes the buffers; events not yet read are dropped. Twice does no harm.

        While another thread polls, that poll ends first; inside what a poll calls the
        buffer is freed when the poll under way returns. A task that waits for events does not
        keep it: the buffer is freed at once, and the task's iteration ends.
        """
        if os.getpid() != self._owner:
            super().close()
            return
        with self._lock:
            if self.closed:
                return
            self._closing = True
            waiting, poller = self._suspended, self._poller
            polled = poller is not None and waiting is None
            if polled:
                self.wake()  # under the lock: the poll cannot end, and free the pipe, meanwhile
        if not polled:
            self._finish()
        elif poller != threading.get_ident():
            self._closed_event.wait()
        if waiting is not None:
            waiting.end_from_anywhere()

    def _finish(self) -> None:
        super().close()
        self._closed_event.set()

    def _release(self, pointer: Any) -> None:
        for fd in self._wake_fds:
            os.close(fd)


def _milliseconds(seconds: float | None) -> int | None:
    """For poll(2), which counts in an int: rounded up, not to spin, and in pieces."""
    return None if seconds is None else int(min(seconds, 3600) * 1000) + 1
