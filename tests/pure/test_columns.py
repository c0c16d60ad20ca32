"""Columns hold what the decoder gives, for any declaration."""

from __future__ import annotations

import importlib
import math
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import BpfError
from libbpf_ctypes.columns import column_type
from libbpf_ctypes.events import SYSCALL_EVENT_SCHEMA
from libbpf_ctypes.fields import CString
from libbpf_ctypes.schema import Schema

from .declarations import NUMBERS
from .helpers import ROOT, run_python

numpy = pytest.importorskip("numpy")


def test_the_shipped_events_columns() -> None:
    raw = SYSCALL_EVENT_SCHEMA.build(SYSCALL_EVENT_SCHEMA.record(1, 2, 3, 4, "cat"))
    array = numpy.frombuffer(raw * 3, column_type(SYSCALL_EVENT_SCHEMA))
    assert array.dtype.names == ("pid", "tid", "syscall_nr", "timestamp_ns", "comm")
    assert [tuple(row) for row in array.tolist()] == [(1, 2, 3, 4, b"cat")] * 3
    assert array["timestamp_ns"].dtype == numpy.uint64


fields = st.one_of(
    st.sampled_from([name for name in NUMBERS if "24" not in name]).map(
        lambda name: getattr(construct, name)
    ),
    st.integers(0, 9).map(construct.Bytes),
    st.just(construct.Flag),
    st.just(construct.Enum(construct.Int16ub, one=1, two=2)),
    st.just(construct.Array(3, construct.Int16sl)),
    st.just(construct.Array(2, construct.Array(2, construct.Int8ub))),
    st.just(construct.Struct("x" / construct.Int8ub, construct.Padding(2), "y" / construct.Flag)),
)


def plain(value: Any) -> Any:
    """A decoded value as numpy's tolist() gives it."""
    if isinstance(value, construct.EnumIntegerString):
        return int(value)
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, (list, bytes)):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def same(a: Any, b: Any) -> bool:
    """Equal, and a NaN is one."""
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@given(st.lists(fields, min_size=1, max_size=6), st.integers(0, 12), st.integers(0, 7), st.data())
def test_columns_are_what_is_decoded(
    parts: list[Any], before: int, after: int, data: st.DataObject
) -> None:
    declaration = construct.Struct(*(f"f{n}" / part for n, part in enumerate(parts)))
    schema: Schema[Any] = Schema(declaration, "E")
    stride = before + schema.size + after
    names = [name for name, node in schema.fields.items if name and node.size]
    if not names:
        return
    raw = data.draw(st.binary(min_size=3 * stride, max_size=3 * stride))
    array = numpy.frombuffer(raw, column_type(schema, before, stride))
    for number, row in enumerate(array):
        at = number * stride + before
        record = schema.decode(raw[at : at + schema.size])
        for name in names:
            found = row[name]
            found = found.tolist() if hasattr(found, "tolist") else found
            expected = plain(getattr(record, name))
            assert same(found, expected), (name, declaration)


def test_texts_and_odd_integers_are_bytes() -> None:
    declaration = construct.Struct("text" / CString(6), "odd" / construct.Int24ul)
    array = numpy.frombuffer(b"ab\0c\0\0\1\2\3", column_type(Schema(declaration)))
    assert array["text"][0] == b"ab\0c"
    assert array["odd"][0].tobytes() == b"\1\2\3"


def test_a_schema_that_only_construct_parses_has_none() -> None:
    declaration = construct.Struct("n" / construct.VarInt)
    with pytest.raises(BpfError, match=r"Event has no columns: n is a VarInt"):
        column_type(Schema(declaration))


def test_without_numpy_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BpfError, match=r"libbpf-ctypes\[numpy\]"):
        column_type(SYSCALL_EVENT_SCHEMA)


def test_nothing_imports_numpy_before_columns_are_asked_for() -> None:
    code = (
        "import sys, libbpf_ctypes.perf_buffer, libbpf_ctypes.columns, libbpf_ctypes.cli.trace\n"
        "assert 'numpy' not in sys.modules"
    )
    done = run_python(code, path=ROOT)
    assert done.returncode == 0, done.stderr
