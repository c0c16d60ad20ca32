"""How far something has come that takes a while."""

from __future__ import annotations

import select
import sys
import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from .console import Console

#: Is told how many of how many are done.
Progress = Callable[[int, int], object]


class Counter:
    """Tells how far it has come: one line written over on a terminal, else one every 2 seconds.

    Args:
        what: is done: "Attaching", "Detaching".
        quiet: tell nothing.
    """

    def __init__(self, console: Console, what: str, *, quiet: bool) -> None:
        self._console, self._what, self._quiet = console, what, quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 2.0
        self._next = time.monotonic() + self._every
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if self._shown and done == total:
            self._write("\r\x1b[K")
        if self._quiet or now < self._next or done == total:
            return
        self._next = now + self._every
        text = f"{self._what}: {done} of {total} probes"
        if self._terminal:
            self._shown = True
            self._write(f"\r[INFO] {text}")
        else:
            self._console.info(text)

    def _write(self, text: str) -> None:
        """Writes to the terminal, unless it is stopped."""
        if select.select([], [sys.stderr], [], 0)[1]:
            print(text, end="", file=sys.stderr, flush=True)
