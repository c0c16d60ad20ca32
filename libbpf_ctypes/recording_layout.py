"""The layout of a recording's events: of a declaration, and as a decoder again."""

from __future__ import annotations

import sys
from keyword import iskeyword
from typing import Any

import construct
from construct import Bytes, Struct

from .recording_format import (
    BIG,
    BYTES,
    FLOAT,
    INTEGER,
    LITTLE,
    MAX_FIELDS,
    MAX_SAMPLE,
    TEXT,
    Field,
    Header,
)
from .schema import CString, Schema


def layout_of(declaration: Struct) -> tuple[int, int, tuple[Field, ...]]:
    """This machine's byte order (LITTLE, BIG), an event's size in bytes, and its fields.

    Args: declaration: a flat Struct of native byte order. An Array's elements become fields
        of their own: "values" is "values0", "values1" and so on.
    Raises: ValueError: a field that a recording cannot describe.
    """
    fields: list[Field] = []
    offset = 0
    for sub in declaration.subcons:
        inner = sub.subcon if isinstance(sub, construct.Renamed) else sub
        names = [sub.name]
        if isinstance(inner, construct.Array):
            names = [f"{sub.name}{number}" for number in range(inner.count)]
            inner = inner.subcon
        for name in names:
            size = inner.sizeof()
            if name:
                fields.append(Field(name, offset, size, *_kind(inner)))
            offset += size
    return (LITTLE if sys.byteorder == "little" else BIG), offset, tuple(fields)


def _kind(subcon: Any) -> tuple[int, bool]:
    """The kind of a field, and whether it is signed."""
    if isinstance(subcon, construct.FormatField):
        code = subcon.fmtstr[1:]
        return (FLOAT, True) if code in "efd" else (INTEGER, code.islower())
    if isinstance(subcon, CString):
        return TEXT, False
    if isinstance(subcon, Bytes):
        return BYTES, False
    raise ValueError(f"a recording has no kind of field for {subcon!r}")


def schema_of(header: Header) -> Schema[Any]:
    """The decoder of a recording's samples, by the layout in its header.

    Raises: ValueError: the layout is none.
    """
    names = [field.name for field in header.fields]
    if len(names) > MAX_FIELDS:
        raise ValueError(f"it has {len(names)} fields, more than {MAX_FIELDS}")
    if len(set(names)) < len(names) or not all(map(_is_plain_name, names)):
        raise ValueError("its fields' names are not all different, or not names")
    subcons: list[Any] = []
    at = 0
    for field in sorted(header.fields, key=lambda field: field.offset):
        if field.offset < at or not field.size:
            raise ValueError(f"the field {field.name!r} overlaps another")
        if field.offset > at:
            subcons.append(construct.Padding(field.offset - at))
        subcons.append(field.name / _subcon(field, header.byte_order))
        at = field.offset + field.size
    if not at <= header.size <= MAX_SAMPLE:
        raise ValueError(f"its fields have {at} bytes, and the event {header.size}")
    if header.size > at:
        subcons.append(construct.Padding(header.size - at))
    schema: Schema[Any] = Schema(Struct(*subcons), "Event")
    return schema


def _is_plain_name(name: str) -> bool:
    """Whether a named tuple takes it. Of ASCII: Python takes some other letters for the same."""
    plain = name.isascii() and name.isidentifier() and not name.startswith("_")
    return plain and not iskeyword(name)


def _subcon(field: Field, byte_order: int) -> Any:
    order = "b" if byte_order == BIG else "l"
    if field.kind == INTEGER and field.size in (1, 2, 4, 8):
        return getattr(construct, f"Int{8 * field.size}{'s' if field.signed else 'u'}{order}")
    if field.kind == FLOAT and field.size in (2, 4, 8):
        return getattr(construct, f"Float{8 * field.size}{order}")
    if field.kind == TEXT:
        return CString(field.size)
    if field.kind == BYTES:
        return Bytes(field.size)
    raise ValueError(f"the field {field.name!r} is of kind {field.kind} and {field.size} bytes")
