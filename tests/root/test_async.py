"""Readers in asyncio: tasks that wait, are cancelled, and lose nothing; close() from anywhere."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import BpfError, ClosedError, PerfBuffer, RingBuffer

from .conftest import number_of_fds
from .getppid import CALL, TO_EVENTS, TO_FIRST, Make, call, running

PATIENCE = 60.0  # seconds, on a busy machine


def numbers(events: list[Any]) -> list[int]:
    return [event.number for event in events]


async def until_it_waits(buffer: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (buffer._suspended is None or not buffer._suspended._fds):
        await asyncio.sleep(0)
    assert buffer._suspended is not None


def test_events_come_one_by_one_in_order(make_reader: Make) -> None:
    async def read() -> list[int]:
        seen: list[int] = []
        asyncio.get_running_loop().call_later(0.05, call, 3)
        async for event in buffer:
            seen.append(event.number)
            if len(seen) == 3:
                call(2)
            if len(seen) == 5:
                break
        return seen

    with make_reader() as buffer:
        assert asyncio.run(read()) == [0, 1, 2, 3, 4]


def test_poll_async_waits_as_long_as_it_was_asked(make_reader: Make) -> None:
    async def read() -> None:
        began = time.monotonic()
        assert await buffer.poll_async(0) == []
        assert await buffer.poll_async(0.05) == []
        assert time.monotonic() - began >= 0.05
        for timeout in (-1, float("nan")):
            with pytest.raises(BpfError, match="is not a time to wait"):
                await buffer.poll_async(timeout)
        call(5)
        assert numbers(await buffer.poll_async(0)) == [0, 1, 2, 3, 4]
        asyncio.get_running_loop().call_later(0.05, call, 2)
        assert numbers(await buffer.poll_async(PATIENCE))[:1] == [5]

    with make_reader() as buffer:
        asyncio.run(read())


@pytest.mark.parametrize(("max_latency", "rounds"), [(0, 300), (0.01, 60)])
def test_a_wake_up_is_never_missed(make_reader: Make, max_latency: float, rounds: int) -> None:
    """Each event comes in while the poll before it, or the wait, begins or ends."""

    async def read() -> int:
        loop = asyncio.get_running_loop()
        got = 0
        for number in range(rounds):
            if number % 3 == 0:
                call()
            elif number % 3 == 1:
                loop.call_soon(call)
            else:
                loop.call_later(0.0005, call)
            while got <= number:
                events = await buffer.poll_async(PATIENCE)
                assert events, f"event {number} did not come"
                got += len(events)
        return got

    with make_reader(max_latency=max_latency) as buffer:
        assert asyncio.run(read()) == rounds


def test_events_without_a_wake_up_come_after_max_latency(getppid_object: Path) -> None:
    async def read(buffer: Any) -> int:
        asyncio.get_running_loop().call_later(0.05, call, 3)
        return len(await buffer.poll_async(PATIENCE))

    no_wakeup = 1
    with running(getppid_object, TO_FIRST) as obj:
        obj.variables["flags"].value = no_wakeup
        with RingBuffer(obj.maps["FIRST"], CALL, max_latency=0.02) as ring:
            assert asyncio.run(read(ring)) == 3
    with (
        running(getppid_object, TO_EVENTS) as obj,
        PerfBuffer(obj.maps["EVENTS"], CALL, max_latency=0.02) as perf,
    ):
        assert asyncio.run(read(perf)) == 3, "no batch was full"


def test_other_tasks_run_while_events_never_end(make_reader: Make) -> None:
    async def read() -> int:
        seen = 0
        while not stop:
            call(5)
            seen += len(await buffer.poll_async(0))
        return seen

    async def both() -> int:
        asyncio.get_running_loop().call_later(0.05, stop.append, True)
        return await read()

    stop: list[bool] = []
    with make_reader() as buffer:
        assert asyncio.run(both()) > 0


def test_a_cancelled_task_loses_nothing(make_reader: Make) -> None:
    """Cancelled at any moment, again and again, while events come."""

    async def read(seen: list[int]) -> None:
        async for event in buffer:
            seen.append(event.number)
            if event.number % 7 == 0:
                await asyncio.sleep(0)

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        for round_ in range(100):
            task = loop.create_task(read(seen))
            for _ in range(round_ % 5):
                call(20)
                await asyncio.sleep(0)
            call(3)
            loop.call_later(0.0002 * (round_ % 10), task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
        return seen + numbers(await buffer.poll_async(0))

    with make_reader() as buffer:
        seen = asyncio.run(main())
    assert seen == list(range(100 * 3 + 20 * sum(n % 5 for n in range(100))))


def test_a_loop_that_is_left_loses_nothing(make_reader: Make) -> None:
    async def read(buffer: Any) -> int:
        async for event in buffer:
            return int(event.number)
        return -1

    with make_reader() as buffer:
        call(10)
        assert asyncio.run(read(buffer)) == 0
        assert asyncio.run(read(buffer)) == 1, "in another loop"
        call(1)
        assert numbers(buffer.poll(0))[:8] == list(range(2, 10))
        assert numbers(buffer.poll(0)) in ([10], [])


def test_close_in_the_loop_frees_at_once_and_ends_the_iteration(make_reader: Make) -> None:
    seen: list[int] = []

    async def read() -> str:
        async for event in buffer:
            seen.append(event.number)
        return "it ended"

    async def main() -> None:
        call(3)
        task = asyncio.get_running_loop().create_task(read())
        while len(seen) < 3:
            await asyncio.sleep(0.001)
        await until_it_waits(buffer)
        buffer.close()
        assert buffer.closed
        assert number_of_fds() < opened, "its descriptors are gone, though the task did not run"
        assert await task == "it ended"
        assert seen == [0, 1, 2]
        with pytest.raises(ClosedError):
            await buffer.poll_async(0)
        assert [event async for event in buffer] == []

    buffer = make_reader()
    opened = number_of_fds()
    asyncio.run(main())


def test_close_in_another_thread_ends_the_iteration(make_reader: Make) -> None:
    async def read(buffer: Any) -> int:
        started.set()
        return sum([1 async for _ in buffer])

    for delay in (0, 0.001, 0.02):
        buffer, started = make_reader(), threading.Event()

        def close(buffer: Any = buffer, started: Any = started, delay: float = delay) -> None:
            started.wait()
            time.sleep(delay)
            buffer.close()

        thread = threading.Thread(target=close)
        thread.start()
        call(5)
        assert asyncio.run(asyncio.wait_for(read(buffer), PATIENCE)) % 5 == 0
        thread.join()
        assert buffer.closed


def test_close_races_with_tasks(make_reader: Make) -> None:
    """Closed by another thread at any moment, while events come."""

    async def read(buffer: Any) -> None:
        async for _ in buffer:
            call()

    before = 0
    for round_ in range(60):
        buffer = make_reader(**({"max_latency": 0} if round_ % 2 else {}))
        timer = threading.Timer(0.0002 * (round_ % 15), buffer.close)
        call(2)
        timer.start()
        asyncio.run(asyncio.wait_for(read(buffer), PATIENCE))
        timer.join()
        if round_ == 5:
            before = number_of_fds()
    assert number_of_fds() == before


def test_close_when_the_loop_is_gone(make_reader: Make) -> None:
    """A task that was left waiting by a closed loop, and one whose loop stands still."""
    for closed in (True, False):
        buffer = make_reader()
        loop = asyncio.new_event_loop()
        task = loop.create_task(buffer.poll_async())
        loop.run_until_complete(until_it_waits(buffer))
        if closed:
            loop.close()
        thread = threading.Thread(target=buffer.close)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert buffer.closed
        if not closed:
            assert loop.run_until_complete(task) == []
            loop.close()
        elif not task.done():  # nobody can run it any more
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_close_inside_a_callback_under_asyncio(getppid_object: Path) -> None:
    def close(_cpu: int, _count: int) -> None:
        buffer.close()
        obj.close()

    async def read() -> int:
        return sum([1 async for _ in buffer])

    with running(getppid_object, TO_EVENTS) as obj:
        buffer = PerfBuffer(obj.maps["EVENTS"], CALL, pages=1, on_lost=close)
        call(500)
        buffer.poll(0)
        call(1)
        assert asyncio.run(asyncio.wait_for(read(), PATIENCE)) > 0
        assert buffer.closed


def test_one_task_reads(make_reader: Make) -> None:
    async def main() -> None:
        task = asyncio.get_running_loop().create_task(buffer.poll_async())
        await until_it_waits(buffer)
        with pytest.raises(BpfError, match="another poll is under way"):
            await buffer.poll_async()
        with pytest.raises(BpfError, match="another poll is under way"):
            buffer.poll(0)
        buffer.wake()
        assert await asyncio.wait_for(task, PATIENCE) == []

    with make_reader() as buffer:
        asyncio.run(main())


def test_a_loop_and_its_user_watch_the_same_descriptor(make_reader: Make) -> None:
    async def main() -> int:
        loop, seen = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(buffer.fileno(), seen.set)
        task = loop.create_task(buffer.poll_async())
        await until_it_waits(buffer)
        call()
        events = await asyncio.wait_for(task, PATIENCE)
        assert loop.remove_reader(buffer.fileno()), "the user's own was left alone"
        return len(events)

    with make_reader(max_latency=0) as buffer:
        assert asyncio.run(main()) == 1


def test_ctrl_c_ends_it_and_costs_no_event(make_reader: Make) -> None:
    async def read() -> None:
        timer.start()
        async for event in buffer:
            seen.append(event.number)

    seen: list[int] = []
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with make_reader() as buffer:
        call(5)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(read())
        timer.join()
        call(2)
        seen += numbers(buffer.poll(0))
    assert seen == list(range(7))


def test_batches_for_a_task(getppid_object: Path) -> None:
    async def read() -> int:
        asyncio.get_running_loop().call_later(0.05, call, 10)
        arrays = await buffer.poll_batches_async(PATIENCE)
        while sum(map(len, arrays)) < 10:
            arrays += await buffer.poll_batches_async(PATIENCE)
        return int(sum(array["number"].sum() for array in arrays))

    with (
        running(getppid_object, TO_EVENTS) as obj,
        PerfBuffer(obj.maps["EVENTS"], CALL) as buffer,
    ):
        assert asyncio.run(read()) == sum(range(10))


def test_nothing_keeps_a_buffer_that_a_task_read(make_reader: Make) -> None:
    async def read(buffer: Any) -> int:
        async for event in buffer:
            return int(event.number)
        return -1

    async def main() -> Any:
        buffer = make_reader()
        call(2)
        assert await read(buffer) == 0
        call(2)
        waiting = asyncio.get_running_loop().create_task(buffer.poll_async(PATIENCE))
        assert await waiting
        while await buffer.poll_async(0):
            pass
        ends = asyncio.get_running_loop().create_task(buffer.poll_async())
        await until_it_waits(buffer)
        ends.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ends
        buffer.close()
        return weakref.ref(buffer)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()
