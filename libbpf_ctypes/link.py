"""A program's attachment to the kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._ffi import lib
from ._handle import Handle
from ._types import struct_class
from .errors import BpfError
from .log import calling

if TYPE_CHECKING:
    from .in_kernel import InKernel
    from .info import LinkInfo
    from .maps import Map

_BPF_F_REPLACE = 4


class Link(Handle):
    """An attached program; closing it detaches, unless it is pinned or disconnected.

    A link that nobody keeps is detached when Python collects it, with a
    ResourceWarning: hold it, use ``with``, or pin it.

    Attributes:
        target: what it is attached to, in words.

    Source: libbpf's ``struct bpf_link`` (0.0.4).
    """

    def __init__(self, pointer: Any, parent: object, target: str) -> None:
        super().__init__(pointer, parent)
        self.target = target
        self._goes_on = False  # pinned or disconnected: nothing is lost without us

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Link:
        """Opens a link that is pinned in a BPF file system.

        Returns: the Link. The pin keeps it attached after close(); unpin() removes that.
        Raises: BpfError: nothing is there, it is a program or a map (EINVAL), no privilege.
        Source: ``bpf_link__open`` (libbpf 0.0.8); Linux 5.7.
        """
        from .info import require_kind
        from .pinning import encoded_path, pin_hint

        operation = f"open pinned link {os.fspath(path)}"
        encoded = encoded_path(operation, path)
        with calling(operation, pin_hint):
            pointer = lib.bpf_link__open(encoded)
            link = Link(pointer, None, f"what is pinned at {os.fspath(path)}")
            link._goes_on = True
            try:  # libbpf opens whatever is there
                require_kind(operation, link.fd, "link")
            except BaseException:
                link.close()
                raise
        return link

    @classmethod
    def open_id(cls, id: int) -> Link:
        """Opens a link of the kernel by its number.

        Returns: the Link. Closing it detaches only if nobody else holds the link by then.
        Raises: BpfError: there is none (ENOENT), no privilege.
        Source: ``bpf_link_get_fd_by_id`` (libbpf 0.0.9); Linux 5.8.
        """
        from .in_kernel import check_u32, id_hint

        operation = f"open link {id}"
        with calling(operation, id_hint):
            fd = lib.bpf_link_get_fd_by_id(check_u32(operation, "its number", id))
            return _LinkByDescriptor(fd, None, f"what link {id} is attached to")

    @property
    def fd(self) -> int:
        """Its file descriptor, closed with it.

        Raises: ClosedError. Source: ``bpf_link__fd`` (libbpf 0.0.8).
        """
        return int(lib.bpf_link__fd(self))

    @property
    def info(self) -> LinkInfo:
        """What the kernel tells of it now.

        Raises: BpfError: what is attached without a link of the kernel's, as perf events
            before Linux 5.15, has none.
        Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1); Linux 5.8.
        """
        from .info import link_info

        return link_info(self.fd)

    @property
    def id(self) -> int:
        """Its number in the kernel, unique while it lives. Linux 5.8."""
        return self.info.id

    @property
    def pin_path(self) -> str | None:
        """Where it is pinned, as far as this handle knows; None: nowhere.

        Source: ``bpf_link__pin_path`` (libbpf 0.0.8).
        """
        path = lib.bpf_link__pin_path(self)
        return os.fsdecode(path) if path else None

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pins it in a BPF file system: it stays attached after close() and this process.

        Args: path: a new name below /sys/fs/bpf; its folder is made if it is missing.
        Raises: BpfError: it is pinned already (EBUSY), something is there (EEXIST), no
            BPF file system (EINVAL), no link of the kernel's.
        Source: ``bpf_link__pin`` (libbpf 0.0.8); Linux 5.7.
        """
        from .pinning import encoded_path, pin_hint

        operation = f"pin {self!r} to {os.fspath(path)}"
        encoded = encoded_path(operation, path)
        with calling(operation, pin_hint):
            self._pin(encoded)
            self._goes_on = True

    def _pin(self, path: bytes) -> None:
        lib.bpf_link__pin(self, path)

    def unpin(self) -> None:
        """Removes its pin: from now on close() detaches it.

        Raises: BpfError: it is not pinned (EINVAL).
        Source: ``bpf_link__unpin`` (libbpf 0.0.8).
        """
        operation = f"unpin {self!r}"
        if self.pin_path is None:
            raise BpfError(operation, errno.EINVAL, "it is not pinned")
        with calling(operation):
            self._unpin()
            self._goes_on = False

    def _unpin(self) -> None:
        lib.bpf_link__unpin(self)

    def update(self, program: InKernel, *, expected: InKernel | None = None) -> None:
        """Puts another program in the place of the attached one, at once: no event is missed.

        Args:
            program: a loaded program of the same type.
            expected: only if this one is attached now (EPERM otherwise).

        Raises: BpfError: its type of link cannot be updated (EOPNOTSUPP, EINVAL), another
            program than the expected one was attached.
        Source: ``bpf_link_update`` (libbpf 0.0.8); Linux 5.7.
        """
        opts = struct_class("bpf_link_update_opts")()
        if expected is not None:
            opts.flags, opts.old_prog_fd = _BPF_F_REPLACE, expected.fd
        with calling(f"update {self!r}", _update_hint):
            lib.bpf_link_update(self.fd, program.fd, opts)

    def update_map(self, map: Map[Any, Any]) -> None:
        """Puts another struct_ops map in the place of the attached one.

        Raises: BpfError: it is no link of a struct_ops map.
        Source: ``bpf_link__update_map`` (libbpf 1.2); Linux 6.4.
        """
        with calling(f"update {self!r}", _update_hint):
            lib.bpf_link__update_map(self, map)

    def detach(self) -> None:
        """Detaches it by force, whoever else holds or pinned the link, which stays, empty.

        Raises: BpfError: its type of link has no forced detach (EOPNOTSUPP), as perf events
            and kprobes.
        Source: ``bpf_link__detach`` (libbpf 0.1); Linux 5.9.
        """
        with calling(f"detach {self!r}", _detach_hint):
            lib.bpf_link_detach(self.fd)

    def disconnect(self) -> None:
        """Leaves it attached when this handle is closed, as long as this process lives.

        Its descriptor stays open until then. To keep it for longer, pin it.

        Source: ``bpf_link__disconnect`` (libbpf 0.0.7).
        """
        lib.bpf_link__disconnect(self)
        self._goes_on = True

    def _release(self, pointer: Any) -> None:
        with calling(f"detach from {self.target}"):
            lib.bpf_link__destroy(pointer)

    def __del__(self) -> None:
        if getattr(self, "_goes_on", False):
            self.close()
        else:
            super().__del__()

    def __repr__(self) -> str:
        return f"<Link to {self.target}{' (closed)' if self.closed else ''}>"


class _LinkByDescriptor(Link):
    """A link that libbpf did not make: there is only its file descriptor."""

    _pinned: bytes | None = None
    _disconnected = False

    @property
    def fd(self) -> int:
        """Its file descriptor, closed with it. Raises: ClosedError."""
        return int(self._as_parameter_)

    @property
    def pin_path(self) -> str | None:
        """Where this handle pinned it; None: nowhere."""
        _ = self.fd
        return os.fsdecode(self._pinned) if self._pinned else None

    def _pin(self, path: bytes) -> None:
        if self._pinned:
            raise BpfError("pin", errno.EBUSY)
        lib.bpf_obj_pin(self.fd, path)
        self._pinned = path

    def _unpin(self) -> None:
        try:
            Path(os.fsdecode(self._pinned or b"")).unlink()
        except OSError as error:
            raise BpfError("unpin", error.errno) from None
        self._pinned = None

    def update_map(self, map: Map[Any, Any]) -> None:
        """Not for a link opened by its number: libbpf updates only those it made."""
        reason = "a link opened by its number has no map that libbpf knows"
        raise BpfError(f"update {self!r}", errno.EOPNOTSUPP, reason)

    def disconnect(self) -> None:
        """Leaves its descriptor open when this handle is closed."""
        _ = self.fd
        self._disconnected = self._goes_on = True

    def _release(self, pointer: int) -> None:
        if not self._disconnected:
            os.close(pointer)


def _update_hint(error: BpfError) -> str:
    if error.errno == errno.EPERM:
        return "Another program than the expected one is attached, or the privilege is missing."
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return "Links of this type cannot be updated, or not to such a program: attach it anew."
    return ""


def _detach_hint(error: BpfError) -> str:
    if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
        return "Links of this type end when they are closed and unpinned: close it."
    return ""
