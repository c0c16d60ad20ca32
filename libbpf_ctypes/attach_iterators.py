"""Iterators: programs that list what the kernel has, read like files."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import IO, TYPE_CHECKING, Any

from ._attaching import (
    AttachableBase,
    PathOrFd,
    expecting,
    fd_of,
    kernel_hint,
    number,
    opened,
    opts,
)
from ._ffi import lib
from ._types import struct_class
from .enums import ProgramType
from .errors import BpfError
from .link import Link
from .log import calling

if TYPE_CHECKING:
    from .maps import Map

#: enum bpf_cgroup_iter_order, which cgroups an iterator shows, from the one that is named.
ORDERS = ("", "self", "descendants", "descendants-first", "ancestors", "children")


class IteratorLink(Link):
    """An attached iterator: each open() runs it anew, and gives what it writes."""

    def open(self, mode: str = "r") -> IO[Any]:
        """A file whose content the program writes while it is read.

        Args: mode: "r" for text (UTF-8, other bytes escaped), "rb" for bytes.
        Returns: the file; close it.
        Raises: BpfError; reading raises OSError with what the program returned.
        Source: ``bpf_iter_create`` (libbpf 0.0.9); Linux 5.8.
        """
        operation = f"read {self.target}"
        if mode not in ("r", "rb"):
            raise BpfError(operation, errno.EINVAL, f"mode {mode!r} is neither 'r' nor 'rb'")
        with calling(operation):
            fd = lib.bpf_iter_create(self.fd)
        if mode == "rb":
            return os.fdopen(fd, "rb")
        return os.fdopen(fd, encoding="utf-8", errors="backslashreplace")

    def read(self) -> str:
        """The whole text of one run. Raises: as open()."""
        with self.open() as file:
            return str(file.read())


class IteratorMethods(AttachableBase):
    """attach_iter."""

    def attach_iter(
        self,
        *,
        map: Map[Any, Any] | int | None = None,
        pid: int = 0,
        tid: int = 0,
        pid_fd: int = -1,
        cgroup: PathOrFd | None = None,
        order: str = "self",
    ) -> IteratorLink:
        """Attaches an iterator, which then can be read like a file.

        Args:
            map: whose elements an iterator of section ``iter/bpf_map_elem`` (or
                ``iter/sockmap``, ``iter/bpf_sk_storage_map``) shows.
            pid, tid, pid_fd: a task iterator shows only the threads of this
                process, or this thread (Linux 6.1).
            cgroup: where an iterator of section ``iter/cgroup`` begins (Linux 6.1).
            order: which cgroups it shows: "self", "descendants" (a parent before its
                children), "descendants-first" (after them), "ancestors" or "children".

        Returns: an IteratorLink: ``with link.open() as file: ...`` or ``link.read()``.
        Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_iter`` (libbpf 0.0.9); Linux 5.8.
        """
        target = self.section
        operation = f"attach iterator {self.name}"
        info = struct_class("bpf_iter_link_info")()
        given = [map is not None, bool(pid or tid or pid_fd >= 0), cgroup is not None]
        if sum(given) > 1:
            raise BpfError(operation, errno.EINVAL, "it is of a map, of tasks or of cgroups")
        if order not in ORDERS[1:]:
            told = f"order {order!r} is none of {', '.join(ORDERS[1:])}"
            raise BpfError(operation, errno.EINVAL, told)
        if map is not None:
            info.map.map_fd = fd_of(operation, "the map", map)
        elif given[1]:
            info.task.pid = number(operation, "the process id", pid, 31)
            info.task.tid = number(operation, "the thread id", tid, 31)
            info.task.pid_fd = max(0, number(operation, "the pidfd", pid_fd, 31, least=-1))
        if cgroup is None:
            return self._attach_iter(operation, target, info if any(given) else None)
        with opened(operation, cgroup, folder=True) as fd:
            info.cgroup.cgroup_fd, info.cgroup.order = fd, ORDERS.index(order)
            return self._attach_iter(operation, target, info)

    def _attach_iter(self, operation: str, target: str, info: Any) -> IteratorLink:
        self._require_load(operation)
        made = opts("bpf_iter_attach_opts")
        if info is not None:
            made.link_info = ctypes.pointer(info)
            made.link_info_len = ctypes.sizeof(info)

        def hint(error: BpfError) -> str:
            told = expecting(self, [ProgramType.TRACING], "iter/…")
            return told or kernel_hint(error, f"{target} of that choice", "6.1" if info else "5.8")

        with calling(operation, hint):
            pointer = lib.bpf_program__attach_iter(self, made)
            link: IteratorLink = self._adopt(IteratorLink(pointer, self._parent, target))
            return link
