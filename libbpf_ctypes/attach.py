"""How a program of an object is attached to the kernel: by itself, or by one of its methods."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from . import kernel
from ._attaching import attach_type_of
from ._ffi import lib, libbpf_has
from .attach_iterators import IteratorMethods
from .attach_kprobes import KernelProbeMethods
from .attach_network import NetworkMethods
from .attach_places import PlaceMethods
from .attach_tracing import TracingMethods, tracepoint_hint
from .attach_uprobes import UserProbeMethods
from .enums import AttachType, MapType, ProgramType
from .errors import BpfError
from .link import Link
from .log import calling, logger

if TYPE_CHECKING:
    from .object import BpfObject

_TRACED = (
    ProgramType.KPROBE,
    ProgramType.TRACEPOINT,
    ProgramType.RAW_TRACEPOINT,
    ProgramType.RAW_TRACEPOINT_WRITABLE,
)
_BY_BTF = (ProgramType.TRACING, ProgramType.EXT, ProgramType.LSM)

#: What attaches the others.
_METHODS = {
    ProgramType.KPROBE: "attach_kprobe() or attach_uprobe()",
    ProgramType.TRACEPOINT: "attach_tracepoint()",
    ProgramType.RAW_TRACEPOINT: "attach_raw_tracepoint()",
    ProgramType.SCHED_CLS: "attach_tcx() or attach_tc()",
    ProgramType.XDP: "attach_xdp()",
    ProgramType.PERF_EVENT: "attach_perf_event()",
    ProgramType.SK_SKB: "attach_sockmap()",
    ProgramType.SK_MSG: "attach_sockmap()",
    ProgramType.FLOW_DISSECTOR: "attach_netns()",
    ProgramType.SK_LOOKUP: "attach_netns()",
    ProgramType.NETFILTER: "attach_netfilter()",
    ProgramType.LIRC_MODE2: "attach_to()",
    ProgramType.STRUCT_OPS: "its map's attach_struct_ops()",
    ProgramType.SYSCALL: "test_run()",
    ProgramType.SOCKET_FILTER: "setsockopt(SOL_SOCKET, SO_ATTACH_BPF, fd) of a socket",
    ProgramType.SK_REUSEPORT: "setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, fd) of a socket",
    ProgramType.SCHED_ACT: "'tc action'",
    ProgramType.LWT_IN: "'ip route … encap bpf'",
    ProgramType.LWT_OUT: "'ip route … encap bpf'",
    ProgramType.LWT_XMIT: "'ip route … encap bpf'",
    ProgramType.LWT_SEG6LOCAL: "'ip route … encap seg6local'",
}


class Attachable(
    KernelProbeMethods,
    UserProbeMethods,
    TracingMethods,
    IteratorMethods,
    NetworkMethods,
    PlaceMethods,
):
    """A program's attach methods; every one returns a handle: closing it detaches."""

    def attach(self) -> Link:
        """Attaches to what the program's section names, as ``kprobe/vfs_read``.

        Returns: the Link (of an iterator an IteratorLink); keep it, the program is
            detached when it is closed.
        Raises: BpfError: the section names no target, or one that only a method's
            arguments can give (an interface, a cgroup): the hint names that method.

        Source: ``bpf_program__attach`` (libbpf 0.0.7).
        """
        section = self.section
        operation = f"attach {self.name} to {section}"
        if not _names_its_target(self):
            reason = f"its section {section!r} does not say to what"
            hint = f"Attach it by {_method_for(self)}."
            raise BpfError(operation, errno.EOPNOTSUPP, reason, hint=hint)
        if attach_type_of(self) == AttachType.TRACE_ITER:
            return self.attach_iter()
        if self.type == ProgramType.LSM:
            return self.attach_lsm()
        return self._attach(
            operation,
            section,
            "bpf_program__attach",
            hint=lambda e: _section_hint(e, self, section),
        )


def attach_all(obj: BpfObject) -> list[Link]:
    """Attaches what names its target by itself: BpfObject.attach()."""
    operation = f"attach the programs of {obj.source}"
    wanted = [p for p in obj.programs.values() if lib.bpf_program__autoload(p)]
    wanted = [p for p in wanted if lib.bpf_program__autoattach(p)]
    able = [p for p in wanted if _names_its_target(p)]
    maps = [m for m in obj.maps.values() if _attaches_itself(m)]
    for program in wanted:
        if program not in able and program.type != ProgramType.STRUCT_OPS:
            logger.warning(
                "%s is not attached: its section %r does not say to what. Attach it by %s.",
                program.name,
                program.section,
                _method_for(program),
            )
    if not able and not maps:
        there = ", ".join(f"{p.name} ({p.section})" for p in obj.programs.values()) or "none"
        reason = "no section says to what"
        raise BpfError(operation, errno.EOPNOTSUPP, reason, hint=f"Its programs: {there}.")
    links: list[Link] = []
    try:
        for program in able:
            links.append(program.attach())
        for each in maps:
            links.append(attach_struct_ops(each))
    except BaseException:
        for link in reversed(links):
            link.close()
        raise
    return links


def attach_struct_ops(map: Any) -> Link:
    """Registers a map of functions with the kernel: ObjectMap.attach_struct_ops()."""
    operation = f"attach struct_ops {map.name}"
    if map.type != MapType.STRUCT_OPS:
        reason = f"the map is of type {map.type.name}, not STRUCT_OPS"
        raise BpfError(operation, errno.EINVAL, reason)
    _ = map.fd  # raises before load()

    def hint(error: BpfError) -> str:
        if error.errno == errno.EEXIST:
            return "The kernel has one of this name already."
        if error.errno in (errno.EPERM, errno.EACCES):
            return kernel.privilege_hint()
        return ""

    obj: BpfObject = map._parent
    with calling(operation, hint):
        return obj._adopt(Link(lib.bpf_map__attach_struct_ops(map), obj, map.name))


def _names_its_target(program: Any) -> bool:
    """Whether libbpf can attach it by its section alone."""
    if program.type in _BY_BTF:
        return attach_type_of(program) != AttachType.LSM_CGROUP
    # "uprobe/PATH" has no function.
    kind, _, target = str(program.section).partition("/")
    if kind.startswith(("uprobe", "uretprobe", "usdt")):
        return ":" in target
    return program.type in _TRACED and bool(target)


def _attaches_itself(map: Any) -> bool:
    """Whether it is a struct_ops map that is to be attached with the object."""
    if map.type != MapType.STRUCT_OPS:
        return False

    return not libbpf_has("1.5") or bool(lib.bpf_map__autoattach(map))


def _method_for(program: Any) -> str:
    section = str(program.section)
    if attach_type_of(program) == AttachType.LSM_CGROUP or section.startswith(
        ("cgroup", "sockops")
    ):
        return "attach_cgroup()"
    for prefix in ("kprobe.multi", "uprobe.multi", "usdt", "uprobe", "ksyscall", "netkit"):
        if section.startswith((prefix, prefix.replace("probe", "retprobe"))):
            return f"attach_{prefix.replace('.', '_')}()"
    if section.startswith("kprobe.session"):
        return "attach_kprobe_multi()"
    return _METHODS.get(program.type, "attach_to()")


def _section_hint(error: BpfError, program: Any, section: str) -> str:
    kind, _, target = section.partition("/")
    if kind in ("tp", "tracepoint"):
        category, _, name = target.partition("/")
        return tracepoint_hint(error, program, category, name)
    if kind in ("kprobe", "kretprobe"):
        return kernel.kprobe_hint(error, target.partition("+")[0])
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.EOPNOTSUPP and kind.startswith(("kprobe.", "kretprobe.")):
        return "This kernel is built without CONFIG_FPROBE: use attach_kprobe() for each function."
    if not kernel.has_kprobes() and kind.startswith("k"):
        return kernel.kprobe_hint(error, target)
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return f"There is no such thing as {target} here."
    return ""
