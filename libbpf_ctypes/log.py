"""libbpf's messages: into ``logging``, and into the error of the call that printed them.

libbpf has one print function for the whole process, and other users of libbpf
(another copy of this package among them) may have set theirs. Ours keeps the
messages of our own calls and hands every other one to the function that was
set before it.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Callable

from ._ffi import lib
from ._handle import called_back, close_late
from ._interrupts import interrupts_held
from ._types import callback_class
from .errors import BpfError

logger = logging.getLogger(f"{__package__}.libbpf")
logger.addHandler(logging.NullHandler())  # silent unless the application asks

_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}

_calls = threading.local()  # .lines: the messages of this thread's call under way
_install_lock = threading.Lock()
_previous: Any = None


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def format_message(template: bytes, arguments: int) -> str:
    """Formats a message as printf does; the va_list may be read only once."""
    libc = _libc()
    text = ctypes.c_char_p()
    length = libc.vasprintf(ctypes.byref(text), template, ctypes.c_void_p(arguments))
    if length < 0:
        return template.decode(errors="replace")
    try:
        return (text.value or b"").decode(errors="replace")
    finally:
        libc.free(text)


def _print(level: int, template: bytes, arguments: int) -> int:
    lines: list[str] | None = getattr(_calls, "lines", None)
    if lines is None:  # not a call of ours
        return int(_previous(level, template, arguments)) if _previous else 0
    number_before = ctypes.get_errno()  # C's: libbpf may look at it after it has printed
    try:
        number = _LEVELS.get(level, logging.DEBUG)
        if number <= logging.DEBUG and not logger.isEnabledFor(number):
            return 0  # most of them, and nobody listens
        with called_back():
            message = format_message(template, arguments)
            if number > logging.DEBUG:
                lines.append(message)
            logger.log(number, "%s", message.rstrip("\n"))
    except BaseException as error:  # a logging handler's, or Ctrl-C: raised after the call
        _calls.raised = error
    ctypes.set_errno(number_before)
    return 0


#: Kept for the life of the process: libbpf holds a pointer to it.
_callback = callback_class("libbpf_print_fn_t")(_print)


def _install() -> None:
    global _previous
    with _install_lock:
        if _previous is None:
            _previous = lib.libbpf_set_print(_callback) or False


@contextmanager
def calling(operation: str, hint: Callable[[BpfError], str] | None = None) -> Iterator[list[str]]:
    """Around calls of libbpf: its messages are collected, its errors named.

    Args:
        operation: what is being done, in words; becomes ``BpfError.operation``.
        hint: called with the error, after the call; its text becomes ``BpfError.hint``.

    What the calls return must find its owner inside: an exception of a logging
    handler, or Ctrl-C, is raised at the end even of calls that succeeded.

    Yields: the messages collected so far, as a list of lines.
    Raises: BpfError with operation, hint and log, in place of the bare one.
    """
    _install()
    error: BpfError | None = None
    outer = getattr(_calls, "lines", None)
    lines: list[str] = []
    _calls.lines = lines
    try:
        with interrupts_held():
            yield lines
    except BpfError as caught:
        error = caught
        if not (error.log or error.hint):  # else an inner call named it already
            error.operation = operation
            error.log = "".join(lines)
            error.hint = hint(error) if hint else ""
    finally:
        _calls.lines = outer
        raised: BaseException | None = _calls.__dict__.pop("raised", None)
        close_late()
    if raised is not None:
        raise raised from error
    if error is not None:
        raise error
