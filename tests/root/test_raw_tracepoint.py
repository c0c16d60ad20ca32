"""A raw tracepoint program: attached by name, called for each event, gone when closed."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from libbpf_ctypes import BpfError, BpfObject, Map

from ..conftest import Compile

#: Counts this process's getppid calls: the tracepoint hands over pt_regs and the number.
SOURCE = """
#include <linux/bpf.h>
#include <asm/unistd.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 target_pid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} CALLS SEC(".maps");

SEC("raw_tp")
int count_calls(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0;
	__u64 *calls;

	if (bpf_get_current_pid_tgid() >> 32 != target_pid || ctx->args[1] != __NR_getppid)
		return 0;
	calls = bpf_map_lookup_elem(&CALLS, &zero);
	if (calls)
		__sync_fetch_and_add(calls, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def counting(compile_bpf: Compile) -> Iterator[BpfObject]:
    """The program above, loaded; its target is this process."""
    with BpfObject.open(compile_bpf(SOURCE)) as obj:
        obj.variables["target_pid"].value = os.getpid()
        obj.load()
        yield obj


def calls(counts: Map[Any, Any]) -> int:
    """How many calls were counted."""
    (number,) = struct.unpack("Q", counts.lookup(bytes(4)))
    return int(number)


def test_it_runs_while_its_link_is_open(counting: BpfObject) -> None:
    counts = counting.maps["CALLS"]
    with counting.programs["count_calls"].attach_raw_tracepoint("sys_enter") as link:
        assert link.target == "sys_enter"
        for _ in range(100):
            os.getppid()
        assert calls(counts) == 100
    os.getppid()
    assert calls(counts) == 100


def test_a_tracepoint_that_is_not_there(counting: BpfObject) -> None:
    program = counting.programs["count_calls"]
    with pytest.raises(BpfError, match="without its subsystem") as caught:
        program.attach_raw_tracepoint("raw_syscalls:sys_enter")
    assert caught.value.errno == errno.ENOENT
    for name in ("", "sys_enter\0x"):
        with pytest.raises(BpfError, match="not the name of a tracepoint"):
            program.attach_raw_tracepoint(name)


def test_a_program_of_another_type(loaded: BpfObject) -> None:
    with pytest.raises(BpfError, match="type KPROBE: its section must be raw_tp") as caught:
        loaded.programs["syscall_kprobe"].attach_raw_tracepoint("sys_enter")
    assert caught.value.errno == errno.EINVAL


def test_a_program_that_is_not_loaded(compile_bpf: Compile) -> None:
    with BpfObject.open(compile_bpf(SOURCE)) as obj:
        program = obj.programs["count_calls"]
        with pytest.raises(BpfError, match=r"not loaded.*load\(\) first"):
            program.attach_raw_tracepoint("sys_enter")


def test_variables_in_sections_of_their_own(compile_bpf: Compile) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 own SEC(".data.own") = 4;
const volatile __u64 fixed SEC(".rodata.own") = 1;

SEC("syscall") int add(void *ctx)
{
	own += fixed;
	return !ctx;
}
char LICENSE[] SEC("license") = "GPL";
"""
    with BpfObject.open(compile_bpf(source)) as obj:
        own, fixed = obj.variables["own"], obj.variables["fixed"]
        fixed.value = 2
        obj.load()
        assert obj.programs["add"].test_run().retval == 1
        assert own.value == 6
        own.value = 10
        obj.programs["add"].test_run()
        assert own.value == 12
        with pytest.raises(BpfError, match="it is a constant"):
            fixed.value = 3
