"""What is special about each type of map, and which Python types its keys and values have."""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from . import elements
from .btf import Kind
from .elements import ElementType
from .enums import MapType
from .map_elements import descriptor, prefix, stack, with_program

if TYPE_CHECKING:
    from .layout import CType

T = MapType
PER_CPU = frozenset((T.PERCPU_HASH, T.PERCPU_ARRAY, T.LRU_PERCPU_HASH, T.PERCPU_CGROUP_STORAGE))
#: Without keys: what is pushed comes back, or is only known to have been there.
KEYLESS = frozenset((T.QUEUE, T.STACK, T.BLOOM_FILTER))
#: Memory that is shared with programs in another way than by entries.
NO_ENTRIES = {
    T.RINGBUF: "RingBuffer reads it.",
    T.USER_RINGBUF: "UserRingBuffer writes to it.",
    T.ARENA: "Map it into memory by its descriptor (mmap).",
}
#: The key is an index.
INDEXED = frozenset(
    {T.ARRAY, T.PERCPU_ARRAY, T.PROG_ARRAY, T.PERF_EVENT_ARRAY, T.CGROUP_ARRAY}
    | {T.ARRAY_OF_MAPS, T.DEVMAP, T.SOCKMAP, T.CPUMAP, T.XSKMAP, T.REUSEPORT_SOCKARRAY}
    | {T.STRUCT_OPS, T.INSN_ARRAY}
)
#: The key is a number of 32 bits.
NUMBERED = INDEXED | {T.STACK_TRACE, T.DEVMAP_HASH}
#: Every index has a value, always.
FULL = frozenset((T.ARRAY, T.PERCPU_ARRAY, T.STRUCT_OPS, T.INSN_ARRAY))
OF_MAPS = frozenset((T.ARRAY_OF_MAPS, T.HASH_OF_MAPS))
#: The value is written as a file descriptor.
_DESCRIPTORS = OF_MAPS | frozenset(
    {T.PROG_ARRAY, T.PERF_EVENT_ARRAY, T.CGROUP_ARRAY, T.SOCKMAP, T.SOCKHASH}
    | {T.XSKMAP, T.REUSEPORT_SOCKARRAY}
)
#: The key is a file descriptor: of a socket, an inode, a process, a cgroup.
STORAGES = frozenset((T.SK_STORAGE, T.INODE_STORAGE, T.TASK_STORAGE, T.CGRP_STORAGE))
#: Looked up many at once, each entry at most once, and to an end.
BATCHED = frozenset((T.HASH, T.LRU_HASH, T.PERCPU_HASH, T.LRU_PERCPU_HASH, T.HASH_OF_MAPS))
BATCHED |= {T.ARRAY, T.PERCPU_ARRAY}
_WITH_PROGRAM = {T.DEVMAP: "device", T.DEVMAP_HASH: "device", T.CPUMAP: "queue size"}
_BUILD_IDS = 32  # BPF_F_STACK_BUILD_ID

_WORD = re.compile(r"([us])(8|16|32|64|128)|(be|le)(16|32|64|128)|f(32|64)")


def named(spec: Any, size: int | None, *, key: bool) -> ElementType:
    """The type that a caller asks for.

    Args:
        spec: see Map.typed().
        size: the map's; None: what the type has.
        key: of a key.

    Raises: ValueError, TypeError: no such type, or it has another size.
    """
    made = _named(spec, size, key)
    if size is not None and made.size != size:
        raise ValueError(f"{made.name} has {made.size} bytes, and the map's have {size}")
    return made


def _named(spec: Any, size: int | None, key: bool) -> ElementType:
    if isinstance(spec, str):
        return _by_word(spec)
    if not isinstance(spec, type):
        by_schema = _by_schema(spec, size)
        return elements.hashable(by_schema) if key else by_schema
    if spec.__module__ == "ipaddress":
        made = _of_ipaddress(spec)
        if made is not None:
            return made
    if spec is bool:
        return elements.boolean(1 if size is None else size)
    if size is None:
        raise ValueError(f"{spec.__name__} has no size of its own: say how many bytes it has")
    if spec is bytes:
        return elements.raw_bytes(size)
    if spec is int:
        return elements.integer(size)
    if spec is float:
        return elements.floating(size)
    if spec is str:
        return elements.text(size, whole=key)
    if hasattr(spec, "__members__"):  # an Enum; importing enum would not tell more
        members: Any = spec
        signed = any(member.value < 0 for member in members)
        return elements.enumeration(spec, size, signed)
    raise TypeError(f"{spec.__name__} is no type of keys and values")


def _by_word(word: str) -> ElementType:
    if word == "bool":
        return elements.boolean()
    if word == "fd":
        return descriptor()
    found = _WORD.fullmatch(word)
    if found is None:
        raise ValueError(
            f"{word!r} is no type: u8 to u128, s8 to s128, be16 to be128 and le16 to le128 "
            "(unsigned), f32, f64, bool and fd are"
        )
    sign, bits, order, ordered_bits, float_bits = found.groups()
    if float_bits:
        return elements.floating(int(float_bits) // 8)
    if order:
        return elements.integer(int(ordered_bits) // 8, False, _ORDERS[order])
    return elements.integer(int(bits) // 8, sign == "s")


_ORDERS = {"be": "big", "le": "little"}


def _of_ipaddress(kind: Any) -> ElementType | None:
    sizes = {"IPv4": 4, "IPv6": 16}
    size = sizes.get(kind.__name__[:4], 0)
    if kind.__name__.endswith("Address"):
        return elements.address(kind, size)
    if kind.__name__.endswith("Network"):
        return prefix(4 + size, network=kind)
    return None


def _by_schema(spec: Any, size: int | None) -> ElementType:
    from .schema import as_schema  # construct comes in with the first struct

    schema = as_schema(spec)  # DecodeError: it is no schema either
    if size is None and schema.size < 0:
        raise ValueError("the schema has no fixed size")
    return elements.record(schema, schema.size if size is None else size)


def key_type(kind: MapType, size: int, btf: CType | None, why: str = "") -> ElementType:
    """The type of keys that nobody asked for another one.

    Args:
        kind: of the map.
        size: bytes.
        btf: the C type, where it is known.
        why: why it is not, for the error.
    """
    if kind in NUMBERED and size == 4:
        return elements.integer(4)
    if kind in STORAGES and size == 4:
        return descriptor()
    known = _of_btf(btf, size, key=True)
    if kind == MapType.LPM_TRIE and size > 4:
        return prefix(size, known)
    return known or elements.raw_bytes(size, why)


def value_type(kind: MapType, size: int, flags: int, btf: CType | None, why: str) -> ElementType:
    """The type of values (of one CPU) that nobody asked for another one."""
    if kind in _DESCRIPTORS and size in (4, 8):
        return descriptor(size)
    if kind in _WITH_PROGRAM and size in (4, 8):
        return with_program(size, _WITH_PROGRAM[kind])
    if kind == MapType.STACK_TRACE and not flags & _BUILD_IDS and size % 8 == 0:
        return stack(size)
    return _of_btf(btf, size, key=False) or elements.raw_bytes(size, why)


def _of_btf(kind: CType | None, size: int, *, key: bool) -> ElementType | None:
    """The type that a C type has in Python; None where that is bytes."""
    if kind is None or kind.size != size or not size:
        return None
    if kind.kind == Kind.INT and kind.is_bool:
        return elements.boolean(size)
    if kind.kind in (Kind.INT, Kind.PTR):
        return elements.integer(size, kind.signed)
    if kind.kind in (Kind.ENUM, Kind.ENUM64):
        negative = any(value < 0 for _, value in kind.constants)
        return elements.integer(size, kind.signed or negative)
    if kind.kind == Kind.FLOAT and size in (4, 8):
        return elements.floating(size)
    if kind.kind == Kind.ARRAY and kind.element is not None:
        made = _array(kind, kind.element, size, key)
    elif kind.kind == Kind.STRUCT:
        made = _struct(kind, size)
    else:
        return None
    return elements.hashable(made) if made and key else made


def _array(kind: CType, element: CType, size: int, key: bool) -> ElementType | None:
    if element.kind == Kind.INT and element.name == "char":
        return elements.text(size, whole=key)
    if (element.kind, element.size) == (Kind.INT, 1) and not (element.signed or element.is_bool):
        return None  # bytes
    from .declare import declare_type
    from .schema import Schema

    return elements.array(Schema(declare_type(kind)), size)


def _struct(kind: CType, size: int) -> ElementType:
    from .declare import declare_type, type_name
    from .schema import Schema

    name = type_name(kind.name)
    return elements.record(Schema(declare_type(kind), "Record" if iskeyword(name) else name), size)
