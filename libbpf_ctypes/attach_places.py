"""Programs at cgroups, maps of sockets, and whatever else has a descriptor."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ._attaching import (
    AttachableBase,
    PathOrFd,
    attach_type_of,
    fd_of,
    kernel_hint,
    number,
    opened,
    opts,
)
from ._ffi import lib, libbpf_has
from ._types import struct_class
from .attach_tracing import program_fd, warn_of_lsm
from .attachment import Attachment
from .enums import AttachType, ProgramType
from .errors import BpfError
from .link import Link
from .log import calling

if TYPE_CHECKING:
    from .maps import Map

# enum of <linux/bpf.h>: where in a list of programs
_REPLACE, _BEFORE, _AFTER, _LINK = 1 << 2, 1 << 3, 1 << 4, 1 << 13

#: What goes to a map of sockets.
_OF_SOCKETS = (ProgramType.SK_MSG, ProgramType.SK_SKB)

#: Where the links are told, too.
_LISTS = (
    AttachType.TCX_INGRESS,
    AttachType.TCX_EGRESS,
    AttachType.NETKIT_PRIMARY,
    AttachType.NETKIT_PEER,
)

#: Before or after which one of the same place; "all": at the beginning, or the end.
Neighbour = Any  # Program | Link | "all" | None


class PlaceMethods(AttachableBase):
    """attach_cgroup, attach_sockmap and attach_to."""

    def attach_cgroup(
        self,
        cgroup: PathOrFd,
        *,
        before: Neighbour = None,
        after: Neighbour = None,
        expected_revision: int = 0,
    ) -> Link:
        """Attaches to a cgroup (version 2): to its processes and those below it.

        Args:
            cgroup: the folder's path, or its descriptor.
            before, after, expected_revision: as attach_tcx(); one that is attached by a
                Link is named by that (libbpf 1.6, Linux 6.17).

        Returns: the Link; several programs may be attached to one cgroup.
        Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_cgroup`` (libbpf 0.0.8; Linux 5.7),
            ``bpf_program__attach_cgroup_opts`` (libbpf 1.6).
        """
        target = f"cgroup {cgroup}"
        operation = f"attach {self.name} to {target}"
        beside = beside_fields(operation, before, after, expected_revision)
        if not _goes_to_a_cgroup(self):
            told = f"A program of section {self.section} does not go to a cgroup."
            raise BpfError(operation, errno.EINVAL, hint=told)
        if attach_type_of(self) == AttachType.LSM_CGROUP:
            warn_of_lsm(operation)

        def hint(error: BpfError) -> str:
            if error.errno == errno.EBADF:
                return f"{cgroup} is no folder of cgroup version 2: 'mount -t cgroup2' lists it."
            if beside:
                return list_hint(error) or kernel_hint(error, "an order of programs", "6.17")
            return kernel_hint(error, "a link to a cgroup", "5.7")

        function, more = "bpf_program__attach_cgroup", []
        if beside:
            function, more = f"{function}_opts", [opts("bpf_cgroup_opts", **beside)]
        with opened(operation, cgroup, folder=True) as fd:
            return self._attach(operation, target, function, fd, *more, hint=hint)

    def attach_sockmap(self, map: Map[Any, Any] | int) -> Link | Attachment:
        """Attaches a sk_skb or sk_msg program to a map of sockets.

        Args: map: of type SOCKMAP or SOCKHASH, or its descriptor.
        Returns: a Link (libbpf 1.5, Linux 6.10); before these an Attachment.
        Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_sockmap`` (libbpf 1.5), else ``bpf_prog_attach``
            (libbpf 0.0.1; Linux 4.14).
        """
        target = f"map {getattr(map, 'name', map)}"
        operation = f"attach {self.name} to {target}"
        fd = fd_of(operation, "the map", map)
        self._require_type(operation, _OF_SOCKETS, "sk_msg or sk_skb/…")
        if libbpf_has("1.5"):
            try:
                function = "bpf_program__attach_sockmap"
                return self._attach(operation, target, function, fd, hint=lambda e: "")
            except BpfError as error:
                if error.errno != errno.EINVAL:  # what an older kernel says
                    raise
        return self.attach_to(fd, target=target)

    def attach_to(
        self,
        place: PathOrFd,
        attach_type: AttachType | None = None,
        *,
        flags: int = 0,
        replace: Any = None,
        target: str = "",
    ) -> Attachment:
        """Attaches by descriptor, without a link, as old kernels do and some places still need.

        Args:
            place: a cgroup's path, a map's descriptor, a device's path (``/dev/lirc0``).
            attach_type: None: what the program's section says.
            flags: BPF_F_ALLOW_OVERRIDE (1), BPF_F_ALLOW_MULTI (2).
            replace: the Program (or its descriptor) of a list that gives way (Linux 5.6).
            target: what the place is, in words.

        Returns: an Attachment. The kernel keeps the program attached when this process
            ends without closing it.
        Raises: BpfError, with a hint.
        Source: ``bpf_prog_attach_opts`` (libbpf 0.0.8), ``bpf_prog_detach2`` (0.0.1);
            Linux 4.10.
        """
        target = target or f"{place}"
        operation = f"attach {self.name} to {target}"
        kind = attach_type_of(self)
        if attach_type is not None:
            kind = AttachType(number(operation, "the attach type", attach_type, 32))
        program = self._require_load(operation)
        old = program_fd(operation, replace)
        flags = number(operation, "flags", flags, 32) | (_REPLACE if old else 0)

        def hint(error: BpfError) -> str:
            if error.errno == errno.EINVAL:
                told = f"A program of section {self.section} does not go there as {kind.name}"
                return f"{told}, or not beside what is attached there."
            return kernel_hint(error, "this", "4.10")

        with opened(operation, place) as fd:
            copy = os.dup(fd)  # the place as it is now: to detach from it later
        try:
            with calling(operation, hint):
                made = opts("bpf_prog_attach_opts", flags=flags)
                made.replace_prog_fd = old
                lib.bpf_prog_attach_opts(program, copy, kind, made)
        except BaseException:
            os.close(copy)
            raise

        def detach() -> None:
            try:
                lib.bpf_prog_detach2(program, copy, kind)
            finally:
                os.close(copy)

        done: Attachment = self._adopt(Attachment(detach, self._parent, target))
        return done


def _goes_to_a_cgroup(program: Any) -> bool:
    """Whether its type is one of those, or none that we know."""
    if program.type == ProgramType.LSM:
        return attach_type_of(program) == AttachType.LSM_CGROUP
    kind = program.type.name
    return bool(kind.startswith(("CGROUP_", "UNKNOWN_")) or kind == "SOCK_OPS")


class Attached(NamedTuple):
    """The programs at a place, in their order."""

    program_ids: tuple[int, ...]
    link_ids: tuple[int, ...]  # of each program: 0 where it has no link; empty where unknown
    flags: int  # of the place, as bpf_prog_attach() got them
    revision: int  # of the list, where it has one; else 0


def attached_programs(
    place: PathOrFd, attach_type: AttachType, *, effective: bool = False
) -> Attached:
    """Which programs are attached to a cgroup, an interface's list, a map or another place.

    Args:
        place: a path, a descriptor, or of tcx and netkit the interface's index.
        attach_type: where of it.
        effective: of a cgroup: those of the cgroups above it, too.

    Returns: an Attached.
    Raises: BpfError.
    Source: ``bpf_prog_query_opts`` (libbpf 1.0; Linux 4.15, of links 6.6).
    """
    number(f"query {place}", "the attach type", attach_type, 32)
    operation = f"query {AttachType(attach_type).name} of {place}"
    most = 256
    programs, links = (ctypes.c_uint32 * most)(), (ctypes.c_uint32 * most)()
    made = struct_class("bpf_prog_query_opts")(prog_ids=programs, query_flags=int(effective))
    made.prog_cnt = most
    if attach_type in _LISTS:
        made.link_ids = links
    with (
        opened(operation, place) as fd,
        calling(operation, lambda e: kernel_hint(e, "this", "4.15")),
    ):
        lib.bpf_prog_query_opts(fd, attach_type, made)
    count = made.prog_cnt
    found = tuple(links[:count]) if attach_type in _LISTS else ()
    return Attached(tuple(programs[:count]), found, made.attach_flags, made.revision)


def beside_fields(
    operation: str, before: Neighbour, after: Neighbour, revision: int
) -> dict[str, int]:
    """The fields of the options that say where in a list."""
    fields = {"expected_revision": number(operation, "the revision", revision, 64)}
    for neighbour, flag in ((before, _BEFORE), (after, _AFTER)):
        if neighbour is None:
            continue
        if fields.get("flags"):
            raise BpfError(
                operation, errno.EINVAL, "before one and after another: name one of them"
            )
        fields["flags"] = flag
        if isinstance(neighbour, Link):
            fields["flags"] |= _LINK
            fields["relative_fd"] = neighbour.fd
        elif neighbour != "all":
            fields["relative_fd"] = program_fd(operation, neighbour)
    return {key: value for key, value in fields.items() if value}


def list_hint(error: BpfError) -> str:
    if error.errno == errno.ESTALE:
        return "The list has changed: attached_programs() gives its revision."
    if error.errno == errno.ENOENT:
        return "The program beside which it should go is not in this list."
    if error.errno == errno.EEXIST:
        return "The program is in this list already."
    return ""
