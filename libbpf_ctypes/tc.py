"""Classifiers of tc: a filter at an interface's clsact qdisc, which is made if need be."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from ._attaching import Hint
from ._ffi import lib
from ._handle import Handle
from ._types import struct_class
from .errors import BpfError
from .log import calling

if TYPE_CHECKING:
    from .object import BpfObject

_POINTS = {"ingress": 1, "egress": 2}  # enum bpf_tc_attach_point
_BOTH = 3
_REPLACE = 1  # BPF_TC_F_REPLACE

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/pkt_sched.h>
_NEWTFILTER, _GETTFILTER, _ERROR, _DONE = 44, 46, 2, 3
_REQUEST_DUMP = 0x301
_CLSACT = (0xFFFFFFF2, 0xFFFFFFF3)  # its ingress and its egress


class TcAttachment(Handle):
    """A program attached as a classifier; closing it detaches.

    The kernel does not detach when this process ends without closing it. Close it in the
    network namespace where it was attached.

    Source: ``bpf_tc_hook_create``, ``bpf_tc_attach``, ``bpf_tc_detach`` (libbpf 0.4); Linux 4.5.

    Attributes:
        target: what it is attached to, in words.
        handle, priority: the filter's, as the kernel chose them if it was left to it.
    """

    _parent: BpfObject

    def __init__(
        self, hook: Any, handle: int, priority: int, parent: BpfObject, target: str, made: bool
    ) -> None:
        super().__init__(hook, parent)
        self.target, self.handle, self.priority = target, handle, priority
        self._made = made  # the qdisc is ours to remove

    @property
    def program_id(self) -> int:
        """The number of the program that is attached there now. Raises: BpfError.

        Source: ``bpf_tc_query`` (libbpf 0.4).
        """
        opts = struct_class("bpf_tc_opts")(handle=self.handle, priority=self.priority)
        with calling(f"query {self.target}"):
            lib.bpf_tc_query(self._as_parameter_, opts)
        return int(opts.prog_id)

    def _release(self, pointer: Any) -> None:
        opts = struct_class("bpf_tc_opts")(handle=self.handle, priority=self.priority)
        try:
            with calling(f"detach from {self.target}"):
                lib.bpf_tc_detach(pointer, opts)
        finally:
            if self._made:
                self._leave_qdisc(pointer)

    def _leave_qdisc(self, hook: Any) -> None:
        """Removes the qdisc that was made, or leaves that to another one of this object."""
        for child in self._parent._open_children():
            if isinstance(child, TcAttachment) and child._pointer.ifindex == hook.ifindex:
                child._made = True
                return
        if not _has_filters(hook.ifindex):
            _remove_qdisc(hook.ifindex)

    def __repr__(self) -> str:
        return f"<TcAttachment to {self.target}{' (closed)' if self.closed else ''}>"


def attach(
    operation: str,
    hint: Hint,
    parent: BpfObject,
    program: int,
    interface: int,
    where: str,
    handle: int,
    priority: int,
    replace: bool,
) -> TcAttachment:
    """Attaches a program by its descriptor; makes the qdisc if there is none."""
    if not isinstance(where, str) or where not in _POINTS:
        raise BpfError(operation, errno.EINVAL, f"{where!r} is neither ingress nor egress")
    made = _make_qdisc(operation, hint, interface)
    hook = struct_class("bpf_tc_hook")(ifindex=interface, attach_point=_POINTS[where])
    opts = struct_class("bpf_tc_opts")(prog_fd=program, handle=handle, priority=priority)
    opts.flags = _REPLACE if replace else 0
    try:
        with calling(operation, hint):
            lib.bpf_tc_attach(hook, opts)
    except BaseException:
        if made and not _has_filters(interface):
            _remove_qdisc(interface)
        raise
    target = f"{where} of interface {interface}"
    return TcAttachment(hook, opts.handle, opts.priority, parent, target, made)


def _make_qdisc(operation: str, hint: Hint, interface: int) -> bool:
    """Whether there was no clsact qdisc, and now is."""
    hook = struct_class("bpf_tc_hook")(ifindex=interface, attach_point=_BOTH)
    try:
        with calling(operation, hint):
            lib.bpf_tc_hook_create(hook)
    except BpfError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _remove_qdisc(interface: int) -> None:
    hook = struct_class("bpf_tc_hook")(ifindex=interface, attach_point=_BOTH)
    with calling(f"remove the clsact qdisc of interface {interface}"):
        lib.bpf_tc_hook_destroy(hook)


def _has_filters(interface: int) -> bool:
    """Whether anything is attached to the interface's clsact; libbpf cannot tell."""
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        for parent in _CLSACT:
            message = struct.pack("=BxHiIII", 0, 0, interface, 0, parent, 0)
            header = struct.pack("=IHHII", 16 + len(message), _GETTFILTER, _REQUEST_DUMP, 1, 0)
            link.send(header + message)
            if _answers(link):
                return True
    return False


def _answers(link: Any) -> bool:
    """Whether a filter is among a dump's messages, which are read to their end."""
    found = False
    while True:
        data = link.recv(1 << 16)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind in (_DONE, _ERROR):
                return found
            found = found or kind == _NEWTFILTER
            data = data[max(16, length + 3 & ~3) :]
