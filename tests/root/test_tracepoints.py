"""tracepoint: known system calls and programs, with their fields by name."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes.cli.tracepoints import find_tracepoints

from .tool import ROOT, await_listening, listening, rest

EBPF_TOOL = [sys.executable, str(ROOT / "bin" / "ebpf-tool")]
pytestmark = pytest.mark.usefixtures("tracefs")


SCRIPT = """
echo ready
read line
: < /etc/hostname
{ true < /nonexistent/known; } 2> /dev/null
(:)
exec /usr/bin/env true
"""
Shell = subprocess.Popen[bytes]


def shell() -> Shell:
    """A shell that makes its calls when a line comes."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(["sh", "-c", SCRIPT], stdin=pipe, stdout=pipe)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def trace(*words: str, process: Shell | None = None) -> tuple[list[dict[str, Any]], str]:
    """The shell's events of a trace during which it makes its calls; its account."""
    with process or shell() as caller:
        command = [*EBPF_TOOL, "tracepoint", "-p", str(caller.pid), *words, "--json"]
        tool, told = listening(command)
        caller.communicate(b"\n")
        tool.send_signal(signal.SIGINT)
        out, err = rest(tool)
    assert tool.returncode == 0, told + err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["lost"] == 0
    return [line for line in lines if line["type"] == "event"], err


def test_fields_of_system_calls_by_name() -> None:
    events, _err = trace("syscalls:sys_enter_openat", "syscalls:sys_exit_openat", "--comm=sh")
    opened = [event for event in events if event["function"].endswith("enter_openat")]
    by_name = {event["args"]["filename"]: event for event in opened}
    found = by_name["/nonexistent/known"]
    assert found["args"]["dfd"] == -100
    assert found["words"]["dfd"] == "AT_FDCWD"
    assert found["words"]["flags"] == "O_RDONLY"
    left = [event for event in events if event["function"].endswith("exit_openat")]
    assert len(left) == len(opened)
    after = {id(one): other for one, other in zip(opened, left)}
    assert after[id(found)]["args"]["ret"] == -2
    assert after[id(found)]["words"]["ret"] == "-ENOENT"
    assert after[id(by_name["/etc/hostname"])]["args"]["ret"] >= 0


def test_texts_that_lie_behind_the_record() -> None:
    events, _err = trace("sched:sched_process_exec")
    programs = [event["args"]["filename"] for event in events]
    assert programs[0] == "/usr/bin/env"
    assert programs[1].endswith("/true")
    assert [event["args"]["pid"] for event in events] == [event["pid"] for event in events]


def test_words_are_those_that_the_kernel_itself_prints(tracefs: Path) -> None:
    instance = tracefs / "instances" / f"libbpf-ctypes-{os.getpid()}"
    instance.mkdir()
    try:
        events, missed, text = _beside_ftrace(instance)
    finally:
        instance.rmdir()
    printed = Counter(re.findall(r"bytes_req=(\d+) .* gfp_flags=(\S+) ", text))
    ours = Counter(
        (str(event["args"]["bytes_req"]), event["words"]["gfp_flags"]) for event in events
    )
    # What an interrupt allocates while our program runs is not seen by it, and counted.
    assert not ours - printed
    assert sum((printed - ours).values()) <= missed
    assert len(ours) > 1


def _beside_ftrace(instance: Path) -> tuple[list[dict[str, Any]], int, str]:
    """What is allocated for the shell, how much was missed, and what ftrace prints of the same."""
    with shell() as process:
        (instance / "set_event_pid").write_text(f"{process.pid}\n", encoding="ascii")
        enable = instance / "events" / "kmem" / "kmem_cache_alloc" / "enable"
        enable.write_text("1", encoding="ascii")
        events, err = trace("kmem:kmem_cache_alloc", process=process)
        enable.write_text("0", encoding="ascii")
    missed = re.search(r"; (\d+) missed$", err, re.M)
    assert missed, err
    return events, int(missed[1]), (instance / "trace").read_text(encoding="ascii")


def test_filters_of_texts_and_numbers() -> None:
    events, _err = trace("sched:sched_process_exec", '--filter=filename == "*/env" and pid > 1')
    assert {event["args"]["filename"] for event in events} == {"/usr/bin/env"}
    events, _err = trace(
        *("syscalls:sys_exit_openat", "--filter=ret == -2 or ret == -13", "--comm=sh"),
    )
    assert {event["words"]["ret"] for event in events} == {"-ENOENT"}


def test_many_by_pattern() -> None:
    events, err = trace("sched:sched_process_*")
    named = {event["function"] for event in events}
    assert {f"sched:sched_process_{name}" for name in ("exec", "exit", "fork")} <= named
    assert "calls seen" in err


def test_elements_of_arrays() -> None:
    number = ctypes.CDLL(None).syscall
    with subprocess.Popen(
        [*EBPF_TOOL, "tracepoint", "raw_syscalls:sys_enter", "-n1", "--json", "--include-self",
         "-p", str(os.getpid()), "--filter=args[1] == 4242", "--arg=args[1]", "--arg=id"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as tool:  # fmt: skip
        await_listening(tool)
        number(39, 0, 4242)  # any call will do: this one takes no arguments
        out, _err = rest(tool)
    (event,) = (json.loads(line) for line in out.splitlines() if '"event"' in line)
    assert event["args"] == {"args[1]": 4242, "id": 39}


def test_every_tracepoint_of_this_kernel_is_read(tracefs: Path) -> None:
    found = find_tracepoints(["*:*"])
    assert len(found) > 100
    there = {path.parent.name for path in (tracefs / "events").glob("*/*/id")}
    assert {point.name for point in found} <= there
    assert [point.label for point in found if not point.fields and point.words] == []
    without = [point.label for point in found if not point.fields]
    assert len(without) < len(found) / 10, "few have no fields"


def test_what_would_be_attached() -> None:
    command = [*EBPF_TOOL, "tracepoint", "sched:sched_process_exec", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second, *_rest = done.stdout.splitlines()
    assert first == "Would attach to 1 tracepoint:"
    assert second.startswith("  sched:sched_process_exec(char[] filename, pid_t pid, pid_t old_pid")
