"""Questions to the kernel that only trying answers: tiny programs, maps and links.

Nothing stays: what the kernel makes is closed at once, and the links are refused for a
target that does not exist, after the kernel has shown that it knows their kind.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from ._ffi import lib
from ._types import struct_class
from .enums import AttachType, MapType, ProgramType
from .errors import BpfError

#: The number of bpf(2), which libbpf offers no function for; others are 280, arm64's.
_SYSCALLS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "s390x": 351,
    "ppc64le": 361,
    "ppc64": 361,
    "armv7l": 386,
    "armv6l": 386,
    "i686": 357,
}
_LINK_CREATE = 28
_ATTR_SIZE = 64
_LOG_SIZE = 1 << 16

# struct bpf_insn: opcode, registers, offset, immediate
_RETURN_0 = struct.pack("=BBhi", 0xB7, 0, 0, 0)
_EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
NOTHING = _RETURN_0 + _EXIT

_SLEEPABLE = 1 << 4  # BPF_F_SLEEPABLE
#: What a program of these types cannot be loaded without.
_EXPECTED = {
    ProgramType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgramType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgramType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgramType.TRACING: AttachType.TRACE_FENTRY,
    ProgramType.LSM: AttachType.LSM_MAC,
    ProgramType.NETFILTER: AttachType.NETFILTER,
}
#: Functions that every kernel with BPF trampolines has (the first with CONFIG_NET).
_TARGETS = {
    AttachType.TRACE_FENTRY: b"bpf_fentry_test1",
    AttachType.LSM_MAC: b"file_open",
    AttachType.TRACE_ITER: b"bpf_map",
}


class Loaded(NamedTuple):
    """What came of loading: a descriptor to be closed, or -1; the error; the verifier's log."""

    fd: int
    error: int
    log: str

    def close(self) -> int:
        """Closes it; returns the error number, 0 if it had been loaded."""
        if self.fd >= 0:
            os.close(self.fd)
        return self.error


def load(
    kind: ProgramType,
    code: bytes = NOTHING,
    *,
    expected: AttachType | None = None,
    log: bool = False,
) -> Loaded:
    """Tries to load a program."""
    attach = expected if expected is not None else _EXPECTED.get(kind)
    opts = struct_class("bpf_prog_load_opts")(expected_attach_type=attach or 0)
    text = ctypes.create_string_buffer(_LOG_SIZE)
    if log:
        opts.log_buf, opts.log_size = ctypes.cast(text, ctypes.c_char_p), len(text)
        opts.log_level = 1
    if kind == ProgramType.SYSCALL:
        opts.prog_flags = _SLEEPABLE
    try:
        if attach in _TARGETS:
            opts.attach_btf_id = lib.libbpf_find_vmlinux_btf_id(_TARGETS[attach], attach)
        if kind == ProgramType.EXT:
            opts.attach_btf_id = 1  # of no program: refused, but not before it is known
        instructions = ctypes.create_string_buffer(code, len(code))
        pointer = ctypes.cast(instructions, ctypes.POINTER(struct_class("bpf_insn")))
        fd = int(lib.bpf_prog_load(kind, None, b"GPL", pointer, len(code) // 8, opts))
    except BpfError as error:
        return Loaded(-1, error.errno or errno.EINVAL, text.value.decode(errors="replace"))
    return Loaded(fd, 0, text.value.decode(errors="replace"))


def call(helper: int) -> bytes:
    """A program that calls a helper with what its registers hold."""
    return struct.pack("=BBhi", 0x85, 0, 0, helper) + NOTHING


def create_map(
    kind: MapType, key: int = 4, value: int = 4, entries: int = 1, flags: int = 0
) -> int:
    """Tries to create a map; the error number, 0 if it could be."""
    opts = struct_class("bpf_map_create_opts")(map_flags=flags)
    try:
        os.close(lib.bpf_map_create(kind, None, key, value, entries, opts))
    except BpfError as error:
        return error.errno or errno.EINVAL
    return 0


def link(program: int, attach: AttachType, target: int, body: bytes = b"") -> int:
    """Tries to create a link; the error number, 0 if it could be.

    By the system call itself: libbpf refuses attach types that are newer than it.
    """
    attr = struct.pack("=IIII", program, target & 0xFFFFFFFF, attach, 0) + body
    fd, error = _bpf(_LINK_CREATE, attr)
    return Loaded(fd, error, "").close()


def open_tracing(program: int) -> int:
    """Tries to attach a program to the function that it was loaded for; the error number."""
    try:
        os.close(lib.bpf_raw_tracepoint_open(None, program))
    except BpfError as error:
        return error.errno or errno.EINVAL
    return 0


def batch_update() -> int:
    """Tries to update a hash map by BPF_MAP_UPDATE_BATCH; the error number."""
    try:
        fd = lib.bpf_map_create(MapType.HASH, None, 4, 4, 1, None)
    except BpfError as error:
        return error.errno or errno.EINVAL
    try:
        count = ctypes.c_uint32(1)
        opts = struct_class("bpf_map_batch_opts")()
        lib.bpf_map_update_batch(fd, bytes(4), bytes(4), ctypes.byref(count), opts)
    except BpfError as error:
        return error.errno or errno.EINVAL
    finally:
        os.close(fd)
    return 0


def _bpf(command: int, attr: bytes) -> tuple[int, int]:
    """bpf(2): a descriptor, or -1, and the error number."""
    machine = platform.machine()
    if machine not in _SYSCALLS:
        raise BpfError("probe the kernel", None, f"the number of bpf(2) on {machine} is not known")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    number = ctypes.c_long(_SYSCALLS[machine])
    fd = libc.syscall(number, ctypes.c_int(command), buffer, ctypes.c_uint(_ATTR_SIZE))
    return (int(fd), 0) if fd >= 0 else (-1, ctypes.get_errno())
