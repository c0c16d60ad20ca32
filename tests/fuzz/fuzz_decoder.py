"""The fuzz target of the decoder: the data says which fields there are, and what they hold."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import construct

from libbpf_ctypes.cli.text import escape
from libbpf_ctypes.errors import DecodeError
from libbpf_ctypes.schema import CString, Schema
from tests.pure.declarations import NUMBERS, expected

_MOST_FIELDS, _MOST_BYTES, _DEEPEST = 12, 4096, 3


def fuzz_decoder(data: bytes) -> None:
    """Declares a Struct by the first bytes and decodes the others; raises only for a bug."""
    stream = iter(data)
    declaration = _struct(stream, 0)
    raw = bytes(stream)
    if declaration.sizeof() > _MOST_BYTES:
        return
    schema: Schema[Any] = Schema(declaration)
    if not schema.derived:  # arrays of empty structs: no bytes, and millions of values
        assert "more than a perf sample" in schema.why_not_derived, schema.why_not_derived
        return
    ours = _decoded(schema, raw)
    fits = schema.size <= len(raw) <= schema.size + 7
    try:
        theirs = declaration.parse(raw) if fits else None
    except construct.ConstError:
        theirs = None
    assert (ours is None) == (theirs is None), (ours, theirs)
    if ours is None:
        return
    assert expected(ours) == expected(theirs)
    assert expected(next(schema.decode_many([raw]))) == expected(ours)
    whole = raw[: schema.size]
    if whole:
        assert [expected(r) for r in schema.decode_many(whole * 2)] == [expected(ours)] * 2
    try:
        built = schema.build(ours)
    except DecodeError:
        # A flag of a signed number's highest bit: construct cannot build it either.
        try:
            declaration.build(theirs)
        except (construct.ConstructError, struct.error):
            return
        raise
    assert expected(schema.decode(built)) == expected(schema.decode(schema.build(ours)))
    _check_escapes(ours)


def _decoded(schema: Schema[Any], raw: bytes) -> Any:
    try:
        return schema.decode(raw)
    except DecodeError as error:
        assert str(error).isprintable()
        return None


def _check_escapes(value: Any) -> None:
    if isinstance(value, str):
        assert escape(value).isprintable()
    elif isinstance(value, (tuple, list)):
        for item in value:
            _check_escapes(item)


def _struct(stream: Iterator[int], depth: int) -> Any:
    fields = []
    for number in range(next(stream, 0) % (_MOST_FIELDS + 1)):
        kind = _field(stream, depth)
        unnamed = isinstance(kind, (construct.Padded, construct.Const)) and next(stream, 0) % 2
        fields.append(kind if unnamed else f"f{number}" / kind)
    return construct.Struct(*fields)


def _field(stream: Iterator[int], depth: int) -> Any:
    kind, size = next(stream, 0) % 12, next(stream, 0)
    number = getattr(construct, NUMBERS[size % len(NUMBERS)])
    integer = construct.BytesInteger(size % 9 + 1, signed=size % 2 == 1, swapped=size % 3 == 1)
    if kind < 4:
        return number
    if kind == 4:
        return construct.Bytes(size)
    if kind == 5:
        return CString(size)
    if kind == 6:
        return construct.Padding(size)
    if kind == 7:
        return construct.Enum(integer, none=0, one=1, last=size)
    if kind == 8:
        return construct.FlagsEnum(integer, low=1, high=128, some=size or 1)
    if kind == 9:
        return construct.Const(bytes(islice(stream, size % 4 + 1)) or b"\0")
    if kind == 10 and depth < _DEEPEST:
        return construct.Array(size % 200, _element(stream, depth + 1))
    return _struct(stream, depth + 1) if depth < _DEEPEST else construct.Flag


def _element(stream: Iterator[int], depth: int) -> Any:
    """A field that may stand in an array."""
    element = _field(stream, depth)
    return construct.Int8ul if isinstance(element, construct.Padded) else element


if __name__ == "__main__":
    fuzz_decoder(sys.stdin.buffer.read())
