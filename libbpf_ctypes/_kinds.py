"""Which program types, map types and helpers this kernel has; part of features."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Callable, Union

from . import _probes, kernel
from ._ffi import lib, library_version
from ._libbpf import ENUMS
from .enums import AttachType, MapType, ProgramType
from .errors import BpfError, NotFoundError
from .log import calling

_P = ProgramType
#: Program types that need CAP_PERFMON and CAP_NET_ADMIN besides CAP_BPF, as kernel/bpf/syscall.c.
_PERFMON = {
    *(_P.KPROBE, _P.TRACEPOINT, _P.PERF_EVENT, _P.RAW_TRACEPOINT, _P.RAW_TRACEPOINT_WRITABLE),
    *(_P.TRACING, _P.LSM, _P.STRUCT_OPS, _P.EXT),
}
_NET_ADMIN = {
    *(_P.SCHED_CLS, _P.SCHED_ACT, _P.XDP, _P.LWT_IN, _P.LWT_OUT, _P.LWT_XMIT, _P.LWT_SEG6LOCAL),
    *(_P.SK_SKB, _P.SK_MSG, _P.FLOW_DISSECTOR, _P.CGROUP_DEVICE, _P.CGROUP_SOCK),
    *(_P.CGROUP_SOCK_ADDR, _P.CGROUP_SOCKOPT, _P.CGROUP_SYSCTL, _P.SOCK_OPS),
    *(_P.NETFILTER, _P.EXT),
}
_NET_ADMIN_MAPS = {
    *(MapType.SOCKMAP, MapType.SOCKHASH, MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.XSKMAP),
}
_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
#: Map types that an older libbpf does not know: key and value size, entries, flags.
_NEW_MAPS = {
    MapType.USER_RINGBUF: (0, 0, mmap.PAGESIZE, 0),
    MapType.ARENA: (0, 0, 1, _MMAPABLE),
    MapType.INSN_ARRAY: (4, 16, 1, 0),
}
#: How the verifier says that a helper is not there; kernels differ.
_NO_HELPER = ("invalid func ", "unknown func ", "program of this type cannot use helper ")

Kind = Union[ProgramType, MapType]


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Around the probes of one question: its errors say what could not be found out."""
    operation = f"find out whether this kernel has {what}"
    with calling(operation):
        try:
            yield
        except BpfError as error:
            error.operation = operation
            raise


def decide(
    error: int,
    wanted: tuple[str, ...],
    *,
    yes: tuple[int, ...] = (),
    no: tuple[int, ...] = (),
) -> bool:
    """The answer that an error number gives.

    Raises: BpfError: none; where it is EPERM the error names those of the WANTED
        capabilities that are missing.
    """
    if error == 0 or error in yes:
        return True
    if error in no:
        return False
    if error in (errno.EPERM, errno.EACCES):
        raise forbidden(wanted)
    raise BpfError("probe", error)


def forbidden(wanted: tuple[str, ...]) -> BpfError:
    """The error of a process that lacks these capabilities, or is kept from asking."""
    missing = kernel.missing_capabilities(wanted)
    hint = kernel.privilege_hint()
    if missing:
        hint = f"Missing {' and '.join(missing)}: run as root, or give the process these."
    return BpfError("probe", errno.EPERM, "this process may not ask", hint=hint)


def _raise_if_forbidden(wanted: tuple[str, ...]) -> None:
    """Asks for what every kernel has: capabilities in a user namespace are none here."""
    controls: dict[str, Callable[[], int]] = {
        "CAP_BPF": lambda: _probes.create_map(MapType.LRU_HASH),
        "CAP_PERFMON": lambda: _probes.load(ProgramType.TRACEPOINT).close(),
        "CAP_NET_ADMIN": lambda: _probes.create_map(MapType.DEVMAP),
    }
    if any(controls[name]() == errno.EPERM for name in wanted):
        raise forbidden(wanted)


def needed(kind: Kind) -> tuple[str, ...]:
    """The capabilities that a program or map of a type needs."""
    names = ["CAP_BPF"]
    if isinstance(kind, ProgramType):
        names += ["CAP_PERFMON"] * (kind in _PERFMON) + ["CAP_NET_ADMIN"] * (kind in _NET_ADMIN)
    elif kind in _NET_ADMIN_MAPS:
        names.append("CAP_NET_ADMIN")
    return tuple(names)


@cache
def has_program_type(kind: ProgramType) -> bool:
    """Whether programs of this type can be loaded.

    Raises: BpfError: it cannot be found out; a type that neither libbpf nor this module knows.
    Source: ``libbpf_probe_bpf_prog_type`` (libbpf 0.7); NETFILTER, Linux 6.4, by loading one.
    """
    kind = ProgramType(kind)
    with asking(f"program type {kind.name}"):
        try:
            known: bool | None = lib.libbpf_probe_bpf_prog_type(kind, None) == 1
        except BpfError as error:
            if error.errno != errno.EOPNOTSUPP:  # libbpf does not know the type
                raise
            known = None
        if known:
            return True
        tried = _probes.load(kind).close()
        if kind == ProgramType.TRACING and tried:  # iterators may be allowed where fentry is not
            tried = _probes.load(kind, expected=AttachType.TRACE_ITER).close()
        if tried in (errno.EPERM, errno.EACCES):  # libbpf takes that for a no
            raise forbidden(needed(kind))
        if known is None and tried and kind != ProgramType.NETFILTER:
            raise _unknown(tried)
        return not tried


def _unknown(error: int) -> BpfError:
    hint = "A newer libbpf may know it."
    return BpfError("probe", error, f"libbpf {library_version()} does not know it", hint=hint)


@cache
def has_map_type(kind: MapType) -> bool:
    """Whether maps of this type can be created.

    Raises: BpfError: it cannot be found out; a type that neither libbpf nor this module knows.
    Source: ``libbpf_probe_bpf_map_type`` (libbpf 0.7); USER_RINGBUF (Linux 6.1), ARENA (6.9)
    and INSN_ARRAY (6.19), where libbpf does not know them, by creating one.
    """
    kind = MapType(kind)
    with asking(f"map type {kind.name}"):
        try:
            if lib.libbpf_probe_bpf_map_type(kind, None) == 1:
                return True
        except BpfError as error:
            if error.errno == errno.EPERM:
                raise forbidden(needed(kind)) from None
            if error.errno != errno.EOPNOTSUPP:
                raise
            tried = _probes.create_map(kind, *_NEW_MAPS.get(kind, ()))
            if not tried:
                return True
            if kind not in _NEW_MAPS and kind != MapType.UNSPEC:
                raise _unknown(tried) from None
        _raise_if_forbidden(needed(kind))
        return False


@cache
def has_helper(kind: ProgramType, helper: str | int) -> bool:
    """Whether programs of this type can call a helper, as the kernel runs now.

    Lockdown takes some away.

    Args: helper: ``"bpf_ringbuf_output"``, ``"ringbuf_output"`` or its number.
    Raises: NotFoundError: no helper of that name; BpfError: it cannot be found out, as of
        STRUCT_OPS and EXT programs.
    Source: the verifier's words about a program that calls it; Linux 4.1.
    """
    kind, number = ProgramType(kind), _helper_number(helper)
    with asking(f"helper {helper} for program type {kind.name}"):
        if kind in (ProgramType.STRUCT_OPS, ProgramType.EXT):
            raise BpfError("probe", errno.EOPNOTSUPP, "it depends on what they are attached to")
        tried = _probes.load(kind, _probes.call(number), log=True)
        if not tried.close():
            return True
        if any(words in tried.log for words in _NO_HELPER):
            _raise_if_forbidden(needed(kind))  # without them it is said, too
            return False
        if tried.log:  # refused, but for what the registers hold
            return True
        if tried.error not in (errno.EPERM, errno.EACCES) and not has_program_type(kind):
            return False
        return decide(tried.error, needed(kind))


def _helper_number(helper: str | int) -> int:
    if isinstance(helper, int):
        if not 0 <= helper < 1 << 31:
            raise NotFoundError(f"find helper {helper}", errno.ENOENT, "there is none")
        return helper
    if not isinstance(helper, str):
        raise TypeError(f"not the name or number of a helper: {helper!r}")
    helpers = {name[len("BPF_FUNC_") :]: value for name, value in ENUMS["bpf_func_id"].items()}
    word = helper.replace("BPF_FUNC_", "").removeprefix("bpf_")
    if word not in helpers:
        import difflib

        near = difflib.get_close_matches(word, helpers, 4)
        hint = f"Did you mean: {', '.join(near)}?" if near else ""
        raise NotFoundError(f"find helper {helper}", errno.ENOENT, "there is none", hint=hint)
    return helpers[word]
