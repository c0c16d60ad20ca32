"""Returns and stacks on the running kernel: printed, recorded, and replayed the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .tool import PATIENCE, ROOT, Caller, trace

EBPF_TOOL = [sys.executable, str(ROOT / "bin" / "ebpf-tool")]


@pytest.mark.parametrize(
    "options",
    [(), ("--json",), ("--fields=ret,took,comm",), ("--format=folded",)],
    ids=["lines", "json", "fields", "folded"],
)
def test_a_replay_of_returns_prints_what_was_printed(
    caller: Caller, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "trace.rec"
    command = (*EBPF_TOOL, "uretprobe", "libc:open64", "--ret=int", "-u")
    live = trace(caller, 15, *options, f"--record={path}", command=command)
    assert live.returncode == 0, live.stderr
    replay = [*EBPF_TOOL, "replay", str(path), *options]
    again = subprocess.run(replay, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert again.stdout == live.stdout
    account = r"\[INFO\] \d+ calls seen: .*"
    assert re.findall(account, again.stderr) == re.findall(account, live.stderr) != []
    if options == ("--json",):
        events = [json.loads(line) for line in live.stdout.splitlines()]
        events = [event for event in events if event["type"] == "event"]
        assert len(events) == 15
        for event in events:
            assert event["args"]["ret"] == -1
            assert event["duration_ns"] > 0
            assert event["user_stack"][0].endswith("(libc.so.6)")
    elif options == ("--format=folded",):
        counts = [int(line.rpartition(" ")[2]) for line in live.stdout.splitlines()]
        (delivered,) = re.findall(r"(\d+) delivered", live.stderr)
        assert sum(counts) == int(delivered) == 15
        assert re.match(r"python\S*;.*open\w* \d+\n", live.stdout)
    else:
        line = r"\[\d+\] python\S*: ret=-1, took=\d+\.\d{3}us, arg0=.*\n"
        row = r"-1\t\d+\.\d{3}us\tpython\S*\n"
        frame = r"    \S+\+0x0 \(libc\.so\.6\)\n"
        assert len(re.findall((row if options else line) + frame, live.stdout)) == 15
