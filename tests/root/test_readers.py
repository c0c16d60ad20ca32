"""All ways to read a buffer give the same: in memory or by callbacks, of any libbpf."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import construct
import numpy
import pytest

from libbpf_ctypes import (
    SYSCALL_EVENT,
    BpfError,
    BpfObject,
    Link,
    PerfBuffer,
    _perf_open,
    _ring,
    perf_buffer,
)
from libbpf_ctypes.events import SYSCALL_EVENT_SCHEMA

from .conftest import call_open64

PATH = ctypes.create_string_buffer(b"/nonexistent")


@pytest.fixture(params=["in memory", "by callback"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both readers; the one by callbacks is that of machines which reorder memory."""
    if request.param == "by callback":
        monkeypatch.setattr(_ring, "obstacle", lambda: "it is a test")
    elif _ring.obstacle():
        pytest.skip(_ring.obstacle())
    yield request.param


@pytest.fixture
def events(loaded: BpfObject) -> Iterator[Any]:
    """The map that the buffers read; the calls are made on one CPU, and fill one buffer."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield loaded.maps["EVENTS"]
    os.sched_setaffinity(0, before)


def ours(records: list[Any]) -> list[Any]:
    """The records of this test's own calls, in the order of their times."""
    address = ctypes.addressof(PATH)
    return sorted((r for r in records if r.syscall_nr == address), key=lambda r: r.timestamp_ns)


def test_the_reader_is_told(events: Any, reader: str) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer:
        assert bool(buffer.why_callback) == (reader == "by callback")


def test_each_event_comes_once(events: Any, attach: Callable[[], Link], reader: str) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        got = []
        for _ in range(20):
            call_open64(PATH, 500)
            got += ours(buffer.poll(0))
        assert buffer.lost == 0
    assert len(got) == 20 * 500
    assert got == ours(got)
    assert len({r.timestamp_ns for r in got}) == len(got)


def test_columns_and_records_and_bytes_are_the_same_events(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        call_open64(PATH, 100)
        arrays = buffer.poll_batches(0)
        call_open64(PATH, 100)
        records = ours(buffer.poll(0))
        assert not buffer.poll_batches(0)
    columns = numpy.concatenate(arrays)
    columns = columns[columns["syscall_nr"] == ctypes.addressof(PATH)]
    assert len(columns) == len(records) == 100
    assert set(columns["pid"].tolist()) == {records[0].pid}
    assert set(columns["comm"].tolist()) == {records[0].comm.encode()}
    assert columns["timestamp_ns"].max() < records[0].timestamp_ns
    with PerfBuffer(events, with_cpu=True) as raw, attach():
        call_open64(PATH, 100)
        samples = raw.poll(0)
    assert {len(data) for _, data in samples} == {44}
    assert all(type(data) is bytes for _, data in samples)
    assert {cpu for cpu, _ in samples} <= set(range(4096))


def test_flat_records_and_a_schema_that_comes_later(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    asked = []

    def later() -> Any:
        asked.append(True)
        return SYSCALL_EVENT_SCHEMA.flat()

    buffer: PerfBuffer[Any]
    with PerfBuffer(events, later) as buffer, attach():
        assert bool(asked) == (reader == "by callback")
        call_open64(PATH, 10)
        found: list[Any] = buffer.poll(0)
        assert asked == [True]
        buffer.resolve_schema()
        assert asked == [True]
    assert {type(event) for event in found} == {tuple}
    assert [event[2] for event in found].count(ctypes.addressof(PATH)) == 10
    assert {len(event[4]) for event in found} == {16}


def test_losses_are_reported_and_no_event_is_torn(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    """A buffer of one page is overrun again and again: sent + lost = calls, but for the last."""
    reports: list[tuple[int, int]] = []
    got: list[Any] = []

    def on_lost(cpu: int, number: int) -> None:
        reports.append((cpu, number))

    with PerfBuffer(events, SYSCALL_EVENT, pages=1, on_lost=on_lost) as buffer, attach():
        for _ in range(200):
            call_open64(PATH, 100)
            got += buffer.poll(0)
        call_open64(PATH, 1)
        got += buffer.poll(0)
        lost = buffer.lost
    assert sum(number for _, number in reports) == lost > 0
    found = ours(got)
    assert len(found) >= 200
    # Libc's own opens of this process are few; all others are ours or lost.
    assert 20001 - lost - 200 <= len(found) <= 20001
    assert all(event.comm == found[0].comm and event.pid == found[0].pid for event in found)


def test_a_wake_up_by_events_and_one_by_time(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=0.2) as buffer, attach():
        buffer.poll(0)
        began = time.monotonic()
        call_open64(PATH)
        assert ours(buffer.poll())
        assert time.monotonic() - began < 500, "it is handed out though no batch was full"
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=1000) as buffer, attach():
        call_open64(PATH, 10000)
        assert len(ours(buffer.poll())) >= 4096, "a full batch wakes the reader"
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=1000, pages=1) as buffer, attach():
        call_open64(PATH, 30)
        assert ours(buffer.poll()), "so does a quarter of a small buffer"
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=0) as buffer, attach():
        call_open64(PATH)
        assert ours(buffer.poll()), "and each event, if it is told to"


def test_a_time_to_poll_is_kept_with_events_below_a_batch(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=1000) as buffer, attach():
        call_open64(PATH)
        assert ours(buffer.poll(0.01)), "what is there at the end of the wait is handed out"


def test_how_far_it_was_read(events: Any, attach: Callable[[], Link], reader: str) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        assert buffer.read_until == 0
        call_open64(PATH, 3)
        before = time.monotonic_ns()
        found = ours(buffer.poll(0))
        assert before <= buffer.read_until <= time.monotonic_ns()
        assert found[-1].timestamp_ns < buffer.read_until


def test_a_decoder_that_raises_costs_one_event(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    """Every event but the odd ones is refused by its constant; the good ones all come."""
    first = ctypes.create_string_buffer(b"/nonexistent")
    declaration = construct.Struct(
        "head" / construct.Bytes(8),
        construct.Const(ctypes.addressof(PATH), construct.Int64un),
        "rest" / construct.Bytes(24),
    )
    with PerfBuffer(events, declaration) as buffer, attach():
        call_open64(first, 5)
        call_open64(PATH, 5)
        call_open64(first, 5)
        call_open64(PATH, 5)
        with pytest.raises(BpfError, match="an unnamed constant: it must be"):
            buffer.poll(0)
        assert len(buffer.poll(0)) == 10


@pytest.mark.parametrize("max_latency", [-1.0, float("nan")])
def test_impossible_latencies(events: Any, max_latency: float) -> None:
    with pytest.raises(BpfError, match="is not a time to wait"):
        PerfBuffer(events, SYSCALL_EVENT, max_latency=max_latency)


def test_columns_need_a_schema(events: Any) -> None:
    with PerfBuffer(events) as buffer, pytest.raises(BpfError, match="without a schema"):
        buffer.batches()
    varying = construct.Struct("n" / construct.VarInt)
    with PerfBuffer(events, varying) as odd, pytest.raises(BpfError, match="n is a VarInt"):
        odd.poll_batches(0)


def test_batches_by_callback_say_so(
    events: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_ring, "obstacle", lambda: "it is a test")
    with caplog.at_level(logging.WARNING), PerfBuffer(events, SYSCALL_EVENT) as buffer:
        buffer.poll_batches(0)
        buffer.poll_batches(0)
    said = [r.getMessage() for r in caplog.records if "it is a test" in r.getMessage()]
    assert len(said) == 1


def test_batches_are_iterated_until_the_close(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    seen = 0
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        call_open64(PATH, 300)
        for array in buffer.batches():
            seen += int((array["syscall_nr"] == ctypes.addressof(PATH)).sum())
            if seen == 300:
                buffer.close()
    assert seen == 300


@pytest.mark.parametrize("obstacle", ["", "it is a test"], ids=["in memory", "by callback"])
def test_a_batch_is_taken_without_letting_go_of_the_interpreter(obstacle: str) -> None:
    """A second thread that gets it would keep it for ever: so the batch must not give it away."""
    code = f"""
import ctypes, os, sys, threading
from libbpf_ctypes import KPROBE_OBJECT, SYSCALL_EVENT, BpfObject, PerfBuffer, _ring
if {obstacle!r}:
    _ring.obstacle = lambda: {obstacle!r}
start, stop = threading.Lock(), False
def spin():
    with start:
        while not stop:
            pass
with BpfObject.open(KPROBE_OBJECT) as obj:
    obj.variables["target_pid"].value = os.getpid()
    obj.load()
    with PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT) as buffer:
        buffer.poll(0)
        with obj.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64"):
            for _ in range(3000):
                ctypes.CDLL(None).open64(b"/nonexistent", 0)
        start.acquire()
        thread = threading.Thread(target=spin)
        sys.setswitchinterval(1000)  # before it begins: it waits for the lock, and asks for no turn
        thread.start()
        start.release()
        found = len(buffer.poll(0))
        stop = True
        sys.setswitchinterval(0.005)
        thread.join()
        print(found >= 3000)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_late_schema_is_there_where_the_cpus_are_not_known(
    events: Any, attach: Callable[[], Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback makes its callback when it is opened."""
    monkeypatch.setattr(perf_buffer, "online_cpus", list)
    buffer: PerfBuffer[Any]
    with PerfBuffer(events, lambda: SYSCALL_EVENT) as buffer, attach():
        assert buffer.why_callback
        call_open64(PATH, 3)
        assert len(ours(buffer.poll(0))) == 3
        call_open64(PATH, 3)
        assert sum(map(len, buffer.poll_batches(0))) >= 3


def test_ctrl_c_while_it_opens_leaks_nothing(
    events: Any, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    really_open = _perf_open._open

    def open_and_interrupt(*arguments: Any) -> Any:
        pointer = really_open(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        return pointer

    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(_perf_open, "_open", open_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        PerfBuffer(events, SYSCALL_EVENT)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    monkeypatch.undo()
    PerfBuffer(events, SYSCALL_EVENT).close()


def test_a_decoder_that_always_raises_ends(
    events: Any, attach: Callable[[], Link], reader: str
) -> None:
    """Whatever a user's construct raises: no event is tried for ever."""

    def leave(_context: Any) -> int:
        raise SystemExit(3)

    declaration = construct.Struct("n" / construct.Computed(leave), "rest" / construct.Bytes(40))
    with PerfBuffer(events, declaration) as buffer, attach():
        call_open64(PATH, 10)
        with pytest.raises(SystemExit):
            buffer.poll(0)
        assert buffer.poll(0) == []
