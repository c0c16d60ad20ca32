"""Every type of map that the running kernel makes, used as its type demands."""

from __future__ import annotations

import ctypes
import errno
import gc
import ipaddress
import os
import socket
import struct
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    Btf,
    Map,
    MapFlag,
    MapType,
    NotFoundError,
    RingBuffer,
    UpdateFlag,
    raw,
)
from libbpf_ctypes._handle import Descriptor

from ..conftest import Compile

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_CGRP_STORAGE 32	/* Linux 6.2 */
#define STORAGE(NAME, TYPE) struct { \\
	__uint(type, BPF_MAP_TYPE_##TYPE); \\
	__uint(map_flags, BPF_F_NO_PREALLOC); \\
	__type(key, int); \\
	__type(value, __s64); \\
} NAME SEC(".maps")

STORAGE(sockets, SK_STORAGE);
STORAGE(inodes, INODE_STORAGE);
STORAGE(tasks, TASK_STORAGE);
STORAGE(cgroups, CGRP_STORAGE);

struct lpm { __u32 length; __u8 address[4]; };
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8);
	__type(key, struct lpm);
	__type(value, __u32);
} routes SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 64);
	__uint(key_size, 4);
	__uint(value_size, 8 * 32);
} stacks SEC(".maps");

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");

SEC("raw_tp")
int program(void *ctx)
{
	char event[8] = "event";

	bpf_ringbuf_output(&ring, event, sizeof(event), 0);
	return bpf_get_stackid(ctx, &stacks, 0);
}
char LICENSE[] SEC("license") = "GPL";
"""

#: How each type is made without an object: what it needs beside four entries.
PLAIN: dict[MapType, dict[str, Any]] = {
    MapType.HASH: {"key": "u32", "value": "u64"},
    MapType.ARRAY: {"value": "u64"},
    MapType.PERCPU_HASH: {"key": "u32", "value": "u64"},
    MapType.PERCPU_ARRAY: {"value": "u64"},
    MapType.LRU_HASH: {"key": "u32", "value": "u64"},
    MapType.LRU_PERCPU_HASH: {"key": "u32", "value": "u64"},
    MapType.LPM_TRIE: {"key_size": 8, "value": "u64", "flags": MapFlag.NO_PREALLOC},
    MapType.QUEUE: {"value": "u64"},
    MapType.STACK: {"value": "u64"},
    MapType.BLOOM_FILTER: {"value": "u64"},
    MapType.PROG_ARRAY: {},
    MapType.PERF_EVENT_ARRAY: {},
    MapType.CGROUP_ARRAY: {},
    MapType.STACK_TRACE: {"value_size": 80},
    MapType.DEVMAP: {},
    MapType.DEVMAP_HASH: {"value_size": 8},
    MapType.CPUMAP: {"value_size": 8},
    MapType.XSKMAP: {},
    MapType.SOCKMAP: {"value_size": 8},
    MapType.SOCKHASH: {"key": "u32", "value_size": 8},
    MapType.REUSEPORT_SOCKARRAY: {"value_size": 8},
    MapType.CGROUP_STORAGE: {"key": "u64", "value": "u64", "max_entries": 0},
    MapType.PERCPU_CGROUP_STORAGE: {"key": "u64", "value": "u64", "max_entries": 0},
    MapType.RINGBUF: {"max_entries": 4096},
    MapType.USER_RINGBUF: {"max_entries": 4096},
    MapType.ARENA: {"flags": MapFlag.MMAPABLE},
}
#: Linux that made them, where it is younger than 5.15.
NEWER = {MapType.BLOOM_FILTER: (5, 16), MapType.USER_RINGBUF: (6, 1), MapType.ARENA: (6, 9)}
OTHERS = {
    *(MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.STRUCT_OPS),
    *(MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE),
}
LINUX = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))


def make(kind: MapType, **more: Any) -> Any:
    return Map.create(kind, **{"max_entries": 4, **PLAIN[kind], **more})


def told(use: Any) -> BpfError:
    with pytest.raises(BpfError) as caught:
        use()
    return caught.value


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> str:
    return str(compile_bpf(SOURCE))


@pytest.fixture
def obj(path: str) -> Iterator[BpfObject]:
    with BpfObject.open(path) as opened:
        opened.maps["cgroups"].autocreate = LINUX >= (6, 2)
        opened.load()
        yield opened


def test_every_type_is_tested_here() -> None:
    known = set(MapType) - {MapType.UNSPEC, MapType.INSN_ARRAY}
    assert {*PLAIN, *OTHERS} == known


@pytest.mark.parametrize("kind", [kind for kind in PLAIN if NEWER.get(kind, (5, 15)) <= LINUX])
def test_it_is_made_and_told(kind: MapType) -> None:
    with make(kind, name="made") as made:
        assert made.type is kind
        assert made.name == "made"
        assert made.info.type is kind
        assert repr(made) == f"<Map made ({kind.name})>"
        flags = PLAIN[kind].get("flags", 0)
        assert made.flags & flags == flags  # Linux adds some of its own
        with Map.open_id(made.id) as again:
            assert again.info == made.info


@pytest.mark.parametrize("kind", [MapType.UNSPEC, MapType(1000)])
def test_types_that_linux_does_not_know(kind: MapType) -> None:
    error = told(lambda: Map.create(kind, key_size=4, value_size=4, max_entries=4))
    assert error.errno == errno.EINVAL
    assert f"does not know type {kind.name}" in error.hint


@pytest.mark.parametrize(
    "kind", [k for k in PLAIN if k.name.endswith(("HASH", "TRIE")) and "value" in PLAIN[k]]
)
def test_hashes_and_tries(kind: MapType) -> None:
    with make(kind, max_entries=100) as made:
        keys = [(32, bytes([n] * 4)) for n in range(9)] if "TRIE" in kind.name else list(range(9))
        for key in keys:
            made[key] = 7
        value = made[keys[0]]
        assert value == 7 or (set(value) == {7} and made.sum(keys[0]) == 7 * len(value))
        assert sorted(made) == keys
        assert sorted(made.items()) == [(key, value) for key in keys]
        assert list(made.values()) == [value] * 9
        assert made.pop(keys[0]) == value
        assert keys[0] not in made
        assert made.update_batch(dict.fromkeys(keys, 8)) == 9
        batches = list(made.lookup_batch())
        assert sorted(key for batch in batches for key, _ in batch) == keys
        assert made.delete_batch([keys[0], keys[0], keys[1]]) == 2
        taken = [key for batch in made.lookup_and_delete_batch() for key, _ in batch]
        assert sorted(taken) == keys[2:]
        assert not made


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.PERCPU_ARRAY])
def test_arrays(kind: MapType) -> None:
    with make(kind) as made:
        assert len(made) == 4
        assert list(made) == [0, 1, 2, 3]
        assert made.update_batch({1: 5, 3: 6}) == 2
        values = [v if isinstance(v, int) else v[0] for v in made.values()]
        assert values == [0, 5, 0, 6]
        assert [len(batch) for batch in made.lookup_batch(3)] == [3, 1]
        assert 3 in made
        assert 4 not in made
        assert isinstance(told(lambda: made[4]), NotFoundError)
        error = told(lambda: made.__setitem__(4, 0))
        assert "out of range (0 to 3)" in str(error)
        for use in (lambda: made.__delitem__(1), lambda: made.pop(1), made.clear):
            assert "cannot be deleted" in str(told(use))
        assert [v if isinstance(v, int) else v[0] for v in made.values()] == values


@pytest.mark.parametrize(("kind", "first"), [(MapType.QUEUE, 1), (MapType.STACK, 4)])
def test_queues_and_stacks(kind: MapType, first: int) -> None:
    with make(kind) as made:
        for value in (1, 2, 3, 4):
            made.push(value)
        assert "full: 4 entries" in str(told(lambda: made.push(5)))
        assert made.peek() == first
        assert made.pop() == first
        made.push(6)
        made.push(7, UpdateFlag.EXIST)
        assert [made.pop() for _ in range(4)] == ([3, 4, 6, 7] if first == 1 else [7, 6, 3, 2])
        for use in (made.pop, made.peek):
            error = told(use)
            assert isinstance(error, NotFoundError)
            assert "it is empty" in str(error)
        made.push(8)
        made.clear()
        assert told(made.pop).errno == errno.ENOENT
        assert told(lambda: made.push(-1)).errno == errno.ERANGE
        assert told(lambda: made.push(bytes(7))).errno == errno.EINVAL
        for use in (lambda: made[0], lambda: len(made), lambda: list(made), made.popitem):
            error = told(use)
            assert "has no keys" in str(error)
            assert "push, pop, peek" in error.hint


@pytest.mark.skipif(LINUX < (5, 16), reason="Linux 5.16")
def test_bloom_filters() -> None:
    with make(MapType.BLOOM_FILTER, max_entries=1000, map_extra=5) as made:
        for value in range(20):
            made.push(value)
        assert all(value in made for value in range(20))
        assert sum(value in made for value in range(1000, 2000)) < 100
        assert told(lambda: -1 in made).errno == errno.ERANGE
        for use in (made.pop, made.peek, lambda: made[0], lambda: list(made)):
            assert "'value in map'" in told(use).hint
        assert made.info.map_extra == 5


def test_tries_by_networks(obj: BpfObject) -> None:
    routes: Map[Any, Any] = obj.maps["routes"]
    routes[ipaddress.ip_network("10.0.0.0/8")] = 1
    routes[24, b"\x0a\1\2\0"] = 2
    routes[{"length": 0, "address": bytes(4)}] = 3
    assert routes[ipaddress.ip_address("10.1.2.3")] == 2
    assert routes[ipaddress.ip_address("10.9.2.3")] == 1
    assert routes[ipaddress.ip_address("11.9.2.3")] == 3
    assert {(key.length, key.address) for key in routes} == {
        (8, b"\x0a\0\0\0"),
        (24, b"\x0a\1\2\0"),
        (0, bytes(4)),
    }
    networks = routes.typed(key=ipaddress.IPv4Network)
    assert {str(key): value for key, value in networks.items()} == {
        "10.0.0.0/8": 1,
        "10.1.2.0/24": 2,
        "0.0.0.0/0": 3,
    }
    for wrong in (ipaddress.ip_network("fe80::/10"), (33, bytes(4)), (8, bytes(3))):
        assert told(lambda wrong=wrong: routes.__setitem__(wrong, 1)).errno in (
            errno.EINVAL,
            errno.ERANGE,
        )


def test_a_hash_of_maps(obj: BpfObject) -> None:
    outer: Map[Any, Any] = obj.maps["outer"].typed(key="u32")
    inner: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": 4}
    with Map.create(MapType.HASH, **inner) as first, Map.create(MapType.HASH, **inner) as second:
        first[1], second[1] = 10, 20
        outer[5], outer[6] = first, second.fd
        with outer[5] as opened:
            assert opened.id == first.id
            assert dict(opened.typed(key="u32", value="u64")) == {1: 10}
        found = {}
        for key, opened in outer.items():
            with opened:
                found[key] = opened.id
        assert found == {5: first.id, 6: second.id}
        assert told(lambda: outer.__setitem__(7, 99999)).errno == errno.EBADF
        assert told(lambda: outer.__setitem__(7, "x")).errno == errno.EINVAL
        with outer.pop(5) as opened:
            assert opened.id == first.id
        assert list(outer) == [6]
    with pytest.raises(BpfError, match="it is closed"):
        outer[7] = first


@pytest.mark.parametrize("kind", [MapType.HASH_OF_MAPS, MapType.ARRAY_OF_MAPS])
def test_an_inner_map_is_taken_out(kind: MapType) -> None:
    """Nothing else keeps it: what is deleted first cannot be opened any more."""

    def fill() -> None:
        for number in range(3):
            with Map.create(MapType.ARRAY, value="u32", max_entries=1) as inner:
                inner[0] = number
                outer[number] = inner

    def number_in(inner: Any) -> int:
        with inner:
            return int.from_bytes(inner[0], sys.byteorder)

    with (
        Map.create(MapType.ARRAY, value="u32", max_entries=1) as like,
        Map.create(kind, key="u32", max_entries=3, inner_map=like) as outer,
    ):
        fill()
        assert number_in(outer.pop(1)) == 1
        assert outer.pop(1, None) is None
        key, inner = outer.popitem()
        assert number_in(inner) == key
        assert len(outer) == 1
        fill()
        taken = [entry for batch in outer.lookup_and_delete_batch(2) for entry in batch]
        assert {key: number_in(inner) for key, inner in taken} == {0: 0, 1: 1, 2: 2}
        assert not outer
        like[0] = 9
        if kind == MapType.HASH_OF_MAPS:
            assert number_in(outer.setdefault(2, like)) == 9
            assert number_in(outer.setdefault(2, outer)) == 9


def test_nothing_keeps_a_closed_map_of_maps() -> None:
    gc.collect()
    gc.disable()
    try:
        with Map.create(MapType.ARRAY, value="u32", max_entries=1) as like:
            outer = Map.create(MapType.HASH_OF_MAPS, key="u32", max_entries=1, inner_map=like)
            with outer:
                outer[1] = like
                outer[1].close()
            kept = weakref.ref(outer)
            del outer
            assert kept() is None
    finally:
        gc.enable()


def test_iteration_while_inner_maps_are_replaced() -> None:
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for number in range(16):
                with Map.create(MapType.ARRAY, value="u32", max_entries=1) as inner:
                    outer[number] = inner

    with (
        Map.create(MapType.ARRAY, value="u32", max_entries=1) as like,
        Map.create(MapType.HASH_OF_MAPS, key="u32", max_entries=16, inner_map=like) as outer,
    ):
        outer.update(dict.fromkeys(range(16), like))
        thread = threading.Thread(target=replace)
        thread.start()
        try:
            for _ in range(200):
                for _, inner in outer.items():
                    inner.close()
                outer[5].close()
        finally:
            stop.set()
            thread.join()


def test_an_array_of_maps() -> None:
    inner: dict[str, Any] = {"value": "u64", "max_entries": 1}
    with (
        Map.create(MapType.ARRAY, **inner) as first,
        Map.create(MapType.ARRAY_OF_MAPS, max_entries=3, inner_map=first) as outer,
    ):
        outer[1] = first
        assert list(outer) == [1]
        assert 0 not in outer
        with outer[1] as opened:
            assert opened.id == first.id
        del outer[1]
        assert not outer


def test_indexes_as_bytes() -> None:
    """An array's keys may be read as bytes, also where the kernel has no batches of it."""
    second = struct.pack("=I", 1)
    with (
        Map.create(MapType.ARRAY, value="u64", max_entries=2) as array,
        Map.create(MapType.ARRAY_OF_MAPS, max_entries=2, inner_map=array) as outer,
    ):
        assert list(array.typed(key=bytes)) == [bytes(4), second]
        outer[1] = array
        places: Map[Any, Any] = outer.typed(key=bytes)
        assert list(places) == [second]
        places.clear()
        assert not outer


def test_the_template_of_inner_maps(path: str) -> None:
    with (
        BpfObject.open(path) as obj,
        Map.create(MapType.HASH, key="u32", value="u64", max_entries=9) as template,
    ):
        obj.maps["cgroups"].autocreate = LINUX >= (6, 2)
        obj.maps["outer"].inner_map = template
        obj.load()
        outer: Map[Any, Any] = obj.maps["outer"].typed(key="u32")
        outer[1] = template
        with outer[1] as opened:
            assert opened.max_entries == 9


def test_program_arrays(obj: BpfObject) -> None:
    programs: Map[Any, Any] = obj.maps["programs"]
    program = obj.programs["program"]
    programs[2] = program
    programs[3] = program.fd
    number = programs[2]
    assert dict(programs) == {2: number, 3: number}
    assert number == program.info.id
    assert 0 not in programs
    assert programs.pop(2) == number
    programs.clear()
    assert not programs
    assert told(lambda: programs.__setitem__(0, 1 << 20)).errno == errno.EBADF
    assert isinstance(told(lambda: programs.__delitem__(0)), NotFoundError)


def test_stack_traces(obj: BpfObject) -> None:
    found = raw.bpf_test_run_opts()
    raw.bpf_prog_test_run_opts(obj.programs["program"].fd, found)
    stacks: Map[Any, Any] = obj.maps["stacks"]
    ((key, addresses),) = stacks.items()
    assert key == found.retval
    assert len(addresses) > 2
    assert 0 not in addresses
    assert stacks[key] == addresses
    del stacks[key]
    assert not stacks


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH])
def test_devices(kind: MapType, size: int) -> None:
    loopback = socket.if_nametoindex("lo")
    with make(kind, value_size=size) as made:
        made[1] = loopback
        assert made[1] == (loopback if size == 4 else (loopback, 0))
        assert list(made) == [1]
        assert told(lambda: made.__setitem__(2, 1 << 30)).errno == errno.EINVAL
        made.clear()
        assert not made


def test_processors() -> None:
    with make(MapType.CPUMAP, max_entries=1) as made:
        made[0] = 192
        assert dict(made) == {0: (192, 0)}
        assert made.pop(0) == (192, 0)
        assert not made


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client


def cookie(sock: socket.socket) -> int:
    return int(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, 57, 8))[0])


@pytest.mark.parametrize("kind", [MapType.SOCKMAP, MapType.SOCKHASH])
def test_sockets(kind: MapType, connection: socket.socket) -> None:
    with make(kind) as made:
        made[1] = connection
        assert dict(made) == {1: cookie(connection)}
        assert made.pop(1) == cookie(connection)
        assert isinstance(told(lambda: made.__delitem__(1)), NotFoundError)
        made[2] = connection.fileno()
        made.clear()
        assert not made
    with make(kind, value_size=4) as made:
        made[1] = connection
        assert "values of 8 bytes" in told(lambda: made[1]).hint
        assert bool(made)
        made.clear()


def test_sockets_of_one_port() -> None:
    with make(MapType.REUSEPORT_SOCKARRAY) as made, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        made[1] = sock
        assert dict(made) == {1: cookie(sock)}
        made.clear()
        assert not made


def test_xdp_sockets() -> None:
    with make(MapType.XSKMAP) as made, socket.socket(44, socket.SOCK_RAW) as sock:
        made[0] = sock
        for use in (lambda: made[0], lambda: list(made), lambda: len(made)):
            assert "does not tell what is in" in str(told(use))
        del made[0]
        made.clear()


def test_cgroups(cgroup: Path) -> None:
    with make(MapType.CGROUP_ARRAY) as made:
        fd = os.open(cgroup, os.O_RDONLY)
        try:
            made[0] = fd
        finally:
            os.close(fd)
        assert "does not tell what is in" in str(told(lambda: made[0]))
        del made[0]
        assert isinstance(told(lambda: made.__delitem__(0)), NotFoundError)


def test_perf_events() -> None:
    attr = raw.perf_event_attr(type=1, size=ctypes.sizeof(raw.perf_event_attr), config=10)
    number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(number, ctypes.byref(attr), -1, 0, -1, 0)  # a software event of CPU 0
    assert fd >= 0, os.strerror(ctypes.get_errno())
    with make(MapType.PERF_EVENT_ARRAY) as made:
        try:
            made[0] = fd
        finally:
            os.close(fd)
        assert "does not tell what is in" in str(told(lambda: made[0]))
        with tempfile.TemporaryFile() as file:
            assert told(lambda: made.__setitem__(0, file)).errno == errno.EBADF
        made.clear()


@pytest.mark.parametrize("name", ["sockets", "inodes", "tasks", "cgroups"])
def test_storage(obj: BpfObject, name: str, request: pytest.FixtureRequest) -> None:
    if name == "cgroups" and LINUX < (6, 2):
        pytest.skip("Linux 6.2")
    storage: Map[Any, Any] = obj.maps[name]
    key: Any
    if name == "sockets":
        key = socket.socket()
    elif name == "inodes":
        key = tempfile.TemporaryFile()  # noqa: SIM115  # closed below
    elif name == "tasks":
        key = os.fdopen(os.pidfd_open(os.getpid()))
    else:
        key = Descriptor(os.open(request.getfixturevalue("cgroup"), os.O_RDONLY))
    assert key not in storage
    storage[key] = -5
    assert storage[key] == -5
    assert key in storage
    assert told(lambda: storage.update_elem(key, 1, UpdateFlag.NOEXIST)).errno == errno.EEXIST
    assert storage.pop(key) == -5
    assert isinstance(told(lambda: storage[key]), NotFoundError)
    assert told(lambda: storage[1 << 20]).errno == errno.EBADF
    for use in (lambda: list(storage), lambda: len(storage), storage.clear):
        assert "found by file descriptor only" in told(use).hint
    key.close()


@pytest.mark.parametrize("kind", [MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE])
def test_cgroup_storage_is_made_by_programs(kind: MapType) -> None:
    with make(kind) as made:
        assert list(made) == []
        assert 5 not in made
        assert isinstance(told(lambda: made[5]), NotFoundError)
        assert told(lambda: made.__setitem__(5, 1)).errno in (errno.ENOENT, errno.EINVAL)


def test_struct_ops(obj: BpfObject) -> None:
    name = "bpf_struct_ops_tcp_congestion_ops"
    with Btf.kernel() as kernel:
        identity, size = kernel.find(name).id, kernel.layout(name).size
    made = Map.create(
        MapType.STRUCT_OPS,
        key_size=4,
        value_size=size,
        max_entries=1,
        btf_fd=raw.bpf_object__btf_fd(obj),
        btf_vmlinux_value_type_id=identity,
    )
    with made:
        assert list(made) == [0]
        assert len(made.lookup(bytes(4))) == size
        assert told(lambda: made.__setitem__(0, bytes(size))).errno == errno.EINVAL


def test_a_reader_of_a_map_without_object(obj: BpfObject) -> None:
    with Map.open_id(obj.maps["ring"].id) as opened:
        reader = RingBuffer(opened)
        raw.bpf_prog_test_run_opts(obj.programs["program"].fd, raw.bpf_test_run_opts())
        assert reader.poll(1) == [b"event\0\0\0"]
        with pytest.raises(BpfError) as caught:
            RingBuffer(opened)
        assert caught.value.errno == errno.EBUSY
    assert reader.closed


@pytest.mark.parametrize("kind", [MapType.RINGBUF, MapType.USER_RINGBUF, MapType.ARENA])
def test_what_has_no_entries(kind: MapType) -> None:
    if NEWER.get(kind, (5, 15)) > LINUX:
        pytest.skip(f"Linux {NEWER[kind]}")
    with make(kind) as made:
        uses = [
            *(lambda: made[0], lambda: made.__setitem__(0, b""), lambda: made.__delitem__(0)),
            *(lambda: 0 in made, lambda: len(made), lambda: list(made), lambda: dict(made)),
            *(made.clear, made.popitem, lambda: made.update_batch({0: 0}), lambda: made.get(0)),
            *(lambda: list(made.lookup_batch()), lambda: made.lookup(b"")),
        ]
        for use in uses:
            error = told(use)
            assert error.errno == errno.EOPNOTSUPP
            assert f"of type {kind.name} has no entries" in str(error)
            assert error.hint
        for use in (made.pop, made.peek, lambda: made.push(0)):
            assert "no queue or stack" in str(told(use))
        assert made
