"""Schemas derived from construct Structs: as fast as struct, as right as construct."""

from __future__ import annotations

from typing import Any

import construct
import pytest
from construct import Struct
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import DecodeError, Schema
from libbpf_ctypes.schema import CString, as_schema

ORDERS = {"l": "little", "b": "big", "n": "native"}


def integers(order: str) -> list[Any]:
    """construct's integers and floats of one byte order."""
    names = [f"Int{bits}{sign}{order}" for bits in (8, 16, 32, 64) for sign in "su"]
    names += [f"Float{bits}{order}" for bits in (16, 32, 64)]
    return [getattr(construct, name) for name in names]


@st.composite
def flat_structs(draw: st.DrawFn) -> tuple[Any, bytes]:
    """A flat Struct of one byte order, and bytes of its size."""
    order = draw(st.sampled_from(sorted(ORDERS)))
    kinds = st.one_of(
        st.sampled_from(integers(order)),
        st.integers(0, 20).map(construct.Bytes),
        st.integers(1, 20).map(CString),
        st.integers(0, 9).map(construct.Padding),
    )
    fields = []
    for number, kind in enumerate(draw(st.lists(kinds, max_size=8))):
        padding = isinstance(kind, construct.Padded)
        fields.append(kind if padding else f"field{number}" / kind)
    declaration = Struct(*fields)
    size = declaration.sizeof()
    return declaration, draw(st.binary(min_size=size, max_size=size))


def fields_of(container: Any) -> dict[str, Any]:
    return {name: value for name, value in container.items() if name != "_io"}


@given(flat_structs())
def test_flat_structs_are_derived_and_agree_with_construct(example: tuple[Any, bytes]) -> None:
    declaration, raw = example
    schema: Schema[Any] = Schema(declaration, "Sample")
    assert schema.derived
    assert schema.size == len(raw)
    record = schema.parse(raw)
    assert type(record).__name__ == "Sample"
    # repr, because not a number equals itself
    assert repr(record._asdict()) == repr(fields_of(declaration.parse(raw)))


UNDERIVED = {
    "nested struct": Struct("a" / Struct("b" / construct.Int32ul), "c" / construct.Int8ul),
    "two byte orders": Struct("a" / construct.Int32ul, "b" / construct.Int32ub),
    "array": Struct("a" / construct.Array(4, construct.Int16ul)),
    "enumeration": Struct("a" / construct.Enum(construct.Int32ul, one=1, two=2)),
    "three bytes": Struct("a" / construct.Int24ul, "b" / construct.Int8ul),
    "no name": Struct(construct.Int32ul, "b" / construct.Int32ul),
    "bits": Struct("a" / construct.BitStruct("b" / construct.Nibble, "c" / construct.Nibble)),
    "flag": Struct("a" / construct.Flag, "b" / construct.Bytes(3)),
    "keyword": Struct("from" / construct.Int32ul, "to" / construct.Int32ul),
    "underscore": Struct("_a" / construct.Int32ul),
    "no identifier": Struct("a²" / construct.Int32ul, "b c" / construct.Int32ul),
    "name twice": Struct("a" / construct.Int32ul, "a" / construct.Int32ul),
}


@pytest.mark.parametrize("what", UNDERIVED)
@given(data=st.data())
def test_other_structs_are_left_to_construct(what: str, data: st.DataObject) -> None:
    declaration = UNDERIVED[what]
    schema: Schema[Any] = Schema(declaration)
    assert not schema.derived
    assert schema.record is construct.Container
    raw = data.draw(st.binary(min_size=schema.size, max_size=schema.size))
    expected = fields_of(declaration.parse(raw))
    assert fields_of(schema.parse(raw + b"\xff" * 7)) == expected
    assert fields_of(schema.decode(raw)) == expected


@pytest.mark.parametrize(
    "declaration",
    [
        Struct("a" / construct.VarInt),
        Struct("a" / construct.GreedyBytes),
        Struct("n" / construct.Int8ul, "a" / construct.Bytes(construct.this.n)),
        Struct("a" / construct.CString("utf8")),
    ],
)
def test_structs_of_no_fixed_size_are_refused(declaration: Any) -> None:
    with pytest.raises(DecodeError, match="fixed size"):
        Schema(declaration, "Loose")
    with pytest.raises(DecodeError, match="derive schema"):
        as_schema(declaration)


@pytest.mark.parametrize("derived", [True, False])
def test_lengths_are_checked_with_and_without_derivation(derived: bool) -> None:
    inner = construct.Int32ul if derived else construct.Array(1, construct.Int32ul)
    schema: Schema[Any] = Schema(Struct("a" / inner))
    assert schema.derived is derived
    for size in (4, 11):
        schema.parse(bytes(size))
    for size in (0, 3, 12):
        with pytest.raises(DecodeError, match=f"{size} bytes came, and the schema has 4"):
            schema.parse(bytes(size))


def test_a_struct_is_compiled_once() -> None:
    declaration = Struct("a" / construct.Int32ul)
    first = as_schema(declaration)
    assert as_schema(declaration) is first
    assert as_schema(declaration).record is first.record


@given(st.text().filter(lambda text: "\0" not in text and len(text.encode()) <= 16))
def test_cstring_builds_what_it_reads(text: str) -> None:
    field = CString(16)
    assert field.build(text) == text.encode().ljust(16, b"\0")
    assert field.parse(field.build(text)) == text


def test_cstring_refuses_what_does_not_fit() -> None:
    assert CString(4).build(b"abcd") == b"abcd"
    with pytest.raises(construct.StringError):
        CString(4).build("abcde")
    with pytest.raises(construct.StringError):
        CString(4).build("äöü")  # three characters, six bytes
