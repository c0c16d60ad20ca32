"""What the command says of itself, on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Callable

from ..errors import BpfError
from ..log import logger as libbpf_logger
from .output import Output, OutputClosedError
from .text import escape

if TYPE_CHECKING:
    from .status import Status

#: Seconds that a message may wait for a stopped terminal or a full pipe.
_PATIENCE = 0.05


class _LogHandler(logging.Handler):
    """The library's warnings; with VERBOSE all it logs, and libbpf's own messages."""

    def __init__(self, console: Console, verbose: bool) -> None:
        super().__init__(logging.DEBUG if verbose else logging.WARNING)
        self._console = console
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        text = escape(record.getMessage())  # it quotes names out of the object
        if record.name == libbpf_logger.name or record.levelno < logging.WARNING:
            if self._verbose:
                self._console.debug(text)
        else:
            self._console.warning(text)


class Console:
    """Messages on stderr. A stderr that is gone, or stopped, does not hold up the trace.

    Attributes: also: where errors are told, too: for --json, which has them among its objects.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
        self.also: Callable[[BpfError | str], None] | None = None
        self._status: Status | None = None
        self._beside: Output | None = None  # writes to the status line's terminal, too
        self._output: Output | None = None
        with contextlib.suppress(OSError, AttributeError, ValueError):  # closed, or no file
            self._output = Output(sys.stderr.fileno(), sys.stderr.encoding)
        logger = logging.getLogger(__package__.rpartition(".")[0])
        logger.addHandler(_LogHandler(self, verbose))
        if verbose:
            logger.setLevel(logging.DEBUG)

    def debug(self, text: str) -> None:
        """libbpf's log, under --verbose."""
        self._print(f"[DEBUG] {text}")

    def info(self, text: str) -> None:
        """Progress; silent under --quiet."""
        if not self._quiet:
            self._print(f"[INFO] {text}")

    def warning(self, text: str) -> None:
        """Something to know that does not end the trace; silent under --quiet."""
        if not self._quiet:
            self._print(f"[WARNING] {text}")

    def error(self, text: str) -> None:
        """What went wrong; never silent."""
        self._print(f"[ERROR] {text}")
        if self.also is not None:
            self.also(text)

    def failure(self, error: BpfError) -> None:
        """An error of the library: what, why, what next."""
        also, self.also = self.also, None
        self.error(escape(str(error)))
        if "PROG LOAD LOG" in error.log:
            self.error("The verifier's last lines:\n  " + "\n  ".join(_verifier_tail(error.log)))
        self.also = also
        if also is not None:
            also(error)

    def start_status(self, lines: Output, started: float, seconds: float) -> None:
        """Shows a status line from here on, where it has a place; see status_for().

        Args: lines: where the events go. started, seconds: as Status takes them.
        """
        from .status import same_terminal, status_for

        if self._quiet or self._output is None:
            return
        self._status = status_for(lines.fd, started, seconds)
        if self._status is not None:
            self._output.around = self._status.around
            if same_terminal(lines.fd, self._output.fd):
                lines.around = self._status.around
                self._beside = lines

    def update_status(self, events: int, lost: int) -> None:
        """Tells the status line how many events came, and how many are lost: often."""
        # Not in the middle of a line of events, of which the terminal took a part.
        if self._status is not None and not (self._beside and self._beside.waiting()):
            self._draw(self._status.update(events, lost))

    def status_due(self) -> float | None:
        """Seconds until update_status() must be called; None: there is no status line."""
        return None if self._status is None else self._status.due()

    def end_status(self) -> None:
        """Takes the status line away."""
        status, self._status = self._status, None
        if status is not None:
            self._draw(status.erase())

    def _draw(self, text: str) -> None:
        """Writes a piece of the status line, unless the terminal is stopped."""
        output = self._output
        if text and output is not None and not output.waiting():
            around, output.around = output.around, None
            with contextlib.suppress(OSError, ValueError, OutputClosedError):
                output.add(text)
                output.flush(time.monotonic() + _PATIENCE, force=True)
            output.around = around

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, OutputClosedError):
            if self._output is None:
                if sys.stderr is not None:  # None is stdout to print()
                    print(text, file=sys.stderr, flush=True)
            elif not self._output.blocked():
                self._output.add(text + "\n")
                self._output.flush(time.monotonic() + _PATIENCE, force=True)


def _verifier_tail(log: str, lines: int = 8) -> list[str]:
    """The end of the verifier's log, where it says what it refused."""
    body = log.partition("BEGIN PROG LOAD LOG --")[2].partition("-- END PROG LOAD LOG")[0]
    return [escape(line) for line in body.strip().splitlines()[-lines:]]


def wants_debug(verbose: int) -> bool:
    """Whether libbpf's log is asked for, by -v or by EBPF_TOOL_LOG=debug."""
    return verbose > 0 or os.environ.get("EBPF_TOOL_LOG", "").lower() == "debug"
