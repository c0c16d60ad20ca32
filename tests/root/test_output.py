"""What ebpf-tool prints of rich events: fields, JSON, files, terminals; its replay is the same."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from ..pure.json_schema import violations
from ..pure.test_status import screen
from .tool import ROOT, TOOL, Caller, Tool, overrun, run, start, trace

SCHEMA = json.loads((ROOT / "docs" / "json-schema.json").read_text(encoding="utf-8"))


def replay(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), "replay", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def records(text: str) -> list[Any]:
    """The objects of a whole trace, each as the schema says."""
    found = [json.loads(line) for line in text.splitlines()]
    wrong = [violations(record, SCHEMA, SCHEMA) for record in found]
    assert [failed for failed in wrong if failed] == []
    return found


FORMS = [
    ["--args"],
    ["--args", "--show-tid", "--time=wall"],
    ["--fields", "time,pid,tid,host_pid,ns_pid,uid,gid,comm,cpu,cgroup,function,args"],
    ["--json"],
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0] + form[-1][-4:])
def test_a_replay_prints_what_the_trace_printed(
    caller: Caller, tmp_path: Path, form: list[str]
) -> None:
    path = tmp_path / "trace.rec"
    live = trace(caller, 20, f"--record={path}", *form)
    assert live.returncode == 0, live.stderr
    again = replay(path, *[word for word in form if word != "--args"])
    assert again.returncode == 0, again.stderr
    assert again.stdout == live.stdout
    assert live.stdout.count("\n") >= 20
    assert again.stderr.splitlines()[1:] == live.stderr.splitlines()[-2:]


def test_a_recording_has_what_its_lines_did_not_show(slow_load: Tool, tmp_path: Path) -> None:
    path, pid = tmp_path / "trace.rec", slow_load.pid
    live = run("-n", "3", "-p", str(pid), f"--record={path}", "--args")
    assert live.returncode == 0, live.stderr
    found = [record for record in records(replay(path, "--json").stdout) if "pid" in record]
    assert [(record["ns_pid"], record["ns_tid"]) for record in found] == [(pid, pid)] * 3


def test_json_of_a_trace(caller: Caller) -> None:
    done = trace(caller, 20, "--args", "--json")
    assert done.returncode == 0, done.stderr
    header, *events, summary = records(done.stdout)
    assert header["type"] == "header"
    assert header["host"] == os.uname().nodename
    assert header["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert [function["name"] for function in header["functions"]] == ["open64"]
    assert {event["type"] for event in events} == {"event"}
    assert {event["pid"] for event in events} == {caller.pid}
    assert all(event["cpu"] < (os.cpu_count() or 1) for event in events)
    names = [argument["name"] for argument in header["functions"][0]["args"]]
    assert all(list(event["args"]) == names for event in events)
    assert summary["type"] == "summary"
    assert summary["delivered"] == len(events) == 20
    assert summary["adds_up"] is True


def test_an_error_is_a_record() -> None:
    done = run("-p", "4194303", "--json", "-d", "1")
    assert done.returncode == 1
    (error,) = records(done.stdout)
    assert error["type"] == "error"
    assert error["message"] in done.stderr


def test_losses_are_records_and_strict_fails(caller: Caller, tmp_path: Path) -> None:
    path, out = tmp_path / "trace.rec", tmp_path / "out"
    words = ["-p", str(caller.pid), "--json", "--strict", f"--record={path}"]
    process = start(*words, "--sample=1/2", "--buffer=4K", "-o", str(out))
    err = overrun(process, caller, 5000, out, more=20)  # one of two is left out
    assert process.returncode == 3, err
    text = out.read_text()
    found = records(text)
    summary = found[-1]
    assert summary["adds_up"] is True
    assert summary["lost"] > 0
    told = sum(record["events"] for record in found if record["type"] == "lost")
    assert 0 < told <= summary["lost_in_buffer"] == sum(summary["lost_cpus"].values())
    assert re.search(rf"\[ERROR\] {summary['lost']} events were lost: .*\(CPU \d+: \d+", err)
    again = replay(path, "--json", "--strict")
    assert again.returncode == 3
    assert again.stdout == text


def test_lines_to_a_file(caller: Caller, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = trace(caller, 20, "-o", str(out))
    assert (done.returncode, done.stdout) == (0, "")
    assert out.read_text().count("\n") == 20
    assert ", 20 delivered, 0 lost" in done.stderr
    refused = run("-d", "0.5", "-o", "/nonexistent/x")
    assert refused.returncode == 1
    assert "[ERROR] write to /nonexistent/x: No such file" in refused.stderr


def test_a_field_that_there_is_not() -> None:
    done = run("-d", "0.5", "--fields", "pid,nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def on_a_terminal(*words: str, columns: int) -> str:
    """All that is written to a terminal which is stdout and stderr of the tool."""
    controller, terminal = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    process = subprocess.Popen(
        [*TOOL, "open64", *words],
        stdout=terminal,
        stderr=terminal,
        stdin=terminal,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
    )
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(controller, 65536):
            written += piece
    os.close(controller)
    assert process.wait(120) == 0, written
    return written.decode()


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_has_whole_lines_and_a_status_line(slow_load: Tool, columns: int) -> None:
    written = on_a_terminal("-d", "3", "-p", str(slow_load.pid), columns=columns)
    drawn = re.findall(r"\r(\[\d:\d\d of 0:03\] \d+ events, \d+/s, \d+ lost)\x1b\[K", written)
    assert drawn
    assert all(len(line) < columns for line in drawn)
    plain = re.sub(r"\x1b\[[0-9]*m", "", written).replace("\r\n", "\n")
    rows = screen(plain)
    events = [row for row in rows if "timestamp=" in row]
    pattern = rf"\[{slow_load.pid}\] +python[\w.]*: +arg0=\d+, timestamp=\d+"
    assert events
    assert all(re.fullmatch(pattern, row) for row in events)
    others = [row for row in rows if row and "timestamp=" not in row]
    assert all(row.startswith("[INFO] ") for row in others), others
    assert rows[-2].startswith(f"[INFO] {len(events)} events, 0 lost, 3.0 seconds")
    assert "\x1b[36m" in written, "the process has a colour"


def test_a_terminal_with_fields_has_a_heading(slow_load: Tool) -> None:
    words = ["-n", "3", "-p", str(slow_load.pid), "--fields", "pid,comm,cpu", "--color=never"]
    written = on_a_terminal(*words, columns=80)
    rows = screen(written.replace("\r\n", "\n"))
    heading = rows.index("PID      COMM             CPU")
    assert re.fullmatch(rf"{slow_load.pid} +python[\w.]* +\d+", rows[heading + 1])
    assert "\x1b[3" not in written
