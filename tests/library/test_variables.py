"""Global variables of an object: each C type read and set, its limits kept."""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import BpfError, BpfObject
from libbpf_ctypes.btf import Kind

from ..conftest import Compile

SOURCE = """
enum level { LOW = -1, HIGH = 5 };
enum colour { RED = 1, BLUE = 0xffffffff };
struct pair { int a; long long b; };
typedef const volatile unsigned short number;

signed char s8 = -8;
unsigned char u8 = 8;
short s16 = -16;
unsigned short u16 = 16;
int s32 = -32;
unsigned int u32 = 32;
long long s64 = -64;
unsigned long long u64 = 64;
_Bool yes = 1;
_Bool no;
enum level level = HIGH;
enum colour colour = BLUE;
int numbers[3] = {1, 2, 3};
char text[8] = "abc";
struct pair pair = {7, -7};
int zero;
unsigned long long large_zero;
number limit = 7;
static const volatile int hidden = -5;
static int counter;
int own __attribute__((section(".data.own"))) = 4;
const volatile int own_constant __attribute__((section(".rodata.own"))) = 5;

__attribute__((section("kprobe"), used)) int probe(void *ctx)
{
	counter += hidden;
	return ctx == 0;
}
"""

INTEGERS = {"s8": -8, "u8": 8, "s16": -16, "u16": 16, "s32": -32, "u32": 32, "s64": -64, "u64": 64}

VALUES: dict[str, Any] = {
    **INTEGERS,
    "own": 4,
    "own_constant": 5,
    "yes": True,
    "no": False,
    "level": 5,
    "colour": 0xFFFFFFFF,
    "numbers": struct.pack("=3i", 1, 2, 3),
    "text": b"abc\0\0\0\0\0",
    "pair": struct.pack("=iiq", 7, 0, -7),
    "zero": 0,
    "large_zero": 0,
    "limit": 7,
    "hidden": -5,
    "counter": 0,
}

KINDS = {
    "s8": (Kind.INT, 1, True),
    "u64": (Kind.INT, 8, False),
    "yes": (Kind.INT, 1, False),
    "level": (Kind.ENUM, 4, None),
    "numbers": (Kind.ARRAY, 12, True),
    "text": (Kind.ARRAY, 8, None),
    "pair": (Kind.STRUCT, 16, False),
    "limit": (Kind.INT, 2, False),
}


@pytest.fixture(scope="module")
def compiled(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE)


@pytest.fixture
def obj(compiled: Path) -> Iterator[BpfObject]:
    with BpfObject.open(compiled) as opened:
        yield opened


def test_every_variable_is_there_with_its_value(obj: BpfObject) -> None:
    assert {name: variable.value for name, variable in obj.variables.items()} == VALUES
    for name, variable in obj.variables.items():
        assert type(variable.value) is type(VALUES[name])
        assert variable.name == name
        assert repr(variable) == f"<Variable {name}>"


def test_types(obj: BpfObject) -> None:
    for name, (kind, size, signed) in KINDS.items():
        found = obj.variables[name].type
        assert (found.kind, found.size) == (kind, size)
        assert signed is None or found.signed is signed, name
    assert obj.variables["yes"].type.is_bool
    assert not obj.variables["u8"].type.is_bool
    assert obj.variables["pair"].type.name == "pair"


def limits(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "s" else (0, (1 << bits) - 1)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_keep_their_limits_and_their_neighbours(name: str, obj: BpfObject) -> None:
    variable = obj.variables[name]
    low, high = limits(name)
    for value in (low, high, 0, 1, low + 1, high - 1):
        variable.value = value
        assert variable.value == value
    for value in (low - 1, high + 1, 1 << 64, -(1 << 64)):
        with pytest.raises(
            BpfError, match=rf"{value} is out of range \({low} to {high}\)"
        ) as caught:
            variable.value = value
        assert caught.value.errno == errno.ERANGE
    assert variable.value == high - 1
    others = {other: v.value for other, v in obj.variables.items() if other != name}
    assert others == {other: value for other, value in VALUES.items() if other != name}


@given(data=st.data())
def test_what_is_set_is_read_back(compiled: Path, data: st.DataObject) -> None:
    with BpfObject.open(compiled) as obj:
        wanted: dict[str, Any] = {}
        for name in data.draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True)):
            value: Any
            if name in INTEGERS:
                value = data.draw(st.integers(*limits(name)))
            elif isinstance(VALUES[name], bool):
                value = data.draw(st.booleans())
            elif isinstance(VALUES[name], bytes):
                size = len(VALUES[name])
                value = data.draw(st.binary(min_size=size, max_size=size))
            else:
                value = data.draw(st.integers(0, 100))
            wanted[name] = obj.variables[name].value = value
        found = {name: variable.value for name, variable in obj.variables.items()}
        assert found == {**VALUES, **wanted}


def test_booleans_take_only_true_and_false(obj: BpfObject) -> None:
    obj.variables["no"].value = 1
    assert obj.variables["no"].value is True
    for value in (2, -1):
        with pytest.raises(BpfError, match=r"out of range \(0 to 1\)"):
            obj.variables["no"].value = value


@pytest.mark.parametrize("name", ["text", "pair", "numbers", "u32", "s8"])
def test_bytes_must_have_the_variables_size(name: str, obj: BpfObject) -> None:
    variable = obj.variables[name]
    before = variable.value
    size = variable.type.size
    for wrong in (b"", bytes(size - 1), bytes(size + 1)):
        if len(wrong) != size:
            with pytest.raises(
                BpfError, match=f"{len(wrong)} bytes do not fit its {size}"
            ) as caught:
                variable.value = wrong
            assert caught.value.errno == errno.EINVAL
    assert variable.value == before
    variable.value = b"\1" * size
    assert variable.value in (b"\1" * size, int.from_bytes(b"\1" * size, sys.byteorder))


@pytest.mark.parametrize("name", ["text", "pair", "numbers"])
def test_an_array_or_struct_is_no_number(name: str, obj: BpfObject) -> None:
    before = obj.variables[name].value
    with pytest.raises(BpfError):
        obj.variables[name].value = 5
    assert obj.variables[name].value == before


def test_text_is_not_taken_for_bytes(obj: BpfObject) -> None:
    before = obj.variables["text"].value
    with pytest.raises((BpfError, TypeError)):
        obj.variables["text"].value = "01234567"  # type: ignore[assignment]
    assert obj.variables["text"].value == before


def test_objects_of_one_file_have_variables_of_their_own(compiled: Path) -> None:
    with BpfObject.open(compiled) as first, BpfObject.open(compiled) as second:
        first.variables["s32"].value = 1
        assert second.variables["s32"].value == -32
