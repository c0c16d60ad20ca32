"""An owned pointer of libbpf's: one owner, closed once, never in a forked child."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

from .errors import ClosedError

_Self = TypeVar("_Self", bound="Handle")
_H = TypeVar("_H", bound="Handle")


class _Calls(threading.local):
    """This thread's calls of libbpf that have called back and have not returned."""

    def __init__(self) -> None:
        self.depth = 0
        self.late: list[Handle] = []  # closed meanwhile


_calls = _Calls()


@contextlib.contextmanager
def called_back() -> Iterator[None]:
    """Around what a function of libbpf calls: what is closed in it may be what the function uses.

    It is released by close_late(), when the function has returned.
    """
    _calls.depth += 1
    try:
        yield
    finally:
        _calls.depth -= 1


def close_late() -> None:
    """Releases what was closed while libbpf called back, unless it still does."""
    if not _calls.depth and _calls.late:
        late, _calls.late = _calls.late, []
        with contextlib.ExitStack() as stack:
            for handle in late:
                stack.callback(handle.close)


class Handle:
    """Base of all that must be closed: a context manager that closes twice without harm."""

    _close_order = 0  # among an object's children: links 0, buffers 1

    def __init__(self, pointer: Any, parent: object = None) -> None:
        self._pointer: Any = pointer
        self._parent = parent  # kept alive: libbpf reads it through our pointer
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._children: list[weakref.ref[Handle]] = []

    def _adopt(self, child: _H) -> _H:
        """Remembers what must be closed before this one."""
        self._children = [ref for ref in self._children if ref() is not None]
        self._children.append(weakref.ref(child))
        return child

    def _open_children(self) -> list[Handle]:
        """What was adopted and is not closed."""
        children = (ref() for ref in self._children)
        return [child for child in children if child is not None and not child.closed]

    def _release(self, pointer: Any) -> None:
        """Gives the pointer back to libbpf; called once, by close()."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._pointer is None

    @property
    def _as_parameter_(self) -> Any:
        """What ctypes passes for this object: the pointer, or a clear error."""
        if self._pointer is None:
            raise ClosedError(f"use {self!r}", None, "it is closed")
        if os.getpid() != self._owner:
            reason = f"it belongs to process {self._owner}, which forked this one"
            raise ClosedError(f"use {self!r}", None, reason, hint="Open it in the child.")
        return self._pointer

    def close(self) -> None:
        """Releases it, and first what was made of it. A second call does nothing.

        In a handler of libbpf's messages it is released when the call of libbpf that
        sent the message returns. In a forked child nothing is released: the kernel's
        objects are shared with the parent, which still uses them.
        """
        if os.getpid() != self._owner:  # another thread may have held the lock as it forked
            self._pointer = self._parent = None
            return
        if _calls.depth:
            _calls.late.append(self)
            return
        with self._lock:
            pointer, self._pointer = self._pointer, None
        if pointer is not None:
            with contextlib.ExitStack() as stack:  # if one raises, the others are closed, too
                stack.callback(self._release, pointer)
                # Links before buffers, so that nobody writes to a buffer without reader.
                for child in sorted(self._open_children(), key=lambda c: -c._close_order):
                    stack.callback(child.close)
        self._parent = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # getattr: __init__ may have raised before the pointer was there.
        if getattr(self, "_pointer", None) is None:
            return
        if os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        self.close()


class Descriptor(Handle):
    """A handle on something of the kernel's by a file descriptor of our own."""

    def __init__(self, fd: int, parent: object = None) -> None:
        super().__init__(fd, parent)

    @property
    def fd(self) -> int:
        """Its file descriptor, closed with it. Raises: ClosedError."""
        return int(self._as_parameter_)

    def _release(self, pointer: int) -> None:
        os.close(pointer)


class Part:
    """What a handle owns, as a program of an object: gone when the handle is closed."""

    def __init__(self, pointer: Any, parent: Handle) -> None:
        self._pointer = pointer
        self._parent = parent

    @property
    def _as_parameter_(self) -> Any:
        _ = self._parent._as_parameter_  # raises if it is closed
        return self._pointer
