"""What the kernel tells of a link, by its type."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple, Union

from .enums import AttachType, LinkType

#: Bytes for a name or path; the kernel's longest path is 4096 with its NUL.
NAME_SIZE = 4096
# enum bpf_perf_event_type (Linux 6.6)
_UPROBE, _URETPROBE, _KPROBE, _KRETPROBE, _TRACEPOINT, _EVENT = range(1, 7)
#: BPF_F_KPROBE_MULTI_RETURN and BPF_F_UPROBE_MULTI_RETURN
_MULTI_RETURN = 1

#: Asks the kernel again, with a struct bpf_link_info that a function has put buffers in.
_Again = Callable[[Callable[[Any], None]], Any]


def text(name: bytes) -> str:
    """A name of the kernel's; bytes that are no UTF-8 are escaped."""
    return name.decode(errors="backslashreplace")


class RawTracepointDetails(NamedTuple):
    """The tracepoint's name; the cookie (Linux 6.16)."""

    name: str
    cookie: int


class TracingDetails(NamedTuple):
    """fentry, fexit, LSM, freplace and their kind: target_obj_id is a BTF's or a program's id,
    target_btf_id the function in it (Linux 5.13); the cookie (Linux 6.16)."""

    attach_type: AttachType
    target_obj_id: int
    target_btf_id: int
    cookie: int


class CgroupDetails(NamedTuple):
    """The cgroup's id, which is its folder's inode number; 0: it is gone."""

    cgroup_id: int
    attach_type: AttachType


class IterDetails(NamedTuple):
    """What it iterates over (``task``, ``bpf_map_elem``…), and of that only the named map,
    cgroup (order: enum bpf_cgroup_iter_order), thread or process; 0: all, or another kind."""

    target_name: str
    map_id: int
    cgroup_id: int
    order: int
    tid: int
    pid: int


class NetnsDetails(NamedTuple):
    """The network namespace's inode number; 0: it is gone."""

    netns_ino: int
    attach_type: AttachType


class XdpDetails(NamedTuple):
    """The network device; 0: it is gone."""

    ifindex: int


class StructOpsDetails(NamedTuple):
    """The struct_ops map."""

    map_id: int


class NetfilterDetails(NamedTuple):
    """NFPROTO_ family, NF_INET_ hook, priority and BPF_F_ flags (Linux 6.4)."""

    pf: int
    hooknum: int
    priority: int
    flags: int


class KprobeMultiDetails(NamedTuple):
    """Linux 6.6: whether at the functions' return, runs missed; each function's address
    (0 where the kernel hides addresses) and cookie (Linux 6.9, before that 0)."""

    retprobe: bool
    missed: int
    addresses: tuple[int, ...]
    cookies: tuple[int, ...]


class UprobeMultiDetails(NamedTuple):
    """Linux 6.8: the file, whether at the return, the only process (0: all); offsets in the
    file, of semaphores in it (0: none), and cookies."""

    path: str
    retprobe: bool
    pid: int
    offsets: tuple[int, ...]
    ref_ctr_offsets: tuple[int, ...]
    cookies: tuple[int, ...]


class KprobeDetails(NamedTuple):
    """Linux 6.6: the function and the offset in bytes; its address (0: hidden), runs missed."""

    function: str
    offset: int
    retprobe: bool
    address: int
    missed: int
    cookie: int


class UprobeDetails(NamedTuple):
    """Linux 6.6: the file and the offset in bytes; ref_ctr_offset of a semaphore."""

    path: str
    offset: int
    retprobe: bool
    cookie: int
    ref_ctr_offset: int


class TracepointDetails(NamedTuple):
    """Linux 6.6: the tracepoint's name."""

    name: str
    cookie: int


class PerfEventDetails(NamedTuple):
    """Linux 6.6: the perf event's type (PERF_TYPE_) and config."""

    type: int
    config: int
    cookie: int


class DeviceDetails(NamedTuple):
    """tcx (Linux 6.6) and netkit (6.7): the network device; 0: it is gone."""

    ifindex: int
    attach_type: AttachType


class SockmapDetails(NamedTuple):
    """Linux 6.10: the sockmap."""

    map_id: int
    attach_type: AttachType


LinkDetails = Union[
    RawTracepointDetails,
    TracingDetails,
    CgroupDetails,
    IterDetails,
    NetnsDetails,
    XdpDetails,
    StructOpsDetails,
    NetfilterDetails,
    KprobeMultiDetails,
    UprobeMultiDetails,
    KprobeDetails,
    UprobeDetails,
    TracepointDetails,
    PerfEventDetails,
    DeviceDetails,
    SockmapDetails,
]


def read_details(raw: Any, again: _Again) -> LinkDetails | None:
    """What a filled struct bpf_link_info says, and what it says when asked again."""
    read = _READERS.get(raw.type)
    return read(raw, again) if read else None


def _name(again: _Again, part: str, pointer: str, length: str) -> str:
    """The name that the kernel writes into a buffer of ours."""
    buffer = ctypes.create_string_buffer(NAME_SIZE)

    def fill(raw: Any) -> None:
        place: Any = raw
        for word in part.split("."):
            place = getattr(place, word)
        setattr(place, pointer, ctypes.addressof(buffer))
        setattr(place, length, NAME_SIZE)

    again(fill)
    return text(buffer.value)


def _raw_tracepoint(raw: Any, again: _Again) -> LinkDetails:
    name = _name(again, "raw_tracepoint", "tp_name", "tp_name_len")
    return RawTracepointDetails(name, raw.raw_tracepoint.cookie)


def _tracing(raw: Any, _again: _Again) -> LinkDetails:
    part = raw.tracing
    kind = AttachType(part.attach_type)
    return TracingDetails(kind, part.target_obj_id, part.target_btf_id, part.cookie)


def _cgroup(raw: Any, _again: _Again) -> LinkDetails:
    return CgroupDetails(raw.cgroup.cgroup_id, AttachType(raw.cgroup.attach_type))


def _iter(raw: Any, again: _Again) -> LinkDetails:
    name = _name(again, "iter", "target_name", "target_name_len")
    part = raw.iter
    details = IterDetails(name, 0, 0, 0, 0, 0)
    if name in ("bpf_map_elem", "bpf_sk_storage_map"):
        return details._replace(map_id=part.map.map_id)
    if name == "cgroup":
        return details._replace(cgroup_id=part.cgroup.cgroup_id, order=part.cgroup.order)
    if name.startswith("task"):
        return details._replace(tid=part.task.tid, pid=part.task.pid)
    return details


def _netns(raw: Any, _again: _Again) -> LinkDetails:
    return NetnsDetails(raw.netns.netns_ino, AttachType(raw.netns.attach_type))


def _xdp(raw: Any, _again: _Again) -> LinkDetails:
    return XdpDetails(raw.xdp.ifindex)


def _struct_ops(raw: Any, _again: _Again) -> LinkDetails:
    return StructOpsDetails(raw.struct_ops.map_id)


def _netfilter(raw: Any, _again: _Again) -> LinkDetails:
    part = raw.netfilter
    return NetfilterDetails(part.pf, part.hooknum, part.priority, part.flags)


def _tcx(raw: Any, _again: _Again) -> LinkDetails:
    return DeviceDetails(raw.tcx.ifindex, AttachType(raw.tcx.attach_type))


def _netkit(raw: Any, _again: _Again) -> LinkDetails:
    return DeviceDetails(raw.netkit.ifindex, AttachType(raw.netkit.attach_type))


def _sockmap(raw: Any, _again: _Again) -> LinkDetails:
    return SockmapDetails(raw.sockmap.map_id, AttachType(raw.sockmap.attach_type))


def _kprobe_multi(raw: Any, again: _Again) -> LinkDetails | None:
    part = raw.kprobe_multi
    if not part.count:
        return None
    addresses, cookies = (ctypes.c_uint64 * part.count)(), (ctypes.c_uint64 * part.count)()

    def fill(raw: Any) -> None:
        raw.kprobe_multi.addrs = ctypes.addressof(addresses)
        raw.kprobe_multi.cookies = ctypes.addressof(cookies)
        raw.kprobe_multi.count = part.count

    again(fill)
    retprobe = bool(part.flags & _MULTI_RETURN)
    return KprobeMultiDetails(retprobe, part.missed, tuple(addresses), tuple(cookies))


def _uprobe_multi(raw: Any, again: _Again) -> LinkDetails | None:
    part = raw.uprobe_multi
    if not part.count:
        return None
    path = ctypes.create_string_buffer(NAME_SIZE)
    offsets, references, cookies = ((ctypes.c_uint64 * part.count)() for _ in range(3))

    def fill(raw: Any) -> None:
        asked = raw.uprobe_multi
        asked.path, asked.path_size = ctypes.addressof(path), NAME_SIZE
        asked.offsets = ctypes.addressof(offsets)
        asked.ref_ctr_offsets = ctypes.addressof(references)
        asked.cookies = ctypes.addressof(cookies)
        asked.count = part.count

    again(fill)
    return UprobeMultiDetails(
        text(path.value),
        bool(part.flags & _MULTI_RETURN),
        part.pid,
        tuple(offsets),
        tuple(references),
        tuple(cookies),
    )


def _perf_event(raw: Any, again: _Again) -> LinkDetails | None:
    kind, part = raw.perf_event.type, raw.perf_event
    if kind in (_KPROBE, _KRETPROBE):
        name = _name(again, "perf_event.kprobe", "func_name", "name_len")
        probe, back = part.kprobe, kind == _KRETPROBE
        return KprobeDetails(name, probe.offset, back, probe.addr, probe.missed, probe.cookie)
    if kind in (_UPROBE, _URETPROBE):
        name = _name(again, "perf_event.uprobe", "file_name", "name_len")
        probe, back = part.uprobe, kind == _URETPROBE
        return UprobeDetails(name, probe.offset, back, probe.cookie, probe.ref_ctr_offset)
    if kind == _TRACEPOINT:
        name = _name(again, "perf_event.tracepoint", "tp_name", "name_len")
        return TracepointDetails(name, part.tracepoint.cookie)
    if kind == _EVENT:
        return PerfEventDetails(part.event.type, part.event.config, part.event.cookie)
    return None


_READERS: dict[int, Callable[[Any, _Again], LinkDetails | None]] = {
    LinkType.RAW_TRACEPOINT: _raw_tracepoint,
    LinkType.TRACING: _tracing,
    LinkType.CGROUP: _cgroup,
    LinkType.ITER: _iter,
    LinkType.NETNS: _netns,
    LinkType.XDP: _xdp,
    LinkType.PERF_EVENT: _perf_event,
    LinkType.KPROBE_MULTI: _kprobe_multi,
    LinkType.STRUCT_OPS: _struct_ops,
    LinkType.NETFILTER: _netfilter,
    LinkType.TCX: _tcx,
    LinkType.UPROBE_MULTI: _uprobe_multi,
    LinkType.NETKIT: _netkit,
    LinkType.SOCKMAP: _sockmap,
}
