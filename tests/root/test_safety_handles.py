"""What crashes or lies without protection, in every handle: closing, forks, collection, leaks."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    ClosedError,
    Map,
    PerfBuffer,
    RingBuffer,
    UserRingBuffer,
)
from libbpf_ctypes._ffi import lib
from libbpf_ctypes._interrupts import interrupts_held
from libbpf_ctypes.enums import MapType
from libbpf_ctypes.introspection import links, programs
from libbpf_ctypes.log import calling

from ..conftest import Compile
from .conftest import number_of_fds
from .getppid import CALL, TO_EVENTS, call, running

Make = Callable[[BpfObject], Any]


#: Each kind of handle that something is made of, or done with.
HANDLES: dict[str, Make] = {
    "object": lambda obj: BpfObject.open(obj.source),
    "link": lambda obj: obj.programs["send"].attach_raw_tracepoint("sys_enter"),
    "perf buffer": lambda obj: PerfBuffer(obj.maps["EVENTS"], CALL),
    "ring buffer": lambda obj: RingBuffer(obj.maps["FIRST"], CALL),
    "user ring buffer": lambda obj: UserRingBuffer(obj.maps["REQUESTS"]),
    "map": lambda _obj: Map.create(MapType.HASH, key="u32", value="u32", max_entries=4),
}

#: What is done with each.
USES: dict[str, list[Callable[[Any], object]]] = {
    "object": [
        lambda obj: obj.load(),
        lambda obj: obj.programs["send"],
        lambda obj: obj.maps["FIRST"],
        lambda obj: obj.variables["to"],
    ],
    "link": [lambda link: link.fd, lambda link: link.info],
    "perf buffer": [
        lambda buffer: buffer.poll(0),
        lambda buffer: buffer.poll_batches(0),
        lambda buffer: buffer.fileno(),
        lambda buffer: buffer.resolve_schema(),
    ],
    "ring buffer": [
        lambda buffer: buffer.poll(0),
        lambda buffer: buffer.fileno(),
        lambda buffer: buffer.statistics(),
    ],
    "user ring buffer": [
        lambda buffer: buffer.send(b"x"),
        lambda buffer: buffer.reserve(8).__enter__(),
    ],
    "map": [lambda map: map.fd, lambda map: map.__setitem__(1, 1), lambda map: map[1]],
}


@pytest.fixture
def obj(getppid_object: Path) -> Iterator[BpfObject]:
    with running(getppid_object, TO_EVENTS) as obj:
        yield obj


@pytest.mark.parametrize("kind", HANDLES)
def test_closed_twice_and_used_after_it(obj: BpfObject, kind: str) -> None:
    before = number_of_fds()
    handle = HANDLES[kind](obj)
    with handle:
        handle.close()
    assert handle.closed
    assert number_of_fds() == before
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]  # its numbers, taken again
    handle.close()
    for use in USES[kind]:
        with pytest.raises(ClosedError):
            use(handle)
    assert repr(handle)
    for fd in files:
        os.close(fd)  # raises where a second close() closed another's


@pytest.mark.parametrize("kind", HANDLES)
def test_closed_by_many_threads_at_once(obj: BpfObject, kind: str) -> None:
    for _ in range(20):
        handle = HANDLES[kind](obj)
        barrier = threading.Barrier(4)

        def close(handle: Any = handle, barrier: Any = barrier) -> None:
            barrier.wait()
            handle.close()

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handle.closed


def in_child(function: Callable[[], object]) -> int:
    """Runs a function in a forked child; its exit status: 0 if it returned."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(120)  # a child that hangs ends so
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", HANDLES)
def test_used_and_closed_in_a_forked_child(obj: BpfObject, kind: str) -> None:
    """The child is refused, and releases nothing that the parent still has."""

    def use_all() -> None:
        for use in USES[kind]:
            if kind == "object" and use is not USES[kind][0]:
                continue  # names are there, parts are refused when they are used
            try:
                use(handle)
            except ClosedError:
                continue
            raise AssertionError("the child may use it")
        handle.close()
        assert handle.closed

    with HANDLES[kind](obj) as handle:
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with handle._lock if hasattr(handle, "_lock") else handle._parent._lock:
                held.set()
                let_go.wait(120)

        assert in_child(use_all) == 0
        thread = threading.Thread(target=hold)  # which is not there in the child
        thread.start()
        held.wait(120)
        assert in_child(handle.close) == 0
        let_go.set()
        thread.join()
        assert not handle.closed
        if kind == "link":
            with PerfBuffer(obj.maps["EVENTS"], CALL) as buffer:
                call(3)
                assert len(buffer.poll(0)) == 6, "two links, both attached"
        elif kind != "object":
            USES[kind][0](handle)


@pytest.mark.parametrize("kind", HANDLES)
def test_one_that_is_forgotten_warns_and_is_closed(obj: BpfObject, kind: str) -> None:
    before = number_of_fds()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        HANDLES[kind](obj)
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "unclosed <" in str(caught[0].message)
    assert number_of_fds() == before


@pytest.mark.parametrize("kind", HANDLES)
def test_nothing_keeps_one_that_was_closed(obj: BpfObject, kind: str) -> None:

    def make_and_close() -> Any:
        handle = HANDLES[kind](obj)
        USES[kind][0](handle)
        with pytest.raises(BpfError, match="find nothing"), calling("find nothing"):
            lib.bpf_object__find_map_by_name(obj, b"no")
        handle.close()
        with pytest.raises(ClosedError):
            USES[kind][0](handle)
        return weakref.ref(handle)

    gc.collect()
    gc.disable()
    try:
        assert make_and_close()() is None
    finally:
        gc.enable()


def test_a_link_that_fails_to_detach_does_not_keep_the_object(
    getppid_object: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(getppid_object, TO_EVENTS) as obj:
        before = number_of_fds()
        failing = obj.programs["send"].attach_raw_tracepoint("sys_enter")
        release = failing._release

        def fail(pointer: Any) -> None:
            release(pointer)
            raise BpfError("detach", 5)

        monkeypatch.setattr(failing, "_release", fail)
        buffer = PerfBuffer(obj.maps["EVENTS"], CALL)
        with pytest.raises(BpfError, match="detach"):
            obj.close()
        assert buffer.closed
        assert number_of_fds() < before - 5


def test_close_waits_for_a_load_in_another_thread(getppid_object: Path) -> None:
    for round_ in range(30):
        obj = BpfObject.open(getppid_object)
        thread = threading.Thread(target=_load, args=(obj,))
        thread.start()
        time.sleep(0.0001 * round_)
        obj.close()
        thread.join()
        assert obj.closed


def _load(obj: BpfObject) -> None:
    try:
        obj.load()
    except ClosedError:
        assert obj.closed


def test_ctrl_c_is_not_dropped_where_the_held_call_raises() -> None:
    with pytest.raises(KeyboardInterrupt) as told, interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("the call's own")
    assert isinstance(told.value.__context__, RuntimeError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Errno:
    """Failing calls of libbpf, with the error that each must tell."""

    def __init__(self, obj: BpfObject) -> None:
        self._obj = obj
        self._map = lib.bpf_object__find_map_by_name(obj, b"FIRST")

    def missing(self) -> None:
        """ENOENT."""
        with pytest.raises(BpfError) as told:
            lib.bpf_object__find_map_by_name(self._obj, b"no")
        assert told.value.errno == 2, told.value

    def wrong(self) -> None:
        """EINVAL, and calls of C that set errno otherwise."""
        ctypes.CDLL(None, use_errno=True).close(-1)
        with pytest.raises(BpfError) as told:
            lib.bpf_map__inner_map(self._map)
        assert told.value.errno == 22, told.value


def test_errno_in_a_handler_of_signals(obj: BpfObject) -> None:
    """A handler that calls libbpf may run between a call and the look at its errno."""
    calls, errors = Errno(obj), []

    def handle(_number: int, _frame: object) -> None:
        try:
            lib.bpf_map__inner_map(calls._map)
        except BpfError as error:
            errors.append(error.errno)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        deadline = time.monotonic() + 600
        while len(errors) < 3000 and time.monotonic() < deadline:
            calls.missing()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(errors) == {22}
    assert len(errors) >= 3000


def test_a_call_leaves_errno_to_the_one_that_it_interrupts(obj: BpfObject) -> None:
    calls = Errno(obj)
    for number in (0, 18, 99):
        ctypes.set_errno(number)
        calls.missing()
        assert ctypes.get_errno() == number
        lib.bpf_object__find_map_by_name(obj, b"FIRST")
        assert ctypes.get_errno() == number
        with obj.programs["send"].attach_raw_tracepoint("sys_enter"):
            pass
        assert ctypes.get_errno() == number


def test_errno_while_the_collector_closes(obj: BpfObject) -> None:
    """What is forgotten in a cycle may call libbpf at any allocation."""
    collected: list[int | None] = []

    class Forgotten:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            try:
                lib.bpf_map__inner_map(calls._map)
            except BpfError as error:
                collected.append(error.errno)

    calls = Errno(obj)
    before = gc.get_threshold()
    try:
        for number in range(3000):
            gc.set_threshold(1 + number % 60)
            Forgotten()
            calls.missing()
    finally:
        gc.set_threshold(*before)
    assert set(collected) == {22}


def test_errno_of_each_thread(obj: BpfObject) -> None:
    calls, failed = Errno(obj), []

    def run(function: Callable[[], None]) -> None:
        try:
            for _ in range(1000):
                function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in (calls.missing, calls.wrong) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


TINY = """
__attribute__((section("raw_tp"), used)) int NAME(void *ctx) { return ctx == 0; }
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
"""


def resident() -> int:
    """KiB of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10


def test_ten_thousand_rounds_leak_nothing(compile_bpf: Compile) -> None:
    name = f"leak_{os.getpid()}"  # nobody else's
    data = compile_bpf(TINY.replace("NAME", name), debug=False).read_bytes()

    def rounds(number: int) -> None:
        for _ in range(number):
            with BpfObject.open(data) as obj:
                obj.load()
                with obj.programs[name].attach_raw_tracepoint("sys_enter"):
                    pass

    def settled() -> list[int]:
        """The ids of our programs and links, when the kernel has freed what it frees later."""
        deadline = time.monotonic() + 120
        while len(found := there()) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def there() -> list[int]:
        found = [info.id for info in programs() if info.name == name]
        return found + [info.id for info in links() if info.program_id in found]

    # The first link of a tracepoint, and the last one, patch the kernel's code: 20 times slower.
    with BpfObject.open(data) as kept:
        kept.load()
        link = kept.programs[name].attach_raw_tracepoint("sys_enter")
        rounds(500)
        before = settled()
        assert len(before) == 2
        descriptors, memory = number_of_fds(), resident()
        rounds(10_000)
        assert number_of_fds() == descriptors
        assert resident() < memory + 4096
        assert settled() == before
        link.close()


def test_rounds_of_every_handle_leak_nothing(obj: BpfObject) -> None:
    def rounds(number: int) -> None:
        for _ in range(number):
            for kind, make in HANDLES.items():
                with make(obj) as handle:
                    if kind != "link":
                        USES[kind][0](handle)
            with pytest.raises(BpfError):
                RingBuffer({obj.maps["FIRST"]: None, obj.maps["EVENTS"]: None})
            with pytest.raises(BpfError):
                PerfBuffer(obj.maps["EVENTS"], pages=1 << 20)

    rounds(10)
    descriptors, memory = number_of_fds(), resident()
    rounds(100)
    assert number_of_fds() == descriptors
    assert resident() < memory + 4096
