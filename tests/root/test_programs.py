"""Programs in the kernel: test runs, statistics, pins, and opened by path or number."""

from __future__ import annotations

import errno
import gc
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    LibraryError,
    Link,
    LoadedProgram,
    Program,
    ProgramType,
    enable_stats,
    program_info,
)

from ..conftest import Compile
from .conftest import has_libbpf

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} UNUSED SEC(".maps");

SEC("xdp")
int packet(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

SEC("xdp")
int longer(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -8) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int shorter(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, 8) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int cut(struct xdp_md *ctx)	/* its context tells how long the packet is */
{
	return ctx->data_end - ctx->data;
}

SEC("tc")
int classify(struct __sk_buff *ctx)
{
	ctx->mark = ctx->mark + 1;
	return -1;
}

SEC("raw_tp/sys_enter")
int traced(__u64 *ctx)
{
	return ctx[0] + ctx[1];
}

SEC("raw_tp/sys_enter")
int where(void *ctx __attribute__((unused)))
{
	return bpf_get_smp_processor_id();
}

SEC("syscall")
int call(__u64 *ctx)
{
	ctx[1] = ctx[0] + 1;
	return 3;
}

SEC("perf_event")
int untested(void *ctx __attribute__((unused)))
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
PACKET = bytes(range(64))
RUN_ON_CPU = 1
XDP_DROP, XDP_TX = 1, 3


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE)


@pytest.fixture(scope="module")
def shared(path: Path) -> Iterator[BpfObject]:
    """The object, loaded; for tests that leave it as it is."""
    with BpfObject.open(path) as opened:
        opened.load()
        yield opened


@pytest.fixture
def obj(path: Path) -> Iterator[BpfObject]:
    """The object, loaded for this test."""
    with BpfObject.open(path) as opened:
        opened.load()
        yield opened


def test_a_packet_comes_back(shared: BpfObject) -> None:
    result = shared.programs["packet"].test_run(PACKET)
    assert (result.retval, result.data_out, result.ctx_out) == (XDP_DROP, PACKET, b"")


def test_a_packet_that_the_program_lengthens_or_shortens(shared: BpfObject) -> None:
    longer = shared.programs["longer"].test_run(PACKET)
    assert longer.retval == XDP_TX
    assert (len(longer.data_out), longer.data_out[8:]) == (72, PACKET)
    assert shared.programs["shorter"].test_run(PACKET).data_out == PACKET[8:]


def test_too_little_room_for_what_comes_back(shared: BpfObject) -> None:
    with pytest.raises(BpfError, match="give data_size_out") as caught:
        shared.programs["longer"].test_run(PACKET, data_size_out=71)
    assert caught.value.errno == errno.ENOSPC
    assert len(shared.programs["longer"].test_run(PACKET, data_size_out=72).data_out) == 72
    assert shared.programs["longer"].test_run(PACKET, data_size_out=0).data_out == b""


def test_a_context_goes_in_and_comes_back(shared: BpfObject) -> None:
    """struct __sk_buff: mark is its third number."""
    context = struct.pack("@8xI180x", 41)
    result = shared.programs["classify"].test_run(PACKET, ctx_in=context)
    assert result.retval == 0xFFFFFFFF  # TC_ACT_UNSPEC, -1
    assert len(result.ctx_out) == 192
    assert struct.unpack_from("@8xI", result.ctx_out) == (42,)
    assert struct.unpack_from("@8xI", context) == (41,)


def test_a_context_of_xdp_cuts_the_packet(shared: BpfObject) -> None:
    """struct xdp_md: data_meta, data_end."""
    context = struct.pack("@6I", 0, 20, 0, 0, 0, 0)
    result = shared.programs["cut"].test_run(PACKET[:20], ctx_in=context)
    assert result.retval == 20
    assert struct.unpack("@6I", result.ctx_out)[:3] == (0, 20, 0)


def test_the_arguments_of_a_raw_tracepoint(shared: BpfObject) -> None:
    result = shared.programs["traced"].test_run(ctx_in=struct.pack("@2Q", 40, 2))
    assert result.retval == 42
    assert result.data_out == b""


def test_a_run_on_a_chosen_processor(shared: BpfObject) -> None:
    program = shared.programs["where"]
    for cpu in os.sched_getaffinity(0):
        assert program.test_run(flags=RUN_ON_CPU, cpu=cpu).retval == cpu
    with pytest.raises(BpfError, match="ENXIO"):
        program.test_run(flags=RUN_ON_CPU, cpu=100_000)


def test_a_syscall_programs_context_changes_in_place(shared: BpfObject) -> None:
    context = struct.pack("@2Q", 7, 0)
    result = shared.programs["call"].test_run(ctx_in=context)
    assert result.retval == 3
    assert result.ctx_out == struct.pack("@2Q", 7, 8)
    assert context == struct.pack("@2Q", 7, 0)  # bytes are not written to


def test_a_type_without_test_run(shared: BpfObject) -> None:
    with pytest.raises(BpfError, match="no test run for programs of this type") as caught:
        shared.programs["untested"].test_run()
    assert caught.value.errno == 524
    assert "ENOTSUPP" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("packet", {}),
        ("packet", {"data_in": b"short"}),
        ("packet", {"data_in": PACKET, "flags": 1 << 30}),
        ("traced", {"data_in": PACKET}),
        ("traced", {"repeat": 2}),
        ("call", {"data_in": PACKET}),
    ],
)
def test_what_a_type_does_not_take(shared: BpfObject, name: str, arguments: Any) -> None:
    with pytest.raises(BpfError, match="Its type takes no such run") as caught:
        shared.programs[name].test_run(**arguments)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "arguments",
    [{"repeat": -1}, {"repeat": 1 << 31}, {"flags": -1}, {"cpu": 1 << 32}, {"batch_size": -1}],
)
def test_numbers_that_c_would_cut(shared: BpfObject, arguments: Any) -> None:
    with pytest.raises(BpfError, match=str(next(iter(arguments.values())))) as caught:
        shared.programs["packet"].test_run(PACKET, **arguments)
    assert caught.value.errno == errno.ERANGE


def test_a_size_that_is_none(shared: BpfObject) -> None:
    with pytest.raises(BpfError, match="no size of a buffer"):
        shared.programs["packet"].test_run(PACKET, data_size_out=-1)


def test_runs_are_counted_while_statistics_are_on(obj: BpfObject) -> None:
    program = obj.programs["packet"]
    program.test_run(PACKET)
    if Path("/proc/sys/kernel/bpf_stats_enabled").read_text() == "0\n":
        assert program.statistics.run_cnt == 0
    with enable_stats() as stats:
        before = program.statistics.run_cnt
        program.test_run(PACKET, repeat=10)
        assert program.statistics.run_cnt == before + 10
        assert program.statistics.run_time_ns > 0
        assert program.statistics.recursion_misses == 0
    assert stats.closed
    stats.close()
    program.test_run(PACKET, repeat=10)
    assert program.statistics.run_cnt == before + 10


def test_the_duration_is_that_of_a_run(shared: BpfObject) -> None:
    assert shared.programs["classify"].test_run(PACKET, repeat=100).duration > 0


def test_what_the_kernel_tells(shared: BpfObject) -> None:
    program = shared.programs["packet"]
    info = program.info
    assert (info.name, info.type) == ("packet", ProgramType.XDP)
    assert info == program_info(program.fd)
    assert program.id == info.id
    translated = program.translated_instructions()
    assert len(translated) == info.xlated_prog_len
    assert translated == program.instructions == bytes([0xB7, 0, 0, 0, 1, 0, 0, 0, 0x95]) + bytes(7)


def test_a_bound_map_lives_with_the_program(obj: BpfObject) -> None:
    program, unused = obj.programs["packet"], obj.maps["UNUSED"]
    assert program.info.map_ids == ()
    program.bind_map(unused)
    assert len(program.info.map_ids) == 1


def test_opened_by_number_it_outlives_its_object(obj: BpfObject) -> None:
    number = obj.programs["packet"].id
    with Program.open_id(number) as program:
        obj.close()
        assert isinstance(program, LoadedProgram)
        assert (program.id, program.name, program.type) == (number, "packet", ProgramType.XDP)
        assert program.test_run(PACKET).retval == XDP_DROP
    with pytest.raises(BpfError, match="It is gone, or never was") as caught:
        Program.open_id(number)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_a_number_that_is_none(number: int) -> None:
    with pytest.raises(BpfError, match=f"its number is {number}"):
        Program.open_id(number)


def test_pinned_it_outlives_its_object(obj: BpfObject, bpffs: Path) -> None:
    path = bpffs / "folder" / "packet"
    obj.programs["packet"].pin(path)
    obj.close()
    with Program.open_pinned(path) as program:
        assert program.test_run(PACKET).retval == XDP_DROP
        program.pin(bpffs / "again")
        with pytest.raises(BpfError, match="Something is there already"):
            program.pin(path)
    assert (bpffs / "again").exists()


def test_unpinned(obj: BpfObject, bpffs: Path) -> None:
    program = obj.programs["packet"]
    program.pin(bpffs / "packet")
    with pytest.raises(BpfError, match="EEXIST"):
        program.pin(bpffs / "packet")
    program.unpin(bpffs / "packet")
    assert not (bpffs / "packet").exists()
    with pytest.raises(BpfError, match="Nothing is there"):
        program.unpin(bpffs / "packet")


def test_a_map_or_a_link_is_no_program(obj: BpfObject, bpffs: Path) -> None:
    obj.pin_maps(bpffs)
    with pytest.raises(BpfError, match="it is a map, not a program") as caught:
        Program.open_pinned(bpffs / "UNUSED")
    assert caught.value.errno == errno.EINVAL
    with obj.programs["traced"].attach_raw_tracepoint("sys_enter") as link:
        link.pin(bpffs / "link")
        with pytest.raises(BpfError, match=r"it is a link.*Link.open_pinned\(\) opens it"):
            Program.open_pinned(bpffs / "link")
        link.unpin()
    obj.programs["packet"].pin(bpffs / "packet")
    with pytest.raises(BpfError, match=r"it is a program, not a link.*Program.open_pinned"):
        Link.open_pinned(bpffs / "packet")


def test_paths_where_nothing_can_be_pinned(obj: BpfObject, bpffs: Path, tmp_path: Path) -> None:
    program = obj.programs["packet"]
    with pytest.raises(BpfError, match="It must lie in a BPF file system"):
        program.pin(tmp_path / "packet")
    with pytest.raises(BpfError, match="Nothing is there"):
        Program.open_pinned(bpffs / "packet")
    with pytest.raises(BpfError, match="It must be pinned in a BPF file system"):
        Program.open_pinned(__file__)
    for name in ("", "a\0b"):
        for call in (program.pin, program.unpin, Program.open_pinned, Link.open_pinned):
            with pytest.raises(BpfError, match="not a path"):
                call(name)


def test_the_whole_object_is_pinned_and_unpinned(obj: BpfObject, bpffs: Path) -> None:
    names = {*obj.programs, "UNUSED"}
    obj.pin(bpffs / "all")
    assert {path.name for path in (bpffs / "all").iterdir()} == names
    obj.unpin_programs(bpffs / "all")
    assert {path.name for path in (bpffs / "all").iterdir()} == {"UNUSED"}
    obj.unpin_maps(bpffs / "all")
    obj.pin_programs(bpffs / "all")
    obj.pin_maps(bpffs / "all")
    assert {path.name for path in (bpffs / "all").iterdir()} == names


def test_all_pins_of_the_object_are_removed_at_once(obj: BpfObject, bpffs: Path) -> None:
    obj.pin(bpffs / "all")
    if not has_libbpf("1.3"):
        with pytest.raises(LibraryError, match=r"bpf_object__unpin: needs libbpf 1\.3"):
            obj.unpin(bpffs / "all")
        return
    obj.unpin(bpffs / "all")
    assert list((bpffs / "all").iterdir()) == []


def test_maps_are_pinned_below_the_root_that_is_asked_for(
    compile_bpf: Compile, bpffs: Path
) -> None:
    pinned = SOURCE.replace("} UNUSED", "\t__uint(pinning, LIBBPF_PIN_BY_NAME);\n} UNUSED")
    path = compile_bpf(pinned)
    with BpfObject.open(path, pin_root_path=bpffs) as obj:
        obj.load()
        assert (bpffs / "UNUSED").exists()
        obj.unpin_maps()
        assert not (bpffs / "UNUSED").exists()
        obj.pin_maps()
        assert (bpffs / "UNUSED").exists()


def test_pinning_before_load(path: Path, bpffs: Path) -> None:
    with BpfObject.open(path) as obj:
        for call in (obj.pin, obj.pin_maps, obj.pin_programs, obj.programs["packet"].pin):
            with pytest.raises(BpfError, match=r"not loaded.*load\(\) first"):
                call(bpffs / "packet")


def test_unloaded_it_has_no_descriptor(obj: BpfObject) -> None:
    program = obj.programs["packet"]
    program.unload()
    program.unload()
    with pytest.raises(BpfError, match="it was unloaded") as caught:
        program.test_run(PACKET)
    assert caught.value.errno == errno.EBADF
    assert obj.programs["longer"].test_run(PACKET).retval == XDP_TX


USES = [
    "autoload",
    "autoattach",
    "expected_attach_type",
    "fd",
    "flags",
    "id",
    "info",
    "instructions",
    "log_level",
    "name",
    "section",
    "statistics",
    "type",
]


@pytest.mark.parametrize("name", USES)
def test_use_after_the_objects_close(obj: BpfObject, name: str) -> None:
    program = obj.programs["packet"]
    getattr(program, name)
    obj.close()
    with pytest.raises(ClosedError, match="it is closed"):
        getattr(program, name)


def test_calls_after_the_objects_close(obj: BpfObject, bpffs: Path) -> None:
    program = obj.programs["packet"]
    obj.close()
    obj.close()
    for call in (
        lambda: program.test_run(PACKET),
        lambda: program.pin(bpffs / "packet"),
        lambda: program.unpin(bpffs / "packet"),
        lambda: obj.pin(bpffs),
        program.unload,
        program.translated_instructions,
        obj.prepare,
        obj.load,
    ):
        with pytest.raises(BpfError, match="it is closed"):
            call()
    assert repr(program) == "<Program of a closed object>"


def test_use_after_close_of_a_loaded_program(obj: BpfObject, bpffs: Path) -> None:
    program = Program.open_id(obj.programs["packet"].id)
    program.close()
    program.close()
    for call in (
        lambda: program.fd,
        lambda: program.info,
        lambda: program.name,
        lambda: program.test_run(PACKET),
        lambda: program.pin(bpffs / "packet"),
    ):
        with pytest.raises(ClosedError, match="it is closed"):
            call()
    assert "(closed)" in repr(program)


def test_a_discarded_loaded_program_warns(obj: BpfObject) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Program.open_id(obj.programs["packet"].id)
        gc.collect()
    assert ["unclosed <LoadedProgram" in str(w.message) for w in caught] == [True]
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
