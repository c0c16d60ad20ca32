"""Items on their way to another machine: in batches, kept until each is answered for."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Callable, NamedTuple

#: Items of a batch at most, and seconds that one may wait for others.
BATCH, MAX_AGE = 512, 1.0

#: With so many items waiting, no more are to be read.
BACKLOG = 8 * BATCH

#: Seconds before a batch that was not taken is sent again: at first, and at most.
_PAUSE, _LONGEST_PAUSE = 0.5, 5.0


class Answer(NamedTuple):
    """What became of a batch.

    Attributes:
        reason: why it was not taken, or not all of it; "": it was.
        again: none of it was taken, and it may be later.
        refused: items of it that never will be.
        after: seconds to wait before it is sent again; 0: as ever.
    """

    reason: str = ""
    again: bool = False
    refused: int = 0
    after: float = 0.0


class Sender:
    """Hands items to a function in a thread of its own, and keeps them until they are taken.

    Args: send: sends a batch, and may take its time; called in the thread. What it raises is
        the reason that the batch is refused.

    Attributes:
        sent: items that were taken.
        refused: items that were not, and will not be.
        refusal: why, of the last of them.
        trouble: why the oldest items are not taken at the moment; "": nothing is in their way.
    """

    def __init__(self, send: Callable[[list[Any]], Answer]) -> None:
        self._send = send
        self._items: deque[Any] = deque()
        self._oldest = 0.0
        self._changed = threading.Condition()
        self._ending = False
        self.sent = self.refused = 0
        self.refusal = self.trouble = ""
        # A daemon: a peer that never answers must not keep the process.
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def add(self, items: list[Any]) -> None:
        """Takes items. Those that were read are never refused; wait() says when to read more."""
        with self._changed:
            if not self._items:
                self._oldest = time.monotonic()
            self._items.extend(items)
            self._changed.notify_all()

    def wait(self, deadline: float) -> bool:
        """Waits for room for more, to DEADLINE (of time.monotonic) at most; whether there is."""
        with self._changed:
            while len(self._items) >= BACKLOG:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def end(self, deadline: float, should_stop: Callable[[], bool]) -> int:
        """Waits until all is answered for, to DEADLINE; how many items are not.

        Args: should_stop: looked at again and again; true: wait no longer.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            while self._items and time.monotonic() < deadline and not should_stop():
                self._changed.wait(min(0.1, max(0.0, deadline - time.monotonic())))
            return len(self._items)

    def _run(self) -> None:
        pause = _PAUSE
        while True:
            batch = self._next()
            if not batch:
                return
            try:
                answer = self._send(batch)
            except Exception as error:  # what it is must not end the thread unseen
                answer = Answer(f"{type(error).__name__}: {error}", refused=len(batch))
            with self._changed:
                if answer.again:
                    self.trouble = answer.reason
                    self._changed.wait_for(lambda: False, answer.after or pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                pause = _PAUSE
                self._take(len(batch), answer)

    def _next(self) -> list[Any]:
        """The oldest items, which stay; a full batch unless they are old or the last."""
        with self._changed:
            while not self._ending and len(self._items) < BATCH:
                due = self._oldest + MAX_AGE - time.monotonic() if self._items else None
                if due is not None and due <= 0:
                    break
                self._changed.wait(due)
            return [self._items[at] for at in range(min(BATCH, len(self._items)))]

    def _take(self, count: int, answer: Answer) -> None:
        """Takes note of what became of the oldest items."""
        for _ in range(count):
            self._items.popleft()
        self._oldest = time.monotonic()
        self.trouble = ""
        refused = min(answer.refused, count)
        self.sent += count - refused
        self.refused += refused
        if refused:
            self.refusal = answer.reason
        self._changed.notify_all()
