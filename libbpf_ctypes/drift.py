"""Whether a schema still says what the object says: field by field."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._btf import Kind
from .errors import LayoutError
from .fields import Node
from .layout import CMember, CType, Structs, has_types, members

if TYPE_CHECKING:
    from .object import BpfObject

logger = logging.getLogger(__package__)

#: Kinds of which only the size is known.
_UNREAD = ("bytes", "opaque")

#: The name of a Schema that was given none: it says nothing about the C struct's.
_NO_NAME = "Event"


def check(obj: BpfObject, schema: Any) -> None:
    """Compares a schema with the struct that it stands for in an object's BTF.

    The struct is the one that the declaration is named after
    (``"syscall_event" / Struct(...)``), else the one of the Schema's name
    ("SyscallEvent" stands for syscall_event); for a Schema without a name the
    one with most of its fields' names. Where there is none, nothing is compared.

    A byte order that the declaration names is not compared: BTF knows none.

    Args:
        obj: a BpfObject.
        schema: a Schema. Its name in no struct of the object: a warning is logged.

    Raises: LayoutError: each field that differs, with both layouts.
    """
    if not has_types(obj):
        return
    structs = Structs(obj)
    node = schema.fields
    struct = _struct_of(structs, schema)
    differing = compare(node, struct) if struct is not None else []
    if struct is not None and differing:
        raise LayoutError(
            f"read struct {struct.name} of {obj.source} with schema {schema.name}",
            None,
            "they differ in " + "; ".join(differing),
            hint=f"'ebpf-tool schema FILE {struct.name}' prints the object's.{_guess(schema)}",
        )
    if struct is None and _names(schema):
        what = "schema %s is not compared: %s has no struct %s (it has: %s)"
        there = ", ".join(structs.names)
        logger.warning(what, schema.name, obj.source, _names(schema)[-1], there)


def _guess(schema: Any) -> str:
    """What to do if the struct was found by its fields' names, and is another one."""
    if _names(schema):
        return ""
    return " If it is another struct: give the Schema that one's name, Schema(declaration, NAME)."


def _names(schema: Any) -> list[str]:
    """What the schema's struct may be called; nothing for a schema without a name."""
    if schema.declaration.name:
        return [schema.declaration.name]
    if schema.name == _NO_NAME:
        return []
    return [schema.name, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", schema.name).lower()]


def _struct_of(structs: Structs, schema: Any) -> CType | None:
    names = _names(schema)
    if names:
        found = next((name for name in names if name in structs.names), None)
        return structs.struct(found) if found else None
    return _most_similar(structs, schema.fields)


def _most_similar(structs: Structs, node: Node) -> CType | None:
    """The struct that shares more than half of all names; of several the one that fits best."""
    mine = {name for name, _ in node.items if name}
    ranked: list[tuple[float, int, int, CType]] = []
    for struct in map(structs.struct, structs.names):
        theirs = {member.name for member in members(struct) if member.name}
        share = len(mine & theirs) / max(1, len(mine | theirs))
        if share > 0.5:
            ranked.append((-share, len(compare(node, struct)), len(ranked), struct))
    return min(ranked)[-1] if ranked else None


def compare(node: Node, struct: CType, path: str = "") -> list[str]:
    """In what a declared Struct differs from a C struct.

    Padding is not compared, nor what lies under it; Bytes fit whatever has their
    size, bit-fields and unions without name too.

    Args:
        node: of a Struct; of one that construct parses as far as its sizes are fixed.
        struct: the C struct.
        path: the name of the two, for nested ones.

    Returns: a sentence for each field that differs; empty if none does.
    """
    theirs = {member.name: member for member in members(struct) if member.name}
    found: list[str] = []
    free: set[int] = set()  # bytes that are not compared
    offset = 0
    for name, item in node.items:
        if item.size is None:
            return found  # where the next fields lie is not known before the event is there
        if item.kind == "opaque" and not item.size and name not in theirs:
            continue  # computed: construct makes it of other fields
        span = range(offset, offset + item.size)
        if not name or item.kind == "pad" or (item.kind in _UNREAD and name not in theirs):
            free.update(span)
        if name and item.kind != "pad":
            found += _differences(path + name, item, offset, theirs.get(name), struct)
        offset += item.size
    mine = {name for name, _ in node.items}
    for member in members(struct):
        if member.name not in mine and not free.issuperset(range(member.offset, member.end)):
            there = _member_text(member)
            found.append(
                f"{path}{member.name or 'a union'}: not in the schema, {there} in the object"
            )
    if node.kind == "struct" and node.size != struct.size:
        whole = path.rstrip(".") or "the whole"
        found.append(f"{whole}: {node.size} bytes in the schema, {struct.size} in the object")
    return found


def _differences(
    path: str, node: Node, offset: int, member: CMember | None, struct: CType
) -> Iterator[str]:
    mine = f"{_node_text(node)} at {offset} ({node.size} bytes) in the schema"
    if member is None:
        if not _covers_nameless(node, offset, struct):
            yield f"{path}: {mine}, not in the object"
        return
    theirs = f"{_member_text(member)} in the object"
    same_place = offset == member.offset and not member.bits
    inner, kind = node, member.type
    while inner.kind == "array" and kind.kind == Kind.ARRAY and inner.count == kind.length:
        assert inner.element is not None and kind.element is not None
        inner, kind, path = inner.element, kind.element, path + "[]"
    if same_place and inner.kind == "struct" and kind.kind == Kind.STRUCT:
        yield from compare(inner, kind, f"{path}.")
    elif node.kind == "opaque" and same_place and kind.size <= node.fixed <= _room(member, struct):
        return  # with the padding behind it, as Aligned takes it
    elif not same_place or inner.size != kind.size or not _fits(inner, kind):
        yield f"{path}: {mine}, {theirs}"


def _room(member: CMember, struct: CType) -> int:
    """Bytes from a member's beginning to the next one's, or to the struct's end."""
    later = [m.offset for m in members(struct) if m.offset > member.offset]
    return min([*later, struct.size]) - member.offset


def _covers_nameless(node: Node, offset: int, struct: CType) -> bool:
    """Whether bytes not looked into lie just where C has bit-fields, or a union without name."""
    span = range(offset, offset + node.fixed)
    under = [m for m in members(struct) if m.offset < span.stop and m.end > span.start]
    return node.kind in _UNREAD and bool(under) and all(m.bits or not m.name for m in under)


def _fits(node: Node, kind: CType) -> bool:
    """Whether a declared type reads a C type of the same size."""
    if node.kind in _UNREAD:
        return True
    if node.kind == "text":
        byte = kind.element if kind.kind == Kind.ARRAY else kind
        return byte is not None and byte.kind == Kind.INT and byte.size == 1
    if node.kind == "bool":
        return kind.kind == Kind.INT
    if node.kind == "float":
        return kind.kind == Kind.FLOAT
    if node.kind != "int":
        return False
    if kind.kind == Kind.ARRAY:  # Int24 and the like, which C has not
        byte = kind.element
        return not node.code and byte is not None and (byte.kind, byte.size) == (Kind.INT, 1)
    if kind.kind in (Kind.ENUM, Kind.ENUM64):
        return node.signed or not kind.signed  # compilers seldom say that one is unsigned
    return kind.kind in (Kind.INT, Kind.PTR) and node.signed == kind.signed


def _node_text(node: Node) -> str:
    if node.kind == "array" and node.element is not None:
        return f"{_node_text(node.element)}[{node.count}]"
    if node.kind == "int":
        return f"{'s' if node.signed else 'u'}{8 * node.fixed}"
    if node.kind == "float":
        return f"float{8 * node.fixed}"
    return f"{node.kind}[{node.size}]" if node.kind in ("bytes", "text") else node.kind


def _member_text(member: CMember) -> str:
    if member.bits:
        return f"a bit-field of {member.bits} bits at bit {member.bit_offset}"
    return f"{member.type} at {member.offset} ({member.type.size} bytes)"
