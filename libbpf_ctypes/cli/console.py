"""What the command says of itself, on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from ..errors import BpfError
from .text import escape


class Console:
    """Messages on stderr. A stderr that is gone does not stop the trace."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
        if verbose:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("[DEBUG] %(message)s"))
            logger = logging.getLogger(__package__.rpartition(".")[0])
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)

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

    @staticmethod
    def _print(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def _verifier_tail(log: str, lines: int = 8) -> list[str]:
    """The end of the verifier's log, where it says what it refused."""
    body = log.partition("BEGIN PROG LOAD LOG --")[2].partition("-- END PROG LOAD LOG")[0]
    return [escape(line) for line in body.strip().splitlines()[-lines:]]


def wants_debug(verbose: int) -> bool:
    """Whether libbpf's log is asked for, by -v or by EBPF_TOOL_LOG=debug."""
    return verbose > 0 or os.environ.get("EBPF_TOOL_LOG", "").lower() == "debug"
