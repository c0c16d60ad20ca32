"""A map is created in the kernel, of no object."""

from __future__ import annotations

import errno
import re
from operator import index
from typing import Any

from ._ffi import lib
from ._types import struct_class
from .enums import MapType
from .errors import BpfError
from .in_kernel import check_u32
from .kernel import privilege_hint
from .log import calling
from .map_types import INDEXED, NUMBERED, STORAGES, named


def create_map(
    kind: MapType | int,
    specs: tuple[Any, Any],
    sizes: tuple[int | None, int | None],
    max_entries: int,
    flags: int,
    name: str,
    more: dict[str, int],
) -> int:
    """A new map's descriptor; the arguments are those of Map.create()."""
    operation = f"create map {name}".rstrip()
    kind = MapType(check_u32(operation, "the type", kind))
    sized = [
        check_u32(operation, f"the size of the {what}", _size(operation, kind, what, spec, size))
        for what, spec, size in zip(("key", "value"), specs, sizes)
    ]
    max_entries = check_u32(operation, "max_entries", max_entries)
    if not re.fullmatch(r"[\w.]*", name, re.ASCII):
        reason = "its name has other characters than letters, digits, '_' and '.'"
        raise BpfError(operation, errno.EINVAL, reason)
    opts = struct_class("bpf_map_create_opts")()
    for field, number in {"map_flags": flags, **more}.items():
        _set(operation, opts, field, number)
    with calling(operation, lambda error: _create_hint(error, kind)):
        return int(lib.bpf_map_create(int(kind), name.encode(), *sized, max_entries, opts))


def _size(operation: str, kind: MapType, what: str, spec: Any, size: int | None) -> int:
    """The bytes of a key or value: as given, as its type says, or as the map type demands."""
    if size is None and spec is None:
        fixed = kind in NUMBERED or kind in STORAGES
        return 4 if (fixed if what == "key" else kind in _DESCRIPTOR_VALUES) else 0
    if spec is None:
        return size or 0
    try:
        return named(spec, size, key=what == "key").size
    except (ValueError, TypeError) as error:
        reason = (error.strerror or "") if isinstance(error, BpfError) else str(error)
        raise BpfError(operation, errno.EINVAL, f"its {what}s: {reason}") from None


_DESCRIPTOR_VALUES = INDEXED - {MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.INSN_ARRAY} | {
    MapType.HASH_OF_MAPS,
    MapType.DEVMAP_HASH,
    MapType.SOCKHASH,
}


def _set(operation: str, opts: Any, field: str, number: int) -> None:
    """Sets a field of the options, which ctypes would cut to its size in silence."""
    if field == "sz" or not hasattr(opts, field):
        raise BpfError(operation, errno.EINVAL, f"libbpf knows no option {field}")
    try:
        setattr(opts, field, index(number))
    except TypeError:
        raise BpfError(operation, errno.EINVAL, f"{field} is {number!r}, no integer") from None
    if getattr(opts, field) != number:
        raise BpfError(operation, errno.ERANGE, f"{field} is out of range: {number}")


def _create_hint(error: BpfError, kind: MapType) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return privilege_hint()
    if error.errno != errno.EINVAL:
        return ""
    if kind in STORAGES:
        return "It needs BTF types of its key (int) and value, MapFlag.NO_PREALLOC, no entries."
    return (
        f"Linux does not know type {kind.name}, or not these sizes, entries or flags with it: "
        "see 'man bpf' and the kernel's Documentation/bpf/map_*.rst."
    )
