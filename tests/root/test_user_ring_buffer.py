"""Sending to a program, which drains its user ring buffer at each getppid of this process."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import construct
import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    DecodeError,
    LayoutError,
    UserRingBuffer,
)

from ..conftest import Compile
from .conftest import number_of_fds
from .getppid import call

SOURCE = """
#include <linux/bpf.h>
#include <asm/unistd.h>
#include <bpf/bpf_helpers.h>

struct request {
	__u64 number;
	__u32 kind;
} __attribute__((packed));
const struct request *const request_layout = 0;

const volatile __u32 target_pid = 0;
__u64 taken = 0;
__u64 sum = 0;
__u32 kinds = 0;

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} REQUESTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} OTHER SEC(".maps");

static long take(struct bpf_dynptr *data, void *context __attribute__((unused)))
{
	struct request request = {};

	bpf_dynptr_read(&request, sizeof(request), data, 0, 0);
	taken++;
	sum += request.number;
	kinds |= 1 << (request.kind & 31);
	return 0;
}

SEC("raw_tp")
int drain(struct bpf_raw_tracepoint_args *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 == target_pid && ctx->args[1] == __NR_getppid)
		bpf_user_ringbuf_drain(&REQUESTS, take, 0, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
REQUEST = "request" / construct.Struct("number" / construct.Int64un, "kind" / construct.Int32un)
FITS = 4096 // 24  # 8 bytes of header, 12 of the event, rounded up


@pytest.fixture
def obj(compile_bpf: Compile) -> Iterator[BpfObject]:
    with BpfObject.open(compile_bpf(SOURCE)) as obj:
        obj.variables["target_pid"].value = os.getpid()
        obj.load()
        with obj.programs["drain"].attach_raw_tracepoint("sys_enter"):
            yield obj


@pytest.fixture
def requests(obj: BpfObject) -> Iterator[UserRingBuffer]:
    with UserRingBuffer(obj.maps["REQUESTS"], REQUEST) as buffer:
        yield buffer


def taken(obj: BpfObject) -> tuple[object, object]:
    """How many events the program took, and the sum of their numbers."""
    return obj.variables["taken"].value, obj.variables["sum"].value


def test_the_program_takes_what_was_sent(obj: BpfObject, requests: UserRingBuffer) -> None:
    requests.send(struct.pack("=QI", 5, 1))
    requests.send({"number": 6, "kind": 2})
    requests.send(bytearray(struct.pack("=QI", 7, 3)))
    assert taken(obj) == (0, 0)
    call()
    assert taken(obj) == (3, 18)
    assert obj.variables["kinds"].value == 0b1110
    call()
    assert taken(obj) == (3, 18)


def test_a_full_buffer_says_so_and_takes_more_when_it_was_drained(
    obj: BpfObject, requests: UserRingBuffer
) -> None:
    for _ in range(FITS):
        requests.send({"number": 1, "kind": 0})
    for timeout in (0, 0.02):
        began = time.monotonic()
        with pytest.raises(BpfError, match=r"the buffer is full \(ENOSPC\)") as told:
            requests.send({"number": 1, "kind": 0}, timeout)
        assert told.value.errno == errno.ENOSPC
        assert time.monotonic() - began >= timeout
    call()
    requests.send({"number": 1, "kind": 0})
    call()
    assert taken(obj) == (FITS + 1, FITS + 1)


def test_it_waits_for_room(obj: BpfObject, requests: UserRingBuffer) -> None:
    for _ in range(FITS):
        requests.send({"number": 1, "kind": 0})
    timer = threading.Timer(0.1, call)
    timer.start()
    requests.send({"number": 100, "kind": 0}, timeout=None)
    timer.join()
    call()
    assert taken(obj) == (FITS + 1, FITS + 100)


def test_a_task_waits_for_room_while_others_run(obj: BpfObject, requests: UserRingBuffer) -> None:
    async def drain() -> None:
        while obj.variables["taken"].value != 3 * FITS:
            await asyncio.sleep(0.01)
            call()

    async def send(count: int) -> None:
        for _ in range(count):
            await requests.send_async({"number": 1, "kind": 0})

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(drain(), send(2 * FITS), send(FITS)), 120)

    asyncio.run(main())
    assert taken(obj) == (3 * FITS, 3 * FITS)


def test_a_task_that_waits_for_room_ends(obj: BpfObject, requests: UserRingBuffer) -> None:
    """By its time, by cancellation, which sends nothing, and by close; no descriptor is left."""

    async def main() -> None:
        for _ in range(FITS):
            await requests.send_async({"number": 1, "kind": 0}, 0)
        before = number_of_fds()
        with pytest.raises(BpfError, match="the buffer is full"):
            await requests.send_async({"number": 100, "kind": 0}, 0.02)
        waiting = asyncio.ensure_future(requests.send_async({"number": 100, "kind": 0}))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert number_of_fds() == before
        call()
        assert taken(obj) == (FITS, FITS)
        for _ in range(FITS):
            requests.send({"number": 1, "kind": 0})
        waiting = asyncio.ensure_future(requests.send_async({"number": 100, "kind": 0}))
        await asyncio.sleep(0.01)
        requests.close()
        with pytest.raises(ClosedError):
            await asyncio.wait_for(waiting, 120)

    asyncio.run(main())


def test_room_is_reserved_filled_and_given_back(obj: BpfObject, requests: UserRingBuffer) -> None:
    with requests.reserve(12) as data:
        assert data == bytes(12)
        data[:] = struct.pack("=QI", 9, 4)
    with pytest.raises(RuntimeError), requests.reserve(12) as data:
        raise RuntimeError
    with pytest.raises(BpfError, match="it has 13 bytes now"), requests.reserve(12) as data:
        data.append(1)
    call()
    assert taken(obj) == (1, 9)


def test_what_it_does_not_send(requests: UserRingBuffer) -> None:
    with pytest.raises(BpfError, match="The event is larger than the buffer") as told:
        requests.send(bytes(5000))
    assert told.value.errno == errno.E2BIG
    for size in (0, 1 << 30):
        with pytest.raises(BpfError, match=f"{size} bytes"):
            requests.send(bytes(size))
    sizes: list[Any] = [-1, 1 << 30, 1 << 40, 1.5]
    for size in sizes:
        with pytest.raises(BpfError), requests.reserve(size):
            pass
    with pytest.raises(DecodeError):
        requests.send({"number": -1, "kind": 0})
    with pytest.raises(BpfError, match="is not a time to wait"):
        requests.send(b"x", float("nan"))


def test_what_it_does_not_write(obj: BpfObject, requests: UserRingBuffer) -> None:
    with pytest.raises(BpfError, match="another UserRingBuffer"):
        UserRingBuffer(obj.maps["REQUESTS"])
    no_map: Any = 5
    with pytest.raises(BpfError, match="5 is no Map"):
        UserRingBuffer(no_map)
    with pytest.raises(BpfError, match="of type RINGBUF, not USER_RINGBUF"):
        UserRingBuffer(obj.maps["OTHER"])
    requests.close()
    wrong = "request" / construct.Struct("kind" / construct.Int32un)
    with pytest.raises(LayoutError, match="request"):
        UserRingBuffer(obj.maps["REQUESTS"], wrong)
    with (
        UserRingBuffer(obj.maps["REQUESTS"]) as plain,
        pytest.raises(BpfError, match="is bytes, not dict"),
    ):
        plain.send({"number": 1})


def test_threads_send_at_once(obj: BpfObject, requests: UserRingBuffer) -> None:
    def send(first: int) -> None:
        for number in range(first, first + 300):
            requests.send({"number": number, "kind": 0}, timeout=120)

    threads = [threading.Thread(target=send, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        call()
        time.sleep(0.001)
    call()
    assert taken(obj) == (900, sum(sum(range(n, n + 300)) for n in (0, 1000, 2000)))


def test_closed_while_a_thread_waits_or_room_is_reserved(requests: UserRingBuffer) -> None:
    told: list[object] = []

    def fill() -> None:
        try:
            while True:
                requests.send({"number": 1, "kind": 0}, timeout=None)
        except ClosedError as error:
            told.append(error)

    with pytest.raises(ClosedError), requests.reserve(12):
        thread = threading.Thread(target=fill)
        thread.start()
        time.sleep(0.1)
        requests.close()
        thread.join(60)
    assert len(told) == 1
    with pytest.raises(ClosedError):
        requests.send({"number": 1, "kind": 0})
    assert repr(requests) == "<UserRingBuffer of REQUESTS (closed)>"
