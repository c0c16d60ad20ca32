"""Lines to stdout: at once to a terminal, in batches elsewhere, never beyond a deadline."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from typing import Callable

from ..errors import BpfError

#: How long a line may wait for others before it is written.
MAX_AGE = 0.2

# A pipe that poll calls writable takes this much without blocking (PIPE_BUF).
_PIPE_CHUNK = 4096
_FILE_CHUNK = _FULL = 1 << 16

#: With so many bytes waiting for a slow reader, the trace stops reading events.
BACKLOG = 1 << 22


class OutputClosedError(Exception):
    """The reader of stdout went away."""


class Output:
    """A writer that a slow or stopped reader cannot hold up beyond a deadline.

    Args:
        fd: where to write.
        encoding: of the reader; what it lacks is escaped.
        immediate: lines do not wait for others, wherever they go.

    Attributes:
        fd: as given.
        around: what the text of a terminal goes through as it is written; see Status.
    """

    def __init__(self, fd: int, encoding: str = "utf-8", *, immediate: bool = False) -> None:
        self.fd = fd
        self.around: Callable[[str], str] | None = None
        self._encoding = encoding
        self._immediate = immediate
        if os.isatty(fd):
            self._immediate = True
            # A stopped terminal takes a part of a write, and blocks for the rest:
            # write through a non-blocking opening of our own (not if it is another user's).
            with contextlib.suppress(OSError):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                fd = os.open(f"/proc/self/fd/{fd}", flags)
        self._fd = fd
        self._chunk = _FILE_CHUNK if stat.S_ISREG(os.fstat(fd).st_mode) else _PIPE_CHUNK
        self._parts: list[str] = []
        self._pending = b""
        self._oldest = 0.0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def add(self, text: str) -> None:
        """Takes whole lines of text."""
        if not self._parts and not self._pending:
            self._oldest = time.monotonic()
        self._parts.append(text)

    def due(self) -> float | None:
        """Seconds until flush() must be called; None with nothing to write."""
        if not self._parts and not self._pending:
            return None
        return max(0.0, self._oldest + MAX_AGE - time.monotonic())

    def flush(self, deadline: float, *, force: bool = False) -> None:
        """Writes what is due, or all of it, until DEADLINE (of time.monotonic).

        Raises: OutputClosedError: nobody reads any more. BpfError: a full disk and the like.
        """
        if self._parts:
            text = "".join(self._parts)
            if self.around is not None:
                text = self.around(text)
            # A lone surrogate cannot be here: names are escaped before.
            self._pending += text.encode(self._encoding, "backslashreplace")
            self._parts.clear()
        if not (force or self._immediate or len(self._pending) >= _FULL or self.due() == 0.0):
            return
        try:
            self._write(deadline)
        except BrokenPipeError:
            raise OutputClosedError from None
        except OSError as error:
            raise BpfError("write the output", error.errno, error.strerror or "") from None

    def _write(self, deadline: float) -> None:
        view = memoryview(self._pending)
        at = 0
        try:
            while at < len(view):
                left = max(0.0, deadline - time.monotonic())
                if not self._poll.poll(int(left * 1000) + 1):
                    break
                try:
                    at += os.write(self._fd, view[at : at + self._chunk])
                except BlockingIOError:  # ours, or the reader made the pipe non-blocking
                    if not left:
                        break
                    time.sleep(0.001)
        finally:
            self._pending = bytes(view[at:])
            self._oldest = time.monotonic()

    def check_reader(self) -> None:
        """Raises OutputClosedError if nobody reads any more, though nothing is to be written."""
        gone = select.POLLERR | select.POLLHUP
        if any(events & gone for _fd, events in self._poll.poll(0)):
            raise OutputClosedError

    def blocked(self) -> bool:
        """Whether more waits for a slow reader than is kept for it."""
        return len(self._pending) >= BACKLOG

    def waiting(self) -> int:
        """Bytes, or characters, that were taken and not written."""
        return len(self._pending) + sum(map(len, self._parts))

    def unwritten(self) -> int:
        """Lines that were taken and not written."""
        return self._pending.count(b"\n") + sum(part.count("\n") for part in self._parts)


def open_file(path: str) -> int:
    """A descriptor to write to a file; what was in it is lost. Raises: BpfError."""
    # Non-blocking: a FIFO that nobody reads must not keep us from a Ctrl-C.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o666)
        os.set_blocking(fd, True)
        return fd
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror or "" if isinstance(error, OSError) else str(error)
        hint = "Name a file that can be written."
        raise BpfError(f"write to {path}", number, reason, hint=hint) from None
