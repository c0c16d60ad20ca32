"""ebpf-tool kprobe on real kernels, against what was really called."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest

from .conftest import CATS, TOOL, Guest, Traced

OPENS = "opens 2 3 40"


def assert_clean(traced: Traced) -> None:
    """It ended well, and accounted for each event."""
    assert traced.status == 0, traced.err
    assert re.search(rf"\[INFO\] {len(traced.lines)} events, 0 lost, ", traced.err), traced.err
    assert "[ERROR]" not in traced.err


def test_the_kernel_is_the_one_asked_for(guest: Guest) -> None:
    assert guest.release.startswith(guest.kernel + ".")


def test_kprobe_reads_process_info(guest: Guest) -> None:
    traced = guest.trace("do_sys_openat2", workload="opens 1 1 5")
    assert_clean(traced)
    (record,) = traced.work
    mine = [line for line in traced.lines if line.comm == record["comm"]]
    assert [(line.pid, line.tid) for line in mine] == [(record["pid"], record["tid"])] * 5


def test_kprobe_reads_function_arguments(guest: Guest) -> None:
    traced = guest.trace("do_sys_openat2", workload="opens 1 1 5")
    assert "dfd=" in traced.out
    (record,) = traced.work
    mine = [line for line in traced.lines if line.comm == record["comm"]]
    assert {(line.label, line.value) for line in mine} == {("dfd", str(record["argument"]))}


def test_a_negative_int_is_printed_as_such_and_raw_as_the_register(guest: Guest) -> None:
    decoded = guest.tool("do_sys_openat2", "-n", "40", load=CATS).stdout
    assert re.search(r"\] cat: dfd=-100, timestamp=\d+$", decoded, re.M), decoded
    raw = guest.tool("do_sys_openat2", "-n", "40", "--raw-args", load=CATS).stdout
    # AT_FDCWD in a register: zero-extended, or sign-extended, as the caller left it.
    assert re.search(r"\] cat: dfd=(4294967196|18446744073709551516), ", raw), raw


def test_every_open_is_one_event(guest: Guest) -> None:
    traced = guest.trace("do_sys_openat2", workload=OPENS)
    assert_clean(traced)
    expected = Counter(
        {(r["pid"], r["tid"], r["comm"], str(r["argument"])): r["calls"] for r in traced.work}
    )
    got = Counter((e.pid, e.tid, e.comm, e.value) for e in traced.lines if e.comm.startswith("gt-"))
    assert len(expected) == 6
    assert got == expected
    for cpu in {record["cpu"] for record in traced.work}:
        here = {record["tid"] for record in traced.work if record["cpu"] == cpu}
        times = [line.timestamp for line in traced.lines if line.tid in here]
        assert times == sorted(times), f"CPU {cpu}"
        assert len(set(times)) == len(times)


@pytest.mark.parametrize("function", ["vfs_read", "vfs_write"])
def test_reads_and_writes(guest: Guest, function: str) -> None:
    traced = guest.trace(function, workload="io 100")
    assert_clean(traced)
    mine = [line for line in traced.lines if line.comm == "gt-io"]
    assert len(mine) == 100
    assert {line.pid for line in mine} == {traced.work[0]["pid"]}
    assert all(re.fullmatch("0x[0-9a-f]{16}", line.value) for line in mine)
    assert {line.label for line in mine} == {"file"}
    assert len({line.value for line in mine}) == 1
    assert traced.tool_pid not in {line.pid for line in traced.lines}, "it traced itself"


def test_include_self(guest: Guest) -> None:
    traced = guest.trace("vfs_write", "--include-self", workload="io 5")
    assert traced.status == 0, traced.err
    assert traced.tool_pid in {line.pid for line in traced.lines}


def test_a_process_can_be_chosen(guest: Guest) -> None:
    traced = guest.trace("vfs_read", "-p", "@PID", workload="io 50")
    assert_clean(traced)
    assert {line.pid for line in traced.lines} == {traced.work[0]["pid"]}
    assert sum(line.comm == "gt-io" for line in traced.lines) == 50


def test_the_deadline_holds_under_load_and_losses_are_told(guest: Guest) -> None:
    traced = guest.trace("vfs_write", "-d", "4", workload="flood 6", number=0)
    assert traced.status == 0, traced.err
    times = [line.timestamp for line in traced.lines]
    assert 0 < max(times) - traced.listening <= 4e9  # the program itself keeps the deadline
    summary = re.search(r"\[INFO\] (\d+) events, (\d+) lost, 4\.0 seconds", traced.err)
    assert summary, traced.err
    assert int(summary[1]) == len(times)
    assert ("events were lost" in traced.err) == (summary[2] != "0")
    assert "do not add up" not in traced.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_a_summary(guest: Guest, number: int) -> None:
    traced = guest.trace("do_sys_openat2", workload="opens 1 1 3", number=number)
    assert_clean(traced)
    expected = [
        "[INFO] Attaching kprobe to function: do_sys_openat2",
        "[INFO] Duration: 0 seconds (0 = until Ctrl+C)",
        "[INFO] Kprobe attached to do_sys_openat2. Listening for events...",
        "[INFO] Detaching kprobe...",
    ]
    assert traced.err.splitlines()[:4] == expected


def test_a_closed_pipe_ends_it_quietly(guest: Guest) -> None:
    """Started as a user starts it."""
    words = " ".join([*TOOL, "kprobe", "vfs_read", "-q"])
    done = guest.run("sh", "-c", f"{words} | head -n 1", load=CATS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_recording_replays_as_it_was_printed(guest: Guest) -> None:
    path = f"/tmp/{guest.kernel}.rec"
    traced = guest.trace("do_sys_openat2", "--time=wall", f"--record={path}", workload=OPENS)
    assert traced.status == 0, traced.err
    again = guest.run(*TOOL, "replay", path, "--show-tid", "--time=wall")
    assert (again.returncode, again.stdout) == (0, traced.out)
    assert traced.out.count("] gt-") == 240
    summary = traced.err.splitlines()[-1]
    assert again.stderr.splitlines()[-1] == summary


def test_a_function_that_is_not_called(guest: Guest) -> None:
    done = guest.tool("ksys_sync_helper", "-d", "0.5")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "[INFO] No event: ksys_sync_helper was not called" in done.stderr
