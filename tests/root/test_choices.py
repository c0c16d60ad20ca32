"""Which calls ebpf-tool kprobe traces, and where its output goes: its probe moved to open64."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ..conftest import lacking
from .conftest import remove
from .tool import TOOL, Caller, Tool, listening, overrun, rest, run, start, trace

#: Opens /tmp/choice-NAME for each of its names, in threads that have them, as often as a line says.
WORK = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
os.sched_setaffinity(0, {0})
names = sys.argv[1].split(",")
together, times = threading.Barrier(len(names) + 1), 0
def work(name):
    libc.prctl(15, name.encode())
    while True:
        together.wait()
        together.wait()
        for _ in range(times):
            libc.open64(b"/tmp/choice-" + name.encode(), 0)
for name in names:
    threading.Thread(target=work, args=(name,)).start()
together.wait()
print(os.getpid(), flush=True)
for line in sys.stdin:
    times = int(line)
    together.wait()
    together.wait()
    print(flush=True)
"""


class Work:
    """A process that opens files."""

    def __init__(self, *arguments: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", WORK, *arguments]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def open(self, times: int) -> None:
        """Has each thread open so often; returns when they have."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(times, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "\n"

    def end(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.communicate()

    def thread(self, name: str) -> int:
        """The id of the thread of this name."""
        while True:
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                if (task / "comm").read_text().strip() == name:
                    return int(task.name)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def work() -> Iterator[Work]:
    made = Work("ch-one,ch-two,other")
    yield made
    made.end()


def while_they_open(works: Sequence[Work], times: int, *options: str) -> CompletedProcess[str]:
    """Runs the tool while each thread of these opens so often."""
    command = [*TOOL, "open64", *options]
    process, told = listening(command)
    for work in works:
        work.open(times)
    process.send_signal(signal.SIGINT)
    out, err = rest(process)
    return CompletedProcess(command, process.returncode, out, told + err)


def traced(works: Sequence[Work], *options: str) -> list[str]:
    """The names of the files that were opened, by the tool's own account all of them."""
    done = while_they_open(works, 5, *options, "--arg", "arg0:str", "--fields", "arg0")
    assert done.returncode == 0, done.stderr
    assert "[ERROR]" not in done.stderr
    lines = done.stdout.splitlines()
    assert f" {len(lines)} delivered" in done.stderr
    names = Counter(line.strip('"').replace("/tmp/choice-", "") for line in lines)
    assert set(names.values()) <= {5}
    return sorted(names)


def test_processes(work: Work) -> None:
    other = Work("elsewhere")
    try:
        both = (work, other)
        chosen = traced(both, "-p", str(work.pid), "-p", str(other.pid))
        assert chosen == ["ch-one", "ch-two", "elsewhere", "other"]
        assert traced(both, "-p", str(other.pid)) == ["elsewhere"]
    finally:
        other.end()


def test_threads(work: Work) -> None:
    one, two = (str(work.thread(name)) for name in ("ch-one", "other"))
    assert traced([work], "--tid", one) == ["ch-one"]
    assert traced([work], "--tid", one, "--tid", two) == ["ch-one", "other"]
    assert traced([work], "--tid", one, "--comm", "other") == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ch-one"], ["ch-one"]),
        (["ch-*"], ["ch-one", "ch-two"]),
        (["*t??r", "ch-two"], ["ch-two", "other"]),
        (["[d-o]th[!a]r"], ["other"]),
        (["ch-on", "h-one", "?"], []),
    ],
)
def test_names_of_processes(work: Work, names: list[str], expected: list[str]) -> None:
    words = [word for name in names for word in ("--comm", name)]
    assert traced([work], "-p", str(work.pid), *words) == expected


def test_users(work: Work) -> None:
    nobody = Work("as-1", "1")
    try:
        both = (work, nobody)
        ours = ("-p", str(work.pid), "-p", str(nobody.pid))  # others may have users of theirs
        assert traced(both, *ours, "--uid", "1") == ["as-1"]
        assert traced(both, *ours, "--uid", "daemon") == ["as-1"]
        assert traced(both, *ours, "--uid", "2") == []
    finally:
        nobody.end()


def test_cpus(work: Work) -> None:
    pid = str(work.pid)
    assert "ch-one" in traced([work], "-p", pid, "--cpu", "0")
    assert traced([work], "-p", pid, "--cpu", "1-3,5") == []
    never = run("-p", pid, "--cpu", "9999")
    assert never.returncode == 1
    assert "trace CPU 9999: this machine has CPUs 0" in never.stderr


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of version 2 within another one."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            inner = Path(line.split()[4]) / f"ebpf-tool-{os.getpid()}" / "inner"
            break
    else:
        lacking("cgroups of version 2 are not mounted")
    try:
        inner.mkdir(parents=True)
    except OSError as error:
        lacking(f"no cgroup can be made: {error}")
    yield inner
    remove(inner, inner.parent)


def test_a_cgroup_and_those_in_it(work: Work, cgroup: Path) -> None:
    inside = Work("inside")
    try:
        (cgroup / "cgroup.procs").write_text(str(inside.pid))
        both = (work, inside)
        assert traced(both, "--cgroup", f"/{cgroup.parent.name}") == ["inside"]
        assert traced(both, "--cgroup", str(cgroup)) == ["inside"]
        done = run("--cgroup", "ebpf-tool-tset", "-d", "0.2")
        assert done.returncode == 1
        assert "[ERROR] find cgroup ebpf-tool-tset" in done.stderr
    finally:
        inside.end()


def test_a_filter_on_a_text_and_a_number(work: Work) -> None:
    pid = str(work.pid)
    texts = 'arg0:str == "/tmp/choice-ch-*"'
    assert traced([work], "-p", pid, "--filter", texts) == ["ch-one", "ch-two"]
    assert traced([work], "-p", pid, "--filter", f"not ({texts}) and arg1 == 0") == ["other"]
    assert traced([work], "-p", pid, "--filter", "arg1 == 7") == []


def test_a_sample(work: Work) -> None:
    done = while_they_open([work], 40, "-p", str(work.pid), "--sample", "1/4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.count("\n")
    assert 5 <= lines <= 70, "of 120, one of 4 by chance"


def test_a_number_of_events(slow_load: Tool, tmp_path: Path) -> None:
    done = run("-p", str(slow_load.pid), "-n", "7", "-o", str(tmp_path / "lines"))
    assert (done.returncode, done.stdout) == (0, "")
    assert len((tmp_path / "lines").read_text().splitlines()) == 7
    assert "[INFO] 7 events, 0 lost" in done.stderr


def test_a_recording_ends_with_the_last_of_them(slow_load: Tool, tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    done = run("-p", str(slow_load.pid), "-n", "5", "--args", "--record", str(path))
    assert done.returncode == 0, done.stderr
    tool = Path(__file__).parent.parent.parent / "bin" / "ebpf-tool"
    again = subprocess.run(
        [sys.executable, tool, "replay", path], capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert again.stdout.count("\n") == 5
    assert again.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]


def test_objects_account_for_all(work: Work) -> None:
    done = while_they_open([work], 5, "-p", str(work.pid), "--json")
    assert done.returncode == 0, done.stderr
    header, *events, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert header["type"] == "header"
    assert {event["type"] for event in events} == {"event"}
    assert {event["pid"] for event in events} == {work.pid}
    assert {event["cpu"] for event in events} == {0}
    assert summary["delivered"] == len(events) == 15
    assert summary["seen"] == summary["filtered"] + summary["delivered"]
    assert summary["lost"] == 0
    assert summary["adds_up"]


def test_errors_are_objects_too() -> None:
    done = run("--json", "-d", "0.2", "--object", "/nonexistent.bpf.o")
    assert done.returncode == 1
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["type"] == "error"
    assert "/nonexistent.bpf.o" in record["message"]


def test_strict(caller: Caller, tmp_path: Path) -> None:
    """With nothing lost it is 0; a reader that is stopped loses events."""
    assert trace(caller, 20, "--strict").returncode == 0
    out = tmp_path / "lines"
    options = ["-p", str(caller.pid), "--buffer", "4K", "--args", "--strict", "-o", str(out)]
    process = start(*options)
    err = overrun(process, caller, 1000, out)
    assert process.returncode == 3, err
    assert "events were lost" in err
    assert "(CPU " in err


def test_wrong_filters_end_with_2_and_a_caret() -> None:
    done = run("--filter", "arg0 == arg9", "-d", "0.2")
    assert done.returncode == 2
    complaint, text, caret, _try = done.stderr.splitlines()
    assert complaint.startswith("ebpf-tool: --filter: ")
    assert text == "  arg0 == arg9"
    assert caret.index("^") == text.index("arg9")


def test_many_probes_in_one_trace() -> None:
    done = run("read", "-p", str(os.getpid()), "--fields", "function,pid", "-d", "0.3")
    assert done.returncode == 0, done.stderr
    assert "[INFO] Attaching kprobe to 2 functions\n" in done.stderr
    assert "Kprobe attached to 2 functions by kprobe. Listening" in done.stderr
