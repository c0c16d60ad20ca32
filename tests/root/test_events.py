"""What the shipped program sends is what was called: nothing more, nothing less."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
import time
from typing import Callable

from libbpf_ctypes import (
    KPROBE_OBJECT,
    SYSCALL_EVENT,
    BpfObject,
    Link,
    PerfBuffer,
    SyscallEvent,
)

from .conftest import LIBC, call_open64

PR_SET_NAME = 15


def counters(obj: BpfObject) -> tuple[int, ...]:
    """filtered, sent, refused, unreadable over all CPUs."""
    rows = [struct.unpack_from("4Q", row) for row in obj.maps["COUNTERS"].lookup_percpu(bytes(4))]
    return tuple(sum(column) for column in zip(*rows))


def test_each_call_is_one_event_with_its_caller(
    loaded: BpfObject, attach: Callable[[], Link]
) -> None:
    calls = 50
    expected: set[tuple[int, str, int]] = set()
    started = time.monotonic_ns()

    def worker(number: int) -> None:
        name = f"open-{number}"
        LIBC.prctl(PR_SET_NAME, name.encode())
        path = ctypes.create_string_buffer(f"/nonexistent/{number}".encode())
        paths.append(path)
        expected.add((threading.get_native_id(), name, call_open64(path, calls)))

    paths: list[object] = []  # kept: each address must stay one thread's own
    with PerfBuffer(loaded.maps["EVENTS"], SYSCALL_EVENT) as buffer, attach() as link:
        threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        link.close()
        events = [e for e in buffer.poll(0) if e.comm.startswith("open-")]
    assert all(type(event) is SyscallEvent for event in events)
    assert {(e.tid, e.comm, e.syscall_nr) for e in events} == expected
    assert len(events) == 4 * calls
    assert {e.pid for e in events} == {os.getpid()}
    assert all(started < e.timestamp_ns < time.monotonic_ns() for e in events)
    for tid in {e.tid for e in events}:
        times = [e.timestamp_ns for e in events if e.tid == tid]
        assert len(set(times)) == calls


def test_events_of_one_cpu_are_in_order(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    path = ctypes.create_string_buffer(b"/nonexistent")
    before = os.sched_getaffinity(0)
    with PerfBuffer(loaded.maps["EVENTS"], SYSCALL_EVENT) as buffer, attach():
        os.sched_setaffinity(0, {min(before)})
        try:
            register = call_open64(path, 300)
        finally:
            os.sched_setaffinity(0, before)
        times = [e.timestamp_ns for e in buffer.poll(0) if e.syscall_nr == register]
    assert len(times) == 300
    assert times == sorted(times)


def test_the_counters_add_up(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    path = ctypes.create_string_buffer(b"/nonexistent")
    with PerfBuffer(loaded.maps["EVENTS"], SYSCALL_EVENT) as buffer, attach() as link:
        call_open64(path, 100)
        subprocess.run([sys.executable, "-c", "pass"], check=True)  # left out: not our pid
        link.close()
        delivered = len(buffer.poll(0))
        filtered, sent, refused, _unreadable = counters(loaded)
    assert sent == delivered >= 100
    assert refused == 0
    assert filtered > 0


def test_an_overrun_is_counted_in_the_kernel(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    path = ctypes.create_string_buffer(b"/nonexistent")
    lost: list[tuple[int, int]] = []
    with (
        PerfBuffer(
            loaded.maps["EVENTS"], SYSCALL_EVENT, pages=1, on_lost=lambda *args: lost.append(args)
        ) as buffer,
        attach() as link,
    ):
        call_open64(path, 1000)  # a page holds some 70
        delivered = len(buffer.poll(0))
        call_open64(path)  # carries the report of what was lost before it
        link.close()
        delivered += len(buffer.poll(0))
        _filtered, sent, refused, _ = counters(loaded)
        assert sent == delivered
        assert 0 < buffer.lost <= refused
        assert sum(count for _cpu, count in lost) == buffer.lost


def test_the_tracer_is_left_out() -> None:
    path = ctypes.create_string_buffer(b"/nonexistent")
    with BpfObject.open(KPROBE_OBJECT) as obj:
        obj.variables["tracer_pid"].value = os.getpid()
        obj.load()
        program = obj.programs["syscall_kprobe"]
        with (
            PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT) as buffer,
            program.attach_uprobe("libc.so.6", "open64"),
        ):
            call_open64(path, 20)
            subprocess.run(["cat", "/dev/null"], check=True)
            pids = {event.pid for event in buffer.poll(0)}
    assert os.getpid() not in pids
    assert pids


def test_without_schema_events_are_bytes(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    path = ctypes.create_string_buffer(b"/nonexistent")
    with PerfBuffer(loaded.maps["EVENTS"]) as buffer, attach():
        register = call_open64(path)
        samples = [s for s in buffer.poll(0) if SYSCALL_EVENT.parse(s).syscall_nr == register]
    assert [len(sample) for sample in samples] == [44]  # 40, padded as the kernel does


def test_constants_can_be_read_but_not_set_after_load(loaded: BpfObject) -> None:
    variable = loaded.variables["target_pid"]
    assert variable.value == os.getpid()
    try:
        variable.value = 1
    except OSError as error:
        assert "loaded" in str(error)
    else:
        raise AssertionError("a read-only variable was set after load()")
    assert variable.value == os.getpid()


def test_a_variable_is_set_after_load_and_the_program_sees_it(
    loaded: BpfObject, attach: Callable[[], Link]
) -> None:
    until = loaded.variables["until_ns"]
    assert until.value == 2**64 - 1
    with PerfBuffer(loaded.maps["EVENTS"], SYSCALL_EVENT) as buffer, attach():
        call_open64(ctypes.create_string_buffer(b"/nonexistent/before"))
        end = time.monotonic_ns()
        until.value = end
        call_open64(ctypes.create_string_buffer(b"/nonexistent/after"))
        events = buffer.poll(0)
    assert until.value == end
    assert [event.timestamp_ns < end for event in events] == [True]


def test_both_machines_objects_pass_this_kernels_verifier() -> None:
    for path in KPROBE_OBJECT.parent.parent.glob("*/kprobe.bpf.o"):
        with BpfObject.open(path) as obj:
            obj.load()
            assert obj.loaded, path
