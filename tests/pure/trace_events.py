"""Holds text against the Trace Event Format, as its document defines what we write of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def read(text: str) -> list[dict[str, Any]]:
    """The events of a trace that is complete, and as the format has it."""
    events = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    assert isinstance(events, list)
    for event in events:
        _check(event)
    _check_nesting([event for event in events if event["ph"] == "X"])
    return events


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _check(event: Any) -> None:
    assert isinstance(event, dict), event
    assert isinstance(event["name"], str), event
    assert isinstance(event["args"], dict), event
    for number in ("pid", "tid"):
        assert type(event[number]) is int, event
        assert 0 <= event[number] < 2**31, event
    assert isinstance(event["ts"], (int, Decimal)), event
    assert event["ts"] >= 0, event
    known = {"name", "cat", "ph", "ts", "pid", "tid", "args"}
    if event["ph"] == "M":
        assert event["name"] in ("process_name", "thread_name"), event
        assert set(event["args"]) == {"name"}, event
        assert isinstance(event["args"]["name"], str), event
        assert set(event) <= known, event
    elif event["ph"] == "X":
        assert isinstance(event["dur"], (int, Decimal)), event
        assert event["dur"] >= 0, event
        assert set(event) == known | {"dur"}, event
    else:
        assert event["ph"] == "i", event
        assert event["s"] in ("g", "p", "t"), event
        assert set(event) == known | {"s"}, event


def _check_nesting(slices: list[dict[str, Any]]) -> None:
    """Slices of a thread lie one in another, or apart: viewers show no others."""
    ends: dict[tuple[int, int], list[Decimal]] = {}
    for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
        around = ends.setdefault((event["pid"], event["tid"]), [])
        while around and around[-1] <= event["ts"]:
            around.pop()
        end = Decimal(event["ts"]) + event["dur"]
        assert not around or end <= around[-1], event
        around.append(end)
