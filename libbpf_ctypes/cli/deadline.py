"""The end of a trace, on time however busy the reader is."""

from __future__ import annotations

import threading
import time

from ..errors import BpfError
from ..link import Link
from .console import Console


class Deadline:
    """Detaches a link when its time is over, from a thread of its own, or when told to.

    The reader may be in the middle of a large batch at that moment.

    Args: link: freshly attached. seconds: how long it may trace; 0: until told.

    Attributes: end: when it is over, of time.monotonic(); None: when told.
    """

    def __init__(self, link: Link, seconds: float, console: Console) -> None:
        self._link = link
        self._console = console
        self._lock = threading.Lock()
        self._error: BpfError | None = None
        self._traced = 0
        self._started = time.monotonic_ns()
        self.end = self._started / 1e9 + seconds if seconds else None
        self._timer = threading.Timer(seconds, self._detach)
        self._timer.daemon = True
        if seconds:
            try:
                self._timer.start()
            except RuntimeError as error:
                hint = "The user's limit on processes is reached: see 'ulimit -u'."
                raise BpfError("start the deadline's thread", None, str(error), hint=hint) from None

    def _detach(self) -> None:
        with self._lock:
            if self._link.closed:
                return
            self._traced = time.monotonic_ns() - self._started
            try:
                self._link.close()  # takes the kernel some 0.1 s; no event after its first moment
            except BpfError as error:
                self._error = error
            self._console.info("Detaching kprobe...")  # afterwards: it may have to wait

    def detach(self) -> int:
        """Detaches now, if that is not done; no event comes after it. Returns nanoseconds traced.

        Raises: BpfError: the kernel refused to detach.
        """
        self._timer.cancel()
        self._detach()
        if self._error is not None:
            raise self._error
        return self._traced
