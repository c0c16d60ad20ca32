"""The recorder beside the live lines: clocks that are set, zones that change, disks that fill."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes.btf import Kind, Type
from libbpf_ctypes.cli.account import Account
from libbpf_ctypes.cli.argument import shown
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.line_options import LineOptions
from libbpf_ctypes.cli.lines import line_formatter
from libbpf_ctypes.cli.recorder import Recorder
from libbpf_ctypes.cli.text import WallClock
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.events import Counters
from libbpf_ctypes.recording import RecordingReader
from libbpf_ctypes.recording_format import Argument, Clock, End, Lost, Samples

from .helpers import run_tool
from .recordings import event

START = 1_790_000_000 * 10**9
ARGUMENT = shown("dfd", Type(Kind.INT, "int", 4, True, False), raw=False)


class SetClock(WallClock):
    """A clock that the test sets."""

    now = START

    def _measure(self) -> int:  # type: ignore[override]
        return self.now


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC0")
        time.tzset()
        yield patch
    time.tzset()


def account(events: int) -> Account:
    return Account(Counters(0, events, 0), events, 0, 10**9, False, True)


def test_dates_stay_the_same_when_the_clock_and_the_zone_change(
    tmp_path: Path, zone: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trace.rec"
    clock = SetClock()
    recorder = Recorder(str(path), "f", 3, ARGUMENT, clock, Console(quiet=True, verbose=False))
    options = LineOptions(pids=(), show_tid=False, time="wall", raw_args=False)
    format_events = line_formatter(options, ARGUMENT, clock)
    decode = recorder.decode
    live = ""
    offsets = [START, START + 900_000, START + 5_000_000, START - 10**12, START - 10**12]
    for number, offset in enumerate(offsets):
        clock.now = offset
        if number == 4:
            zone.setenv("TZ", "XYZ-5:30")
            time.tzset()
        samples = [(0, event(3, 3, 0xFFFFFFFF, number * 10**9, b"x"))]
        recorder.add(samples)
        live += format_events(decode(samples))
    recorder.end(account(5))
    with path.open("rb") as file:
        reader = RecordingReader(file, "trace")
        head, items = reader.header, list(reader)
    assert head.clock == Clock(START, 0)
    assert head.argument == Argument("dfd", True, 1, "int", 4, True, False)
    kinds = [item if isinstance(item, Clock) else type(item) for item in items]
    assert kinds == [
        Samples,
        Samples,  # less than a millisecond is the measurement's own
        Clock(START + 5_000_000, 0),
        Samples,
        Clock(START - 10**12, 0),
        Samples,
        Clock(START - 10**12, 19800),
        Samples,
        End,
    ]
    assert "dfd=-1, timestamp=2026-09-21T14:13:20.000000+00:00" in live
    assert live.endswith("+05:30\n")
    assert run_tool("replay", path, "--time=wall", TZ="Asia/Tokyo").stdout == live


def test_a_disk_that_fills_up_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace\x1b.rec"
    console = Console(quiet=True, verbose=False)
    recorder = Recorder(str(path), "f", 0, ARGUMENT, SetClock(), console)
    samples = [(0, event(3, 3, 3, 3, b"x"))]
    recorder.add(samples * 2)

    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        recorder.lost(1, 5)
        recorder.add(samples)
    recorder.add(samples)
    recorder.end(account(4))
    assert recorder.failed
    told = capsys.readouterr().err
    assert told == (
        f"[ERROR] record to {tmp_path}/trace\\x1b.rec: No space left on device. The recording "
        "ends after 2 events; what comes from here on is only printed.\n"
    )
    again = run_tool("replay", path)
    assert again.returncode == 1
    assert again.stdout.count("\n") == 2
    assert "without the end of the trace" in again.stderr


def test_losses_come_before_the_samples_read_with_them(tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    console = Console(quiet=True, verbose=False)
    recorder = Recorder(str(path), "f", 0, ARGUMENT, SetClock(), console)
    samples = [(0, event(3, 3, 3, 3, b"x"))]
    for _ in range(2):
        recorder.lost(1, 5)
        recorder.add(samples)
    recorder.lost(0, 2)  # after the last samples
    recorder.end(account(2)._replace(reported=12))
    with path.open("rb") as file:
        *items, end = RecordingReader(file, "trace")
    assert isinstance(end, End)
    assert items == [Lost(1, 5), Samples(samples)] * 2 + [Lost(0, 2)]


def test_what_was_in_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    path.write_bytes(bytes(100_000))
    console = Console(quiet=True, verbose=False)
    Recorder(str(path), "f", 0, ARGUMENT, SetClock(), console).end(account(0))
    again = run_tool("replay", path)
    assert again.returncode == 0, again.stderr
    assert "No event: f was not called" in again.stderr


def test_a_fifo_that_nobody_reads_does_not_hold_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    console = Console(quiet=True, verbose=False)
    with pytest.raises(BpfError, match=r"record to .*fifo: No such device") as caught:
        Recorder(str(tmp_path / "fifo"), "f", 0, ARGUMENT, SetClock(), console)
    assert caught.value.hint
