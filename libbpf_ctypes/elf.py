"""Object files before libbpf sees them: read, and refused in words where it has only a number."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from .errors import BpfError

_ELF_MAGIC = b"\x7fELF"
_LITTLE, _BIG = 1, 2
_EM_BPF = 247
_MAX_SIZE = 1 << 26


def read_object(name: str) -> bytes:
    """The content of an object file; what has no end is not read to the end."""
    operation = f"open {name}"
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise BpfError(operation, error.errno, error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise BpfError(operation, errno.EINVAL, str(error)) from None
    if len(data) > _MAX_SIZE:
        raise BpfError(operation, errno.EFBIG, f"it is larger than {_MAX_SIZE >> 20} MiB")
    return data


def check_elf(name: str, data: bytes) -> None:
    """Refuses what libbpf would refuse with a bare number, in words."""
    hint = "It must be a BPF object file, as 'clang -target bpf -g -c' writes it."
    if data[:4] != _ELF_MAGIC:
        what = "it is empty" if not data else "it is not an ELF file"
        raise BpfError(f"open {name}", errno.ENOEXEC, what, hint=hint)
    if len(data) < 64:
        raise BpfError(f"open {name}", errno.ENOEXEC, "it is truncated", hint=hint)
    order = "big" if data[5] == _BIG else "little"
    native = _BIG if sys.byteorder == "big" else _LITTLE
    if data[5] != native:
        reason = f"it is built for a {order}-endian machine, and this one is not"
        raise BpfError(f"open {name}", 4003, reason, hint="Build it with '-target bpf'.")
    machine = int.from_bytes(data[18:20], order)  # type: ignore[arg-type]
    if machine not in (0, _EM_BPF):
        reason = f"it is an ELF file for another machine (e_machine {machine}), not for BPF"
        raise BpfError(f"open {name}", errno.ENOEXEC, reason, hint=hint)
    sections = int.from_bytes(data[40:48], order)  # type: ignore[arg-type]
    if sections > len(data):
        reason = f"it is truncated: {len(data)} bytes, and its sections are listed at {sections}"
        raise BpfError(f"open {name}", errno.ENOEXEC, reason, hint="Copy or build it again.")
