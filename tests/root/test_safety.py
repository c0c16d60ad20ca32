"""What crashes or lies without protection, in every reader: closing, threads, callbacks, errors."""

from __future__ import annotations

import ctypes
import errno
import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import construct
import pytest

from libbpf_ctypes import BpfError, ClosedError, DecodeError, Map, PerfBuffer
from libbpf_ctypes.enums import MapType

from .conftest import number_of_fds
from .getppid import CALL, TO_EVENTS, Make, call, running

#: Bytes of an event of getppid.py.
SIZE = 40


def calling_back(function: Any) -> Any:
    """A declaration of the events that calls FUNCTION with each one's number."""
    return construct.Struct(
        "number" / construct.Int64un,
        "called" / construct.Computed(lambda context: function(context.number)),
        "rest" / construct.Bytes(32),
    )


def test_close_of_all_inside_a_callback(make_reader: Make) -> None:
    """The decoder closes the buffer and its object: they are freed when the poll is done."""
    obj = make_reader.obj

    def close(number: int) -> int:
        if number == 2:
            obj.close()
            buffer.close()
            assert not buffer.closed
            with pytest.raises(ClosedError):
                buffer.poll(0)
        return number

    before = number_of_fds()
    buffer = make_reader(calling_back(close))
    call(50)
    assert [event.called for event in buffer.poll(0)] == list(range(50))
    assert buffer.closed
    assert obj.closed
    assert number_of_fds() < before


def test_close_of_all_in_on_lost(getppid_object: Path) -> None:
    """perf_buffer__free deletes elements of its map, whose descriptor must not be another's."""

    def close(_cpu: int, _count: int) -> None:
        obj.close()
        assert not buffer.closed
        for _ in range(20):
            others.append(Map.create(MapType.HASH, key_size=4, value_size=4, max_entries=64))
            others[-1].update({number.to_bytes(4, "little"): b"kept" for number in range(64)})

    others: list[Any] = []
    with running(getppid_object, TO_EVENTS) as obj:
        fd = obj.maps["EVENTS"].fd
        buffer = PerfBuffer(obj.maps["EVENTS"], CALL, pages=1, on_lost=close)
        call(500)
        buffer.poll(0)
        call(1)
        while not buffer.closed:
            buffer.poll(0)
        assert fd in {other.fd for other in others}, "the number is taken again"
    for other in others:
        assert len(list(other)) == 64, "no element of another map was deleted"
        other.close()


def test_close_of_an_object_by_a_handler_of_its_messages(getppid_object: Path) -> None:
    """libbpf prints in the middle of bpf_object__load, and still uses the object."""
    code = f"""
import logging
from libbpf_ctypes import BpfObject, ClosedError

class Close(logging.Handler):
    def emit(self, record):
        if closing:
            obj.close()
            closed.append(obj.closed)

closing, closed = False, []
logger = logging.getLogger("libbpf_ctypes.libbpf")
logger.setLevel(logging.DEBUG)
logger.addHandler(Close())
for _ in range(20):
    closing = False
    obj = BpfObject.open({str(getppid_object)!r})
    closing = True
    obj.load()
    assert obj.closed
    try:
        obj.maps["FIRST"].fd
    except ClosedError:
        pass
    else:
        raise AssertionError("a map of a closed object has a descriptor")
assert closed and not any(closed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_close_by_another_thread_during_polls(make_reader: Make) -> None:
    """The object goes, with all that was made of it, in the middle of busy polls."""
    for round_ in range(20):
        buffer = make_reader()
        errors: list[BaseException] = []

        def read(buffer: Any = buffer, errors: list[BaseException] = errors) -> None:
            try:
                while True:
                    call(50)
                    buffer.poll(0.001)
            except ClosedError:
                pass
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.0005 * round_)
        if round_ == 19:
            make_reader.obj.close()
        else:
            buffer.close()
        assert buffer.closed, "close() returns when the poll is over"
        thread.join(60)
        assert not thread.is_alive()
        assert errors == []


def test_close_by_many_threads_at_once(make_reader: Make) -> None:
    for _ in range(20):
        buffer = make_reader()
        poll = threading.Thread(target=buffer.poll)
        poll.start()
        threads = [threading.Thread(target=buffer.close) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in (poll, *threads):
            thread.join(60)
            assert not thread.is_alive()
        assert buffer.closed


def test_polls_at_once_share_out_the_events(make_reader: Make) -> None:
    """All but one are refused, and none takes, or clears away, what another one has read."""
    seen: list[int] = []
    refused: list[int | None] = []

    def read() -> None:
        while not stop:
            try:
                seen.extend(event.number for event in buffer.poll(0))
            except BpfError as error:
                refused.append(error.errno)

    stop: list[bool] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with make_reader() as buffer:
            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(100):
                call(30)
                time.sleep(0.001)
            while len(seen) < 3000 and any(thread.is_alive() for thread in threads):
                time.sleep(0.001)
            stop.append(True)
            for thread in threads:
                thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert sorted(seen) == list(range(3000))
    assert set(refused) <= {errno.EBUSY}


def test_ctrl_c_as_a_poll_begins_ends_it(make_reader: Make) -> None:
    """At the first moment at which Python may raise it: when the lock is given back."""

    class Interrupted:
        def __init__(self, lock: Any) -> None:
            self.lock, self.left = lock, 1

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_error: object) -> None:
            self.lock.release()
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    with make_reader() as buffer:
        call(5)
        buffer._lock = Interrupted(buffer._lock)
        with pytest.raises(KeyboardInterrupt):
            buffer.poll(0)
        assert len(buffer.poll(0)) == 5, "no other poll is under way"


def test_a_poll_inside_a_poll_is_refused(make_reader: Make) -> None:
    def poll_again(number: int) -> int:
        with pytest.raises(BpfError) as told:
            buffer.poll(0)
        assert told.value.errno == errno.EBUSY
        return number

    with make_reader(calling_back(poll_again)) as buffer:
        call(5)
        assert [event.called for event in buffer.poll(0)] == list(range(5))


def test_callbacks_outlive_the_collector(make_reader: Make) -> None:
    """libbpf has their addresses: nothing but the buffer keeps what is there."""
    with make_reader() as buffer:
        for _ in range(3):
            gc.collect()
            thunks = [ctypes.CFUNCTYPE(None)(lambda: None) for _ in range(500)]  # what is free
            call(20)
            assert len(buffer.poll(0)) == 20
            del thunks


def test_the_first_of_many_exceptions_is_raised_and_no_event_is_lost(make_reader: Make) -> None:
    def fail(number: int) -> int:
        if number in (0, 1, 5):
            raise RuntimeError(f"event {number}")
        return number

    told: list[str] = []
    seen: list[int] = []
    with make_reader(calling_back(fail)) as buffer:
        call(10)
        while len(seen) < 7:
            try:
                seen += [event.called for event in buffer.poll(0)]
            except DecodeError as error:
                told.append(str(error))
        assert buffer.poll(0) == []
    assert seen == [2, 3, 4, 6, 7, 8, 9]
    assert "event 0" in told[0]


def test_padding_is_not_data(make_reader: Make, request: pytest.FixtureRequest) -> None:
    """perf makes 44 bytes of 40, the last ones of an earlier, larger sample."""
    with make_reader(None) as buffer:
        call(2)
        sizes = {len(data) for data in buffer.poll(0)}
    ring = "ring" in request.node.name
    assert sizes == ({SIZE} if ring else {SIZE + 4})
    whole = "call" / construct.Struct(
        "number" / construct.Int64un, "rest" / construct.Array(4, construct.Int64un)
    )
    with make_reader(whole) as buffer:
        call(300)
        events = buffer.poll(0)
    assert [list(event.rest) for event in events] == [[0] * 4] * 300
    assert [event.number for event in events] == list(range(2, 302))
    longer = construct.Struct("all" / construct.Bytes(SIZE + 4))
    with make_reader(longer) as buffer:
        call(1)
        if ring:
            with pytest.raises(DecodeError):
                buffer.poll(0)
        else:
            assert len(buffer.poll(0)) == 1, "who asks for 44 bytes of perf gets them"


def test_nothing_keeps_a_closed_buffer(make_reader: Make) -> None:
    """Neither what was raised, nor what was iterated, nor callbacks that know the buffer."""

    def fail(number: int) -> int:
        if number == 1:
            raise RuntimeError("event 1")
        return number

    def make(**settings: Any) -> Any:
        buffer = make_reader(calling_back(fail))
        call(3)
        with pytest.raises(BpfError):
            while True:
                buffer.poll(0)
        with pytest.raises(BpfError):
            make_reader()  # EBUSY
        for _ in buffer:
            break
        call(1)
        buffer.poll(0)
        buffer.close()
        with pytest.raises(ClosedError):
            buffer.poll(0)
        return weakref.ref(buffer)

    gc.collect()
    gc.disable()
    try:
        assert make()() is None
        buffers: list[Any] = []
        buffers.append(make_reader(calling_back(lambda _: len(buffers))))
        call(1)
        assert buffers[0].poll(0)
        gone = weakref.ref(buffers[0])
        buffers[0].close()
        buffers.clear()
        assert gone() is None
    finally:
        gc.enable()


def test_nothing_keeps_a_closed_buffer_whose_on_lost_knows_it(getppid_object: Path) -> None:
    def make() -> Any:
        buffer: PerfBuffer[Any] = PerfBuffer(
            obj.maps["EVENTS"], CALL, pages=1, on_lost=lambda *_: seen.append(buffer.lost)
        )
        call(500)
        buffer.poll(0)
        call(1)
        buffer.poll(0)
        buffer.close()
        return weakref.ref(buffer)

    seen: list[int] = []
    gc.collect()
    gc.disable()
    try:
        with running(getppid_object, TO_EVENTS) as obj:
            assert make()() is None
        assert seen
    finally:
        gc.enable()
