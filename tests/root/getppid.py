"""A program that sends an event for each getppid of this process: cheap, and known to the call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import construct
import pytest

from libbpf_ctypes import BpfObject, PerfBuffer, RingBuffer, _ring

SOURCE = """
#include <linux/bpf.h>
#include <asm/unistd.h>
#include <bpf/bpf_helpers.h>

struct call {
	__u64 number;
	__u64 rest[4];		/* 40 bytes: perf makes them 44, with what was there before */
};
const struct call *const call_layout = 0;

struct twice {
	__u64 twice;
};
const struct twice *const twice_layout = 0;

const volatile __u32 target_pid = 0;
__u32 to = 0;			/* 1: EVENTS, 2: FIRST, 4: SECOND */
__u64 flags = 0;
__u64 number = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} FIRST SEC(".maps"), SECOND SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} REQUESTS SEC(".maps");

SEC("raw_tp")
int send(struct bpf_raw_tracepoint_args *ctx)
{
	struct call call = {};
	struct twice twice;

	if (bpf_get_current_pid_tgid() >> 32 != target_pid || ctx->args[1] != __NR_getppid)
		return 0;
	call.number = __sync_fetch_and_add(&number, 1);
	twice.twice = 2 * call.number;
	if (to & 1)
		bpf_perf_event_output(ctx, &EVENTS, BPF_F_CURRENT_CPU, &call, sizeof(call));
	if (to & 2)
		bpf_ringbuf_output(&FIRST, &call, sizeof(call), flags);
	if (to & 4)
		bpf_ringbuf_output(&SECOND, &twice, sizeof(twice), flags);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""

CALL = "call" / construct.Struct(
    "number" / construct.Int64un, "rest" / construct.Array(4, construct.Int64un)
)
TWICE = "twice" / construct.Struct("twice" / construct.Int64un)

TO_EVENTS, TO_FIRST, TO_SECOND = 1, 2, 4

#: The readers of one interface.
READERS = ("perf in memory", "perf by callback", "ring")


def call(times: int = 1) -> None:
    """Makes so many events."""
    for _ in range(times):
        os.getppid()


@contextmanager
def running(path: Path, to: int) -> Iterator[BpfObject]:
    """The program, loaded and attached; its events go where TO says."""
    with BpfObject.open(path) as obj:
        obj.variables["target_pid"].value = os.getpid()
        obj.variables["to"].value = to
        obj.load()
        with obj.programs["send"].attach_raw_tracepoint("sys_enter"):
            yield obj


def choose(kind: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Has this kind of reader be taken; returns where the events go."""
    if kind == "perf by callback":
        monkeypatch.setattr(_ring, "obstacle", lambda: "it is a test")
    elif kind == "perf in memory" and _ring.obstacle():
        pytest.skip(_ring.obstacle())
    return TO_FIRST if kind == "ring" else TO_EVENTS


class Make:
    """Makes readers of one kind of an object's events.

    Attributes: obj: the object.
    """

    def __init__(self, obj: BpfObject, kind: str) -> None:
        self.obj = obj
        self._kind = kind

    def __call__(self, schema: Any = CALL, **settings: Any) -> Any:
        if self._kind == "ring":
            return RingBuffer(self.obj.maps["FIRST"], schema, **settings)
        return PerfBuffer(self.obj.maps["EVENTS"], schema, **settings)
