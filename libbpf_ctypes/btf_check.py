"""Whether BTF may be handed to libbpf's printer, which follows ids and names without a check."""

from __future__ import annotations

from collections.abc import Iterator

from ._btf import MODIFIERS, Kind, RawType, Type, TypeStore, words_at
from ._ffi import lib
from .errors import BpfError

#: Kinds whose size_or_type is a type's id.
_REFERENCES = (*MODIFIERS, Kind.PTR, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR, Kind.DECL_TAG)
_COMPOSITE = (Kind.STRUCT, Kind.UNION)
#: What ends a chain of sizes: a pointer has its own.
_SIZE_ENDS = (Kind.PTR, Kind.FUNC, Kind.FUNC_PROTO)
#: libbpf divides by them.
_SIZES = {
    Kind.INT: (1, 2, 4, 8, 16),
    Kind.FLOAT: (2, 4, 8, 12, 16),
    Kind.ENUM: (1, 2, 4, 8),
    Kind.ENUM64: (1, 2, 4, 8),
}
#: What a member or an element may be.
_SIZED = (*_SIZES, Kind.PTR, Kind.ARRAY, Kind.STRUCT, Kind.UNION)
#: Bits between two members: libbpf prints padding for each 8 bytes of them.
_WIDEST = 8 << 20
#: How many words the entries behind a type have; which is a type's id, which a name's offset.
_ENTRIES: dict[Kind, tuple[int, int | None, int | None]] = {
    Kind.STRUCT: (3, 1, 0),
    Kind.UNION: (3, 1, 0),
    Kind.FUNC_PROTO: (2, 1, 0),
    Kind.DATASEC: (3, 0, None),
    Kind.ENUM: (2, None, 0),
    Kind.ENUM64: (3, None, 0),
}


def require_sound(btf: TypeStore, first: int = 1) -> None:
    """Every id and name is there, no type is made of itself, no member lies outside.

    Args: first: the first id of those to check; the kernel has checked its own.
    Raises: BpfError: which type is damaged.
    Source: the kernel's btf_check_all_types(); libbpf's btf_sanity_check() (libbpf 1.3).
    """
    count, strings = lib.btf__type_cnt(btf), btf._strings()
    edges: dict[int, tuple[Kind, list[int]]] = {}
    for identity, raw in btf._types(first):
        references, names = _inside(raw)
        if max(references, default=0) >= count:
            raise _damaged(identity, "it refers to a type that is not there")
        if max(names) >= strings:
            raise _damaged(identity, "its name is not there")
        if raw.kind in _SIZES and raw.size_or_type not in _SIZES[raw.kind]:
            raise _damaged(identity, f"it has {raw.size_or_type} bytes")
        edges[identity] = raw.kind, references
    # A circle of types leads through a struct, and there through a pointer.
    for ends in (_COMPOSITE, _SIZE_ENDS):
        graph = {i: [] if kind in ends else to for i, (kind, to) in edges.items()}
        _refuse_circle(graph)
    kinds: dict[int, Type] = {}
    for identity, raw in btf._types(first):
        if raw.kind in _COMPOSITE:
            _check_members(btf, identity, raw, kinds)
        if raw.kind == Kind.ARRAY:
            _sized(btf, identity, words_at(raw.data, 1)[0], kinds)


def _inside(raw: RawType) -> tuple[list[int], list[int]]:
    """The types' ids and the names' offsets that a type holds."""
    references, names = [], [raw.name_offset]
    if raw.kind in _REFERENCES:
        references.append(raw.size_or_type)
    if raw.kind == Kind.ARRAY:
        references += words_at(raw.data, 2)
    if raw.kind in _ENTRIES:
        width, reference, name = _ENTRIES[raw.kind]
        words = words_at(raw.data, width * raw.vlen)
        references += words[reference::width] if reference is not None else ()
        names += words[name::width] if name is not None else ()
    return references, names


def _refuse_circle(graph: dict[int, list[int]]) -> None:
    """Depth first, without recursion: damaged BTF may be deep."""
    done: set[int] = set()
    for start in graph:
        path: list[tuple[int, Iterator[int]]] = []
        on_path: set[int] = set()
        following: int | None = start
        while following is not None:
            if following not in done and following in graph:
                path.append((following, iter(graph[following])))
                on_path.add(following)
            following = None
            while path and following is None:
                following = next(path[-1][1], None)
                if following is None:
                    left, _ = path.pop()
                    on_path.discard(left)
                    done.add(left)
            if following in on_path:
                raise _damaged(following, "it is made of itself")


def _check_members(btf: TypeStore, identity: int, raw: RawType, kinds: dict[int, Type]) -> None:
    words, end = words_at(raw.data, 3 * raw.vlen), 0
    for kind, place in zip(words[1::3], words[2::3]):
        bits, offset = (place >> 24, place & 0xFFFFFF) if raw.flag else (0, place)
        size = 8 * _sized(btf, identity, kind, kinds)
        after = offset + (bits or size)
        if after > 8 * raw.size_or_type:
            raise _damaged(identity, "a member lies outside of it")
        if offset - end > _WIDEST:
            raise _damaged(identity, "its members are too far apart")
        end = max(end, after)
    if 8 * raw.size_or_type - end > _WIDEST:
        raise _damaged(identity, "its members end far before it")


def _sized(btf: TypeStore, identity: int, part: int, kinds: dict[int, Type]) -> int:
    """The bytes of a member's or an element's type; KINDS: those that were looked up before."""
    found = kinds.get(part) or kinds.setdefault(part, btf.type(part))
    if found.kind not in _SIZED:
        raise _damaged(identity, f"it holds a {found.kind.name}")
    return found.size


def _damaged(identity: int | None, reason: str) -> BpfError:
    hint = "Build the object again."
    return BpfError(f"use BTF type {identity}", None, f"it is damaged: {reason}", hint=hint)
