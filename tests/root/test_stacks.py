"""Stacks of real calls by name: known frames in programs and in the kernel, also in containers."""

from __future__ import annotations

import os
import platform
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import KPROBE_OBJECT, BpfObject, Link, PerfBuffer
from libbpf_ctypes.cli.demangle import can_demangle
from libbpf_ctypes.cli.stacks import LiveStacks, function_of
from libbpf_ctypes.cli.user_symbols import UserSymbols
from libbpf_ctypes.events import CALL_EVENT_SCHEMA, CallEvent

from ..conftest import lacking, need
from .calls import EVERYTHING, pack
from .tool import await_listening

# inner is called by middle at three depths of its recursion, which outer began. It has no frame,
# as it calls nothing.
SOURCE = r"""
#include <unistd.h>
namespace work {
struct Queue {
	__attribute__((noinline)) int inner(int n) { return n + 1; }
	__attribute__((noinline)) int middle(int depth)
	{
		return (depth ? middle(depth - 1) : inner(depth)) + 1;
	}
	__attribute__((noinline)) int outer() { return middle(2) + 1; }
};
}
int main()
{
	char byte;
	work::Queue queue;
	while (read(0, &byte, 1) == 1) {
		queue.outer();
		if (write(1, &byte, 1) != 1)
			return 1;
	}
}
"""
FIRST = 2  # FUNCTION_FIRST of bpf/call_event.h
COMMAND = Path(__file__).parent.parent.parent / "bin" / "ebpf-tool"
INNER = "_ZN4work5Queue5innerEi"

# A process with code that no file has, and its name in /tmp, as a JIT would make it.
JITTED = """
import ctypes, mmap, os
page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
with open(f"/tmp/perf-{os.getpid()}.map", "w") as file:
    file.write(f"{address:x} 40 made_here\\n")
print(os.getpid(), address, flush=True)
input()
"""


class Stacked:
    """The rich program with stacks, and what it sent."""

    def __init__(self, obj: BpfObject, buffer: PerfBuffer[CallEvent]) -> None:
        self.programs = obj.programs
        self.told: list[str] = []
        self.stacks = LiveStacks(obj.maps["STACKS"], tell=self.told.append)
        self.buffer = buffer
        self._chosen: Any = obj.maps["CHOSEN"]

    def choose(self, pid: int) -> None:
        self._chosen[struct.pack("=II", 1, pid)] = b"\1"

    def event(self, link: Link, run: Any) -> CallEvent:
        """What a call sends."""
        with link:
            run()
        (event,) = self.buffer.poll(0)
        return event


@pytest.fixture
def stacked() -> Iterator[Stacked]:
    with loaded("call_kprobe") as found:
        yield found


@contextmanager
def loaded(program: str) -> Iterator[Stacked]:
    with BpfObject.open(KPROBE_OBJECT) as obj:
        for each in obj.programs.values():
            each.autoload = each.name == program
        obj.maps["STACKS"].max_entries = 16
        obj.maps["CHOSEN"].max_entries = 16
        for name in ("preemptible", "kernel_stacks", "user_stacks"):
            obj.variables[name].value = True
        obj.variables["chosen"].value = 1
        obj.load()
        obj.maps["FUNCTIONS"][bytes(4)] = struct.pack("=I", FIRST) + pack((), EVERYTHING, ())[4:]
        with PerfBuffer(obj.maps["EVENTS"], CALL_EVENT_SCHEMA) as buffer:
            found = Stacked(obj, buffer)
            yield found
            found.stacks.close()


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([*map(str, command)], stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def once(process: subprocess.Popen[str]) -> None:
    """Has the program call its functions once."""
    assert process.stdin is not None
    assert process.stdout is not None
    os.write(process.stdin.fileno(), b"x")
    assert os.read(process.stdout.fileno(), 1) == b"x"


@pytest.fixture(autouse=True)
def demangler() -> None:
    """The programs' names are those of C++."""
    if sys.version_info < (3, 11):
        pytest.skip("pycxxfilt is for Python 3.11 and later")
    if not can_demangle():
        lacking("needs pycxxfilt: pip install 'libbpf-ctypes[symbols]'")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stacks") / "worker"
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-inline"]
    command = [need("g++"), *flags, "-x", "c++", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, encoding="utf-8", check=True)
    return path


def test_the_frames_of_a_program(stacked: Stacked, program: Path) -> None:
    with running(program) as process:
        stacked.choose(process.pid)
        link = stacked.programs["call_kprobe"].attach_uprobe(program, INNER)
        event = stacked.event(link, lambda: once(process))
        frames = stacked.stacks.user(event.user_stack, event.pid)
    called = ("inner(int)", "middle(int)", "middle(int)", "middle(int)", "outer()")
    wanted = (*(f"work::Queue::{name}" for name in called), "main")
    assert tuple(map(function_of, frames[: len(wanted)])) == wanted
    assert frames[0] == "work::Queue::inner(int)+0x0 (worker)"
    assert not stacked.told


def test_the_frames_that_the_command_prints(program: Path) -> None:
    with running(program) as process:
        words = ["uprobe", f"{program}:{INNER}", "-u", "-n", "1", "-p", str(process.pid)]
        with running(sys.executable, COMMAND, *words, "--format", "folded", "-q") as tool:
            while tool.poll() is None:
                once(process)
            assert tool.stdout is not None
            folded = tool.stdout.read()
    frames, count = folded.rstrip().rsplit(" ", 1)
    called = ("outer()", "middle(int)", "middle(int)", "middle(int)", "inner(int)")
    wanted = ["main", *(f"work::Queue::{name}" for name in called)]
    assert frames.split(";")[0] == "worker"
    assert frames.split(";")[-len(wanted) :] == wanted
    assert count == "1"


@pytest.mark.parametrize("command", ["uprobe", "uretprobe"])
@pytest.mark.parametrize("name", ["late", "early"])
def test_each_call_of_a_recursion_is_a_frame(recursion: Path, command: str, name: str) -> None:
    """Whether or not the kernel finds the caller at the function's first instruction."""
    with running(recursion) as process:
        words = [command, f"{recursion}:{name}", "-u", "-n", "24", "-p", str(process.pid)]
        with running(sys.executable, COMMAND, *words, "--format", "folded", "-q") as tool:
            while tool.poll() is None:
                once(process)
                time.sleep(0.01)
            assert tool.stdout is not None
            lines = tool.stdout.read().splitlines()
    stacks = [line.rpartition(" ")[0].split(";") for line in lines]
    found = sorted(stack[stack.index("main") :] for stack in stacks)
    assert found == [["main", *[name] * depth] for depth in range(1, 7)]


@pytest.fixture(scope="module")
def recursion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two functions: one makes its frame when it calls, one as it begins."""
    source = r"""
#include <unistd.h>
__attribute__((noipa)) int late(int n)
{
	int inner;
	if (!n)
		return 0;
	inner = late(n - 1);
	__asm__ volatile("" ::: "memory");
	return inner + 1;
}
__attribute__((noipa, optimize("O0"))) int early(int n) { return n ? early(n - 1) + 1 : 0; }
int main(void)
{
	char byte;
	while (read(0, &byte, 1) == 1 && late(5) == 5 && early(5) == 5)
		if (write(1, &byte, 1) != 1)
			return 1;
}
"""
    path = tmp_path_factory.mktemp("recursion") / "recursion"
    command = [need("gcc"), "-O1", "-fno-omit-frame-pointer", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, encoding="ascii", check=True)
    return path


def test_a_stack_that_comes_again_has_the_same_key(stacked: Stacked, program: Path) -> None:
    with running(program) as process:
        stacked.choose(process.pid)
        keys = set()
        for _ in range(3):
            link = stacked.programs["call_kprobe"].attach_uprobe(program, INNER)
            keys.add(stacked.event(link, lambda: once(process)).user_stack)
    assert len(keys) == 1
    assert keys != {0}


def test_a_program_that_is_gone_when_its_stack_is_looked_at(
    stacked: Stacked, program: Path
) -> None:
    with running(program) as process:
        stacked.choose(process.pid)
        link = stacked.programs["call_kprobe"].attach_uprobe(program, INNER)
        event = stacked.event(link, lambda: once(process))
    frames = stacked.stacks.user(event.user_stack, event.pid)
    assert len(frames) >= 6
    assert all(int(frame, 16) for frame in frames)
    assert len(stacked.told) == 1
    assert f"process {event.pid}" in stacked.told[0]


def test_a_process_that_became_another_program(tracefs: Path) -> None:
    """Nothing is where its functions were."""
    with loaded("call_tracepoint") as stacked:
        script = f"import os; input(); os.execv({need('sleep')!r}, ['sleep', '60'])"
        with running(sys.executable, "-c", script) as process:
            stacked.choose(process.pid)
            link = stacked.programs["call_tracepoint"].attach_tracepoint(
                "syscalls", "sys_enter_execve"
            )
            event = stacked.event(link, lambda: becomes(process, "sleep"))
            frames = stacked.stacks.user(event.user_stack, event.pid)
    assert all(int(frame, 16) for frame in frames)
    assert "it runs another program now" in stacked.told[0]


#: Two programs of this have functions of other names at the same addresses.
FIXED = """
#include <unistd.h>
__attribute__((noipa)) int NAME(char **words) { return execv(words[1], words + 1); }
int main(int count, char **words)
{
	char byte;
	if (count > 1 && read(0, &byte, 1) == 1)
		return NAME(words);
	return pause();
}
"""


def test_a_process_that_became_another_program_at_the_same_addresses(tmp_path: Path) -> None:
    for name in ("first", "second"):
        command = [need("gcc"), "-no-pie", f"-DNAME={name}", "-x", "c", "-"]
        command += ["-o", str(tmp_path / name)]
        subprocess.run(command, input=FIXED, encoding="ascii", check=True)
    words = ("uprobe", f"{tmp_path / 'first'}:first", "-u", "-n", "1")
    pipe = subprocess.PIPE
    command = [sys.executable, str(COMMAND), *words]
    tool = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    try:
        await_listening(tool)
        with running(tmp_path / "first", tmp_path / "second") as process:
            tool.send_signal(signal.SIGSTOP)
            becomes(process, "second")
            tool.send_signal(signal.SIGCONT)
            out, told = tool.communicate(timeout=60)
    finally:
        tool.kill()
        tool.wait()
    _event, *frames = out.splitlines()
    assert frames
    assert all(int(frame, 16) for frame in frames)
    assert "it runs another program now" in told


def becomes(process: subprocess.Popen[str], name: str) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while Path(f"/proc/{process.pid}/comm").read_text().strip() != name:
        assert process.poll() is None


def test_the_frames_of_the_kernel(tracefs: Path) -> None:
    with loaded("call_tracepoint") as stacked:
        stacked.choose(os.getpid())
        link = stacked.programs["call_tracepoint"].attach_tracepoint(
            "syscalls", "sys_enter_getppid"
        )
        event = stacked.event(link, os.getppid)
        names = [function_of(frame) for frame in stacked.stacks.kernel(event.kernel_stack)]
        user = [function_of(frame) for frame in stacked.stacks.user(event.user_stack, event.pid)]
    if platform.machine() == "x86_64":
        assert names[-2:] == ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    assert not [name for name in names if name.startswith("[")]
    assert "getppid" in user[0]


def test_a_process_in_namespaces_of_its_own(program: Path, stacked: Stacked) -> None:
    """Its files are not where ours are, and it has another number."""
    # The program lies in /tmp as a rule: it is copied before that is covered.
    script = (
        f"exec 3< {program}; mount -t tmpfs none /tmp; cat <&3 > /tmp/inside; "
        "chmod +x /tmp/inside; exec 3<&-; /tmp/inside"
    )
    unshare = (need("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    with running(*unshare, "sh", "-c", script) as process:
        once(process)
        inside = pid_of("inside", process.pid)
        stacked.choose(inside)
        path = f"/proc/{inside}/root/tmp/inside"
        link = stacked.programs["call_kprobe"].attach_uprobe(path, INNER)
        event = stacked.event(link, lambda: once(process))
        assert event.host_pid == inside
        frames = stacked.stacks.user(event.user_stack, event.pid)
    assert frames[0] == "work::Queue::inner(int)+0x0 (inside)"


def test_the_perf_map_of_a_process_in_a_container() -> None:
    """By its own number, in its own /tmp."""
    unshare = (need("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    code = f"import os; os.system('mount -t tmpfs none /tmp')\n{JITTED}"
    with running(*unshare, sys.executable, "-c", code) as process:
        assert process.stdout is not None
        own, address = map(int, process.stdout.readline().split())
        assert own == 1
        symbols = UserSymbols()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert symbols.names(int(child), (address + 3,)) == ("made_here+0x3 (JIT)",)


def pid_of(name: str, ancestor: int) -> int:
    """The process of this name below another one."""
    below = [ancestor]
    while below:
        pid = below.pop()
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        below += map(int, children)
    raise AssertionError(f"no process {name}")
