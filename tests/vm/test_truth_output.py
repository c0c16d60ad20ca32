"""Known calls, and the lines, columns, losses and recordings that ebpf-tool makes of them."""

from __future__ import annotations

import re

from .cast import FLOOD
from .test_truth import truth as truth
from .truth import Truth

LINE = re.compile(
    r'\[(\d+)/(\d+)\] (gt-\S+): dfd=(AT_FDCWD|\d+), filename=(NULL|<unreadable>|".*"(?:\.\.\.)?), '
    r"flags=(\S+), mode=(0\d*), timestamp=(\d+)"
)


def test_lines_name_all_arguments(truth: Truth) -> None:
    run = truth.runs["lines"]
    assert run.status == 0, run.err
    made = {call["before"]: call for call in truth.made(("openat",), run="lines")}
    told = set()
    for line in run.out.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        pid, tid, comm, dfd, filename, _flags, mode, timestamp = match.groups()
        (call,) = (
            call
            for call in made.values()
            if call["tids"][0] == int(tid) and call["before"] <= int(timestamp) <= call["after"]
        )
        told.add(call["before"])
        assert (int(pid), comm) == (call["pids"][0], call["comm"])
        assert dfd == ("AT_FDCWD" if call["arguments"][0] == -100 else str(call["arguments"][0]))
        assert int(mode, 8) == call["arguments"][3]
        path = call.get("path")
        if path is None:
            assert filename == ("NULL" if "path" in call else "<unreadable>")
        elif path.isascii() and path.isprintable() and '"' not in path:
            # What fills the buffer may have gone on.
            assert filename == (f'"{path}"' if len(path) < 255 else f'"{path[:255]}"...')
        else:
            assert filename.isprintable()
    assert told == set(made)


def test_a_process_elsewhere_is_a_question_mark(truth: Truth) -> None:
    """In a container: pids of its own are told as it has them, and of others none."""
    told = {
        name: {
            match[1]
            for match in re.finditer(r"^\[(\S+)\] (gt-\S+):", truth.runs["box_lines"].out, re.M)
            if match[2] == name
        }
        for name in ("gt-main", "gt-user", "gt-box", "gt-inner")
    }
    inner = str(truth.cast["inner"][0]["pids"][1])
    expected = {"gt-main": {"?"}, "gt-user": {"?"}, "gt-box": {"1"}, "gt-inner": {inner}}
    assert told == expected


def test_columns_are_the_chosen_fields(truth: Truth) -> None:
    run = truth.runs["columns"]
    assert run.status == 0, run.err
    rows = [line.split("\t") for line in run.out.splitlines()]
    assert len(rows) == len(truth.made(("openat",), run="columns"))
    whos = {who["tids"][0]: who for actor in truth.cast.values() for who in actor}
    for row in rows:
        who = whos[int(row[3])]
        pids, tids = who["pids"], who["tids"]
        numbers = [pids[0], tids[0], pids[0], tids[0], pids[-1], tids[-1], who["uid"], who["gid"]]
        assert [int(cell) for cell in row[:8]] == numbers
        assert row[8] == who["comm"]
        assert int(row[9]) in who["cpus"]
        assert (int(row[10]), row[11]) == (who["cgroup"], "openat")


def test_a_sample_a_cpu_and_a_number_of_events(truth: Truth) -> None:
    writes = len(truth.made(("write",), run="sample"))
    sample, summary = truth.pairs("sample"), truth.runs["sample"].summary
    assert 0 < len(sample) < writes
    assert summary["seen"] >= writes
    here = truth.pairs("cpu")
    assert here
    assert {event["cpu"] for event, _ in here} == {1}
    pinned = truth.made(("write",), lambda call: call["cpus"] == [1], "cpu")
    assert sum(call["cpus"] == [1] for _, call in here) == len(pinned)
    run = truth.runs["count"]
    assert (run.status, len(run.events)) == (0, 5), run.err


def test_a_loss_is_counted_exactly_and_is_status_3(truth: Truth) -> None:
    run, summary = truth.runs["flood"], truth.runs["flood"].summary
    told = len(run.events)
    assert run.status == 3, run.err
    assert summary["lost"] > 0
    assert told + summary["lost"] == FLOOD * truth.floods
    assert sum(summary["lost_cpus"].values()) == summary["lost"]
    assert any(record["type"] == "lost" for record in run.records)


def test_a_buffer_that_is_large_enough_loses_nothing(truth: Truth) -> None:
    run = truth.runs["flood_enough"]
    assert run.status == 0, run.err
    assert len(run.events) == FLOOD * truth.floods
    assert run.summary["lost"] == 0


def test_a_recording_replays_byte_for_byte(truth: Truth) -> None:
    live, again = truth.runs["recorded"], truth.runs["replay"]
    assert (live.status, again.status) == (0, 0), live.err + again.err
    assert live.out.count("] gt-") == len(truth.made(("openat", "write"), run="recorded"))
    assert again.out == live.out
    assert truth.runs["replay_json"].status == 0
    assert len(truth.runs["replay_json"].events) == len(
        truth.made(("openat", "write"), run="recorded")
    )
