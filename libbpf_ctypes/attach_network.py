"""Programs at interfaces, hooks of netfilter and network namespaces."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ._attaching import (
    AttachableBase,
    PathOrFd,
    attach_type_of,
    expecting,
    interface_of,
    kernel_hint,
    number,
    opened,
    opts,
)
from ._ffi import lib
from .attach_places import Neighbour, beside_fields, list_hint
from .attach_tracing import program_fd
from .attachment import Attachment
from .enums import AttachType, ProgramType
from .errors import BpfError
from .link import Link
from .link import _LinkByDescriptor as LinkByDescriptor
from .log import calling

if TYPE_CHECKING:
    from .tc import TcAttachment

# XDP_FLAGS_ of <linux/if_link.h>
_XDP_MODES = {"auto": 0, "skb": 1 << 1, "driver": 1 << 2, "hardware": 1 << 3}
_XDP_IF_NOEXIST, _XDP_REPLACE = 1 << 0, 1 << 4
_FAMILIES = {"ipv4": 2, "ipv6": 10}  # NFPROTO_IPV4, NFPROTO_IPV6
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")  # enum nf_inet_hooks
_IP_DEFRAG = 1


class NetworkMethods(AttachableBase):
    """attach_xdp, attach_tc and their kin."""

    def attach_xdp(
        self, interface: str | int, *, mode: str = "auto", link: bool = True, replace: Any = None
    ) -> Link | Attachment:
        """Attaches to an interface, where packets come in.

        Args:
            interface: its name, or its index.
            mode: "auto", "skb" (generic), "driver" or "hardware" (offloaded).
            link: with a link, which ends with the process; False: without one, by
                netlink: it then stays until it is closed.
            replace: the Program (or its descriptor) that is attached there by
                netlink and gives way in the same step (Linux 5.7); not with a link.

        Returns: a Link, or an Attachment where it is by netlink.
        Raises: BpfError, with a hint; EBUSY or EEXIST where another program is attached.
        Source: ``bpf_program__attach_xdp`` (libbpf 0.1), with a mode ``bpf_link_create``
            (0.0.8): Linux 5.9; ``bpf_xdp_attach``
            (libbpf 0.7, Linux 4.8).
        """
        target = f"interface {interface}"
        operation = f"attach XDP to {target}"
        if not isinstance(mode, str) or mode not in _XDP_MODES:
            raise BpfError(operation, errno.EINVAL, f"mode {mode!r} is none of {list(_XDP_MODES)}")
        index = interface_of(operation, interface)

        def hint(error: BpfError) -> str:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                return "Another XDP program is attached there, in this mode or another."
            return kernel_hint(error, f"XDP in mode {mode!r}", "5.9" if link else "4.8")

        if link and replace is not None:
            raise BpfError(operation, errno.EINVAL, "a link replaces by its update(): link=False")
        self._require_type(operation, [ProgramType.XDP], "xdp")
        if link and mode == "auto":
            return self._attach(operation, target, "bpf_program__attach_xdp", index, hint=hint)
        flags = _XDP_MODES[mode]
        fd = self._require_load(operation)
        old = program_fd(operation, replace)
        if link:
            with calling(operation, hint):
                made = opts("bpf_link_create_opts", flags=flags)
                by_mode = lib.bpf_link_create(fd, index, AttachType.XDP, made)
                return self._parent._adopt(LinkByDescriptor(by_mode, self._parent, target))
        how = _XDP_REPLACE if old else _XDP_IF_NOEXIST
        with calling(operation, hint):
            made = opts("bpf_xdp_attach_opts", old_prog_fd=old)
            lib.bpf_xdp_attach(index, fd, flags | how, made)

            def detach() -> None:  # only if it is still this program
                made = opts("bpf_xdp_attach_opts", old_prog_fd=fd)
                lib.bpf_xdp_detach(index, flags | _XDP_REPLACE, made)

            done: Attachment = self._adopt(Attachment(detach, self._parent, target))
            return done

    def attach_tc(
        self,
        interface: str | int,
        where: str = "ingress",
        *,
        handle: int = 0,
        priority: int = 0,
        replace: bool = False,
    ) -> TcAttachment:
        """Attaches as a classifier in "direct action" mode, with a clsact qdisc.

        Args:
            interface: its name, or its index.
            where: "ingress" or "egress".
            handle: of the filter; 0: the kernel chooses.
            priority: the lowest runs first; 0: the kernel chooses. It is a number of 16 bits.
            replace: in place of the filter of this handle and priority.

        Returns: a TcAttachment with ``handle`` and ``priority``; closing it detaches, and
            removes the clsact qdisc if it was made for this and nothing else uses it.
        Raises: BpfError, with a hint.
        Source: ``bpf_tc_hook_create``, ``bpf_tc_attach`` (libbpf 0.4); Linux 4.5.
        """
        from .tc import attach

        operation = f"attach tc to {where} of interface {interface}"
        index = interface_of(operation, interface)
        number(operation, "the handle", handle, 32)
        number(operation, "the priority", priority, 16)
        fd = self._require_load(operation)
        self._require_type(operation, [ProgramType.SCHED_CLS], "tc")

        def hint(error: BpfError) -> str:
            if error.errno == errno.EEXIST:
                return (
                    "There is a filter of this handle and priority: replace=True takes its place."
                )
            return kernel_hint(error, "tc", "4.5")

        done: TcAttachment = self._adopt(
            attach(operation, hint, self._parent, fd, index, where, handle, priority, replace)
        )
        return done

    def attach_tcx(
        self,
        interface: str | int,
        *,
        before: Neighbour = None,
        after: Neighbour = None,
        expected_revision: int = 0,
    ) -> Link:
        """Attaches to an interface's list of programs, ingress or egress as its section says.

        Args:
            interface: its name, or its index.
            before, after: the Program or Link of the same list beside which it goes, or
                "all" for the beginning or the end (which is the default).
            expected_revision: refuse (ESTALE) if the list is not of this revision.

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_tcx`` (libbpf 1.3); Linux 6.6.
        """
        kind = ("bpf_tcx_opts", "bpf_program__attach_tcx", "tcx", "6.6")
        ends = (AttachType.TCX_INGRESS, AttachType.TCX_EGRESS)
        return self._attach_beside(kind, ends, interface, before, after, expected_revision)

    def attach_netkit(
        self,
        interface: str | int,
        *,
        before: Neighbour = None,
        after: Neighbour = None,
        expected_revision: int = 0,
    ) -> Link:
        """Attaches to a netkit device's list of programs, of the end that its section says.

        Args: as attach_tcx(). Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_netkit`` (libbpf 1.3); Linux 6.7.
        """
        kind = ("bpf_netkit_opts", "bpf_program__attach_netkit", "netkit", "6.7")
        ends = (AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER)
        return self._attach_beside(kind, ends, interface, before, after, expected_revision)

    def _attach_beside(
        self,
        kind: tuple[str, str, str, str],
        ends: tuple[AttachType, AttachType],
        interface: str | int,
        before: Neighbour,
        after: Neighbour,
        revision: int,
    ) -> Link:
        options, function, name, since = kind
        target = f"interface {interface}"
        operation = f"attach {name} to {target}"
        index = interface_of(operation, interface)

        def hint(error: BpfError) -> str:
            told = list_hint(error) or kernel_hint(error, name, since)
            if not told and error.errno in (errno.EINVAL, errno.ENXIO) and name == "netkit":
                return f"{interface} must be a netkit device's primary end."
            return told

        with calling(operation):
            getattr(lib, function)  # an older libbpf lacks it: say so before anything else
        sections = " or ".join(f"{name}/{end.name.partition('_')[2].lower()}" for end in ends)
        self._require_type(operation, [ProgramType.SCHED_CLS], sections)
        if attach_type_of(self) not in ends:
            hint_of_section = f"The program is of section {self.section}: it must be {sections}."
            raise BpfError(operation, errno.EINVAL, hint=hint_of_section)
        made = opts(options, **beside_fields(operation, before, after, revision))
        return self._attach(operation, target, function, index, made, hint=hint)

    def attach_netfilter(
        self,
        family: str | int,
        hook: str | int,
        *,
        priority: int = 0,
        defragment: bool = False,
    ) -> Link:
        """Attaches to a hook of netfilter, in this network namespace.

        Args:
            family: "ipv4", "ipv6", or NFPROTO_'s number.
            hook: "prerouting", "input", "forward", "output", "postrouting", or its number.
            priority: among the hook's other users, the lowest first; not the lowest
                or highest of 32 bits.
            defragment: see whole packets; the priority must be above -400.

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_netfilter`` (libbpf 1.3); Linux 6.4.
        """
        target = f"netfilter {family} {hook}"
        operation = f"attach to {target}"
        if isinstance(family, str) and family not in _FAMILIES:
            raise BpfError(operation, errno.EINVAL, f"family {family!r} is neither ipv4 nor ipv6")
        if isinstance(hook, str) and hook not in _HOOKS:
            raise BpfError(operation, errno.EINVAL, f"hook {hook!r} is none of {', '.join(_HOOKS)}")
        pf = _FAMILIES[family] if isinstance(family, str) else family
        place = _HOOKS.index(hook) if isinstance(hook, str) else hook
        made = opts(
            "bpf_netfilter_opts",
            pf=number(operation, "the family", pf, 32),
            hooknum=number(operation, "the hook", place, 32),
            priority=number(operation, "the priority", priority, 31, least=-(1 << 31)),
            flags=_IP_DEFRAG if defragment else 0,
        )

        def hint(error: BpfError) -> str:
            if error.errno == errno.EBUSY:
                return "Another BPF program has this hook and priority: take another priority."
            told = expecting(self, [ProgramType.NETFILTER], "netfilter")
            return told or kernel_hint(error, "netfilter by BPF", "6.4")

        return self._attach(operation, target, "bpf_program__attach_netfilter", made, hint=hint)

    def attach_netns(self, namespace: PathOrFd = "/proc/self/ns/net") -> Link:
        """Attaches a flow dissector or socket lookup program to a network namespace.

        Args: namespace: its path (``/proc/PID/ns/net``, ``/run/netns/NAME``) or descriptor.
        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_netns`` (libbpf 0.0.9); Linux 5.8.
        """
        target = f"network namespace {namespace}"
        operation = f"attach to {target}"

        kinds = (ProgramType.FLOW_DISSECTOR, ProgramType.SK_LOOKUP)
        self._require_type(operation, kinds, "flow_dissector or sk_lookup")

        def hint(error: BpfError) -> str:
            if error.errno == errno.EINVAL:
                return f"{namespace} must be a network namespace."
            if error.errno == errno.E2BIG and self.type == ProgramType.SK_LOOKUP:
                return "There are as many as the kernel takes there."
            if error.errno in (errno.EEXIST, errno.EBUSY, errno.E2BIG):
                return "Another flow dissector is attached, here or to the initial namespace."
            return kernel_hint(error, "a link to a network namespace", "5.8")

        with opened(operation, namespace) as fd:
            return self._attach(operation, target, "bpf_program__attach_netns", fd, hint=hint)
