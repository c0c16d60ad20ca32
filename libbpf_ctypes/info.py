"""What the kernel tells of a program, map, link or BTF by its file descriptor."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ._ffi import lib
from ._types import struct_class
from .enums import LinkType, MapType, ProgramType
from .errors import BpfError
from .link_details import NAME_SIZE, LinkDetails, read_details, text
from .log import calling

#: A link opened by its id is called bpf-link.
_ANONYMOUS = {
    "bpf-prog": "program",
    "bpf-map": "map",
    "bpf_link": "link",
    "bpf-link": "link",
    "btf": "BTF",
}
#: What open_pinned() is a method of.
_PINNED = ("program", "map", "link")


class ProgramInfo(NamedTuple):
    """A program in the kernel.

    What the kernel is too old to tell, or hides from this user, is 0 or empty.

    Attributes:
        id: its number, unique while it lives.
        type: the program type.
        name: at most 15 bytes (Linux 4.15).
        tag: SHA-1 of its instructions, the first 8 bytes in hexadecimal.
        load_time_ns: when it was loaded, nanoseconds since boot (CLOCK_BOOTTIME).
        created_by_uid: the user who loaded it.
        map_ids: the ids of the maps it uses.
        gpl_compatible: whether its licence is.
        xlated_prog_len, jited_prog_len: bytes of its instructions as verified, and as
            machine code (0: not compiled).
        btf_id: the id of its own BTF; 0 without.
        run_time_ns, run_cnt: nanoseconds and runs since it was loaded, counted while
            statistics are on (Linux 5.1; sysctl kernel.bpf_stats_enabled).
        recursion_misses: runs left out because it was running already (Linux 5.12).
        verified_insns: instructions that the verifier looked at (Linux 5.16).
        ifindex: the device it is offloaded to; 0: none. netns_dev, netns_ino: that
            device's network namespace.
        attach_btf_obj_id, attach_btf_id: the BTF and the type in it, or the function, that
            it was loaded for (Linux 5.18).

    Source: ``struct bpf_prog_info`` (Linux 4.13).
    """

    id: int
    type: ProgramType
    name: str
    tag: str
    load_time_ns: int
    created_by_uid: int
    map_ids: tuple[int, ...]
    gpl_compatible: bool
    xlated_prog_len: int
    jited_prog_len: int
    btf_id: int
    run_time_ns: int
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    ifindex: int
    netns_dev: int
    netns_ino: int
    attach_btf_obj_id: int
    attach_btf_id: int


class MapInfo(NamedTuple):
    """A map in the kernel.

    Attributes:
        id: its number, unique while it lives.
        type: the map type.
        name: at most 15 bytes (Linux 4.15).
        key_size, value_size: bytes of a key and of a value (of one CPU's).
        max_entries: how many entries it holds; bytes of a ring buffer.
        map_flags: BPF_F_ flags it was created with.
        map_extra: what its type uses it for (Linux 5.16).
        btf_id, btf_key_type_id, btf_value_type_id: its BTF and the types of key and value
            in it; 0: not known.
        btf_vmlinux_value_type_id: of a struct_ops map its type in the kernel's BTF.
        ifindex: the device it is offloaded to; 0: none. netns_dev, netns_ino: that
            device's network namespace.

    Source: ``struct bpf_map_info`` (Linux 4.13).
    """

    id: int
    type: MapType
    name: str
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    map_extra: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int
    btf_vmlinux_value_type_id: int
    ifindex: int
    netns_dev: int
    netns_ino: int


class BtfInfo(NamedTuple):
    """A BTF in the kernel.

    Attributes:
        id: its number, unique while it lives.
        name: ``vmlinux``, a module's name, or "" of a program's BTF (Linux 5.11).
        size: its bytes.
        kernel_btf: whether it is the kernel's or a module's (Linux 5.11).

    Source: ``struct bpf_btf_info`` (Linux 4.18).
    """

    id: int
    name: str
    size: int
    kernel_btf: bool


class LinkInfo(NamedTuple):
    """A link in the kernel: a program where it is attached.

    Attributes:
        id: its number, unique while it lives.
        type: the link type.
        program_id: the program's; 0 of struct_ops.
        details: what its type tells, else None: an unknown type, or a kernel that does not
            tell (of perf events, kprobes, uprobes and tracepoints before Linux 6.6).

    Source: ``struct bpf_link_info`` (Linux 5.8).
    """

    id: int
    type: LinkType
    program_id: int
    details: LinkDetails | None


def descriptor_kind(fd: int) -> str:
    """What a file descriptor is: "program", "map", "link" or "BTF"; "" for none of them.

    Raises: BpfError: /proc is not mounted, or there is no such descriptor.
    Source: the names of the kernel's anonymous inodes.
    """
    try:
        target = str(Path(f"/proc/self/fd/{fd}").readlink())
    except PermissionError as error:  # of a process that has changed its user
        raise BpfError(f"look at file descriptor {fd}", error.errno, "not allowed") from None
    except OSError:
        code, reason = errno.EBADF, "there is no such descriptor"
        if not Path("/proc/self/fd").exists():
            code, reason = errno.ENOENT, "/proc is not mounted"
        raise BpfError(f"look at file descriptor {fd}", code, reason) from None
    return _ANONYMOUS.get(target.rpartition(":")[2].strip("[]"), "")


def require_kind(operation: str, fd: int, kind: str) -> None:
    """Raises: BpfError (EINVAL): the descriptor stands for something else than KIND.

    Where this process may not look (no /proc, or after setuid) it is taken for one: the
    kernel refuses it later, at the first use.
    """
    try:
        found = descriptor_kind(fd)
    except BpfError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return
        raise
    if found != kind:
        reason = f"it is a {found}, not a {kind}" if found else f"it is nothing of BPF's, no {kind}"
        hint = f"{found.capitalize()}.open_pinned() opens it." if found in _PINNED else ""
        raise BpfError(operation, errno.EINVAL, reason, hint=hint)


def program_info(fd: int) -> ProgramInfo:
    """What the kernel tells of a program.

    Args: fd: a program's file descriptor.
    Raises: BpfError: it is none.
    Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1), Linux 4.13.
    """
    _require("program", fd)
    raw = _read(fd, "program", struct_class("bpf_prog_info")())
    ids: tuple[int, ...] = ()
    if raw.nr_map_ids:
        buffer = (ctypes.c_uint32 * raw.nr_map_ids)()
        asked = struct_class("bpf_prog_info")(
            nr_map_ids=len(buffer), map_ids=ctypes.addressof(buffer)
        )
        ids = tuple(buffer[: _read(fd, "program", asked).nr_map_ids])
    return ProgramInfo(
        id=raw.id,
        type=ProgramType(raw.type),
        name=text(raw.name),
        tag=bytes(raw.tag).hex(),
        load_time_ns=raw.load_time,
        created_by_uid=raw.created_by_uid,
        map_ids=ids,
        gpl_compatible=bool(raw.gpl_compatible),
        **_same(
            raw,
            "xlated_prog_len jited_prog_len btf_id run_time_ns run_cnt recursion_misses "
            "verified_insns ifindex netns_dev netns_ino attach_btf_obj_id attach_btf_id",
        ),
    )


def map_info(fd: int) -> MapInfo:
    """What the kernel tells of a map.

    Args: fd: a map's file descriptor.
    Raises: BpfError: it is none.
    Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1), Linux 4.13.
    """
    _require("map", fd)
    raw = _read(fd, "map", struct_class("bpf_map_info")())
    return MapInfo(
        id=raw.id,
        type=MapType(raw.type),
        name=text(raw.name),
        **_same(
            raw,
            "key_size value_size max_entries map_flags map_extra btf_id btf_key_type_id "
            "btf_value_type_id btf_vmlinux_value_type_id ifindex netns_dev netns_ino",
        ),
    )


def btf_info(fd: int) -> BtfInfo:
    """What the kernel tells of a BTF.

    Args: fd: a BTF's file descriptor.
    Raises: BpfError: it is none.
    Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1), Linux 4.18.
    """
    _require("BTF", fd)
    name = ctypes.create_string_buffer(NAME_SIZE)
    asked = struct_class("bpf_btf_info")(name=ctypes.addressof(name), name_len=NAME_SIZE)
    try:
        raw = _read(fd, "BTF", asked)
    except BpfError as error:
        if error.errno != errno.E2BIG:  # Linux before 5.11 knows no names
            raise
        raw = _read(fd, "BTF", struct_class("bpf_btf_info")())
    return BtfInfo(raw.id, text(name.value), raw.btf_size, bool(raw.kernel_btf))


def link_info(fd: int) -> LinkInfo:
    """What the kernel tells of a link.

    Args: fd: a link's file descriptor.
    Raises: BpfError: it is none.
    Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1), Linux 5.8.
    """
    _require("link", fd)

    def read(fill: Callable[[Any], None]) -> Any:
        raw = struct_class("bpf_link_info")()
        fill(raw)
        return _read(fd, "link", raw)

    raw = read(lambda _: None)
    return LinkInfo(raw.id, LinkType(raw.type), raw.prog_id, read_details(raw, read))


def _require(kind: str, fd: int) -> None:
    """The kernel would fill a struct of another kind without a word."""
    require_kind(f"read the info of {kind} descriptor {fd}", fd, kind)


def _read(fd: int, kind: str, info: Any) -> Any:
    """Fills a struct: a shorter one of an older kernel leaves its last fields zero."""
    size = ctypes.c_uint32(ctypes.sizeof(info))
    with calling(f"read the info of {kind} descriptor {fd}"):
        lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
    return info


def _same(raw: Any, names: str) -> dict[str, Any]:
    return {name: getattr(raw, name) for name in names.split()}
