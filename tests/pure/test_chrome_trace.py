"""``--format chrome-trace``, against the Trace Event Format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.chrome_trace import OUTSIDE, ChromeTrace
from libbpf_ctypes.cli.formats import BOOLEAN, DECIMAL, Format, ShownArgument
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.cli.style import PLAIN

from . import trace_events
from .calls import INT, NOTHING, OPENAT, ORIGIN, READ, an_open, call, clock, options, sample
from .helpers import ROOT
from .replaying import record, replay
from .test_account import GOOD

RETURN = Traced("vfs_read", "vfs_read", "", (ShownArgument("ret", "int", 0, -1, INT),), True)


def formatter(*functions: Traced, stacks: Any = None, **given: Any) -> ChromeTrace:
    functions = functions or (OPENAT, READ, RETURN)
    return ChromeTrace(options(**given), functions, clock(), ORIGIN, stacks)


def trace(made: ChromeTrace, *batches: list[Any]) -> list[dict[str, Any]]:
    """The events of a whole trace, read as a viewer reads them."""
    text = made.start() + "".join(made.format(batch) for batch in batches)
    return trace_events.read(text + made.end(None))


def calls_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] != "M" and event["cat"] != "ebpf-tool"]


def test_a_return_is_a_slice_and_a_call_an_instant() -> None:
    events = trace(
        formatter(),
        [
            an_open(timestamp_ns=80_898_254_293, pid=10, tid=11),
            call(b"dd", (7,), function=2, timestamp_ns=5_000_000_001, duration_ns=1_234_567),
        ],
    )
    instant, slice_ = calls_of(events)
    assert (instant["ph"], instant["s"], instant["name"]) == ("i", "t", "openat")
    assert (instant["ts"], instant["pid"], instant["tid"]) == (Decimal("80898254.293"), 10, 11)
    assert (slice_["ph"], slice_["name"], slice_["cat"]) == ("X", "vfs_read", "kernel")
    assert slice_["ts"] == Decimal("4998765.434")
    assert slice_["dur"] == Decimal("1234.567")
    assert slice_["args"]["ret"] == 7


def test_a_damaged_duration_does_not_bend_the_time() -> None:
    made = formatter()
    event = call(b"dd", (7,), function=2, timestamp_ns=10**9, duration_ns=5 * 10**9 + 1)
    events = json.loads(made.start() + made.format([event]) + made.end(None), parse_float=Decimal)
    assert [found["ts"] for found in calls_of(events)] == [Decimal("-4000000.001")]


def test_arguments_are_as_lines_have_them_but_numbers_are_numbers() -> None:
    event = an_open(b'/a"b\n\xff', flags=0x80001)
    (found,) = calls_of(trace(formatter(), [event]))
    assert found["args"] == {
        "dfd": "AT_FDCWD",
        "filename": '/a"b\\x0a\\xff',
        "flags": "O_WRONLY|O_CLOEXEC",
        "caller": {"cpu": 1, "uid": 1000},
    }
    (found,) = calls_of(trace(formatter(raw_args=True), [event]))
    assert found["args"]["dfd"] == 0xFFFFFF9C


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (Format(DECIMAL, 8), 2**53 - 1, 2**53 - 1),
        (Format(DECIMAL, 8), 2**53, str(2**53)),  # a viewer would round it
        (Format(DECIMAL, 8, True), 2**64 - 5, -5),
        (Format(BOOLEAN, 1), 1, True),
        (Format(2, 4), 0o644, "0644"),
    ],
)
def test_numbers_that_a_viewer_cannot_hold_are_texts(form: Format, value: int, shown: Any) -> None:
    function = Traced("f", "f", "", (ShownArgument("n", "long", 0, -1, form),))
    (found,) = calls_of(trace(formatter(function), [call(b"x", (value,))]))
    assert found["args"]["n"] == shown
    assert type(found["args"]["n"]) is type(shown)


def test_what_could_not_be_read_or_is_null_or_cut_is_so() -> None:
    events = [
        an_open(unreadable=2),
        call(b"cat", (3, 0, 0), (b"",)),
        an_open(b"x" * 300),
    ]
    texts = [found["args"]["filename"] for found in calls_of(trace(formatter(), events))]
    assert texts == ["<unreadable>", None, "x" * 255 + "..."]


def test_an_argument_called_as_ours_are_keeps_its_value() -> None:
    shown = ShownArgument("caller", "int", 0, -1, INT)
    events = trace(formatter(Traced("f", "f", "ext4", (shown, shown))), [call(b"x", (5,))])
    (found,) = calls_of(events)
    assert found["args"]["arg:caller"] == 5
    assert found["args"]["caller:2"] == 5
    assert found["args"]["caller"]["cpu"] == 1
    assert found["cat"] == "ext4"


def test_threads_and_processes_have_names() -> None:
    events = trace(
        formatter(),
        [
            an_open(pid=10, tid=11)._replace(comm="worker"),
            an_open(pid=10, tid=10)._replace(comm="main\x1b"),
            an_open(pid=10, tid=11)._replace(comm="worker"),
            an_open(pid=10, tid=11)._replace(comm="renamed"),
        ],
    )
    named = [(e["name"], e["tid"], e["args"]["name"]) for e in events if e["ph"] == "M"]
    assert named == [
        ("process_name", 10, "worker"),  # until its main thread is seen
        ("thread_name", 11, "worker"),
        ("process_name", 10, "main\\x1b"),
        ("thread_name", 10, "main\\x1b"),
        ("thread_name", 11, "renamed"),
    ]


def test_a_process_of_another_namespace_is_not_taken_for_one_of_ours() -> None:
    events = trace(
        formatter(),
        [an_open(pid=5, tid=5), an_open(pid=0, tid=0, host_pid=5, host_tid=6)],
    )
    assert [found["pid"] for found in calls_of(events)] == [5, 5 + OUTSIDE]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert "cat (the host's 6)" in names


class _Stacks:
    def kernel(self, key: int) -> tuple[str, ...]:
        return {1: ("vfs_read+0x1a", "ksys_read+0x5f")}.get(key, ())

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        return {2: (f"read+0x10 (libc.so.6) of {pid}",)}.get(key, ())


def test_stacks_are_among_the_arguments() -> None:
    events = [an_open(kernel_stack=1, user_stack=2, pid=77, host_pid=1077), an_open()]
    one, other = calls_of(trace(formatter(stacks=_Stacks()), events))
    assert one["args"]["kernel_stack"] == ["vfs_read+0x1a", "ksys_read+0x5f"]
    assert one["args"]["user_stack"] == ["read+0x10 (libc.so.6) of 77"]
    assert not {"kernel_stack", "user_stack"} & set(other["args"])


def test_losses_errors_and_the_account_are_in_the_trace() -> None:
    made = formatter()
    text = made.start() + made.error("before the first event")
    made.lost(1, 4)
    text += made.format([an_open(timestamp_ns=10**9)])
    made.lost(0, 2)
    made.lost(1, 3)
    text += made.format([an_open(timestamp_ns=10**9 + 5)])  # within a second: not yet
    text += made.error("in its midst")
    text += made.end(GOOD)
    notes = [event for event in trace_events.read(text) if event.get("cat") == "ebpf-tool"]
    assert [note["name"] for note in notes] == [
        "trace of host", "error", "4 events lost", "error", "5 events lost", "end of the trace",
    ]  # fmt: skip
    assert {note["s"] for note in notes} == {"g"}
    begin, before, first, midst, second, end = (note["args"] for note in notes)
    assert begin["boot_id"] == ORIGIN.boot_id
    assert int(begin["clock_offset_ns"]) == clock().offset_ns
    assert (before["message"], midst["message"]) == ("before the first event", "in its midst")
    assert (first["cpus"], second["cpus"]) == ({"1": 4}, {"0": 2, "1": 3})
    assert (end["lost"], end["delivered"], end["adds_up"]) == (GOOD.lost, GOOD.delivered, True)


def test_a_trace_without_events_is_one() -> None:
    assert trace(formatter()) == []
    assert trace_events.read(formatter().start() + formatter().end(GOOD)) == []


def test_a_trace_cut_behind_an_event_lacks_nothing_but_its_bracket() -> None:
    made = formatter()
    events = [an_open(b"/%d" % n, timestamp_ns=10**9 + n, tid=n) for n in range(20)]
    text = made.start() + "".join(made.format([event]) for event in events) + made.end(None)
    ends = [at for at in range(len(text)) if text.startswith(",\n", at)]
    assert len(ends) == 40  # with the names of the threads
    for at in ends:
        trace_events.read(text[:at] + "]")


#: Calls within calls: (before, calls within, after), in nanoseconds.
_CALLS: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.integers(0, 2000), st.just([]), st.integers(0, 2000)),
    lambda inner: st.tuples(st.integers(0, 2000), st.lists(inner, max_size=3), st.integers(0, 9)),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.integers(1, 3), _CALLS), max_size=6))
def test_recursive_calls_of_several_threads_nest(roots: list[tuple[int, Any]]) -> None:
    """Returns come innermost first; the slices lie in one another as the calls did."""
    now, events = dict.fromkeys((1, 2, 3), 10**9), list[Any]()

    def run(tid: int, made: Any, depth: int) -> None:
        before, inner, after = made
        begin = now[tid]
        now[tid] += before
        for each in inner:
            run(tid, each, depth + 1)
        now[tid] += after
        spent = now[tid] - begin
        times = {"timestamp_ns": now[tid], "duration_ns": spent}
        events.append(call(b"x", (depth,), (b"",), function=2, tid=tid, pid=1, **times))

    for tid, made in roots:
        run(tid, made, 0)
    found = calls_of(trace(formatter(), events))  # which checks that they nest
    assert [(each["ts"] + each["dur"]) * 1000 for each in found] == [e.timestamp_ns for e in events]
    assert [each["args"]["ret"] for each in found] == [event.values[0] for event in events]


def test_the_option_chooses_it() -> None:
    made = call_formatter(options(format="chrome-trace"), (NOTHING,), clock(), PLAIN, ORIGIN)
    assert isinstance(made, ChromeTrace)


def test_a_replay_has_the_events_that_json_has(tmp_path: Path) -> None:
    recording, samples = tmp_path / "calls.rec", []
    for number in range(50):
        fields = {"timestamp_ns": 10**9 + 999 * number, "tid": 10 + number % 3}
        samples.append(sample(b"cat", (0xFFFFFF9C, 5, number), (b"/%d" % number,), **fields))
    record(recording, (OPENAT,), samples)
    lines = replay(recording, "--json")[0].splitlines()
    wanted = [each for each in map(json.loads, lines) if each["type"] == "event"]
    found = calls_of(trace_events.read(replay(recording, "--format", "chrome-trace")[0]))
    assert len(found) == len(wanted) == 50
    for event, told in zip(found, wanted):
        assert event["ts"] * 1000 == told["timestamp_ns"]
        assert (event["name"], event["tid"]) == (told["function"], told["tid"])
        values = {**told["args"], **told.get("words", {})}
        assert {name: event["args"][name] for name in values} == values


def test_it_is_utf_8_whatever_stdout_is(tmp_path: Path) -> None:
    recording = tmp_path / "calls.rec"
    record(recording, (OPENAT,), [sample("é".encode(), (3, 5, 0), (b"/x",))])
    command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), "replay", str(recording)]
    command += ["--format", "chrome-trace"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    named = [event["args"].get("name") for event in trace_events.read(done.stdout.decode())]
    assert "é" in named


@pytest.mark.parametrize("name", ["6.1-calls", "6.12-returns"])
def test_recordings_of_real_kernels_are_traces(name: str) -> None:
    recording = ROOT / "fixtures" / "recordings" / f"x86_64-{name}.rec"
    lines = replay(recording, "--json")[0].splitlines()
    wanted = [each for each in map(json.loads, lines) if each["type"] == "event"]
    found = calls_of(trace_events.read(replay(recording, "--format", "chrome-trace")[0]))
    assert len(found) == len(wanted) > 3
    for event, told in zip(found, wanted):
        took = told.get("duration_ns")
        assert event["ph"] == ("i" if took is None else "X")
        end = event["ts"] if took is None else event["ts"] + event["dur"]
        assert end * 1000 == told["timestamp_ns"]
        assert event["args"].get("kernel_stack") == (told.get("kernel_stack") or None)
        assert event["args"].get("user_stack") == (told.get("user_stack") or None)
