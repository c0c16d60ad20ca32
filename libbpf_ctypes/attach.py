"""How a program of an object is attached to the kernel."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from . import kernel
from ._ffi import lib
from ._types import struct_class
from .enums import ProgramType
from .errors import BpfError
from .link import Link
from .log import calling

if TYPE_CHECKING:
    from .object import BpfObject


class Attachable:
    """A program's attach methods; every one returns a Link."""

    _parent: BpfObject

    def attach_kprobe(self, function: str, *, retprobe: bool = False, offset: int = 0) -> Link:
        """Attaches to a kernel function.

        Args:
            function: its name as in /proc/kallsyms, or ``module:name``.
            retprobe: run at the function's return, not at its entry.
            offset: bytes from the function's first instruction.

        Returns: the Link; keep it, the program is detached when it is closed.
        Raises: BpfError, with a hint for each known cause (no such function,
            blacklisted, no kprobes in this kernel, no privilege, lockdown).

        Source: ``bpf_program__attach_kprobe`` (libbpf 0.0.4), with an offset
        ``bpf_program__attach_kprobe_opts`` (0.5); Linux 4.17 for kprobes by perf_event.
        """
        target = function + (f"+{offset:#x}" if offset else "")
        kind = "kretprobe" if retprobe else "kprobe"
        operation = f"attach {kind} to {target}"
        if not function or not function.isprintable() or function.startswith(":"):
            raise BpfError(operation, errno.EINVAL, "not a function name")
        if offset < 0:
            raise BpfError(operation, errno.EINVAL, "the offset is negative")
        self._require_load(operation)
        if offset:  # the kernel would take one past the end, and probe the next function
            size = kernel.Kallsyms().size(function.rpartition(":")[2])
            if 0 < size <= offset:
                reason = f"the offset lies past the function's end ({size} bytes)"
                raise BpfError(operation, errno.EINVAL, reason)
        with calling(operation, lambda error: kernel.kprobe_hint(error, function)):
            if offset:
                opts = struct_class("bpf_kprobe_opts")(offset=offset, retprobe=retprobe)
                pointer = lib.bpf_program__attach_kprobe_opts(self, function.encode(), opts)
            else:
                pointer = lib.bpf_program__attach_kprobe(self, retprobe, function.encode())
            return self._parent._adopt(Link(pointer, self._parent, target))

    def attach_uprobe(
        self,
        binary: str | os.PathLike[str],
        function: str = "",
        *,
        offset: int = 0,
        pid: int = -1,
        retprobe: bool = False,
    ) -> Link:
        """Attaches to a function of a program or shared library.

        Args:
            binary: its path, or a name that libbpf looks up in the usual
                folders (``libc.so.6``).
            function: the symbol; "" if OFFSET alone says where.
            offset: bytes from the symbol, or from the file's beginning.
            pid: only in this process; -1: in every one.
            retprobe: run at the function's return.

        Returns: the Link. Raises: BpfError.
        Source: ``bpf_program__attach_uprobe_opts`` (libbpf 0.5, symbols 0.8).
        """
        target = f"{os.fspath(binary)}:{function or hex(offset)}"
        operation = f"attach {'uretprobe' if retprobe else 'uprobe'} to {target}"
        self._require_load(operation)
        opts = struct_class("bpf_uprobe_opts")(
            retprobe=retprobe, func_name=function.encode() or None
        )
        with calling(operation, _uprobe_hint):
            pointer = lib.bpf_program__attach_uprobe_opts(
                self, pid, os.fsencode(binary), offset, opts
            )
            return self._parent._adopt(Link(pointer, self._parent, target))

    def attach_raw_tracepoint(self, name: str) -> Link:
        """Attaches to a tracepoint of the kernel, with its arguments as the kernel passes them.

        Args:
            name: the event's name, without its subsystem (``sys_enter``, ``sched_switch``).

        Returns: the Link; keep it, the program is detached when it is closed.
        Raises: BpfError, with a hint: no such tracepoint, not loaded, no privilege,
            a program of another type (EINVAL).

        Source: ``bpf_program__attach_raw_tracepoint`` (libbpf 0.0.4); Linux 4.17.
        """
        operation = f"attach raw tracepoint to {name}"
        if not name or not name.isprintable():
            raise BpfError(operation, errno.EINVAL, "not the name of a tracepoint")
        self._require_load(operation)
        kind = ProgramType(lib.bpf_program__type(self))
        with calling(operation, lambda error: _raw_tracepoint_hint(error, kind)):
            pointer = lib.bpf_program__attach_raw_tracepoint(self, name.encode())
            return self._parent._adopt(Link(pointer, self._parent, name))

    def _require_load(self, operation: str) -> None:
        if lib.bpf_program__fd(self) < 0:
            raise BpfError(operation, None, "the object is not loaded", hint="Call load() first.")


def _uprobe_hint(error: BpfError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return "No such file, symbol or process: 'nm -D FILE' lists a library's symbols."
    return ""


def _raw_tracepoint_hint(error: BpfError, kind: ProgramType) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOENT:
        return "It is a tracepoint's name without its subsystem: sys_enter, not raw_syscalls:…"
    if error.errno == errno.EINVAL and "RAW_TRACEPOINT" not in kind.name:
        return f"The program is of type {kind.name}: its section must be raw_tp."
    return ""
