"""The live status line: how long, how many events, how fast, how many lost."""

from __future__ import annotations

import os
import stat
import sys
import time

#: Seconds between two drawings, and of which the rate tells.
_EVERY, _RATE_SECONDS = 0.25, 1.0

_ERASE = "\r\x1b[K"


class Status:
    """A line at the bottom of a terminal.

    What else is written to the same terminal goes through around(), and so above it.

    Args:
        fd: of the terminal.
        started: when the trace began, of time.monotonic; its first events are waiting.
        seconds: how long the trace is to last; 0: until Ctrl-C.
    """

    def __init__(self, fd: int, started: float, seconds: float) -> None:
        self._fd = fd
        self._seconds = seconds
        self._started = self._marked = started
        self._next = 0.0
        self._events = self._lost = self._events_then = 0
        self._rate = 0.0
        self._drawn = False

    def update(self, events: int, lost: int) -> str:
        """Takes what there is to tell; returns what is to be written now, often nothing.

        Args: events: delivered so far. lost: so far.
        """
        now = time.monotonic()
        self._events, self._lost = events, lost
        if now - self._marked >= _RATE_SECONDS:
            self._rate = (events - self._events_then) / (now - self._marked)
            self._marked, self._events_then = now, events
        return "" if now < self._next else self._draw(now)

    def due(self) -> float:
        """Seconds until the line is to be drawn again."""
        return max(0.0, self._next - time.monotonic())

    def around(self, text: str) -> str:
        """TEXT, whole lines for the same terminal, and the line below it again."""
        if not self._drawn:
            return text
        return f"{_ERASE}{text}{self._draw(time.monotonic())}"

    def erase(self) -> str:
        """What takes the line away."""
        drawn, self._drawn = self._drawn, False
        return _ERASE if drawn else ""

    def _draw(self, now: float) -> str:
        self._next = now + _EVERY
        self._drawn = _in_foreground(self._fd)
        if not self._drawn:
            return ""
        try:
            columns = os.get_terminal_size(self._fd).columns or 80
        except OSError:
            columns = 80
        return f"\r{self.text(now)[: columns - 1]}\x1b[K"

    def text(self, now: float) -> str:
        """The line, whatever room there is. Args: now: of time.monotonic."""
        elapsed = _clock(now - self._started)
        of = f" of {_clock(self._seconds)}" if self._seconds else ""
        rate = self._rate
        if not self._events_then and now > self._started:  # the first second is not over
            rate = self._events / (now - self._started)
        return f"[{elapsed}{of}] {self._events} events, {rate:.0f}/s, {self._lost} lost"


def _clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def status_for(lines: int, started: float, seconds: float) -> Status | None:
    """The status line of a trace; None where it has no place.

    It needs a terminal on stderr that can erase a line. Where the lines go into a pipe,
    the pipe's reader may write to the terminal, and the two would be mixed up.

    Args: lines: where the lines go. started, seconds: as Status takes them.
    """
    if sys.stderr is None or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        fd = sys.stderr.fileno()
        mode = os.fstat(lines).st_mode
    except (OSError, ValueError):  # closed
        return None
    if not os.isatty(fd) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return None
    return Status(fd, started, seconds)


def same_terminal(one: int, other: int) -> bool:
    """Whether two descriptors are of one terminal."""
    return os.isatty(one) and os.fstat(one).st_rdev == os.fstat(other).st_rdev


def _in_foreground(fd: int) -> bool:
    """Whether the terminal is ours now, and not the shell's that we run beside."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: of a test, or another session's
        return True
