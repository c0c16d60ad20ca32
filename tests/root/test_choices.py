"""Which calls ebpf-tool kprobe traces, and where its output goes: its probe moved to open64."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import lacking
from .tool import run

#: Opens /tmp/choice-NAME 20 times a second for each of its names, in threads that have them.
WORK = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
os.sched_setaffinity(0, {0})
def work(name):
    libc.prctl(15, name.encode())
    while True:
        libc.open64(b"/tmp/choice-" + name.encode(), 0)
        time.sleep(0.05)
names = sys.argv[1].split(",")
print(os.getpid(), flush=True)
threads = [threading.Thread(target=work, args=(name,)) for name in names]
for thread in threads:
    thread.start()
"""


class Work:
    """A process that opens files."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", WORK, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def end(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

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
    made.thread("other")
    yield made
    made.end()


def traced(*options: str) -> list[str]:
    """The names of the files that were opened, each once, by the tool's own account all of them."""
    done = run(*options, "-d", "0.4", "--arg", "arg0:str", "--fields", "arg0")
    assert done.returncode == 0, done.stderr
    assert "[ERROR]" not in done.stderr
    lines = done.stdout.splitlines()
    assert f" {len(lines)} delivered" in done.stderr
    return sorted({line.strip('"').replace("/tmp/choice-", "") for line in lines})


def test_processes(work: Work) -> None:
    other = Work("elsewhere")
    try:
        chosen = traced("-p", str(work.pid), "-p", str(other.pid))
        assert chosen == ["ch-one", "ch-two", "elsewhere", "other"]
        assert traced("-p", str(other.pid)) == ["elsewhere"]
    finally:
        other.end()


def test_threads(work: Work) -> None:
    one, two = (str(work.thread(name)) for name in ("ch-one", "other"))
    assert traced("--tid", one) == ["ch-one"]
    assert traced("--tid", one, "--tid", two) == ["ch-one", "other"]
    assert traced("--tid", one, "--comm", "other") == []


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
    assert traced("-p", str(work.pid), *words) == expected


def test_users() -> None:
    nobody = Work("as-1", "1")
    try:
        assert traced("--uid", "1") == ["as-1"]
        assert traced("--uid", "daemon") == ["as-1"]
        assert traced("--uid", "2", "-p", str(nobody.pid)) == []
    finally:
        nobody.end()


def test_cpus(work: Work) -> None:
    pid = str(work.pid)
    assert "ch-one" in traced("-p", pid, "--cpu", "0")
    assert traced("-p", pid, "--cpu", "1-3,5") == []
    never = run("-p", pid, "--cpu", "9999")
    assert never.returncode == 1
    assert "trace CPU 9999: this machine has CPUs 0" in never.stderr


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of version 2 within another one."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            inner = Path(line.split()[4]) / "ebpf-tool-test" / "inner"
            break
    else:
        lacking("cgroups of version 2 are not mounted")
    try:
        inner.mkdir(parents=True)
    except OSError as error:
        lacking(f"no cgroup can be made: {error}")
    yield inner
    for _ in range(100):
        with contextlib.suppress(OSError):  # what was in it ends
            inner.rmdir()
            inner.parent.rmdir()
            break
        time.sleep(0.02)


def test_a_cgroup_and_those_in_it(work: Work, cgroup: Path) -> None:
    inside = Work("inside")
    try:
        (cgroup / "cgroup.procs").write_text(str(inside.pid))
        assert traced("--cgroup", "/ebpf-tool-test") == ["inside"]
        assert traced("--cgroup", str(cgroup)) == ["inside"]
        done = run("--cgroup", "ebpf-tool-tset", "-d", "0.2")
        assert done.returncode == 1
        assert "[ERROR] find cgroup ebpf-tool-tset" in done.stderr
    finally:
        inside.end()


def test_a_filter_on_a_text_and_a_number(work: Work) -> None:
    pid = str(work.pid)
    texts = 'arg0:str == "/tmp/choice-ch-*"'
    assert traced("-p", pid, "--filter", texts) == ["ch-one", "ch-two"]
    assert traced("-p", pid, "--filter", f"not ({texts}) and arg1 == 0") == ["other"]
    assert traced("-p", pid, "--filter", "arg1 == 7") == []


def test_a_sample(work: Work) -> None:
    done = run("-p", str(work.pid), "--sample", "1/4", "-d", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.count("\n")
    assert 5 <= lines <= 70, "of about 120, one of 4 by chance"


def test_a_number_of_events(work: Work, tmp_path: Path) -> None:
    began = time.monotonic()
    done = run("-p", str(work.pid), "-n", "7", "-d", "30", "-o", str(tmp_path / "lines"))
    assert time.monotonic() - began < 25
    assert (done.returncode, done.stdout) == (0, "")
    assert len((tmp_path / "lines").read_text().splitlines()) == 7
    assert "[INFO] 7 events, 0 lost" in done.stderr


def test_a_recording_ends_with_the_last_of_them(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    done = run("-p", str(work.pid), "-n", "5", "--args", "--record", str(path))
    assert done.returncode == 0, done.stderr
    tool = Path(__file__).parent.parent.parent / "bin" / "ebpf-tool"
    again = subprocess.run(
        [sys.executable, tool, "replay", path], capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert again.stdout.count("\n") == 5
    assert again.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]


def test_objects_account_for_all(work: Work) -> None:
    done = run("-p", str(work.pid), "--json", "-d", "0.5")
    assert done.returncode == 0, done.stderr
    header, *events, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert header["type"] == "header"
    assert {event["type"] for event in events} == {"event"}
    assert {event["pid"] for event in events} == {work.pid}
    assert {event["cpu"] for event in events} == {0}
    assert summary["delivered"] == len(events) > 5
    assert summary["seen"] == summary["filtered"] + summary["delivered"]
    assert summary["lost"] == 0
    assert summary["adds_up"]


def test_errors_are_objects_too() -> None:
    done = run("--json", "-d", "0.2", "--object", "/nonexistent.bpf.o")
    assert done.returncode == 1
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["type"] == "error"
    assert "/nonexistent.bpf.o" in record["message"]


def test_strict(work: Work, tmp_path: Path) -> None:
    """With nothing lost it is 0; a reader that is stopped loses events."""
    assert run("-p", str(work.pid), "--strict", "-d", "0.3").returncode == 0
    code = "import os\nwhile 1:\n try: os.open('/nonexistent', 0)\n except OSError: pass\n"
    load = subprocess.Popen([sys.executable, "-c", code])
    try:
        options = ["-p", str(load.pid), "--buffer", "4K", "-d", "1", "--args", "--strict"]
        done = run(*options, "-o", str(tmp_path / "lines"))
    finally:
        load.kill()
        load.wait()
    assert done.returncode == 3, done.stderr
    assert "events were lost" in done.stderr
    assert "(CPU " in done.stderr


def test_wrong_filters_end_with_2_and_a_caret() -> None:
    done = run("--filter", "arg0 == arg9", "-d", "0.2")
    assert done.returncode == 2
    complaint, text, caret, _try = done.stderr.splitlines()
    assert complaint.startswith("ebpf-tool: --filter: ")
    assert text == "  arg0 == arg9"
    assert caret.index("^") == text.index("arg9")


def test_many_probes_in_one_trace(work: Work) -> None:
    done = run("read", "-p", str(os.getpid()), "--fields", "function,pid", "-d", "0.3")
    assert done.returncode == 0, done.stderr
    assert "[INFO] Attaching kprobe to 2 functions\n" in done.stderr
    assert "Kprobe attached to 2 functions by kprobe. Listening" in done.stderr
