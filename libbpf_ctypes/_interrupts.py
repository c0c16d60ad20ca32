"""Ctrl-C while C code calls back into Python: kept, and raised when C has returned."""

from __future__ import annotations

# Not the module signal: it tries to make an enum of a function, which takes some 20 µs.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Around a call of C that calls back into Python.

    Python may run its own handler of Ctrl-C at the first instruction of a
    ctypes callback, where no ``try`` can catch the KeyboardInterrupt, and
    ctypes then drops it. A handler of the application's own is left alone.

    Raises: KeyboardInterrupt: after the call, if Ctrl-C came during it; what the call
        raised is its context.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler
    ):
        yield
        return
    held: list[int] = []
    _signal.signal(_signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        if held:
            raise KeyboardInterrupt
