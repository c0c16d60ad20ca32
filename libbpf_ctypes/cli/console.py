"""What the command says of itself, on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time

from ..errors import BpfError
from ..log import logger as libbpf_logger
from .output import Output, OutputClosedError
from .text import escape

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
    """Messages on stderr. A stderr that is gone, or stopped, does not hold up the trace."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
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

    def failure(self, error: BpfError) -> None:
        """An error of the library: what, why, what next."""
        self.error(escape(str(error)))
        if "PROG LOAD LOG" in error.log:
            self.error("The verifier's last lines:\n  " + "\n  ".join(_verifier_tail(error.log)))

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
