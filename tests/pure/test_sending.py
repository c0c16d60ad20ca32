"""Batches in order, kept until they are answered for; a full queue says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from libbpf_ctypes.cli import sending
from libbpf_ctypes.cli.sending import BACKLOG, BATCH, Answer, Sender


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_AGE", 0.01)
    monkeypatch.setattr(sending, "_PAUSE", 0.01)


def end(sender: Sender, seconds: float = 60.0) -> int:
    return sender.end(time.monotonic() + seconds, lambda: False)


def answering(*answers: Answer) -> tuple[Callable[[list[Any]], Answer], list[list[Any]]]:
    """A function that gives these answers, then takes all; and what it was given."""
    batches: list[list[Any]] = []
    left = list(answers)

    def send(batch: list[Any]) -> Answer:
        batches.append(batch)
        return left.pop(0) if left else Answer()

    return send, batches


def test_all_items_are_sent_in_order_in_full_batches() -> None:
    send, batches = answering()
    sender = Sender(send)
    sender.add(list(range(3 * BATCH + 1)))
    assert end(sender) == 0
    assert [item for batch in batches for item in batch] == list(range(3 * BATCH + 1))
    assert [len(batch) for batch in batches] == [BATCH, BATCH, BATCH, 1]
    assert (sender.sent, sender.refused, sender.trouble) == (3 * BATCH + 1, 0, "")


def test_an_item_does_not_wait_for_a_full_batch_for_ever() -> None:
    sent = threading.Event()

    def send(batch: list[Any]) -> Answer:
        assert batch == ["alone"]
        sent.set()
        return Answer()

    sender = Sender(send)
    sender.add(["alone"])
    assert sent.wait(60)
    assert end(sender) == 0


def test_what_is_not_taken_is_sent_again_and_nothing_overtakes_it() -> None:
    away = Answer("Connection refused", again=True)
    send, batches = answering(away, away)
    sender = Sender(send)
    sender.add(list(range(BATCH + 5)))
    assert end(sender) == 0
    assert [batch[0] for batch in batches] == [0, 0, 0, BATCH]
    assert (sender.sent, sender.trouble) == (BATCH + 5, "")


def test_a_full_queue_has_no_room_until_a_batch_is_taken() -> None:
    gate = threading.Event()

    def send(batch: list[Any]) -> Answer:
        gate.wait()
        return Answer()

    sender = Sender(send)
    sender.add([0] * (BACKLOG - 1))
    assert sender.wait(time.monotonic())
    sender.add([0])
    assert not sender.wait(time.monotonic() + 0.01)
    gate.set()
    assert sender.wait(time.monotonic() + 60)
    assert end(sender) == 0
    assert sender.sent == BACKLOG


def test_what_is_left_at_the_end_is_counted() -> None:
    send, _batches = answering(*[Answer("Service Unavailable", again=True, after=60)] * 9)
    sender = Sender(send)
    sender.add([1, 2, 3])
    deadline = time.monotonic() + 60
    while not sender.trouble and time.monotonic() < deadline:
        time.sleep(0.001)
    assert end(sender, 0.01) == 3
    assert (sender.sent, sender.trouble) == (0, "Service Unavailable")


def test_the_end_can_be_cut_short() -> None:
    send, _batches = answering(*[Answer("away", again=True)] * 999)
    sender = Sender(send)
    sender.add([1])
    assert sender.end(time.monotonic() + 3600, lambda: True) == 1


def test_what_is_refused_is_counted_and_not_sent_again() -> None:
    send, batches = answering(Answer("too old", refused=2))
    sender = Sender(send)
    sender.add([1, 2, 3])
    assert end(sender) == 0
    assert len(batches) == 1
    assert (sender.sent, sender.refused, sender.refusal) == (1, 2, "too old")


def test_an_exception_refuses_its_batch_only() -> None:
    calls = 0

    def send(batch: list[Any]) -> Answer:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not a number")
        return Answer()

    sender = Sender(send)
    sender.add(list(range(BATCH + 1)))
    assert end(sender) == 0
    assert (sender.sent, sender.refused) == (1, BATCH)
    assert sender.refusal == "ValueError: not a number"
