"""Paths in a BPF file system, and what of the kernel's is pinned there."""

from __future__ import annotations

import errno
import os

from . import kernel
from ._ffi import lib
from .errors import BpfError
from .log import calling


def encoded_path(operation: str, path: str | os.PathLike[str]) -> bytes:
    """A path as C takes it. Raises: BpfError: it is empty, or a NUL would cut it off."""
    encoded = os.fsencode(path)
    if not encoded or b"\0" in encoded:
        raise BpfError(operation, errno.EINVAL, "not a path")
    return encoded


def pin_hint(error: BpfError) -> str:
    """What to do next where pinning, or opening what is pinned, failed."""
    if error.errno == errno.EACCES and not kernel.missing_capabilities():
        return "It must be pinned in a BPF file system: other files and folders are refused so."
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.EEXIST:
        return "Something is there already: unpin it first, or take another path."
    if error.errno == errno.ENOENT:
        return "Nothing is there, or the folder is missing."
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return "It must lie in a BPF file system: mount -t bpf bpf /sys/fs/bpf."
    return ""


def open_pinned(path: str | os.PathLike[str], kind: str) -> int:
    """Opens what is pinned at a path.

    Args: kind: what it must be: "program" or "map".
    Returns: a new descriptor.
    Raises: BpfError: nothing is there, it is no BPF file system, it is of another kind.
    Source: ``bpf_obj_get`` (libbpf 0.0.1); Linux 4.4.
    """
    from .info import require_kind

    operation = f"open pinned {kind} {os.fspath(path)}"
    encoded = encoded_path(operation, path)
    with calling(operation, pin_hint):
        fd = int(lib.bpf_obj_get(encoded))
        try:
            require_kind(operation, fd, kind)
        except BaseException:
            os.close(fd)
            raise
    return fd
