"""Ring buffers: what the program sends comes in order."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import construct
import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    LayoutError,
    LibraryError,
    Map,
    PerfBuffer,
    RingBuffer,
)

from ..conftest import Compile
from .conftest import LIBC, call_open64, close_during_poll, has_libbpf
from .getppid import CALL as BIG_CALL
from .getppid import TO_FIRST, TO_SECOND, TWICE, call, running

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct ring_call {
	__u64 number;
	__u32 pid;
} __attribute__((packed));
const struct ring_call *const ring_call_layout = 0;

const volatile __u64 path = 0;	/* calls with another first argument are Python's own */
const volatile __u64 flags = 0;
__u64 number = 0;
__u64 refused = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} FIRST SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} OTHER SEC(".maps");

SEC("kprobe")
int probe(void *ctx)
{
	struct ring_call call = {};

	if (*(__u64 *)(ctx + 112) != path)	/* struct pt_regs, di */
		return 0;
	call.pid = bpf_get_current_pid_tgid() >> 32;
	call.number = __sync_fetch_and_add(&number, 1);
	if (bpf_ringbuf_output(&FIRST, &call, sizeof(call), flags))
		__sync_fetch_and_add(&refused, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
BPF_RB_NO_WAKEUP = 1
PATH = ctypes.create_string_buffer(b"/nonexistent/ring")

CALL = "ring_call" / construct.Struct("number" / construct.Int64un, "pid" / construct.Int32un)


@pytest.fixture
def make(compile_bpf: Compile) -> Iterator[Callable[..., BpfObject]]:
    """Loads the program, attached to open64."""
    path = compile_bpf(SOURCE)
    made = []

    def make_object(flags: int = 0) -> BpfObject:
        obj = BpfObject.open(path)
        made.append(obj)
        obj.variables["path"].value = ctypes.addressof(PATH)
        obj.variables["flags"].value = flags
        obj.load()
        links.append(obj.programs["probe"].attach_uprobe("libc.so.6", "open64"))
        return obj

    links: list[Any] = []
    yield make_object
    for obj in made:
        obj.close()


def test_each_call_is_one_event_in_order(make: Callable[..., BpfObject]) -> None:
    obj = make()
    with RingBuffer(obj.maps["FIRST"], CALL) as buffer:
        call_open64(PATH, 100)
        events = buffer.poll(1)
        assert buffer.poll(0) == []
    assert [event.number for event in events] == list(range(100))
    assert {event.pid for event in events} == {os.getpid()}


def test_without_schema_events_are_bytes_without_padding(make: Callable[..., BpfObject]) -> None:
    with RingBuffer(make().maps["FIRST"]) as buffer:
        call_open64(PATH, 2)
        pid = os.getpid().to_bytes(4, "little")
        assert buffer.poll(1) == [bytes(8) + pid, b"\1" + bytes(7) + pid]


def test_many_events_come_in_pieces_and_all_of_them(make: Callable[..., BpfObject]) -> None:
    calls = 40000
    obj = make()
    with RingBuffer(obj.maps["FIRST"], CALL) as buffer:
        call_open64(PATH, calls)
        pieces = []
        while piece := buffer.poll(0):
            pieces.append(len(piece))
    assert max(pieces) == 16384
    assert sum(pieces) == calls
    assert obj.variables["refused"].value == 0


def test_a_full_ring_refuses_and_the_program_counts(make: Callable[..., BpfObject]) -> None:
    obj = make()
    with RingBuffer(obj.maps["FIRST"], CALL) as buffer:
        call_open64(PATH, 60000)
        read = 0
        while piece := buffer.poll(0):
            read += len(piece)
    refused = obj.variables["refused"].value
    assert isinstance(refused, int)
    assert refused > 0
    assert read + refused == 60000


def test_events_without_a_wake_up_come_after_max_latency(make: Callable[..., BpfObject]) -> None:
    obj = make(BPF_RB_NO_WAKEUP)
    with RingBuffer(obj.maps["FIRST"], CALL, max_latency=0) as buffer:
        call_open64(PATH, 3)
        assert len(buffer.poll(0)) == 3, "who asks gets what is there"
    with RingBuffer(obj.maps["FIRST"], CALL, max_latency=0.05) as buffer:
        timer = threading.Timer(0.1, call_open64, (PATH, 3))
        timer.start()
        events = buffer.poll(60)
        while events and len(events) < 3:  # between two calls the thread may have to wait
            events += buffer.poll(60)
        assert len(events) == 3
        timer.join()


def test_its_descriptor_wakes_select(make: Callable[..., BpfObject]) -> None:
    with RingBuffer(make().maps["FIRST"], CALL) as buffer:
        assert select.select([buffer], [], [], 0) == ([], [], [])
        call_open64(PATH)
        assert select.select([buffer], [], [], 60)[0] == [buffer]
        assert len(buffer.poll(0)) == 1
        assert select.select([buffer], [], [], 0) == ([], [], [])


def test_iteration_ends_when_it_is_closed(make: Callable[..., BpfObject]) -> None:
    buffer = RingBuffer(make().maps["FIRST"], CALL)
    call_open64(PATH, 3)
    seen = []
    for event in buffer:
        seen.append(event.number)
        if len(seen) == 3:
            buffer.close()
    assert seen == [0, 1, 2]
    assert buffer.closed
    buffer.close()
    with pytest.raises(ClosedError):
        buffer.poll(0)


def test_what_it_does_not_read(make: Callable[..., BpfObject], compile_bpf: Compile) -> None:
    obj = make()
    with pytest.raises(BpfError, match="of type ARRAY, not RINGBUF"):
        RingBuffer(obj.maps["OTHER"])
    wrong = "ring_call" / construct.Struct("pid" / construct.Int32un)
    with pytest.raises(LayoutError, match="ring_call"):
        RingBuffer(obj.maps["FIRST"], wrong)
    with pytest.raises(BpfError, match="is not a time to wait"):
        RingBuffer(obj.maps["FIRST"], max_latency=float("nan"))
    with RingBuffer(obj.maps["FIRST"]):
        with pytest.raises(BpfError) as told:
            RingBuffer(obj.maps["FIRST"])
        assert told.value.errno == errno.EBUSY
    RingBuffer(obj.maps["FIRST"]).close()
    with (
        BpfObject.open(compile_bpf(SOURCE)) as other,
        pytest.raises(BpfError, match="not loaded"),
    ):
        RingBuffer(other.maps["FIRST"])


def test_an_exception_of_the_decoder_is_raised_and_no_other_event_dropped(
    make: Callable[..., BpfObject],
) -> None:
    seen: list[int] = []

    def look(context: Any) -> int:
        seen.append(context.number)
        if context.number == 2:
            raise RuntimeError("the third")
        return 0

    declaration = construct.Struct(
        "number" / construct.Int64un, "pid" / construct.Int32un, "look" / construct.Computed(look)
    )
    with RingBuffer(make().maps["FIRST"], declaration) as buffer:
        call_open64(PATH, 6)
        with pytest.raises(BpfError, match="the third"):
            buffer.poll(1)
        assert [event.number for event in buffer.poll(0)] == [0, 1, 3, 4, 5]
    assert seen == [0, 1, 2, 3, 4, 5]


def test_closed_inside_a_callback_it_ends_in_order(make: Callable[..., BpfObject]) -> None:
    obj = make()
    declaration = construct.Struct(
        "number" / construct.Int64un,
        "pid" / construct.Int32un,
        "close" / construct.Computed(lambda _: buffer.close()),
    )
    buffer: RingBuffer[Any] = RingBuffer(obj.maps["FIRST"], declaration)
    call_open64(PATH, 4)
    assert len(buffer.poll(1)) == 4
    assert buffer.closed
    obj.close()
    assert repr(buffer) == "<RingBuffer of FIRST (closed)>"


def test_close_races_with_poll(make: Callable[..., BpfObject]) -> None:
    obj = make()
    for _ in range(100):
        buffer = RingBuffer(obj.maps["FIRST"], CALL)
        close_during_poll(buffer, 1, lambda: call_open64(PATH, 20))


def test_one_thread_polls(make: Callable[..., BpfObject]) -> None:
    with RingBuffer(make().maps["FIRST"], CALL) as buffer:
        thread = threading.Thread(target=buffer.poll)
        thread.start()
        while buffer._poller is None:
            time.sleep(0.001)
        with pytest.raises(BpfError) as told:
            buffer.poll(0)
        assert told.value.errno == errno.EBUSY
        buffer.wake()
        thread.join(60)
        assert not thread.is_alive()


def test_a_forked_child_is_refused(make: Callable[..., BpfObject]) -> None:
    with RingBuffer(make().maps["FIRST"], CALL) as buffer:
        child = os.fork()
        if not child:
            try:
                buffer.poll(0)
            except ClosedError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        call_open64(PATH)
        assert len(buffer.poll(1)) >= 1


def test_ctrl_c_costs_no_event(make: Callable[..., BpfObject]) -> None:
    rounds, arrived, read, calls = 20, 0, 0, 0
    with RingBuffer(make().maps["FIRST"], CALL) as buffer:
        for number in range(rounds):
            timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                while arrived <= number:
                    calls += LIBC.open64(PATH, 0) < 0
                    read += len(buffer.poll(0))
            except KeyboardInterrupt:
                arrived += 1
            finally:  # or another error's report would be interrupted
                timer.cancel()
                timer.join()
        read += len(buffer.poll(0))
    assert arrived == rounds
    assert calls - rounds <= read <= calls + rounds


def test_no_descriptor_and_no_memory_is_left(make: Callable[..., BpfObject]) -> None:
    obj = make()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(200):
        buffer = RingBuffer(obj.maps["FIRST"], CALL)
        buffer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_loop_that_is_left_loses_nothing(make: Callable[..., BpfObject]) -> None:
    with RingBuffer(make().maps["FIRST"], CALL) as buffer:
        call_open64(PATH, 10)
        for event in buffer:
            assert event.number == 0
            break
        assert [event.number for event in buffer.poll(0)] == list(range(1, 10))


def test_several_maps_each_with_its_schema(getppid_object: Path) -> None:
    with running(getppid_object, TO_FIRST | TO_SECOND) as obj:
        first, second = obj.maps["FIRST"], obj.maps["SECOND"]
        with RingBuffer({first: BIG_CALL, second: TWICE}) as buffer:
            assert repr(buffer) == "<RingBuffer of FIRST, SECOND>"
            call(3)
            events = buffer.poll(0)
            assert [e.number for e in events if hasattr(e, "number")] == [0, 1, 2]
            assert [e.twice for e in events if hasattr(e, "twice")] == [0, 2, 4]
            for map in (first, second):
                with pytest.raises(BpfError, match=f"another RingBuffer reads {map.name}"):
                    RingBuffer(map)
            assert select.select([buffer], [], [], 0)[0] == []
            obj.variables["to"].value = TO_SECOND
            call()
            assert select.select([buffer], [], [], 60)[0] == [buffer]
            assert [e.twice for e in buffer.poll(1)] == [6]
        with RingBuffer({first: None, second: TWICE}, with_map=True) as pairs:
            obj.variables["to"].value = TO_FIRST | TO_SECOND
            call(2)
            found: list[tuple[Map[Any, Any], Any]] = pairs.poll(0)
        assert [data[:8] for map, data in found if map is first] == [
            number.to_bytes(8, "little") for number in (4, 5)
        ]
        assert [event.twice for map, event in found if map is second] == [8, 10]
        with RingBuffer(second, with_map=True) as one:
            call()
            assert one.poll(0) == [(second, (12).to_bytes(8, "little"))]


def test_what_is_no_set_of_maps(getppid_object: Path) -> None:
    with running(getppid_object, TO_FIRST) as obj:
        maps = obj.maps
        for wrong, schema in (({}, None), ({maps["FIRST"]: None}, TWICE)):
            with pytest.raises(BpfError, match="its schema, one or more"):
                RingBuffer(wrong, schema)
        no_maps: list[Any] = [5, [maps["FIRST"]], {"FIRST": None}]
        for no_map in no_maps:
            with pytest.raises(BpfError, match=r"it takes a Map|is no Map"):
                RingBuffer(no_map)
            with pytest.raises(BpfError, match="is no Map"):
                PerfBuffer(no_map)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(BpfError, match="of type PERF_EVENT_ARRAY, not RINGBUF"):
            RingBuffer({maps["FIRST"]: None, maps["EVENTS"]: None})
        with pytest.raises(LayoutError, match="twice"):
            RingBuffer({maps["FIRST"]: None, maps["SECOND"]: "twice" / construct.Struct()})
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        RingBuffer({maps["FIRST"]: None, maps["SECOND"]: None}).close()


def test_a_busy_map_does_not_hide_another(getppid_object: Path) -> None:
    """The first ring always has more than one poll takes: the second's events come all the same."""
    with running(getppid_object, TO_FIRST | TO_SECOND) as obj:
        maps = obj.maps["FIRST"], obj.maps["SECOND"]
        with RingBuffer(dict.fromkeys(maps), with_map=True) as buffer:
            call()
            obj.variables["to"].value = TO_FIRST
            call(16384 * 3)
            polls = [[map for map, _ in buffer.poll(0)] for _ in range(2)]
            assert maps[1] in polls[0] + polls[1]
            assert {len(polls[0]), len(polls[1])} <= {16384, 16385}


def test_maps_of_several_objects_and_of_none(getppid_object: Path) -> None:
    """Closing any of the objects closes the reader, which would lose a part of its maps."""
    with running(getppid_object, TO_FIRST) as one, running(getppid_object, TO_FIRST) as other:
        maps = one.maps["FIRST"], other.maps["FIRST"]
        buffer = RingBuffer(dict.fromkeys(maps), with_map=True)
        call()
        assert {map for map, _ in buffer.poll(0)} == set(maps)
        other.close()
        assert buffer.closed
        assert repr(buffer) == "<RingBuffer of FIRST, FIRST (closed)>"
        with Map.open_id(one.maps["FIRST"].info.id) as opened:
            again = RingBuffer(opened, BIG_CALL)
            call()
            assert [event.number for event in again.poll(0)] == [1]
        assert again.closed


def test_how_full_it_is(getppid_object: Path) -> None:
    with (
        running(getppid_object, TO_FIRST | TO_SECOND) as obj,
        RingBuffer({obj.maps["FIRST"]: None, obj.maps["SECOND"]: None}) as buffer,
    ):
        call(2)
        if not has_libbpf("1.3"):
            with pytest.raises(LibraryError, match=r"needs libbpf 1\.3"):
                buffer.statistics()
            return
        first, second = buffer.statistics()
        assert first == ("FIRST", 1 << 22, 96, 0, 96)
        assert second == ("SECOND", 1 << 22, 32, 0, 32)
        assert len(buffer.poll(0)) == 4
        assert buffer.statistics()[0] == ("FIRST", 1 << 22, 0, 96, 96)
    with pytest.raises(ClosedError):
        buffer.statistics()


def test_too_few_descriptors_are_told_and_none_is_lost(getppid_object: Path) -> None:
    with running(getppid_object, TO_FIRST) as obj:
        RingBuffer(obj.maps["FIRST"]).close()  # what is opened once is open
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = len(list(Path("/proc/self/fd").iterdir()))
        kept = [os.dup(0)]
        while kept[-1] < before + 20:  # no gaps are left
            kept.append(os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (kept[-1] + 1, limits[1]))
        told = set()
        try:
            for left in range(4):  # it takes an epoll, libbpf's own, and a pipe: four
                try:
                    RingBuffer(obj.maps["FIRST"]).close()
                except BpfError as error:
                    told.add((left, error.errno))
                os.close(kept.pop())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in kept:
                os.close(fd)
        assert told == {(left, errno.EMFILE) for left in range(4)}
        assert len(list(Path("/proc/self/fd").iterdir())) == before
