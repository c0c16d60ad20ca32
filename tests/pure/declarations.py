"""construct declarations and values for the tests: what users write, in any mix."""

from __future__ import annotations

import math
from typing import Any

import construct
from hypothesis import strategies as st

from libbpf_ctypes.fields import CString

NUMBERS = [
    f"Int{bits}{sign}{order}" for bits in (8, 16, 24, 32, 64) for sign in "su" for order in "lbn"
]
NUMBERS += [f"Float{bits}{order}" for bits in (16, 32, 64) for order in "lbn"]
UNSIGNED = [name for name in NUMBERS if "u" in name[:-1]]

names = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in {"as", "if", "is", "in", "or", "and", "not", "for", "def", "del", "try"}
        and not __import__("keyword").iskeyword(name)
    )
)
numbers = st.sampled_from(NUMBERS).map(lambda name: getattr(construct, name))
unsigned = st.sampled_from(UNSIGNED).map(lambda name: getattr(construct, name))
wide = st.builds(construct.BytesInteger, st.integers(1, 20), st.booleans(), st.booleans())


@st.composite
def enums(draw: st.DrawFn) -> Any:
    """An Enum of small numbers, so that drawn bytes hit its names."""
    labels = draw(
        st.dictionaries(
            names.filter(lambda n: n != "subcon" and n != "self"), st.integers(0, 5), max_size=4
        )
    )
    return construct.Enum(draw(numbers.filter(_is_integer)), **labels)


@st.composite
def flags(draw: st.DrawFn) -> Any:
    """A FlagsEnum, some of its flags of several bits."""
    labels = draw(
        st.dictionaries(
            names.filter(lambda n: n not in ("subcon", "self")), st.integers(1, 255), max_size=4
        )
    )
    return construct.FlagsEnum(draw(unsigned), **labels)


def _is_integer(number: Any) -> bool:
    return not getattr(number, "fmtstr", "  ").endswith(("e", "f", "d"))


constants = st.one_of(
    st.binary(min_size=1, max_size=3).map(construct.Const),
    st.builds(construct.Const, st.integers(0, 3), unsigned),
)
texts = st.one_of(
    st.integers(1, 20).map(CString),
    st.builds(
        construct.PaddedString, st.integers(0, 70), st.sampled_from(["utf8", "ascii", "utf-8"])
    ),
)
leaves = st.one_of(
    numbers,
    numbers,
    wide,
    st.integers(0, 20).map(construct.Bytes),
    texts,
    st.just(construct.Flag),
    enums(),
    flags(),
    constants,
)


@st.composite
def structs(draw: st.DrawFn, inner: Any = leaves) -> Any:
    """A Struct of such fields, padding and constants without name between them."""
    fields = []
    for name in draw(st.lists(names, max_size=6, unique=True)):
        fields.append(name / draw(inner))
        if draw(st.integers(0, 3)) == 0:
            fields.append(draw(st.one_of(st.integers(0, 9).map(construct.Padding), constants)))
    return construct.Struct(*fields)


def arrays(inner: Any) -> Any:
    """Arrays, some of more values than get variables of their own."""
    return st.builds(construct.Array, st.sampled_from([0, 1, 2, 3, 130]), inner)


#: Structs of everything that is derived, nested in one another.
declarations = structs(
    st.recursive(leaves, lambda inner: st.one_of(arrays(inner), structs(inner)), max_leaves=6)
)


@st.composite
def with_bytes(draw: st.DrawFn, declaration: Any = declarations) -> tuple[Any, bytes]:
    """A declaration and bytes of its size: any, few different ones, or such as build() gives."""
    drawn = draw(declaration)
    size = drawn.sizeof()
    some = st.lists(st.sampled_from([0, 0, 1, 2, 3, 65, 128, 255]), min_size=size, max_size=size)
    raw = bytes(
        draw(st.one_of(some, st.binary(min_size=size, max_size=size)))
        if size < 600
        else draw(st.randoms(use_true_random=False)).randbytes(size)
    )
    return drawn, bytes(raw)


def expected(value: Any) -> Any:
    """construct's value in the terms of a record, as text that two equal ones share.

    Numbers go by repr, because not a number equals itself; a FlagsEnum stays a mapping.
    """
    if isinstance(value, construct.Container):
        items = [
            (name, inner) for name, inner in value.items() if name not in ("_io", "_flagsenum")
        ]
        return "{", [(str(name), expected(inner)) for name, inner in items]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "{", [(n, expected(v)) for n, v in zip(value._fields, value)]
    if isinstance(value, list):
        return "[", [expected(inner) for inner in value]
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else value.hex()
    return type(value).__name__, repr(value)
