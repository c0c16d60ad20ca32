"""Everything of BPF in the kernel: programs, maps, links and BTF, whoever loaded them."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import Callable, TypeVar

from ._ffi import lib
from .errors import BpfError
from .info import (
    BtfInfo,
    LinkInfo,
    MapInfo,
    ProgramInfo,
    btf_info,
    link_info,
    map_info,
    program_info,
)
from .log import calling

_T = TypeVar("_T")


def programs() -> Iterator[ProgramInfo]:
    """Every program in the kernel, by ascending id.

    The list is that of the call; what is gone when its turn comes is left out.

    Raises: BpfError: EPERM without CAP_SYS_ADMIN, at once.
    Source: ``bpf_prog_get_next_id``, ``bpf_prog_get_fd_by_id`` (libbpf 0.0.1), Linux 4.13.
    """
    return _every("program", "prog", program_info)


def maps() -> Iterator[MapInfo]:
    """Every map in the kernel, by ascending id; as programs().

    Raises: BpfError: EPERM without CAP_SYS_ADMIN, at once.
    Source: ``bpf_map_get_next_id``, ``bpf_map_get_fd_by_id`` (libbpf 0.0.1), Linux 4.13.
    """
    return _every("map", "map", map_info)


def links() -> Iterator[LinkInfo]:
    """Every link in the kernel, by ascending id; as programs().

    What is attached without a link, as XDP by netlink or a classic tc filter, is none.

    Raises: BpfError: EPERM without CAP_SYS_ADMIN, at once.
    Source: ``bpf_link_get_next_id``, ``bpf_link_get_fd_by_id`` (libbpf 0.0.9), Linux 5.8.
    """
    return _every("link", "link", link_info)


def btfs() -> Iterator[BtfInfo]:
    """Every BTF in the kernel, its own and its modules' among them, by ascending id.

    Raises: BpfError: EPERM without CAP_SYS_ADMIN, at once.
    Source: ``bpf_btf_get_next_id`` (libbpf 0.0.5), ``bpf_btf_get_fd_by_id``, Linux 5.4;
    the modules' Linux 5.11.
    """
    return _every("BTF", "btf", btf_info)


def _every(kind: str, word: str, info: Callable[[int], _T]) -> Iterator[_T]:
    """The infos; the ids are fetched first, so that what comes later keeps nobody here."""
    return _infos(_ids(kind, word), kind, word, info)


def _ids(kind: str, word: str) -> list[int]:
    found: list[int] = []
    following = ctypes.c_uint32()
    with calling(f"list every {kind} in the kernel", _hint):
        step = getattr(lib, f"bpf_{word}_get_next_id")
        try:
            while True:
                step(following.value, ctypes.byref(following))
                found.append(following.value)
        except BpfError as error:
            if error.errno != errno.ENOENT:  # that was the last one
                raise
    return found


def _infos(ids: list[int], kind: str, word: str, info: Callable[[int], _T]) -> Iterator[_T]:
    for identity in ids:
        try:
            with calling(f"open {kind} {identity}", _hint):
                fd = int(getattr(lib, f"bpf_{word}_get_fd_by_id")(identity))
        except BpfError as error:
            if error.errno in (errno.ENOENT, errno.EAGAIN):  # gone since, or not yet finished
                continue
            raise
        try:
            found = info(fd)
        finally:
            os.close(fd)
        yield found


def _hint(error: BpfError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "What others loaded is shown to CAP_SYS_ADMIN alone: run as root."
    if error.errno == errno.EINVAL:
        return "This kernel is too old to list them: links need Linux 5.8, BTF 5.4."
    return ""
