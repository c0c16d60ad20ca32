"""What other bindings crash on: closing, threads, signals, forks, exceptions."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path
from typing import Any, Callable

import construct
import pytest

from libbpf_ctypes import (
    KPROBE_OBJECT,
    SYSCALL_EVENT,
    BpfError,
    BpfObject,
    ClosedError,
    DecodeError,
    Link,
    PerfBuffer,
)
from libbpf_ctypes._perf_open import default_pages

from .conftest import call_open64, close_during_poll

PATH = ctypes.create_string_buffer(b"/nonexistent")


@pytest.fixture
def events(loaded: BpfObject) -> Any:
    """The map that the buffers read."""
    return loaded.maps["EVENTS"]


def flood(buffer: PerfBuffer[Any]) -> None:
    """Overruns a buffer of one page on every CPU, and sends the report of it."""
    before = os.sched_getaffinity(0)
    for cpu in before:
        os.sched_setaffinity(0, {cpu})
        call_open64(PATH, 300)
    os.sched_setaffinity(0, before)


def test_poll_waits_no_longer_than_asked(events: Any) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer:
        assert buffer.poll(0) == []
        assert buffer.poll(0.01) == []


def test_poll_returns_when_an_event_comes(events: Any, attach: Callable[[], Link]) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        timer = threading.Timer(0.1, call_open64, (PATH,))
        timer.start()
        got = buffer.poll()
        timer.join()
    assert ctypes.addressof(PATH) in {event.syscall_nr for event in got}


def test_its_descriptor_wakes_select(events: Any, attach: Callable[[], Link]) -> None:
    with PerfBuffer(events, SYSCALL_EVENT, max_latency=0) as buffer, attach():
        assert not select.select([buffer], [], [], 0)[0]
        call_open64(PATH)
        assert select.select([buffer], [], [], 60)[0]
        assert buffer.poll(0)


def test_iteration_ends_when_it_is_closed(events: Any, attach: Callable[[], Link]) -> None:
    seen = []
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        call_open64(PATH, 3)
        for event in buffer:
            seen.append(event.syscall_nr)
            if seen.count(ctypes.addressof(PATH)) == 3:
                buffer.close()
    assert seen.count(ctypes.addressof(PATH)) == 3


def test_an_exception_of_on_lost_is_raised_and_no_event_dropped(
    events: Any, attach: Callable[[], Link]
) -> None:
    calls = []

    def on_lost(cpu: int, count: int) -> None:
        calls.append(count)
        raise RuntimeError(f"lost {count} on {cpu}")

    with PerfBuffer(events, SYSCALL_EVENT, on_lost=on_lost, pages=1) as buffer, attach():
        flood(buffer)
        kept = len(buffer.poll(0))
        call_open64(PATH)
        with pytest.raises(RuntimeError, match="lost"):
            while True:
                kept += len(buffer.poll(0))
                call_open64(PATH)
        assert len(calls) == 1
        assert len(buffer.poll(0)) > 0, "the event that carried the report"


def test_ctrl_c_during_the_callbacks_is_raised(events: Any, attach: Callable[[], Link]) -> None:
    """A thread interrupts a busy reader: none of its interrupts may get lost in a callback."""
    rounds, arrived = 30, 0
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach():
        for _ in range(rounds):
            timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                while timer.is_alive() or arrived < _ + 1:
                    call_open64(PATH, 50)
                    buffer.poll(0)
            except KeyboardInterrupt:
                arrived += 1
            finally:  # or another error's report would be interrupted
                timer.cancel()
                timer.join()
    assert arrived == rounds


def test_times_to_wait(events: Any, attach: Callable[[], Link]) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer:
        for timeout in (-1.0, float("nan")):
            with pytest.raises(BpfError, match="is not a time to wait"):
                buffer.poll(timeout)
        for timeout in (1e300, float("inf"), 3e6):
            buffer.wake()
            assert buffer.poll(timeout) == []


@pytest.mark.parametrize("pages", [0, -8, 3, 1 << 21, 1 << 52])
def test_impossible_sizes(events: Any, pages: int) -> None:
    with pytest.raises(BpfError, match="not a power of two up to"):
        PerfBuffer(events, SYSCALL_EVENT, pages=pages)


def test_close_races_with_poll(events: Any) -> None:
    """Closed at any moment of a poll in another thread: an orderly end on both sides."""
    for _ in range(300):
        close_during_poll(PerfBuffer(events, SYSCALL_EVENT), 0.001, lambda: None)


def test_an_event_of_another_size_is_refused(events: Any, attach: Callable[[], Link]) -> None:
    wide = construct.Struct("a" / construct.Int64un[8])
    with PerfBuffer(events, wide) as buffer, attach():
        call_open64(PATH)
        with pytest.raises(DecodeError, match=r"44 bytes.* 64"):
            buffer.poll(1)


def test_close_inside_a_callback(events: Any, attach: Callable[[], Link]) -> None:
    buffers: list[PerfBuffer[Any]] = []
    with (
        attach(),
        PerfBuffer(events, SYSCALL_EVENT, on_lost=lambda *_: buffers[0].close(), pages=1) as buffer,
    ):
        buffers.append(buffer)
        flood(buffer)
        buffer.poll(0)
        flood(buffer)
        got = buffer.poll(0)
        assert buffer.closed
        assert got, "what was read before the close is returned"
        with pytest.raises(ClosedError):
            buffer.poll(0)


def test_close_from_another_thread_ends_the_poll(events: Any) -> None:
    buffer = PerfBuffer(events, SYSCALL_EVENT)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(buffer.poll()))
    thread.start()
    while buffer._poller is None:
        time.sleep(0.001)
    buffer.close()
    thread.join(60)
    assert not thread.is_alive()
    assert results == [[]]
    assert buffer.closed


def test_two_polls_at_once_are_refused(events: Any) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer:
        thread = threading.Thread(target=buffer.poll)
        thread.start()
        while buffer._poller is None:
            time.sleep(0.001)
        with pytest.raises(BpfError) as caught:
            buffer.poll(0)
        buffer.wake()
        thread.join()
    assert caught.value.errno == errno.EBUSY


def test_a_second_buffer_would_steal_the_first_ones_events(events: Any) -> None:
    with PerfBuffer(events, SYSCALL_EVENT), pytest.raises(BpfError, match="another PerfBuffer"):
        PerfBuffer(events, SYSCALL_EVENT)
    PerfBuffer(events, SYSCALL_EVENT).close()


def test_signals_do_not_end_a_poll(events: Any) -> None:
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        with PerfBuffer(events, SYSCALL_EVENT) as buffer:
            while len(handled) <= 2:
                began = time.monotonic()
                assert buffer.poll(0.2) == []
                assert time.monotonic() - began >= 0.2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_wake_in_a_signal_handler_ends_a_poll(events: Any) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer:
        before = signal.signal(signal.SIGALRM, lambda *_: buffer.wake())
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            assert buffer.poll() == []  # without timeout: only wake() ends it
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_forked_child_is_refused_and_does_not_detach(
    events: Any, attach: Callable[[], Link]
) -> None:
    with PerfBuffer(events, SYSCALL_EVENT) as buffer, attach() as link:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                buffer.poll(0)
            except ClosedError:
                status = 0
            link.close()
            buffer.close()
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        register = call_open64(PATH)
        assert register in {event.syscall_nr for event in buffer.poll(0)}


def test_the_object_closes_what_was_made_of_it() -> None:
    obj = BpfObject.open(KPROBE_OBJECT)
    obj.load()
    buffer = PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT)
    link = obj.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64")
    obj.close()
    assert buffer.closed
    assert link.closed
    for handle in (link, buffer, obj):
        handle.close()


def test_a_closed_buffer_is_freed_without_the_collector(events: Any) -> None:
    gc.disable()
    try:
        buffer = PerfBuffer(events, SYSCALL_EVENT)
        gone = weakref.ref(buffer)
        buffer.close()
        del buffer
        assert gone() is None
    finally:
        gc.enable()


def test_a_forgotten_link_warns_and_detaches(loaded: BpfObject) -> None:
    program = loaded.programs["syscall_kprobe"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program.attach_uprobe("libc.so.6", "open64")
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert "open64" in str(caught[0].message)


def test_nothing_leaks() -> None:
    def once() -> None:
        with BpfObject.open(KPROBE_OBJECT) as obj:
            obj.load()
            with PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT) as buffer:
                with obj.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64"):
                    pass
                buffer.poll(0)

    once()
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(20):
        once()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_the_process_may_end_with_all_of_it_open() -> None:
    code = f"""
import libbpf_ctypes as b
obj = b.BpfObject.open({str(KPROBE_OBJECT)!r}); obj.load()
buffer = b.PerfBuffer(obj.maps["EVENTS"], b.SYSCALL_EVENT)
link = obj.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_default_buffer_shrinks_to_what_the_user_may_lock() -> None:
    """Without CAP_IPC_LOCK, in a child: fewer pages, a warning; the size asked for is refused."""
    code = f"""
import ctypes, logging, os, resource, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s")
import libbpf_ctypes as b
CAP_IPC_LOCK = 14
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
data = (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None, use_errno=True)
header = Header(0x20080522, 0)
PR_SET_KEEPCAPS = 8
assert libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
os.setuid({1_000_000_000 + os.getpid()})  # what another process of the user locks counts
assert libc.capget(ctypes.byref(header), data) == 0
data[0], data[3] = data[1] & ~(1 << CAP_IPC_LOCK), data[4]
assert libc.capset(ctypes.byref(header), data) == 0
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
with b.BpfObject.open({str(KPROBE_OBJECT)!r}) as obj:
    obj.load()
    with b.PerfBuffer(obj.maps["EVENTS"], b.SYSCALL_EVENT) as buffer:
        print(buffer.pages)
    try:
        b.PerfBuffer(obj.maps["EVENTS"], b.SYSCALL_EVENT, pages=4096)
    except b.BpfError as error:
        print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages, hint = done.stdout.splitlines()
    assert 1 <= int(pages) < default_pages()
    assert "CAP_IPC_LOCK" in hint
    assert "smaller than usual" in done.stderr
    assert f"{int(pages) * os.sysconf('SC_PAGE_SIZE') >> 10} KiB" in done.stderr
