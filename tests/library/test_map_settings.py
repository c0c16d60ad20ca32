"""A map's settings before load(), on opened objects, without privilege."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    LibraryError,
    Map,
    MapFlag,
    MapType,
    library_version,
)

from ..conftest import Compile

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum state { LOST = -1, FOUND = 1 };
struct entry { __u8 kind; __u64 number; char comm[16]; };

#define MAP(NAME, KEY, VALUE) struct { \\
	__uint(type, BPF_MAP_TYPE_HASH); \\
	__uint(max_entries, 16); \\
	__type(key, KEY); \\
	__type(value, VALUE); \\
} NAME SEC(".maps")

MAP(hash, __s32, struct entry);
MAP(states, enum state, double);
typedef char comm[16];
typedef __u8 digest[20];
MAP(names, comm, digest);
typedef __u32 matrix[2][3];
MAP(arrays, struct entry, matrix);
MAP(flags, _Bool, void *);

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps");

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");

const volatile __u64 limit = 7;
"""


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> str:
    return str(compile_bpf(SOURCE, "-Wno-unused-const-variable"))


@pytest.fixture
def obj(path: str) -> Iterator[BpfObject]:
    with BpfObject.open(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", MapType.LRU_HASH),
        ("key_size", 12),
        ("value_size", 100),
        ("max_entries", (1 << 32) - 1),
        ("flags", MapFlag.NO_PREALLOC | MapFlag.ZERO_SEED),
        ("numa_node", 1),
        ("ifindex", 3),
        ("map_extra", (1 << 64) - 1),
        ("autocreate", False),
        ("pin_path", "/sys/fs/bpf/somewhere"),
    ],
)
def test_what_is_set_is_told(obj: BpfObject, name: str, value: Any) -> None:
    entry = obj.maps["hash"]
    assert getattr(entry, name) != value
    setattr(entry, name, value)
    assert getattr(entry, name) == value
    assert getattr(obj.maps["states"], name) != value


@pytest.mark.parametrize(
    "name", ["type", "key_size", "value_size", "max_entries", "flags", "numa_node", "ifindex"]
)
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_numbers_that_c_would_cut(obj: BpfObject, name: str, value: int) -> None:
    before = getattr(obj.maps["hash"], name)
    with pytest.raises(BpfError) as told:
        setattr(obj.maps["hash"], name, value)
    assert told.value.errno == errno.ERANGE
    assert str(value) in str(told.value)
    assert getattr(obj.maps["hash"], name) == before


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_extras_that_c_would_cut(obj: BpfObject, value: int) -> None:
    with pytest.raises(BpfError, match=r"is (-1|18446744073709551616), not 0 to"):
        obj.maps["hash"].map_extra = value


def test_a_type_of_a_newer_kernel(obj: BpfObject) -> None:
    entry = obj.maps["hash"]
    entry.type = 1000
    assert entry.type == 1000
    assert repr(entry) == "<Map hash (UNKNOWN_1000)>"


def test_no_pin_path_again(obj: BpfObject) -> None:
    entry = obj.maps["hash"]
    assert entry.pin_path == ""
    assert not entry.is_pinned
    entry.pin_path = "/sys/fs/bpf/x"
    entry.pin_path = ""
    assert entry.pin_path == ""
    with pytest.raises(BpfError, match="not a path"):
        entry.pin_path = "a\0b"


def test_the_first_value_of_a_section(obj: BpfObject) -> None:
    section = next(m for m in obj.maps.values() if m.name.endswith(".rodata"))
    assert section.is_internal
    assert not obj.maps["hash"].is_internal
    assert section.initial_value == (7).to_bytes(8, "little")
    section.initial_value = (9).to_bytes(8, "little")
    assert obj.variables["limit"].value == 9
    for wrong in (b"", bytes(7), bytes(9)):
        with pytest.raises(BpfError, match=f"{len(wrong)} bytes do not fit its 8"):
            section.initial_value = wrong
    assert obj.maps["hash"].initial_value == b""


def test_the_template_of_a_map_of_maps(obj: BpfObject) -> None:
    inner = obj.maps["outer"].inner_map
    assert inner is not None
    assert inner == (MapType.ARRAY, 4, 8, 1, 0)
    assert obj.maps["hash"].inner_map is None


def test_what_an_older_libbpf_lacks_is_named(obj: BpfObject) -> None:
    if [int(part) for part in library_version().split(".")] >= [1, 7]:
        assert obj.maps["hash"].exclusive_program is None
        return
    with pytest.raises(LibraryError, match=r"needs libbpf 1\.7; .* is libbpf 1\."):
        _ = obj.maps["hash"].exclusive_program


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("hash", ("int", "Any")),
        ("states", ("int", "float")),
        ("names", ("str", "bytes")),
        ("arrays", ("Any", "Any")),
        ("flags", ("bool", "int")),
        ("outer", ("int", "Any")),
        ("ring", ("None", "None")),
    ],
)
def test_python_types_for_a_skeleton(obj: BpfObject, name: str, types: tuple[str, str]) -> None:
    assert obj.maps[name]._annotations() == types


def test_entries_need_a_loaded_object(obj: BpfObject) -> None:
    entry = obj.maps["hash"]
    uses: list[Any] = [
        lambda: entry[1],
        lambda: entry.update({1: 1}),
        lambda: entry.pop(1),
        lambda: 1 in entry,
        lambda: len(entry),
        lambda: bool(entry),
        lambda: list(entry),
        lambda: list(entry.items()),
        entry.clear,
        entry.peek,
        lambda: entry.push(1),
        lambda: entry.update_batch({}),
        lambda: list(entry.lookup_batch()),
        entry.freeze,
        lambda: entry.pin("/sys/fs/bpf/x"),
        lambda: entry.info,
        lambda: obj.maps["states"].reuse(entry),
    ]
    for use in uses:
        with pytest.raises(BpfError, match=r"not loaded.*load\(\) first") as told:
            use()
        assert told.value.errno == errno.EBADF


def test_a_closed_object_says_so(path: str) -> None:
    obj = BpfObject.open(path)
    entry, typed = obj.maps["hash"], obj.maps["hash"].typed(value=bytes)
    obj.close()
    uses: list[Any] = [
        lambda: entry.max_entries,
        lambda: setattr(entry, "max_entries", 1),
        lambda: entry[1],
        lambda: typed[1],
        lambda: list(entry.items()),
        lambda: entry.initial_value,
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="it is closed"):
            use()


def test_maps_are_equal_to_themselves_alone(obj: BpfObject) -> None:
    first, second = obj.maps["hash"], obj.maps["states"]
    assert first == obj.maps["hash"]
    assert first != second
    assert len({first, second, first}) == 2


def test_creating_what_cannot_be() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"key": "u7"}, "'u7' is no type"),
        ({"key": int}, "say how many bytes"),
        ({"key": "u32", "key_size": 8}, "u32 has 4 bytes, and the map's have 8"),
        ({"max_entries": -1}, "max_entries is -1"),
        ({"key_size": 1 << 32}, "is 4294967296"),
        ({"flags": -1}, "map_flags is out of range: -1"),
        ({"numa_node": 1 << 32}, "numa_node is out of range"),
        ({"no_such_option": 1}, "knows no option no_such_option"),
        ({"max_entries": 4.0}, "max_entries is 4.0, no integer"),
        ({"max_entries": None}, "max_entries is None, no integer"),
        ({"key_size": "4"}, "the size of the key is '4', no integer"),
        ({"flags": "none"}, "map_flags is 'none', no integer"),
        ({"inner_map": 5}, "5 is no Map"),
        ({"name": "a\0b"}, "other characters than"),
        ({"name": "a b"}, "other characters than"),
        ({"name": "caf\u00e9"}, "other characters than"),
        ({"name": "\udcff"}, "other characters than"),
    ]
    for arguments, words in refused:
        with pytest.raises(BpfError, match=words):
            Map.create(MapType.HASH, **arguments)
    with pytest.raises(BpfError, match="the type is -1"):
        Map.create(-1)
    with pytest.raises(BpfError, match="the id is -1"):
        Map.open_id(-1)
    with pytest.raises(BpfError, match="not a path"):
        Map.open_pinned("")


@pytest.mark.skipif(os.geteuid() != 0, reason="a file that only root reads")
def test_nothing_is_pinned_there() -> None:
    with pytest.raises(BpfError, match="Nothing is there") as told:
        Map.open_pinned("/sys/fs/bpf/libbpf_ctypes_nothing")
    assert told.value.errno == errno.ENOENT
