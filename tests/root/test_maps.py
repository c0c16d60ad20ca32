"""Maps as mappings, on the running kernel."""

from __future__ import annotations

import errno
import gc
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import construct
import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    Map,
    MapFlag,
    MapType,
    NotFoundError,
    OpenMap,
    Program,
    UpdateFlag,
    raw,
)

from ..conftest import Compile, need

CPUS = int(Path("/sys/devices/system/cpu/possible").read_text().rpartition("-")[2]) + 1

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum state { LOST = -1, FOUND = 1 };
struct place { __u8 kind; __u64 number; char comm[16]; };
struct traffic { __u64 packets; __u64 bytes; };
struct flow { __u32 address[4]; struct { __u16 port[2]; } ends; };
struct guarded { struct bpf_spin_lock lock; __u32 count; };
typedef char comm[16];
typedef __u8 digest[20];
typedef __u32 matrix[3];

#define MAP(NAME, TYPE, KEY, VALUE) struct { \\
	__uint(type, BPF_MAP_TYPE_##TYPE); \\
	__uint(max_entries, 16); \\
	__type(key, KEY); \\
	__type(value, VALUE); \\
} NAME SEC(".maps")

MAP(places, HASH, struct place, __s32);
MAP(states, HASH, enum state, double);
MAP(names, HASH, comm, digest);
MAP(flows, HASH, struct flow, matrix);
MAP(arrays, ARRAY, __u32, matrix);
MAP(bools, HASH, _Bool, void *);
MAP(traffics, PERCPU_HASH, __u16, struct traffic);
MAP(odd, PERCPU_ARRAY, __u32, digest);
MAP(locked, HASH, __u32, struct guarded);
MAP(left_out, HASH, __u32, __u32);
MAP(texts, ARRAY, __u32, comm);

SEC("socket")
int program(void *ctx) { return ctx == 0; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> str:
    return str(compile_bpf(SOURCE))


@pytest.fixture
def obj(path: str) -> Iterator[BpfObject]:
    with BpfObject.open(path) as opened:
        opened.maps["left_out"].autocreate = False
        opened.load()
        yield opened


@pytest.fixture
def counts() -> Iterator[Map[int, int]]:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=8, name="counts") as made:
        yield made


def told(use: Any) -> BpfError:
    with pytest.raises(BpfError) as caught:
        use()
    return caught.value


def test_it_is_a_dict(counts: Map[int, int]) -> None:
    counts[1] = 10
    counts.update({2: 20, 3: 30})
    assert counts[1] == 10
    assert (len(counts), bool(counts)) == (3, True)
    assert 2 in counts
    assert 4 not in counts
    assert counts.get(4) is None
    assert counts.get(4, 5) == 5
    assert dict(counts) == {1: 10, 2: 20, 3: 30}
    assert set(counts) == set(counts.keys()) == {1, 2, 3}
    assert sorted(counts.values()) == [10, 20, 30]
    assert counts.items() == {(1, 10), (2, 20), (3, 30)}
    assert 30 in counts.values()
    assert (2, 20) in counts.items()
    del counts[3]
    assert counts.pop(2) == 20
    assert counts.pop(2, None) is None
    assert counts.setdefault(1, 99) == 10
    assert counts.setdefault(7, 99) == 99
    assert counts.popitem() in ((1, 10), (7, 99))
    counts.clear()
    assert (len(counts), bool(counts), list(counts.items())) == (0, False, [])


def test_what_is_missing(counts: Map[int, int]) -> None:
    for use in (
        lambda: counts[1],
        lambda: counts.pop(1),
        lambda: counts.__delitem__(1),
        lambda: counts.lookup_elem(1),
        lambda: counts.update_elem(1, 2, UpdateFlag.EXIST),
        lambda: counts.lookup_and_delete_elem(1),
        lambda: counts.lookup(bytes(4)),
        counts.popitem,
    ):
        error = told(use)
        assert isinstance(error, NotFoundError)
        assert isinstance(error, KeyError)
        assert error.errno == errno.ENOENT
        assert "map counts" in str(error)


def test_flags_of_an_update(counts: Map[int, int]) -> None:
    counts.update_elem(1, 10, UpdateFlag.NOEXIST)
    error = told(lambda: counts.update_elem(1, 11, UpdateFlag.NOEXIST))
    assert (error.errno, "is there already" in str(error)) == (errno.EEXIST, True)
    counts.update_elem(1, 12, UpdateFlag.EXIST)
    assert counts.lookup_elem(1) == 12
    assert told(lambda: counts.update_elem(1, 1, 1 << 20)).errno == errno.EINVAL
    assert told(lambda: counts.lookup_elem(1, UpdateFlag.LOCK)).errno == errno.EINVAL
    for flags in (-1, 1 << 64):  # which C would take for no flags
        for use in (
            lambda flags=flags: counts.update_elem(1, 1, flags),
            lambda flags=flags: counts.lookup_elem(1, flags),
            lambda flags=flags: counts.lookup(bytes(4), flags),
            lambda flags=flags: counts.lookup_and_delete_elem(1, flags),
            lambda flags=flags: counts.update_batch({1: 1}, flags),
            lambda flags=flags: list(counts.lookup_batch(flags=flags)),
        ):
            assert told(use).errno == errno.ERANGE
    assert counts[1] == 12


def test_a_full_map(counts: Map[int, int]) -> None:
    counts.update((n, n) for n in range(8))
    error = told(lambda: counts.__setitem__(8, 8))
    assert (error.errno, "full: 8 entries" in str(error)) == (errno.E2BIG, True)
    error = told(lambda: counts.update_batch({0: 5, 9: 9, 10: 10}))
    assert error.errno == errno.E2BIG
    assert "(1 of 3 done)" in str(error)
    assert (counts[0], len(counts)) == (5, 8)


@pytest.mark.parametrize("number", [-1, 1 << 32, 1 << 64])
def test_keys_out_of_range(counts: Map[int, int], number: int) -> None:
    for use in (
        lambda: counts[number],
        lambda: counts.__setitem__(number, 0),
        lambda: counts.__delitem__(number),
        lambda: number in counts,
        lambda: counts.update_batch({0: 0, number: 0}),
        lambda: counts.delete_batch([number]),
    ):
        error = told(use)
        assert error.errno == errno.ERANGE
        assert f"{number} is out of range (0 to 4294967295)" in str(error)
    assert not counts


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, "1", None, bytes(7), bytes(9)])
def test_values_that_do_not_fit(counts: Map[Any, Any], value: object) -> None:
    counts[1] = 5
    error = told(lambda: counts.__setitem__(1, value))
    assert error.errno in (errno.ERANGE, errno.EINVAL)
    assert "map counts" in str(error)
    assert counts[1] == 5


def test_the_bytes_themselves(counts: Map[Any, Any]) -> None:
    key, value = struct.pack("=I", 7), struct.pack("=Q", 9)
    counts[key] = value
    assert counts[7] == 9
    assert counts.lookup(key) == value
    plain = counts.typed(key=bytes, value=bytes)
    assert dict(plain) == {key: value}
    assert plain[key] == value
    error = told(lambda: counts.lookup(bytes(5)))
    assert (error.errno, "5 bytes" in str(error)) == (errno.EINVAL, True)
    error = told(lambda: plain.__setitem__(7, 1))
    assert "it takes 4 bytes, not int; typed() gives it a type" in str(error)


def test_signs_and_byte_orders(counts: Map[Any, Any]) -> None:
    signed = counts.typed(key="be32", value="s64")
    signed[1] = -1
    assert dict(signed) == {1: -1}
    assert dict(counts) == {int.from_bytes(b"\0\0\0\1", sys.byteorder): (1 << 64) - 1}
    assert told(lambda: counts.typed(key="u16")).errno == errno.EINVAL
    assert told(lambda: counts.typed(value="s65")).errno == errno.EINVAL


def test_batches(counts: Map[int, int]) -> None:
    assert counts.update_batch({n: n * n for n in range(8)}) == 8
    assert counts.update_batch([(0, 1)]) == 1
    batches = list(counts.lookup_batch(3))
    assert [entry for batch in batches for entry in batch] == list(counts.items())
    assert max(len(batch) for batch in batches) < 8
    assert counts.delete_batch([0, 1, 77, 2, 88]) == 3
    taken = counts.lookup_and_delete_batch()
    assert dict(entry for batch in taken for entry in batch) == {n: n * n for n in range(3, 8)}
    assert not counts
    assert list(counts.lookup_batch()) == []
    assert told(lambda: list(counts.lookup_batch(-1))).errno == errno.EINVAL


def test_a_batch_that_does_not_fit_writes_nothing(counts: Map[Any, Any]) -> None:
    assert told(lambda: counts.update_batch({1: 1, 2: -1})).errno == errno.ERANGE
    assert not counts


def test_batches_with_a_flag_that_the_kernel_takes_one_by_one(counts: Map[int, int]) -> None:
    assert counts.update_batch({1: 1, 2: 2}, UpdateFlag.NOEXIST) == 2
    error = told(lambda: counts.update_batch({3: 3, 1: 5}, UpdateFlag.NOEXIST))
    assert (error.errno, "(1 of 2 done)" in str(error)) == (errno.EEXIST, True)
    assert dict(counts) == {1: 1, 2: 2, 3: 3}


def test_many_more_entries_than_a_batch() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=50000) as large:
        assert large.update_batch({n: n for n in range(50000)}) == 50000
        assert len(large) == 50000
        assert dict(large) == {n: n for n in range(50000)}
        assert max(len(batch) for batch in large.lookup_batch(16)) < 100
        assert large.delete_batch(range(0, 50000, 2)) == 25000
        large.clear()
        assert not large


def test_a_type_stays_while_the_other_changes(counts: Map[int, int]) -> None:
    counts[1] = 2
    signed: Map[Any, Any] = counts.typed(key="s32")
    assert dict(signed) == {1: 2}
    assert dict(signed.typed(value="f64").typed(value="s64", key=bytes)) == {
        (1).to_bytes(4, sys.byteorder): 2
    }


def test_large_values_are_not_all_in_memory_at_once() -> None:
    with Map.create(MapType.ARRAY, value_size=1 << 20, max_entries=32) as large:
        tracemalloc.start()
        try:
            assert sum(len(value) for value in large.values()) == 32 << 20
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE])
def test_iteration_while_it_deletes(kind: MapType) -> None:
    flags = MapFlag.NO_PREALLOC if kind == MapType.LPM_TRIE else 0
    with Map.create(kind, key="u64", value="u64", max_entries=3000, flags=flags) as entries:
        keys = {32 | n << 32 for n in range(2000)}
        entries.update((key, 1) for key in keys)
        seen = []
        for key in entries:
            seen.append(key)
            del entries[key]
        assert set(seen) == keys
        assert len(seen) == len(keys)
        assert not entries


@pytest.mark.parametrize(
    "kind", [MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.DEVMAP_HASH]
)
def test_iteration_ends_while_another_thread_inserts_and_deletes(kind: MapType) -> None:
    flags = MapFlag.NO_PREALLOC if kind == MapType.LPM_TRIE else 0
    key = "u64" if kind == MapType.LPM_TRIE else "u32"
    stop = threading.Event()
    changes = [0]

    def numbered(number: int) -> int:
        return number << 32 | 32 if kind == MapType.LPM_TRIE else number

    def change() -> None:
        while not stop.is_set():
            changes[0] += 1
            entries[numbered(changes[0])] = 1
            entries.pop(numbered(max(changes[0] - 20, 0)), None)

    stay = {numbered(n) for n in range(1 << 30, (1 << 30) + 50)}

    with Map.create(kind, key=key, value="u32", max_entries=400, flags=flags) as entries:
        entries.update((key, 1) for key in stay)
        thread = threading.Thread(target=change)
        thread.start()
        try:
            rounds = 0
            while rounds < 30 or changes[0] <= 10:
                rounds += 1
                for seen in (
                    [key for key in entries],  # noqa: C416  # its iteration is what is tested
                    [key for key, _ in entries.items()],
                ):
                    assert len(seen) == len(set(seen))
                    assert len(seen) < 1000
                    if kind == MapType.HASH:
                        assert stay <= set(seen)
                assert len(list(entries.values())) < 1000
                assert len(entries) < 1000
        finally:
            alive = thread.is_alive()
            stop.set()
            thread.join()
        assert alive, "it changed the map until the end"


def test_clear_ends_while_another_thread_inserts(counts: Map[int, int]) -> None:
    stop = threading.Event()

    def insert() -> None:
        while not stop.is_set():
            counts[1] = 1

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        for _ in range(200):
            counts.clear()
    finally:
        stop.set()
        thread.join()
    assert len(counts) <= 1


def test_threads_share_no_memory(counts: Map[int, int]) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for count in range(3000):
            counts[number] = count << 32 | number
            if counts[number] != count << 32 | number:
                wrong.append((number, count))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_types_come_from_btf(obj: BpfObject) -> None:
    places: Map[Any, Any] = obj.maps["places"]
    places[{"kind": 1, "number": 2, "comm": "bash"}] = -5
    (key,) = places
    assert (key.kind, key.number, key.comm) == (1, 2, "bash")
    assert places[key] == -5
    plain = places.typed(key=bytes)
    assert list(plain) == [struct.pack("=B7xQ16s", 1, 2, b"bash")], "padding is zeros"
    assert told(lambda: places.__setitem__(key, 1 << 31)).errno == errno.ERANGE
    error = told(lambda: places.__setitem__({"kind": 1}, 1))
    assert "number" in str(error)

    obj.maps["states"].update({-1: 0.5, 1: -2.0})
    assert dict(obj.maps["states"]) == {-1: 0.5, 1: -2.0}
    obj.maps["names"]["bash"] = bytes(range(20))
    assert dict(obj.maps["names"]) == {"bash": bytes(range(20))}
    assert "ba" not in obj.maps["names"]
    obj.maps["arrays"][3] = (1, 2, 3)
    assert list(obj.maps["arrays"].values())[2:4] == [(0, 0, 0), (1, 2, 3)]
    obj.maps["bools"][True] = (1 << 64) - 1
    assert dict(obj.maps["bools"]) == {True: (1 << 64) - 1}
    obj.maps["texts"][0] = b"ab\0stale garbage"
    assert obj.maps["texts"][0] == "ab"


def test_keys_are_keys_of_a_dict(obj: BpfObject) -> None:
    """Arrays in them are tuples; those in values are as everywhere."""
    flows = obj.maps["flows"]
    flows[{"address": [1, 2, 3, 4], "ends": {"port": [5, 6]}}] = (7, 8, 9)
    (key,) = flows
    assert key == ((1, 2, 3, 4), ((5, 6),))
    assert (key.address, key.ends.port) == ((1, 2, 3, 4), (5, 6))
    assert dict(flows) == dict(flows.items()) == {key: (7, 8, 9)}
    flow = construct.Struct("address" / construct.Int32un[4], "ports" / construct.Int16un[2])
    assert set(flows.typed(key=flow)) == {((1, 2, 3, 4), (5, 6))}


def test_types_come_from_btf_by_descriptor_too(obj: BpfObject) -> None:
    obj.maps["places"][{"kind": 1, "number": 2, "comm": "bash"}] = -5
    with Map.open_id(obj.maps["places"].id) as again:
        ((key, value),) = again.items()
        assert (key.number, key.comm, value) == (2, "bash", -5)
        assert again.name == "places"
        assert (again.type, again.max_entries) == (MapType.HASH, 16)
        assert again.info == obj.maps["places"].info


def test_values_of_cpus(obj: BpfObject) -> None:
    traffics: Map[Any, Any] = obj.maps["traffics"]
    traffics[443] = {"packets": 1, "bytes": 10}
    assert [(one.packets, one.bytes) for one in traffics[443]] == [(1, 10)] * CPUS
    assert traffics.sum(443) == (CPUS, 10 * CPUS)
    values = [{"packets": cpu, "bytes": 0} for cpu in range(CPUS)]
    traffics[443] = values
    assert [one.packets for one in traffics[443]] == list(range(CPUS))
    assert {key: [one.packets for one in value] for key, value in traffics.items()} == {
        443: list(range(CPUS))
    }
    for wrong in (values[1:], [*values, values[0]], []):
        error = told(lambda wrong=wrong: traffics.__setitem__(443, wrong))
        assert f"{len(wrong)} values came for {CPUS} possible CPUs" in str(error)
    assert told(lambda: traffics.lookup(bytes(2))).errno == errno.EINVAL
    one_cpu = raw.BPF_F_CPU | 1 << 32
    assert told(lambda: traffics.lookup_elem(443, one_cpu)).errno == errno.EOPNOTSUPP
    assert told(lambda: traffics.update_elem(443, values, one_cpu)).errno == errno.EOPNOTSUPP
    assert len(traffics.lookup_percpu(struct.pack("=H", 443))) == CPUS
    assert traffics.pop(443)[0].bytes == 0
    assert not traffics


def test_values_of_cpus_whose_size_is_no_multiple_of_8(obj: BpfObject) -> None:
    odd: Map[Any, Any] = obj.maps["odd"]
    values = [bytes([cpu + 1]) * 20 for cpu in range(CPUS)]
    odd[3] = values
    assert odd[3] == values
    assert list(odd.values())[2:5] == [[bytes(20)] * CPUS, values, [bytes(20)] * CPUS]
    assert odd.lookup_percpu(struct.pack("=I", 3)) == values
    error = told(lambda: odd.sum(3))
    assert "are no numbers" in str(error)
    assert told(lambda: odd.__setitem__(3, [b"x"] * CPUS)).errno == errno.EINVAL


def test_a_value_under_its_spin_lock(obj: BpfObject) -> None:
    locked: Map[Any, Any] = obj.maps["locked"]
    locked[1] = {"lock": {"val": 0}, "count": 5}
    value = locked.lookup_elem(1, UpdateFlag.LOCK)
    assert value.count == 5
    locked.update_elem(1, value._replace(count=6), UpdateFlag.EXIST | UpdateFlag.LOCK)
    assert locked[1].count == 6
    assert [v.count for batch in locked.lookup_batch(flags=UpdateFlag.LOCK) for _, v in batch] == [
        6
    ]


def test_reading_never_gives_another_reads_bytes() -> None:
    with Map.create(MapType.ARRAY, key="u32", value_size=100, max_entries=2) as entries:
        entries[0] = b"\xff" * 100
        assert entries[0] == b"\xff" * 100
        assert entries[1] == bytes(100)
        assert list(entries.values()) == [b"\xff" * 100, bytes(100)]


def test_settings_before_load_take_effect(path: str) -> None:
    with BpfObject.open(path) as obj:
        obj.maps["states"].max_entries = 3
        obj.maps["states"].type = MapType.LRU_HASH
        obj.maps["names"].flags = MapFlag.NO_PREALLOC
        obj.maps["bools"].value_size = 12
        obj.maps["left_out"].autocreate = False
        obj.load()
        info = obj.maps["states"].info
        assert (info.type, info.max_entries) == (MapType.LRU_HASH, 3)
        assert obj.maps["names"].info.map_flags == MapFlag.NO_PREALLOC
        obj.maps["bools"][True] = bytes(12)  # BTF says 8 bytes: they are not of that type
        assert dict(obj.maps["bools"]) == {True: bytes(12)}


def test_settings_after_load_are_refused(obj: BpfObject) -> None:
    entry = obj.maps["states"]
    for name, value in (
        *(("type", 1), ("key_size", 4), ("value_size", 8), ("max_entries", 1), ("flags", 0)),
        *(("numa_node", 0), ("ifindex", 0), ("map_extra", 0), ("autocreate", True)),
        *(("pin_path", "/x"), ("initial_value", b""), ("inner_map", entry)),
    ):
        error = told(lambda name=name, value=value: setattr(entry, name, value))
        assert error.errno == errno.EBUSY, name
        assert "before load()" in str(error)
    assert told(lambda: entry.reuse(entry)).errno == errno.EBUSY


def test_a_map_that_was_left_out(obj: BpfObject) -> None:
    error = told(lambda: obj.maps["left_out"][1])
    assert "autocreate is off" in str(error)


def test_a_map_is_reused(path: str, obj: BpfObject) -> None:
    obj.maps["states"][1] = 0.25
    with BpfObject.open(path) as other, Map.open_id(obj.maps["names"].id) as names:
        other.maps["left_out"].autocreate = False
        other.maps["states"].reuse(obj.maps["states"])
        other.maps["names"].reuse(names.fd)
        other.load()
        assert other.maps["states"].id == obj.maps["states"].id
        assert other.maps["names"].id == obj.maps["names"].id
        assert other.maps["states"][1] == 0.25


def test_pins(obj: BpfObject, counts: OpenMap[Any, Any], bpffs: Path) -> None:
    states = obj.maps["states"]
    states[1] = 0.5
    states.pin(bpffs / "states")
    assert states.is_pinned
    with Map.open_pinned(bpffs / "states") as again:
        assert dict(again) == {1: 0.5}
    states.unpin(bpffs / "states")
    assert not (bpffs / "states").exists()
    counts[1] = 2
    counts.pin(bpffs / "counts")
    assert told(lambda: counts.pin(bpffs / "counts")).errno == errno.EEXIST
    with Map.open_pinned(bpffs / "counts").typed(key="u32", value="u64") as untyped:
        assert dict(untyped) == {1: 2}
    assert told(lambda: counts.pin("/tmp/counts")).hint


def test_a_pin_path_is_taken_at_load(path: str, bpffs: Path) -> None:
    ids = []
    for _ in range(2):
        with BpfObject.open(path) as obj:
            obj.maps["left_out"].autocreate = False
            obj.maps["states"].pin_path = bpffs / "states"
            obj.load()
            ids.append(obj.maps["states"].id)
    assert ids[0] == ids[1]


def test_a_pinned_program_is_no_map(obj: BpfObject, bpffs: Path) -> None:
    obj.programs["program"].pin(bpffs / "program")
    error = told(lambda: Map.open_pinned(bpffs / "program"))
    assert "it is a program, not a map" in str(error)
    with Program.open_pinned(bpffs / "program") as program:
        error = told(lambda: OpenMap(os.dup(program.fd)))
        assert "it is a program, not a map" in str(error)


def test_a_frozen_map(counts: Map[int, int]) -> None:
    counts[1] = 2
    counts.freeze()
    assert counts[1] == 2
    error = told(lambda: counts.__setitem__(1, 3))
    assert error.errno == errno.EPERM
    assert "frozen" in str(error)
    assert told(counts.freeze).errno in (errno.EPERM, errno.EBUSY)


def test_after_close() -> None:
    made = Map.create(MapType.HASH, key="u32", value="u64", max_entries=8)
    twin = made.typed(value=bytes)
    made[1] = 2
    items = iter(made.items())
    assert next(items) == (1, 2)
    made.close()
    made.close()
    assert made.closed
    assert twin.closed
    for use in (lambda: made[1], lambda: twin[1], lambda: made.fd, lambda: list(made), made.clear):
        assert isinstance(told(use), ClosedError)
    assert "closed" in repr(made)


def test_maps_of_a_closed_object(obj: BpfObject) -> None:
    states = obj.maps["states"]
    states[1] = 2.0
    obj.close()
    for use in (lambda: states[1], lambda: states.info, lambda: len(states), states.freeze):
        assert isinstance(told(use), ClosedError)


def test_close_races_with_reading() -> None:
    for _ in range(50):
        made = Map.create(MapType.HASH, key="u32", value="u64", max_entries=8)
        made[1] = 2
        wrong: list[object] = []

        def read(made: Map[int, int] = made, wrong: list[object] = wrong) -> None:
            try:
                while made[1] == 2:
                    pass
                wrong.append(made[1])
            except ClosedError:
                pass
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        made.close()
        thread.join(60)
        assert not thread.is_alive()
        assert wrong == []


def test_a_forked_child_is_refused(counts: Map[int, int]) -> None:
    counts[1] = 2
    child = os.fork()
    if not child:
        status = 1
        try:
            counts[1]
        except ClosedError as error:
            status = 7 if "forked" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert counts[1] == 2


def test_a_forgotten_map_warns() -> None:
    made = Map.create(MapType.HASH, key="u32", value="u64", max_entries=8, name="lost")
    with pytest.warns(ResourceWarning, match="unclosed <OpenMap lost>"):
        del made
        gc.collect()


def test_no_descriptor_is_left(obj: BpfObject) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(100):
        with Map.open_id(obj.maps["states"].id) as states:
            states[1] = 1.0
        told(lambda: Map.create(MapType.HASH, key="u32", value="u64"))
        told(lambda: Map.open_id(0xFFFFFFF0))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "use",
    [
        lambda counts: counts.update_elem(1, 1, "new"),
        lambda counts: counts.update_elem(1, 1, None),
        lambda counts: counts.lookup_elem(1, 1.0),
        lambda counts: list(counts.lookup_batch(0, "lock")),
        lambda counts: counts.lookup(1),
        lambda counts: counts.lookup("four"),
        lambda _: Map.open_id(1.5),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_another_type(counts: Map[int, int], use: Any) -> None:
    error = told(lambda: use(counts))
    assert error.errno == errno.EINVAL
    assert "no integer" in str(error) or "it takes the bytes" in str(error)


def test_a_number_takes_another_capability() -> None:
    """CAP_BPF makes maps, and does not open them by their numbers."""
    code = """if True:
        from libbpf_ctypes import Map, MapType
        with Map.create(MapType.ARRAY, value="u32", max_entries=1) as made:
            Map.open_id(made.id)
    """
    command = [need("setpriv"), "--bounding-set=-sys_admin", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "with CAP_SYS_ADMIN only" in done.stderr
    assert "(EPERM)" in done.stderr


def test_a_map_that_is_gone() -> None:
    error = told(lambda: Map.open_id(0xFFFFFFF0))
    assert (error.errno, "open map 4294967280" in str(error)) == (errno.ENOENT, True)
