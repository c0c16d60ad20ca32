"""Known calls: what came back, how long they took, who made them, and what sums say of them."""

from __future__ import annotations

import errno
import json
import re
from collections import Counter
from typing import Any

import pytest

from .cast import NESTED
from .test_truth import on_one_kernel
from .test_truth import truth as truth
from .truth import Call, Event, Truth, is_register


def result(call: Call) -> int:
    """What the kernel returned."""
    value = call["result"]
    assert isinstance(value, int)
    return value if value >= 0 else -int(call["errno"])


def error_name(number: int) -> str:
    return f"-{errno.errorcode[-number]}"


def assert_within(event: Event, call: Call) -> None:
    """It began and ended while its caller waited for it."""
    began = event["timestamp_ns"] - event["duration_ns"]
    assert call["before"] <= began <= event["timestamp_ns"] <= call["after"]


def frames(stack: list[str]) -> list[str]:
    """The names of the functions."""
    return [re.split(r"[+ ]", frame)[0] for frame in stack]


def test_returns_and_the_arguments_of_their_calls(truth: Truth) -> None:
    pairs = truth.pairs("returns")
    assert any(result(call) < 0 for _, call in pairs)
    for event, call in pairs:
        assert_within(event, call)
        assert event["function"] == call["call"]
        arguments = dict(event["args"])
        assert arguments.pop("ret") == result(call)
        name = error_name(result(call)) if result(call) < 0 else ""
        assert event.get("words", {}).get("ret", "") == name
        assert len(arguments) == len(call["arguments"])
        for (name, value), register in zip(arguments.items(), call["arguments"]):
            assert name in ("filename", "pathname") or is_register(value, register)


def test_an_error_in_a_pointer(truth: Truth) -> None:
    """do_filp_open() returns a struct file, or an error that looks like one."""
    pairs = truth.pairs("pointers", ("open", "openat", "openat2"))
    told = {id(call) for _, call in pairs}
    opened = truth.made(("open", "openat"), lambda call: result(call) >= 0, "pointers")
    assert opened
    assert all(id(call) in told for call in opened)
    assert any(result(call) < 0 for _, call in pairs)
    for event, call in pairs:
        if result(call) < 0:
            assert event["words"]["ret"] == error_name(result(call))
        else:
            assert int(event["args"]["ret"], 16) > 2**63


def test_slow_calls(truth: Truth) -> None:
    calls = truth.made(("nanosleep",), run="slower")
    pairs = truth.pairs("slower")
    told = {id(call) for _, call in pairs}
    for event, call in pairs:
        assert_within(event, call)
        assert event["duration_ns"] >= max(4_000_000, call["ns"])
    assert all(id(call) in told for call in calls if call["ns"] >= 4_000_000)
    short = [call for call in calls if call["after"] - call["before"] < 4_000_000]
    assert not [call for call in short if id(call) in told]


def test_recursion_in_the_kernel(truth: Truth) -> None:
    """Each of the nested calls has its own return, within that of the call around it."""
    run = truth.runs["deep"]
    assert run.status == 0, run.err
    calls = truth.made(("epoll_ctl",), run="deep")
    assert calls
    for call in calls:
        mine = [
            event
            for event in run.events
            if event["host_tid"] == call["tids"][0]
            and call["before"] <= event["timestamp_ns"] <= call["after"]
        ]
        assert [event["args"]["depth"] for event in mine] == list(reversed(range(NESTED)))
        begins = [event["timestamp_ns"] - event["duration_ns"] for event in mine]
        assert begins == sorted(begins, reverse=True)
        assert call["before"] <= begins[-1]
        assert all(event["args"]["ret"] >= 0 for event in mine)
    # To get there it added each to the next: the first looked at one, the second at two.
    assert len(run.events) == sum(range(1, NESTED + 1)) * len(calls)


def test_calls_under_way_when_the_trace_begins_and_ends(truth: Truth) -> None:
    """The kernel does not run the probe of a return whose call began before it was there."""
    run = truth.runs["flight"]
    assert run.status == 0, run.err
    told = [record for record in run.records if record["type"] == "event"]
    assert [event["args"]["ret"] for event in told] == [1, 2, 3]
    assert run.summary["in_flight"] == 1
    assert run.summary["delivered"] == 3
    assert run.summary["adds_up"] is True


def test_stacks_have_the_known_frames(truth: Truth) -> None:
    for event, _ in truth.pairs("stacks"):
        assert_stacks(event["kernel_stack"], event["user_stack"])


def assert_stacks(kernel: list[str], user: list[str]) -> None:
    """write(2) by libc's syscall()."""
    names = frames(kernel)
    assert names[0] == "vfs_write"
    assert names.index("ksys_write") < names.index("do_syscall_64")
    assert frames(user)[0] == "syscall"
    assert "(libc.so.6)" in user[0]


def test_counts_are_those_of_the_calls(truth: Truth) -> None:
    calls = truth.made(("openat", "write"), run="counts")
    told = {
        (group["by"]["function"], group["by"]["comm"]): group["calls"]
        for group in truth.groups("counts")
    }
    assert told == Counter((call["call"], call["comm"]) for call in calls)


def test_counts_by_an_argument(truth: Truth) -> None:
    calls = truth.made(("write",), run="counts_by")
    told = {group["by"]["count"]: group["calls"] for group in truth.groups("counts_by")}
    assert told == Counter(call["arguments"][2] for call in calls)


def test_counts_by_stack(truth: Truth) -> None:
    groups = truth.groups("count_stacks")
    assert sum(group["calls"] for group in groups) == len(
        truth.made(("write",), run="count_stacks")
    )
    for group in groups:
        assert_stacks(group["by"]["kernel_stack"], group["by"]["user_stack"])


@pytest.mark.parametrize("name", ["latency", "linear"])
def test_a_histogram_holds_the_known_sleeps(truth: Truth, name: str) -> None:
    (group,) = truth.groups(name)
    assert_holds(group, truth.made(("nanosleep",), run=name))


def test_a_histogram_for_each_name(truth: Truth) -> None:
    calls = truth.made(("nanosleep",), run="latency_by")
    groups = truth.groups("latency_by")
    assert {group["by"]["comm"] for group in groups} == {call["comm"] for call in calls}
    for group in groups:
        assert_holds(group, [call for call in calls if call["comm"] == group["by"]["comm"]])


def assert_holds(group: dict[str, Any], calls: list[Call]) -> None:
    """Each call took as long as it had to at least, and at most as its caller saw."""
    least = [call["ns"] for call in calls]
    most = [call["after"] - call["before"] for call in calls]
    assert group["calls"] == len(calls)
    assert sum(least) <= group["total_ns"] <= sum(most)
    assert max(least) <= group["max_ns"] <= max(most)
    assert_buckets_hold(buckets_of(group), calls)


def buckets_of(group: dict[str, Any]) -> Counter[int]:
    """How many calls took so many nanoseconds at least."""
    return Counter({bucket["from_ns"]: bucket["calls"] for bucket in group["buckets"]})


def assert_buckets_hold(buckets: Counter[int], calls: list[Call]) -> None:
    assert sum(buckets.values()) == len(calls)
    below = 0
    for least in sorted(buckets):
        assert sum(call["after"] - call["before"] < least for call in calls) <= below
        assert below <= sum(call["ns"] < least for call in calls)
        below += buckets[least]


@on_one_kernel
@pytest.mark.parametrize("name", ["bpftrace", "funclatency"])
def test_others_have_the_same_buckets(truth: Truth, name: str) -> None:
    """But for those whose time may lie beside an edge: between two observers others may run."""
    calls = truth.made(("nanosleep",), run="latency")
    (group,) = truth.groups("latency")
    ours = buckets_of(group)
    out = truth.runs[name].out
    if name == "bpftrace":
        lines = [json.loads(line) for line in out.splitlines() if '"hist"' in line]
        pairs = [(each.get("min", 0), each["count"]) for each in lines[0]["data"]["@ns"]]
    else:
        rows = re.findall(r"^ *(\d+) -> \d+ +: (\d+) ", out, re.M)
        pairs = [(int(least), int(calls)) for least, calls in rows]
    theirs = Counter({least: calls for least, calls in pairs if calls})
    assert_buckets_hold(theirs, calls)
    spans = [(call["ns"], call["after"] - call["before"]) for call in calls]
    sure = sum(least.bit_length() == most.bit_length() for least, most in spans)
    assert sum((ours & theirs).values()) >= sure, (ours, theirs)
