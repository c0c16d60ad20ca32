"""What asyncio needs of a reader: how a task waits for events, and how it iterates over them.

Apart from the reader, so that asyncio is imported by those alone who use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import ClosedError

if TYPE_CHECKING:
    from ._reader import Reader

_T = TypeVar("_T")


class Waiting:
    """A task that waits until one of the descriptors is readable, or the time is over.

    Each is watched by a number of its own, so that two loops, or a loop and its
    user, may watch the same one.
    """

    def __init__(self, fds: Iterable[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._fds: list[int] = []
        try:
            for fd in fds:
                self._fds.append(os.dup(fd))
                self._loop.add_reader(self._fds[-1], self._end_wait)
        except BaseException:
            self.end()
            raise

    async def wait(self, seconds: float | None) -> None:
        """Waits; None: without end but for the descriptors and end()."""
        timer = None if seconds is None else self._loop.call_later(seconds, self._end_wait)
        try:
            await self._over
        finally:
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """Ends the wait, and watches no longer; in the loop's thread. Twice does no harm."""
        fds, self._fds = self._fds, []
        for fd in fds:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(fd)
            os.close(fd)
        with contextlib.suppress(RuntimeError):
            self._end_wait()

    def end_from_anywhere(self) -> None:
        """Ends the wait, from another thread when the loop comes to it."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.end)
                return
        self.end()

    def _end_wait(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


class Events(Generic[_T]):
    """The iteration of ``async for``: what is not taken stays with the reader."""

    def __init__(self, reader: Reader[_T]) -> None:
        self._reader = reader

    def __aiter__(self) -> Events[_T]:
        return self

    async def __anext__(self) -> _T:
        reader = self._reader
        queue: Any = reader._queue
        while not queue:
            try:
                queue.extend(await reader.poll_async())
            except ClosedError:
                raise StopAsyncIteration from None
            if not queue and reader._closing:
                raise StopAsyncIteration
        return queue.popleft()  # type: ignore[no-any-return]
