"""What this kernel can do for this process: each answer is found out once, and kept.

    from libbpf_ctypes import features

    if features.has_ring_buffer(): …

Each has_…() returns True or False. What cannot be found out, for want of a privilege or because a
policy forbids to ask, raises BpfError (EPERM names the missing capabilities); it is never a False.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Callable, NamedTuple, TypeVar, Union, cast

from . import _probes, kernel
from ._kinds import asking, decide, needed
from ._kinds import has_helper as has_helper
from ._kinds import has_map_type as has_map_type
from ._kinds import has_program_type as has_program_type
from .btf import Btf, Kind
from .enums import AttachType, MapType, ProgramType
from .errors import ENOTSUPP, BpfError, NotFoundError

_F = TypeVar("_F", bound=Callable[[], bool])

#: How kernels refuse a link of a kind that they lack.
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)
_NOWHERE = 0x7FFFFFFF  # no network device, no descriptor

Purpose = Union[str, ProgramType, MapType]
_PURPOSES = {
    "tracing": ("CAP_BPF", "CAP_PERFMON"),
    "network": ("CAP_BPF", "CAP_NET_ADMIN"),
    "maps": ("CAP_BPF",),
    "introspection": ("CAP_SYS_ADMIN",),
}


class Feature(NamedTuple):
    """A line of report().

    Attributes:
        name: as the function is called, ``has_ring_buffer``; of a type ``program type XDP``.
        answer: None: it could not be found out.
        since: the version of Linux that brought it; "" of types.
        reason: why it could not be found out.
    """

    name: str
    answer: bool | None
    since: str
    reason: str


_SINCE: dict[str, str] = {}


def _feature(since: str) -> Callable[[_F], _F]:
    """A question without arguments, asked once."""

    def decorate(ask: _F) -> _F:
        name = ask.__name__
        words = name[4:].replace("_", " ") if name.startswith("has_") else name

        @lru_cache(maxsize=1)
        @wraps(ask)
        def once() -> bool:
            with asking(words):
                return ask()

        _SINCE[name] = since
        return cast("_F", once)

    return decorate


@_feature("4.1")
def has_kprobes() -> bool:
    """Kprobes: CONFIG_KPROBES; by perf_event since Linux 4.17.

    Source: /sys/bus/event_source; Linux 4.1.
    """
    return _perf_unit("kprobe")


@_feature("4.3")
def has_uprobes() -> bool:
    """Uprobes: CONFIG_UPROBE_EVENTS; by perf_event since Linux 4.17.

    Source: /sys/bus/event_source; Linux 4.3.
    """
    return _perf_unit("uprobe")


def _perf_unit(name: str) -> bool:
    folder = Path("/sys/bus/event_source/devices")
    if not folder.exists():
        raise BpfError("probe", errno.ENOENT, "/sys is not mounted", hint=kernel.NO_SYS_HINT)
    return (folder / name).exists()


def _link(
    kind: ProgramType, attach: AttachType, target: int, body: bytes, yes: tuple[int, ...]
) -> bool:
    """Whether the kernel knows a link: it is asked for one on what does not exist."""
    program = _probes.load(kind, expected=attach)
    if program.error:
        return decide(program.error, needed(kind), no=(errno.EINVAL, errno.E2BIG))
    try:
        error = _probes.link(program.fd, attach, target, body)
    finally:
        program.close()
    return decide(error, needed(kind), yes=yes, no=_UNKNOWN)


@_feature("5.15")
def has_perf_link() -> bool:
    """Links on perf events: kprobes, uprobes, tracepoints; with them came cookies (5.15).

    Source: the error of BPF_LINK_CREATE on no perf event; Linux 5.15.
    """
    return _link(ProgramType.TRACEPOINT, AttachType.PERF_EVENT, _NOWHERE, b"", (errno.EBADF,))


@_feature("5.15")
def has_bpf_cookie() -> bool:
    """Cookies of kprobes, uprobes, tracepoints: the helper bpf_get_attach_cookie (5.15).

    Source: has_helper(); Linux 5.15.
    """
    return has_helper(ProgramType.TRACEPOINT, "get_attach_cookie")


@_feature("5.18")
def has_kprobe_multi() -> bool:
    """kprobe.multi: many functions by one link; CONFIG_FPROBE, which Debian's 6.1 lacks.

    Source: the error of BPF_LINK_CREATE on no function; Linux 5.18.
    """
    return _kprobe_multi(AttachType.TRACE_KPROBE_MULTI)


@_feature("6.10")
def has_kprobe_session() -> bool:
    """kprobe.session: one program at entry and return of many functions; CONFIG_FPROBE.

    Source: as has_kprobe_multi(); Linux 6.10.
    """
    return _kprobe_multi(AttachType.TRACE_KPROBE_SESSION)


def _kprobe_multi(attach: AttachType) -> bool:
    symbol = ctypes.c_char_p(b"there_is_no_such_function")
    body = struct.pack("=IIQQQ", 0, 1, ctypes.addressof(symbol), 0, 0)
    return _link(ProgramType.KPROBE, attach, 0, body, (errno.ESRCH, errno.ENOENT))


@_feature("6.6")
def has_uprobe_multi() -> bool:
    """uprobe.multi: many functions of a file by one link.

    Source: the error of BPF_LINK_CREATE on no file; Linux 6.6.
    """
    return _uprobe_multi(AttachType.TRACE_UPROBE_MULTI)


@_feature("6.13")
def has_uprobe_session() -> bool:
    """uprobe.session: one program at entry and return of functions of a file.

    Source: as has_uprobe_multi(); Linux 6.13.
    """
    return _uprobe_multi(AttachType.TRACE_UPROBE_SESSION)


def _uprobe_multi(attach: AttachType) -> bool:
    path, offsets = ctypes.create_string_buffer(b"/"), (ctypes.c_uint64 * 1)(1)
    places = ctypes.addressof(path), ctypes.addressof(offsets)
    body = struct.pack("=QQQQIII", *places, 0, 0, 1, 0, 0)
    # "/" is no regular file
    return _link(ProgramType.KPROBE, attach, 0, body, (errno.EBADF, errno.ENOENT))


@_feature("6.6")
def has_tcx() -> bool:
    """tcx: links for tc programs; CONFIG_NET_XGRESS.

    Source: the error of BPF_LINK_CREATE on no device; Linux 6.6.
    """
    return _link(ProgramType.SCHED_CLS, AttachType.TCX_INGRESS, _NOWHERE, b"", (errno.ENODEV,))


@_feature("6.7")
def has_netkit() -> bool:
    """Links for programs on netkit devices; CONFIG_NETKIT.

    Source: as has_tcx(); Linux 6.7.
    """
    return _link(ProgramType.SCHED_CLS, AttachType.NETKIT_PRIMARY, _NOWHERE, b"", (errno.ENODEV,))


@_feature("6.4")
def has_netfilter() -> bool:
    """Netfilter programs; CONFIG_NETFILTER_BPF_LINK.

    Source: has_program_type(); Linux 6.4.
    """
    return has_program_type(ProgramType.NETFILTER)


@_feature("5.8")
def has_ring_buffer() -> bool:
    """Ring buffers, BPF_MAP_TYPE_RINGBUF.

    Source: has_map_type(); Linux 5.8.
    """
    return has_map_type(MapType.RINGBUF)


@_feature("6.1")
def has_user_ring_buffer() -> bool:
    """Ring buffers that a process writes and a program reads, BPF_MAP_TYPE_USER_RINGBUF.

    Source: has_map_type(); Linux 6.1.
    """
    return has_map_type(MapType.USER_RINGBUF)


@_feature("6.9")
def has_arena() -> bool:
    """Memory that programs and a process share, BPF_MAP_TYPE_ARENA.

    Source: has_map_type(); Linux 6.9.
    """
    return has_map_type(MapType.ARENA)


@_feature("5.6")
def has_map_batch() -> bool:
    """Many entries of a map by one call, BPF_MAP_UPDATE_BATCH and its kin.

    Source: an update of a map of its own; ``bpf_map_update_batch`` (libbpf 0.0.7), Linux 5.6.
    """
    return decide(_probes.batch_update(), ("CAP_BPF",), no=(errno.EINVAL, ENOTSUPP))


@_feature("5.4")
def has_btf() -> bool:
    """The kernel's BTF, CONFIG_DEBUG_INFO_BTF. Source: /sys/kernel/btf/vmlinux; Linux 5.4."""
    if not Path("/sys/kernel").exists():
        raise BpfError("probe", errno.ENOENT, "/sys is not mounted", hint=kernel.NO_SYS_HINT)
    return kernel.BTF.exists()


@_feature("5.11")
def has_module_btf() -> bool:
    """BTF of modules; CONFIG_DEBUG_INFO_BTF_MODULES. Source: struct module in it; Linux 5.11."""
    if not has_btf():
        return False
    with Btf.kernel() as btf:
        try:
            return any(member.name == "btf_data" for member in btf.layout("struct module").members)
        except NotFoundError:  # a kernel without modules
            return False


@_feature("5.5")
def has_fentry() -> bool:
    """fentry, fexit and the like: BPF trampolines, which need BTF and ftrace's direct calls.

    Source: a program is loaded and, for a moment, attached to bpf_fentry_test1(); Linux 5.5.
    """
    if not has_btf():
        return False
    kind = ProgramType.TRACING
    program = _probes.load(kind, expected=AttachType.TRACE_FENTRY)
    if program.error:
        return decide(program.error, needed(kind), no=(errno.EINVAL, errno.ESRCH, errno.ENOENT))
    try:
        error = _probes.open_tracing(program.fd)
    finally:
        program.close()
    return decide(error, needed(kind), no=_UNKNOWN)


@_feature("5.8")
def has_iterators() -> bool:
    """Iterators: programs that a file's reader runs, on what the kernel has.

    Source: a program of its own is loaded; Linux 5.8.
    """
    kind = ProgramType.TRACING
    error = _probes.load(kind, expected=AttachType.TRACE_ITER).close()
    no = (errno.EINVAL, errno.ESRCH, errno.ENOENT)
    return has_btf() and decide(error, needed(kind), no=no)


@_feature("5.7")
def has_bpf_lsm() -> bool:
    """LSM programs that the kernel really asks: ``bpf`` among its active security modules.

    CONFIG_BPF_LSM, and "bpf" in the boot parameter lsm= or CONFIG_LSM. Programs may load and
    attach without it; then they never run. Source: /sys/kernel/security/lsm; Linux 5.7.
    """
    listed = Path("/sys/kernel/security/lsm")
    try:
        return "bpf" in listed.read_text(encoding="ascii").strip().split(",")
    except OSError as error:
        if has_btf() and not _may_have_lsm():
            return False
        hint = "'mount -t securityfs securityfs /sys/kernel/security' first."
        reason = f"{listed} is not there"
        raise BpfError("probe", error.errno, reason, hint=hint) from None


def _may_have_lsm() -> bool:
    """CONFIG_BPF_LSM: with it the kernel has a function for each hook."""
    with Btf.kernel() as btf:
        try:
            return btf.find("bpf_lsm_file_open", Kind.FUNC).id > 0
        except NotFoundError:
            return False


def attach_methods(what: str) -> tuple[str, ...]:
    """How programs can be attached here, the best way first.

    Args: what: "kprobe", "uprobe", "tracepoint" or "tc".
    Returns: of "multi" (one link for many functions), "link" (Linux 5.15; of tc tcx, 6.6),
        "perf" (a perf event and an ioctl; of kprobes and uprobes since 4.17), "legacy" (of
        kprobes and uprobes tracefs, if this process may write there; of tc a qdisc and
        netlink). Libbpf itself takes link, else perf, else legacy. Empty: there is no way.
    Raises: BpfError: it cannot be found out. ValueError: another WHAT.
    Source: has_kprobe_multi() and its like, /sys and tracefs; Linux 4.1.
    """
    if what == "tc":
        return (*["link"] * has_tcx(), "legacy")
    if what not in ("kprobe", "uprobe", "tracepoint"):
        raise ValueError(f"not kprobe, uprobe, tracepoint or tc: {what!r}")
    unit = _perf_unit(what)
    many = {"kprobe": has_kprobe_multi, "uprobe": has_uprobe_multi}.get(what)
    methods = ["multi"] if many is not None and many() else []
    if unit:
        methods += ["link", "perf"] if has_perf_link() else ["perf"]
    if any(os.access(f"{folder}/{what}_events", os.W_OK) for folder in kernel.TRACEFS):
        methods.append("legacy")
    return tuple(methods)


def missing_capabilities(purpose: Purpose = "tracing") -> tuple[str, ...]:
    """Which capabilities this process lacks, by name: ``("CAP_BPF",)``; empty: none.

    Args: purpose: "tracing", "network", "maps" or "introspection"; or a program or map type.
    Raises: ValueError: another purpose.
    Source: capabilities(7), CAP_BPF and CAP_PERFMON since Linux 5.8. In a user namespace
        what is held there counts for nothing: the kernel then still answers EPERM.
    """
    if isinstance(purpose, (ProgramType, MapType)):
        wanted = needed(purpose)
    elif purpose in _PURPOSES:
        wanted = _PURPOSES[purpose]
    else:
        raise ValueError(f"not one of {', '.join(_PURPOSES)}: {purpose!r}")
    return tuple(kernel.missing_capabilities(wanted))


def report() -> list[Feature]:
    """Every feature, program type and map type, with its answer.

    Returns: the Features. Nothing is raised: what cannot be found out has the answer None
        and a reason.
    Source: the has_…() functions.
    """
    asked: list[tuple[str, str, Callable[[], bool]]] = [
        (name, since, globals()[name]) for name, since in _SINCE.items()
    ]
    asked += [
        (f"program type {kind.name}", "", partial(has_program_type, kind))
        for kind in ProgramType
        if kind != ProgramType.UNSPEC
    ]
    asked += [
        (f"map type {kind.name}", "", partial(has_map_type, kind))
        for kind in MapType
        if kind != MapType.UNSPEC
    ]
    return [_answer(name, since, ask) for name, since, ask in asked]


def _answer(name: str, since: str, ask: Callable[[], bool]) -> Feature:
    try:
        return Feature(name, ask(), since, "")
    except BpfError as error:
        return Feature(name, None, since, str(error))
