"""The exceptions of this package: every failure says what, why and what next."""

from __future__ import annotations

import errno as _errno
import os

#: The kernel's own ENOTSUPP, which errno(3) does not know.
ENOTSUPP = 524


class BpfError(OSError):
    """An operation that libbpf or the kernel refused.

    Attributes:
        operation: what was tried, in words (``"attach kprobe to vfs_read"``).
        errno: the positive error number; libbpf's own begin at 4000
            (``enum libbpf_errno``, since libbpf 0.1); None where neither the
            kernel nor libbpf gave one.
        strerror: the reason, in words.
        hint: what to do next; empty where nothing is known.
        log: what libbpf printed during the call, the verifier's log included.
    """

    def __init__(
        self,
        operation: str,
        errno: int | None = None,
        reason: str = "",
        *,
        hint: str = "",
        log: str = "",
    ) -> None:
        reason = reason or (os.strerror(errno) if errno is not None else "failed")
        super().__init__(errno, reason)
        self.operation = operation
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno or 0, "")
        text = f"{self.operation}: {self.strerror}"
        if name:
            text += f" ({name})"
        return f"{text}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # OSError would rebuild itself from (errno, strerror) alone.
        arguments = (self.operation, self.errno, self.strerror)
        return (type(self), arguments, {"hint": self.hint, "log": self.log})


class LibraryError(BpfError):
    """libbpf is missing, too old, unusable, or lacks a function."""


class NotFoundError(BpfError, KeyError):
    """An object has no program, map or variable of that name."""


class ClosedError(BpfError, ValueError):
    """A handle was used after it was closed, or in a forked child."""


class DecodeError(BpfError, ValueError):
    """Bytes that do not fit the schema they were read with, or values it cannot build."""


class LayoutError(BpfError):
    """A schema whose fields are not those of the object's C struct."""


class RecordingError(BpfError, ValueError):
    """A recording that is damaged, or is none.

    Attributes:
        offset: bytes from the file's beginning to the first chunk that cannot
            be read, or to the file's end where the recording goes no further.
    """

    offset: int = 0

    def __reduce__(self) -> tuple[object, ...]:
        make, arguments, state = super().__reduce__()
        assert isinstance(state, dict)
        return make, arguments, {**state, "offset": self.offset}
