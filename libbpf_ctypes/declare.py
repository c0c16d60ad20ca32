"""A construct Struct out of BTF: the thing itself, and its Python source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from json import dumps
from typing import TYPE_CHECKING, Any, NamedTuple

import construct

from ._btf import Kind, TypeStore
from .errors import BpfError
from .layout import CMember, CType, Structs, members

if TYPE_CHECKING:
    from .object import BpfObject


class Declared(NamedTuple):
    """A declaration: its source, what that imports of construct, and what it evaluates to."""

    source: str
    imports: frozenset[str]
    construct: Any


def declare(source: BpfObject | TypeStore, name: str) -> Declared:
    """The construct Struct of a C struct, named after it.

    Args:
        source: a BpfObject, loaded or not, or a Btf.
        name: the C struct's.

    Returns: the Declared; its source is an expression.
    Raises: NotFoundError: no such struct; BpfError: no BTF, or damaged.
    """
    body = _struct(Structs(source).struct(name), "")
    return _named(name, body)


def declare_type(kind: CType) -> Any:
    """The construct Struct of a C struct; of another type one with the field ``items``."""
    if kind.kind == Kind.STRUCT:
        return _struct(kind, "").construct
    return construct.Struct("items" / _type(kind, "").construct)


def module_source(obj: BpfObject, name: str) -> str:
    """The struct as a Python module that needs nothing but construct."""
    declared = declare(obj, name)
    constant = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
    constant = constant if constant.isidentifier() else f"STRUCT_{constant}"
    return (
        f"from construct import {', '.join(sorted(declared.imports))}\n\n"
        f"# {declared.construct.sizeof()} bytes, in the byte order of the machine.\n"
        f"{constant} = {declared.source}\n"
    )


def type_name(struct: str) -> str:
    """The name of a C struct's record type: "SyscallEvent" for syscall_event."""
    camel = "".join(word[:1].upper() + word[1:] for word in struct.split("_"))
    return camel if camel.isidentifier() else "Record"


def _call(function: str, *arguments: Declared | int | str | bool) -> Declared:
    """A call of one of construct's functions."""
    imports, texts, values = {function}, [], []
    for argument in arguments:
        if isinstance(argument, Declared):
            imports |= argument.imports
            texts.append(argument.source)
            values.append(argument.construct)
        else:
            texts.append(dumps(argument) if isinstance(argument, str) else repr(argument))
            values.append(argument)
    made = getattr(construct, function)(*values)
    return Declared(f"{function}({', '.join(texts)})", frozenset(imports), made)


def _constant(name: str) -> Declared:
    return Declared(name, frozenset({name}), getattr(construct, name))


def _named(name: str, declared: Declared) -> Declared:
    source = f"{dumps(name)} / {declared.source}"
    return Declared(source, declared.imports, name / declared.construct)


def _struct(struct: CType, indent: str) -> Declared:
    inner = indent + "    "
    fields = list(_fields(struct, inner))
    lines = "".join(f"{inner}{field.source},\n" for field in fields)
    imports = frozenset({"Struct"}).union(*(field.imports for field in fields))
    source = f"Struct(\n{lines}{indent})" if fields else "Struct()"
    return Declared(source, imports, construct.Struct(*(field.construct for field in fields)))


def _fields(struct: CType, indent: str) -> Iterator[Declared]:
    """The fields, with the gaps between them."""
    end = 0
    for name, start, stop, kind in _places(struct):
        if start < end or stop > struct.size:
            reason = f"its members overlap at byte {start}"
            raise BpfError(f"declare struct {struct.name}", None, reason, hint="Build it again.")
        if start > end:
            yield _call("Padding", start - end)
        size = stop - start
        yield _named(name, _call("Bytes", size) if kind is None else _type(kind, indent))
        end = stop
    if struct.size > end:
        yield _call("Padding", struct.size - end)


def _places(struct: CType) -> Iterator[tuple[str, int, int, CType | None]]:
    """Name, first byte, byte behind and type; bit-fields side by side are one, of no type."""
    bits: list[CMember] = []
    for member in sorted(members(struct), key=lambda member: member.bit_offset):
        if member.bits:
            bits.append(member)
            continue
        yield from _bit_fields(bits)
        bits = []
        name = member.name or f"union_{member.offset}"
        yield name, member.offset, member.end, member.type
    yield from _bit_fields(bits)


def _bit_fields(bits: list[CMember]) -> Iterator[tuple[str, int, int, CType | None]]:
    if bits:
        start = bits[0].offset
        yield f"bits_{start}", start, max(member.end for member in bits), None


def _type(kind: CType, indent: str) -> Declared:
    if kind.kind == Kind.STRUCT:
        return _struct(kind, indent)
    if kind.kind == Kind.INT and kind.is_bool and kind.size == 1:
        return _constant("Flag")
    if kind.kind in (Kind.INT, Kind.PTR):
        return _integer(kind.size, kind.signed)
    if kind.kind in (Kind.ENUM, Kind.ENUM64):
        return _enum(kind)
    if kind.kind == Kind.FLOAT and kind.size in (4, 8):
        return _constant(f"Float{8 * kind.size}n")
    if kind.kind == Kind.ARRAY and kind.element is not None:
        element = kind.element
        if element.kind == Kind.INT and element.name == "char":
            return _call("PaddedString", kind.length, "utf8")
        if (element.kind, element.size) == (Kind.INT, 1) and not (
            element.signed or element.is_bool
        ):
            return _call("Bytes", kind.length)
        return _call("Array", kind.length, _type(element, indent))
    return _call("Bytes", kind.size)


def _integer(size: int, signed: bool) -> Declared:
    if size in (1, 2, 4, 8):
        return _constant(f"Int{8 * size}{'s' if signed else 'u'}n")
    return _call("BytesInteger", size, signed, sys.byteorder == "little")


def _enum(kind: CType) -> Declared:
    signed = kind.signed or any(value < 0 for _, value in kind.constants)
    number = _integer(kind.size, signed)
    # Two names are arguments of Enum's own.
    constants = {
        n: v for n, v in kind.constants if n.isidentifier() and n not in ("self", "subcon")
    }
    if not constants:
        return number
    texts = ", ".join(f"{dumps(name)}: {value}" for name, value in constants.items())
    source = f"Enum({number.source}, **{{{texts}}})"
    made = construct.Enum(number.construct, **constants)
    return Declared(source, number.imports | {"Enum"}, made)
