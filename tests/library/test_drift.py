"""Schemas against the structs of objects: what clang lays out, and what no longer fits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import construct
import pytest
from construct import Bytes, Int8un, Int16un, Int32sn, Int32un, Int64un, Padding, Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libbpf_ctypes import (
    CALL_EVENT,
    KPROBE_OBJECT,
    SYSCALL_EVENT,
    BpfError,
    BpfObject,
    LayoutError,
    NotFoundError,
    Schema,
)
from libbpf_ctypes.declare import module_source
from libbpf_ctypes.drift import check, compare
from libbpf_ctypes.layout import Structs
from libbpf_ctypes.schema import as_schema

from ..conftest import Compile
from ..pure.helpers import run_tool


class Field(NamedTuple):
    """A type in C ("@" is where the name goes) and in construct, its alignment and size."""

    c: str
    declared: Any
    align: int
    size: int


SCALARS = [
    Field("unsigned char @", Int8un, 1, 1),
    Field("signed char @", construct.Int8sn, 1, 1),
    Field("unsigned short @", construct.Int16ub, 2, 2),
    Field("short @", construct.Int16sl, 2, 2),
    Field("const volatile int @", Int32sn, 4, 4),
    Field("number @", Int32un, 4, 4),
    Field("long long @", construct.Int64sn, 8, 8),
    Field("unsigned long long @", Int64un, 8, 8),
    Field("_Bool @", construct.Flag, 1, 1),
    Field("float @", construct.Float32n, 4, 4),
    Field("double @", construct.Float64n, 8, 8),
    Field("enum level @", construct.Enum(Int32un, LOW=1, HIGH=5), 4, 4),
    Field("void *const @", Int64un, 8, 8),
    Field("union { int a; short b; } @", Bytes(4), 4, 4),
    Field("char @[16]", construct.PaddedString(16, "utf8"), 1, 16),
    Field("unsigned char @[6]", Bytes(6), 1, 6),
    Field("unsigned char @[3]", construct.Int24ul, 1, 3),
]
PREFIX = """typedef const unsigned number_base; typedef number_base number;
enum level { LOW = 1, HIGH = 5 };
"""


def array(field: Field, length: int) -> Field:
    """An array of LENGTH of them."""
    head, _, tail = field.c.partition("@")
    return Field(
        f"{head}@[{length}]{tail}",
        construct.Array(length, field.declared),
        field.align,
        length * field.size,
    )


def struct(fields: list[Field], packed: bool) -> Field:
    """A struct of these: laid out here as the C standard has it, not as clang says."""
    declared, lines, end, align = [], [], 0, 1
    for number, field in enumerate(fields):
        gap = 0 if packed else -end % field.align
        if gap:
            declared.append(Padding(gap))
        declared.append(f"f{number}" / field.declared)
        lines.append(field.c.replace("@", f"f{number}") + ";")
        end += gap + field.size
        align = align if packed else max(align, field.align)
    if -end % align:
        declared.append(Padding(-end % align))
    end += -end % align
    attribute = " __attribute__((packed))" if packed else ""
    text = f"struct {{ {' '.join(lines)} }}{attribute} @"
    return Field(text, Struct(*declared), align, end)


def structs(inner: Any) -> Any:
    return st.builds(struct, st.lists(inner, min_size=1, max_size=5), st.booleans())


fields = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(structs(inner), st.builds(array, inner, st.integers(1, 3))),
    max_leaves=8,
)


def source(types: list[Field]) -> str:
    """C that keeps struct s0, s1, ... in the BTF."""
    lines = []
    for number, field in enumerate(types):
        body = field.c.replace("struct {", f"struct s{number} {{", 1).rpartition(" @")[0]
        lines.append(f"{body}; const struct s{number} *const keep{number} = 0;")
    return PREFIX + "\n".join(lines) + "\n"


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(types=st.lists(structs(fields), min_size=5, max_size=12), data=st.data())
def test_our_layout_is_clangs(
    types: list[Field], data: st.DataObject, compile_bpf: Compile
) -> None:
    path = compile_bpf(source(types))
    with BpfObject.open(path) as obj:
        for number, field in enumerate(types):
            name = f"s{number}"
            schema: Schema[Any] = Schema(name / field.declared, "Drawn")
            c_type = Structs(obj).struct(name)
            assert schema.derived
            assert schema.size == c_type.size == field.size
            assert compare(schema.fields, c_type) == [], field.c
            check(obj, schema)
            # What the object itself says fits it, and agrees with ours on every byte.
            derived = Schema.from_btf(obj, name)
            assert derived.derived
            assert compare(derived.fields, c_type) == []
            space: dict[str, Any] = {}
            exec(module_source(obj, name), space)
            again = as_schema(space[name.upper()])
            check(obj, again)
            raw = data.draw(st.binary(min_size=field.size, max_size=field.size))
            assert (
                repr(again.decode(raw)).partition("(")[2]
                == (repr(derived.decode(raw)).partition("(")[2])
            )
            # A field more is noticed, wherever it is.
            subcons = list(field.declared.subcons)
            at = data.draw(st.integers(0, len(subcons)))
            longer = Struct(*subcons[:at], "added" / Int8un, *subcons[at:])
            with pytest.raises(LayoutError, match="added: u8 at"):
                check(obj, Schema(name / longer, "Drawn"))


EVENT = """
enum level { LOW = -1, HIGH = 5 };
struct inner { unsigned short port; unsigned char address[6]; };
struct drift_event {
	unsigned int pid;
	int code;
	struct inner peers[2];
	char comm[16];
	unsigned long long when;
	enum level level;
	unsigned low : 3;
	unsigned high : 13;
	union { int a; char b[4]; };
	struct { short left; short right; };
	double ratio;
	void *pointer;
	_Bool yes;
};
const struct drift_event *const keep = 0;
"""
INNER = Struct("port" / Int16un, "address" / Bytes(6))
GOOD: dict[str, Any] = {
    "pid": Int32un,
    "code": Int32sn,
    "peers": INNER[2],
    "comm": construct.PaddedString(16, "utf8"),
    "when": Int64un,
    "level": construct.Enum(Int32sn, LOW=-1, HIGH=5),
    "bits": Bytes(4),
    "either": Bytes(4),
    "left": construct.Int16sn,
    "right": construct.Int16sn,
    "ratio": construct.Float64n,
    "pointer": Int64un,
    "yes": construct.Flag,
    "tail": Padding(7),
}


def declared(**changed: Any) -> Any:
    """The declaration with other types; None leaves a field out."""
    both = {**GOOD, **changed}
    return Struct(*(name / kind for name, kind in both.items() if kind is not None))


@pytest.fixture(scope="module")
def obj(compile_bpf: Compile) -> Any:
    with BpfObject.open(compile_bpf(EVENT)) as opened:
        yield opened


def told(obj: BpfObject, declaration: Any) -> str:
    """What is said of a declaration that does not fit."""
    with pytest.raises(LayoutError) as caught:
        check(obj, Schema(declaration, "DriftEvent"))
    return str(caught.value)


FITTING: dict[str, Any] = {
    "as it is": {},
    "names left out": {"level": Int32sn},
    "an enum without sign": {"level": Int32un},
    "bytes for anything": {"when": Bytes(8), "comm": Bytes(16), "peers": Bytes(16)},
    "padding for anything": {"code": Padding(4), "peers": Padding(16), "either": Padding(4)},
    "the other byte order": {"pid": construct.Int32ub},
    "text in unsigned chars": {
        "peers": Struct("port" / Int16un, "address" / construct.PaddedString(6, "ascii"))[2]
    },
    "a number for a bool": {"yes": Int8un},
    "what only construct parses": {"pid": construct.Hex(Int32un)},
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits(what: str, obj: BpfObject) -> None:
    check(obj, Schema(declared(**FITTING[what]), "DriftEvent"))


DIFFERING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "size": (
        {"pid": Int64un},
        [
            "pid: u64 at 0 (8 bytes) in the schema, u32 at 0 (4 bytes) in the object",
            "code: s32 at 8",
        ],
    ),
    "sign": ({"code": Int32un}, ["code: u32 at 4 (4 bytes) in the schema, s32 at 4"]),
    "kind": ({"ratio": Int64un}, ["ratio: u64 at 64 (8 bytes) in the schema, float64 at 64"]),
    "float": ({"when": construct.Float64n}, ["when: float64 at 40", "u64 at 40"]),
    "text": ({"pid": construct.PaddedString(4, "utf8")}, ["pid: text[4] at 0", "u32 at 0"]),
    "number for text": ({"comm": Int64un[2]}, ["comm: u64[2] at 24", "char[16] at 24"]),
    "pointer": ({"pointer": construct.Int64sn}, ["pointer: s64 at 72", "pointer at 72"]),
    "length": ({"peers": INNER[1]}, ["peers: struct[1] at 8", "struct inner[2] at 8 (16 bytes)"]),
    "nested": (
        {"peers": Struct("port" / construct.Int16sn, "address" / Bytes(6))[2]},
        ["peers[].port: s16 at 0 (2 bytes) in the schema, u16 at 0 (2 bytes) in the object"],
    ),
    "nested name": (
        {"peers": Struct("door" / Int16un, "address" / Bytes(6))[2]},
        [
            "peers[].door: u16 at 0 (2 bytes) in the schema, not in the object",
            "peers[].port: not in",
        ],
    ),
    "name": ({"pid": None, "process": None}, ["pid: not in the schema, u32 at 0 (4 bytes)"]),
    "bit-field": ({"bits": None, "low": Int32un}, ["low: u32", "a bit-field of 3 bits at bit 416"]),
    "no tail": ({"tail": None}, ["the whole: 81 bytes in the schema, 88 in the object"]),
    "no union": ({"either": None}, ["a union: not in the schema", "left: s16 at 56"]),
}


@pytest.mark.parametrize("what", DIFFERING)
def test_each_field_that_differs_is_named_with_both_layouts(what: str, obj: BpfObject) -> None:
    changed, expected = DIFFERING[what]
    text = told(obj, declared(**changed))
    for part in expected:
        assert part in text
    assert "ebpf-tool schema FILE drift_event" in text


def test_an_array_of_arrays_and_the_order_of_fields(obj: BpfObject) -> None:
    fields = dict(GOOD)
    swapped = {"code": fields.pop("code"), "pid": fields.pop("pid")}
    text = told(obj, Struct(*(name / kind for name, kind in {**swapped, **fields}.items())))
    assert "code: s32 at 0" in text
    assert "pid: u32 at 4" in text
    assert "when" not in text, "what did not change is not named"


def test_which_struct_is_meant(obj: BpfObject, compile_bpf: Compile) -> None:
    wrong = declared(code=Int32un)
    schema: Schema[Any]
    for schema in (
        Schema(wrong, "DriftEvent"),
        Schema(wrong, "drift_event"),
        Schema("drift_event" / wrong),
        Schema(wrong),  # no name: by its fields'
    ):
        with pytest.raises(LayoutError):
            check(obj, schema)
    for schema in (
        Schema(wrong, "OtherEvent"),
        Schema("other_event" / wrong, "DriftEvent"),
        Schema(Struct("pid" / Int64un, "port" / Int64un)),  # too few shared names
    ):
        check(obj, schema)
    with BpfObject.open(compile_bpf("int x = 1;\n", debug=False)) as bare:
        check(bare, Schema(wrong, "DriftEvent"))
        with pytest.raises(BpfError, match="it has no BTF"):
            Schema.from_btf(bare, "drift_event")


def test_from_btf_of_every_kind_of_member(obj: BpfObject) -> None:
    schema = Schema.from_btf(obj, "drift_event")
    names = (
        "pid",
        "code",
        "peers",
        "comm",
        "when",
        "level",
        "bits_52",
        "union_56",
        "left",
        "right",
    )
    assert schema.record._fields == (*names, "ratio", "pointer", "yes")
    assert schema.record.__name__ == "DriftEvent"
    record = schema.decode(bytes([255]) * 88)
    assert record.level == "LOW"
    assert (record.code, record.pid, record.yes) == (-1, 2**32 - 1, True)
    assert record.peers[1].address == b"\xff" * 6
    check(obj, schema)


def test_the_shipped_schema_fits_the_shipped_objects() -> None:
    objects = list(KPROBE_OBJECT.parent.parent.glob("*/kprobe.bpf.o"))
    assert objects
    for path, schema in itertools.product(objects, (SYSCALL_EVENT, CALL_EVENT)):
        with BpfObject.open(path) as opened:
            check(opened, as_schema(schema))
            assert Structs(opened).struct("syscall_event").size == 40
            shifted = Struct("tid" / Int32un, "pid" / Int32un, *SYSCALL_EVENT.subcons[2:])
            with pytest.raises(LayoutError, match="pid: u32 at 4"):
                check(opened, as_schema(shifted))


def test_the_command_prints_source_that_can_be_used(tmp_path: Path) -> None:
    done = run_tool("schema", KPROBE_OBJECT, "syscall_event")
    assert (done.returncode, done.stderr) == (0, "")
    space: dict[str, Any] = {}
    exec(done.stdout, space)
    with BpfObject.open(KPROBE_OBJECT) as opened:
        check(opened, as_schema(space["SYSCALL_EVENT"]))
    listed = run_tool("schema", KPROBE_OBJECT)
    assert listed.returncode == 0
    assert {"syscall_event", "call_event", "counters"} <= set(listed.stdout.split())


def test_the_command_says_what_is_wrong(tmp_path: Path, compile_bpf: Compile) -> None:
    text = tmp_path / "text.o"
    text.write_text("no object")
    bare = compile_bpf("int x = 1;\n", debug=False)
    for words, expected in (
        ((KPROBE_OBJECT, "sycall_event"), "no struct of that name. It has: "),
        ((text, "x"), "not an ELF file"),
        ((tmp_path / "missing.o", "x"), "No such file"),
        ((bare, "x"), "it has no BTF. Build it with"),
    ):
        done = run_tool("schema", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_missing_struct_is_a_key_error(obj: BpfObject) -> None:
    with pytest.raises(KeyError) as caught:
        Schema.from_btf(obj, "no_such_event")
    assert isinstance(caught.value, NotFoundError)
    assert "It has: drift_event, inner." in str(caught.value)


def test_what_construct_alone_reads_fits_too(compile_bpf: Compile) -> None:
    source = """
    struct event { unsigned int a; unsigned long long b; unsigned int low: 4, high: 28; };
    const struct event *event_layout = 0;
    """
    bits = construct.BitStruct("low" / construct.BitsInteger(4), "high" / construct.BitsInteger(28))
    aligned = Struct(
        "a" / construct.Aligned(8, construct.Int32un),
        "b" / construct.Int64un,
        "bits" / bits,
        "sum" / construct.Computed(construct.this.a + construct.this.b),
        construct.Padding(4),
    )
    with BpfObject.open(compile_bpf(source)) as opened:
        check(opened, Schema(aligned, "event"))
        short = Struct("a" / construct.Aligned(4, construct.Int32un), "b" / construct.Int64un)
        with pytest.raises(LayoutError, match="b: u64 at 4"):
            check(opened, Schema(short, "event"))
        far = Struct("a" / construct.Aligned(16, construct.Int32un))
        with pytest.raises(LayoutError, match=r"a: opaque at 0 \(16 bytes\)"):
            check(opened, Schema(far, "event"))
