"""Schemas derived from construct Structs: as fast as struct, as right as construct."""

from __future__ import annotations

import array
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import construct
import pytest
from construct import Struct, this
from hypothesis import assume, example, given
from hypothesis import strategies as st

from libbpf_ctypes import DecodeError, Schema
from libbpf_ctypes.events import SYSCALL_EVENT_SCHEMA
from libbpf_ctypes.fields import describe
from libbpf_ctypes.schema import CString, as_schema, decode_cstring

from .declarations import declarations, expected, with_bytes


def canonical(declaration: Any, raw: bytes) -> bytes:
    """RAW with plain text in its PaddedStrings, NULs at the end only.

    There is the one documented difference: construct strips NULs from the end and
    raises for bytes that are not text, where we cut and keep.
    """
    changed = bytearray(raw)

    def visit(sub: Any, at: int) -> int:
        while type(sub) is construct.Renamed:
            sub = sub.subcon
        if isinstance(sub, Struct):
            for field in sub.subcons:
                at = visit(field, at)
            return at
        if isinstance(sub, construct.Array):
            for _ in range(sub.count):
                at = visit(sub.subcon, at)
            return at
        size = int(sub.sizeof())
        if isinstance(sub, construct.core.StringEncoded):
            text = bytes(raw[at : at + size]).partition(b"\0")[0]
            plain = bytes(65 + byte % 26 for byte in text)
            changed[at : at + size] = plain.ljust(size, b"\0")
        return at + size

    visit(declaration, 0)
    return bytes(changed)


@given(with_bytes())
def test_every_value_is_constructs(case: tuple[Any, bytes]) -> None:
    declaration, raw = case
    schema: Schema[Any] = Schema(declaration, "Sample")
    assert schema.derived, schema.why_not_derived
    assert schema.size == len(raw)
    raw = canonical(declaration, raw)
    try:
        theirs = declaration.parse(raw)
    except construct.ConstError:
        for decode in (schema.decode, lambda raw: list(schema.decode_many(raw))):
            with pytest.raises(DecodeError, match="it must be"):
                decode(raw)
        return
    ours = schema.decode(raw)
    assert type(ours) is schema.record
    assert type(ours).__name__ == "Sample"
    assert expected(ours) == expected(theirs)


@given(with_bytes(), st.binary(max_size=7))
def test_all_ways_to_decode_agree_and_padding_never_matters(
    case: tuple[Any, bytes], padding: bytes
) -> None:
    declaration, raw = case
    schema: Schema[Any] = Schema(declaration)
    ways: dict[str, Any] = {
        "bytes": lambda: schema.decode(raw),
        "bytearray": lambda: schema.decode(bytearray(raw)),
        "view": lambda: schema.decode(memoryview(raw)),
        "padded": lambda: schema.decode(raw + padding),
        "padded view": lambda: schema.decode(memoryview(raw + padding)),
        "reader": lambda: schema.reader()(raw),
        "samples": lambda: next(iter(schema.decode_many([raw + padding]))),
        "samples exactly": lambda: next(iter(schema.decode_many(iter([raw])))),
    }
    if raw:
        ways["many"] = lambda: list(schema.decode_many(raw * 3))[2]
        ways["many view"] = lambda: next(iter(schema.decode_many(memoryview(raw * 2))))
    results = set()
    for way in ways.values():
        try:
            results.add(str(expected(way())))
        except DecodeError as error:
            results.add(str(error))
    assert len(results) == 1, results


@given(with_bytes())
def test_what_is_built_is_parsed_back_and_what_was_parsed_is_built(case: tuple[Any, bytes]) -> None:
    declaration, raw = case
    schema: Schema[Any] = Schema(declaration)
    try:
        record = schema.decode(raw)
    except DecodeError:
        assume(False)
    built = schema.build(record)
    assert len(built) == schema.size
    again = schema.decode(built)
    assert expected(again) == expected(record)
    assert schema.build(again) == built
    # Bytes that construct would build come back as they were.
    whole = canonical(declaration, raw)
    mapping = declaration.parse(whole)
    theirs = declaration.build(mapping)
    assert schema.build(schema.decode(theirs)) == theirs
    assert schema.build(mapping) == theirs, "a Container is built as a record is"


@given(declarations, st.binary(max_size=200))
@example(Struct(), b"")
@example(Struct(), b"x" * 8)
def test_any_bytes_are_a_record_or_the_documented_error(declaration: Any, data: bytes) -> None:
    schema: Schema[Any] = Schema(declaration)
    fits = schema.size <= len(data) <= schema.size + 7
    for decode in (schema.decode, lambda data: next(schema.decode_many([data]))):
        try:
            record = decode(data)
            assert fits
            assert isinstance(record, schema.record)
        except DecodeError as error:
            if not fits:
                assert f"{len(data)} bytes came, and the schema has {schema.size}" in str(error)
            else:
                assert "it must be" in str(error)
    try:
        count = len(list(schema.decode_many(data)))
        assert count * schema.size == len(data)
    except DecodeError as error:
        assert str(error)


@pytest.mark.parametrize("size", [1, 39, 41, 79])
def test_a_torn_end_is_refused_before_any_record(size: int) -> None:
    schema: Schema[Any] = Schema(Struct("a" / construct.Bytes(40)))
    with pytest.raises(DecodeError, match=f"{size} bytes came, which is no multiple .* 40"):
        schema.decode_many(bytes(size))
    assert len(list(schema.decode_many(bytes(80)))) == 2
    assert list(schema.decode_many(b"")) == []


@pytest.mark.parametrize("kind", ["utf8", "ascii", "CString"])
@given(raw=st.binary(min_size=12, max_size=12))
def test_texts_end_at_the_first_nul_and_keep_every_byte(kind: str, raw: bytes) -> None:
    field = CString(12) if kind == "CString" else construct.PaddedString(12, kind)
    schema: Schema[Any] = Schema(Struct("a" / field))
    text = schema.decode(raw).a
    encoding = "ascii" if kind == "ascii" else "utf-8"
    assert text.encode(encoding, "surrogateescape") == raw.partition(b"\0")[0]
    assert schema.build(schema.decode(raw)) == raw.partition(b"\0")[0].ljust(12, b"\0")


UNDERIVED: dict[str, tuple[Any, str]] = {
    "no name": (Struct(construct.Int32ul, "b" / construct.Int32ul), "has no name"),
    "bits": (Struct("a" / construct.BitStruct("b" / construct.Octet)), "a is a Transformed"),
    "keyword": (Struct("from" / construct.Int32ul), "from has a name"),
    "underscore": (Struct("_a" / construct.Int32ul), "_a has a name"),
    "no identifier": (Struct("a²" / construct.Int32ul, "b c" / construct.Int32ul), "a² has a name"),
    "name twice": (Struct("a" / construct.Int32ul, "a" / construct.Int32ul), "two fields of one"),
    "computed": (
        Struct("a" / construct.Int8ul, "b" / construct.Computed(this.a + 1)),
        "b is a Comp",
    ),
    "conditional": (
        Struct("a" / construct.Int8ul, "b" / construct.If(False, construct.Int8ul)),
        "b is",
    ),
    "wide text": (Struct("a" / construct.PaddedString(8, "utf16")), "a is text in utf16"),
    "hook": (Struct("a" / construct.Int8ul * (lambda obj, context: None)), "a calls a function"),
    "within": (
        Struct("a" / construct.Struct("b" / construct.Hex(construct.Int8ul))[2]),
        "a[].b is a Hex",
    ),
    "huge": (Struct("a" / construct.Int8ul[70000]), "has 70000 values"),
    "renamed type": (construct.Int8ul, "no Struct"),
}
VARIABLE: dict[str, tuple[Any, bytes]] = {
    "length": (Struct("n" / construct.Int8ul, "a" / construct.Bytes(this.n)), b"\2ab"),
    "number": (Struct("a" / construct.VarInt), b"\x80\x01"),
    "string": (Struct("a" / construct.CString("utf8")), b"abc\0"),
}


@pytest.mark.parametrize("what", UNDERIVED)
def test_other_declarations_are_left_to_construct_and_say_so(what: str) -> None:
    declaration, why = UNDERIVED[what]
    schema: Schema[Any] = Schema(declaration)
    assert not schema.derived
    assert why in schema.why_not_derived
    assert schema.record is construct.Container
    if schema.size < 0:
        return
    raw = bytes(range(schema.size % 256)) if schema.size < 256 else bytes(schema.size)
    wanted = expected(declaration.parse(raw))
    assert expected(schema.decode(raw + b"\xff" * 7)) == wanted
    assert [expected(r) for r in schema.decode_many(raw * 2)] == [wanted] * 2
    assert [expected(r) for r in schema.decode_many([raw + b"\xff"])] == [wanted]
    assert list(schema.decode_many(b"")) == []
    for size in (schema.size - 1, schema.size + 8):
        with pytest.raises(
            DecodeError, match=f"{size} bytes came, and the schema has {schema.size}"
        ):
            schema.decode(bytes(size))


@pytest.mark.parametrize("what", VARIABLE)
def test_declarations_of_varying_size_are_left_to_construct_too(what: str) -> None:
    declaration, raw = VARIABLE[what]
    schema: Schema[Any] = Schema(declaration)
    assert (schema.size, schema.derived) == (-1, False)
    wanted = expected(declaration.parse(raw))
    assert expected(schema.decode(raw + bytes(7))) == wanted
    assert [expected(r) for r in schema.decode_many(raw * 3)] == [wanted] * 3
    assert schema.build(schema.decode(raw)) == raw
    for wrong in (raw[:-1], b"", raw + bytes(8)):
        with pytest.raises(DecodeError):
            schema.decode(wrong)


@given(
    st.sampled_from([declaration for declaration, _ in VARIABLE.values()]), st.binary(max_size=30)
)
def test_what_construct_raises_is_the_documented_error(declaration: Any, data: bytes) -> None:
    schema: Schema[Any] = Schema(declaration)
    for decode in (schema.decode, lambda data: list(schema.decode_many(data))):
        try:
            decode(data)
        except DecodeError as error:
            assert len(str(error).splitlines()) == 1


def test_an_event_of_no_bytes_does_not_repeat_for_ever() -> None:
    empty = Struct("a" / construct.If(this._.missing, construct.VarInt))
    schema: Schema[Any] = Schema(Struct("b" / construct.Optional(construct.Const(b"x"))))
    with pytest.raises(DecodeError, match="took no bytes"):
        list(schema.decode_many(b"y"))
    with pytest.raises(DecodeError, match="construct cannot parse"):
        Schema(empty).decode(b"")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"a": 256, "b": [1, 2], "t": "x"}, "Event.a: 256 does not fit"),
        ({"a": -1, "b": [1, 2], "t": "x"}, "Event.a: -1 does not fit"),
        ({"a": "1", "b": [1, 2], "t": "x"}, "Event.a: '1' does not fit"),
        ({"a": 1, "b": [1], "t": "x"}, "1 elements, not 2"),
        ({"a": 1, "b": [1, 70000], "t": "x"}, "Event.b[1]: 70000 does not fit"),
        ({"a": 1, "b": 5, "t": "x"}, "Event.b: 5 does not fit"),
        ({"a": 1, "b": [1, 2], "t": "12345"}, "5 bytes, not 4"),
        ({"a": 1, "b": [1, 2], "t": "1\0002"}, "a NUL would end it"),
        ({"a": 1, "b": [1, 2], "t": 4}, "Event.t: 4 does not fit"),
        ({"a": 1, "b": [1, 2]}, "the record has no t"),
        (None, "the record has no a"),
        ({"a": 1, "b": [1, 2], "t": "x", "m": b"no"}, "it must be b'ok'"),
        ({"a": 1, "b": [1, 2], "t": "x", "e": "three"}, "Event.e: 'three' does not fit"),
    ],
)
def test_what_does_not_fit_is_not_built(record: Any, told: str) -> None:
    schema: Schema[Any] = Schema(
        Struct(
            "a" / construct.Int8ul,
            "b" / construct.Int16ub[2],
            "t" / construct.PaddedString(4, "utf8"),
            "m" / construct.Const(b"ok"),
            "e" / construct.Enum(construct.Int8ul, one=1),
        )
    )
    assert schema.build({"a": 1, "b": [1, 2], "t": "x", "e": "one"})[-3:] == b"ok\1"
    if isinstance(record, dict):
        record = {"e": 1, **record}
    with pytest.raises(DecodeError) as caught:
        schema.build(record)
    assert told in str(caught.value)


def test_records_are_named_tuples() -> None:
    schema: Schema[Any] = Schema(
        Struct("a" / construct.Int8ul, "inner_part" / Struct("x" / construct.Int8ul)[2]), "Pair"
    )
    record = schema.decode(b"\1\2\3")
    a, (first, second) = record
    assert (a, first.x, second) == (1, 2, (3,))
    assert repr(record) == "Pair(a=1, inner_part=[InnerPart(x=2), InnerPart(x=3)])"
    assert type(first) is type(second)
    assert record._asdict() == {"a": 1, "inner_part": [(2,), (3,)]}
    assert record._replace(a=9) == (9, [(2,), (3,)])
    assert type(record._replace(a=9)) is schema.record
    assert schema.record(4, inner_part=[]) == (4, [])
    assert schema.record._make([4, 5]).inner_part == 5
    assert copy.copy(record) == copy.deepcopy(record) == record
    for wrong in ((1,), (1, 2, 3)):
        with pytest.raises(TypeError):
            schema.record(*wrong)
    with pytest.raises(TypeError):
        schema.record(1, 2, a=3)
    with pytest.raises(AttributeError):
        record.a = 5


def test_the_shipped_record_is_pickled() -> None:
    from libbpf_ctypes import SyscallEvent

    event = SyscallEvent(1, 2, 3, 4, "x")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(event, protocol))
        assert again == event
        assert type(again) is SyscallEvent


@pytest.mark.parametrize("name", ["", "a b", "class", "1st"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="cannot have this name"):
        Schema(Struct("a" / construct.Int8ul), name)


@pytest.mark.parametrize("thing", [5, "pid", None, int])
def test_what_is_no_declaration_is_refused(thing: Any) -> None:
    with pytest.raises(DecodeError, match="no construct declaration"):
        as_schema(thing)


def test_field_names_never_become_code() -> None:
    declaration = Struct("unpack" / construct.Int8ul, "v0" / construct.Int8ul, "x1" / CString(2))
    assert Schema(declaration).decode(b"\1\2ab") == (1, 2, "ab")
    assert describe(Struct("a); import os; (" / construct.Int8ul)).obstacle()


def test_a_struct_is_compiled_once() -> None:
    declaration = Struct("a" / construct.Int32ul)
    first = as_schema(declaration)
    assert as_schema(declaration) is first
    assert as_schema(declaration).record is first.record


def test_a_schema_that_nobody_holds_is_freed() -> None:
    declaration = Struct("a" / construct.Int32ul, "t" / CString(4))
    gone = weakref.ref(declaration), weakref.ref(as_schema(declaration))
    del declaration
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


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


def test_buffers_are_counted_in_bytes() -> None:
    schema: Schema[Any] = Schema(construct.Struct("a" / construct.Int64un[5]))
    raw = bytes(range(40))
    whole = schema.decode(raw)
    buffers: list[Any] = [memoryview(raw).cast("Q"), array.array("Q", raw), bytearray(raw)]
    for buffer in buffers:
        assert schema.decode(buffer) == whole
        assert list(schema.decode_many(buffer)) == [whole]
        assert list(schema.decode_many([buffer, raw + bytes(4)])) == [whole, whole]
    wrong: list[Any] = [memoryview(bytes(320)).cast("Q"), memoryview(raw)[::2], "text", None, 5]
    for data in wrong:
        with pytest.raises(DecodeError):
            schema.decode(data)
    with pytest.raises(DecodeError, match="text came"):
        schema.decode_many("text")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: construct.Array(10**6, construct.Struct()), "more than a perf sample"),
        (lambda: construct.Array(10**6, construct.Struct(construct.Padding(1))), "perf sample"),
        (lambda: construct.Bytes(10**30), "more than a perf sample"),
        (lambda: construct.Padding(10**20), "more than a perf sample"),
        (lambda: nested(50), "is nested"),
        (lambda: nested(5000), "is nested"),
    ],
)
def test_what_is_too_large_is_left_to_construct(make: Callable[[], Any], why: str) -> None:
    schema: Schema[Any] = Schema(construct.Struct("a" / make()))
    assert not schema.derived
    assert why in schema.why_not_derived


def nested(levels: int) -> Any:
    declaration: Any = construct.Int8ub
    for _ in range(levels):
        declaration = construct.Struct("a" / declaration)
    return declaration


def test_flat_records_are_structs_own_tuples() -> None:
    declaration = construct.Struct(
        "kind" / construct.Enum(construct.Int8ub, one=1),
        "ports" / construct.Array(2, construct.Int16ub),
        construct.Padding(1),
        "inner" / construct.Struct("flag" / construct.Flag, "name" / CString(4)),
        construct.Const(7, construct.Int8ub),
    )
    schema: Schema[Any] = Schema(declaration, "Mixed")
    flat = schema.flat()
    data = b"\x01\x00\x02\x00\x03\xff\x01ab\0c\x09"
    expected = (1, 2, 3, True, b"ab\0c", 9)
    assert flat.decode(data) == flat.decode(data + bytes(7)) == expected
    assert flat.record is tuple
    assert list(flat.decode_many(data * 3)) == [expected] * 3
    assert list(flat.decode_many([data, data + b"pad"])) == [expected] * 2
    assert list(flat.spaced(2, 1)((b"xx" + data + b"y") * 2)) == [expected] * 2
    assert flat.reader()(data) == expected
    for wrong in (data[:-1], data + bytes(8)):
        with pytest.raises(DecodeError, match="and the schema has 12"):
            flat.decode(wrong)
    with pytest.raises(DecodeError, match="it must be 7"):
        schema.decode(data)  # the one it was made of is as it was


@given(st.binary(min_size=40, max_size=40))
def test_the_shipped_event_flat(data: bytes) -> None:
    event = SYSCALL_EVENT_SCHEMA.decode(data)
    *numbers, comm = SYSCALL_EVENT_SCHEMA.flat().decode(data)
    assert (*numbers, decode_cstring(comm)) == event


def test_only_derived_schemas_have_a_flat_one() -> None:
    with pytest.raises(DecodeError, match="n is a VarInt"):
        Schema(construct.Struct("n" / construct.VarInt)).flat()
