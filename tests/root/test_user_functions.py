"""uprobe and uretprobe: a program's known calls, by process and thread, with what they return."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import need
from .tool import ROOT, listening, rest

EBPF_TOOL = [sys.executable, str(ROOT / "bin" / "ebpf-tool")]

#: Runs its calls when a line comes, and again at the next.
SOURCE = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define KEEP __attribute__((noipa, used))
KEEP int depth_of(int n) { return n ? depth_of(n - 1) + 1 : 0; }
KEEP int fails(int n) { return n % 3 ? n : -1; }
KEEP long wide(long n) { return n - (1L << 40); }
KEEP const char *named(const char *name, int n) { return n ? name + 1 : NULL; }
static KEEP void hidden(int n) { __asm__ volatile("" :: "r"(n)); }
KEEP void naps(int milliseconds) { usleep(1000 * milliseconds); }
static void *calls(void *which)
{
    for (int i = 0; i < 10; i++)
        fails(100 * (int)(long)which + i);
    return 0;
}
int main(void)
{
    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        pthread_t threads[3];
        depth_of(4);
        for (long i = 1; i <= 3; i++)
            pthread_create(&threads[i - 1], 0, calls, (void *)i);
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], 0);
        wide(7);
        char first[] = "xyz", second[] = "nothing";  /* in pages that are there */
        named(first, 1);
        named(second, 0);
        for (int i = 0; i < 5; i++)
            hidden(i);
        naps(0);
        naps(30);
        if (!fork()) {
            calls((void *)9);
            _exit(0);
        }
        wait(0);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    path = tmp_path_factory.mktemp("calls") / "caller"
    command = [need("gcc"), "-O1", "-pthread", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, encoding="ascii", check=True)
    return path


Caller = subprocess.Popen[str]


@contextmanager
def running(*command: str) -> Iterator[Caller]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def caller(program: Path) -> Iterator[Caller]:
    """A process of the program, which has not called anything yet."""
    with running(str(program)) as process:
        yield process


def run_calls(process: Caller) -> None:
    """Lets it make its calls."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def trace(processes: list[Caller], *words: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events of a trace in which each of the processes makes its calls, and the summary."""
    command = [*EBPF_TOOL, *words, "--json"]
    tool, told = listening(command)
    for process in processes:
        run_calls(process)
    tool.send_signal(signal.SIGINT)
    out, err = rest(tool)
    assert tool.returncode == 0, told + err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["lost"] == 0
    return [line for line in lines if line["type"] == "event"], lines[-1]


def values(events: list[dict[str, Any]], name: str) -> list[Any]:
    return [event["args"][name] for event in events]


def test_each_call_of_each_thread_of_one_process(program: Path, caller: Caller) -> None:
    with running(str(program)) as other:
        events, _summary = trace(
            [other, caller], "uprobe", ":fails", "-p", str(caller.pid), "--arg=arg0:int"
        )
    expected = [100 * which + i for which in (1, 2, 3) for i in range(10)]
    assert sorted(values(events, "arg0")) == expected, "and neither its child's, nor another's"
    assert {event["pid"] for event in events} == {caller.pid}
    threads = {event["tid"]: [] for event in events}  # type: dict[int, list[int]]
    for event in events:
        threads[event["tid"]].append(event["args"]["arg0"])
    assert sorted(threads.values()) == [expected[i : i + 10] for i in (0, 10, 20)]
    assert caller.pid not in threads


def test_of_all_processes(program: Path, caller: Caller) -> None:
    with running(str(program)) as other:
        events, _summary = trace(
            [other, caller], "uprobe", f"{program}:fails", "--arg=arg0:int", "--comm=caller"
        )
    by_process = Counter(event["pid"] for event in events)
    assert sorted(by_process.values()) == [10, 10, 30, 30], "with a child each"
    assert by_process[caller.pid] == by_process[other.pid] == 30


def test_several_functions_by_pattern(program: Path, caller: Caller) -> None:
    events, _summary = trace(
        [caller], "uprobe", f"{program}:[dhw]*", ":naps", "-p", str(caller.pid), "--arg=arg0:int"
    )
    found: dict[str, list[int]] = {}
    for event in events:
        found.setdefault(event["function"].rpartition(":")[2], []).append(event["args"]["arg0"])
    assert found == {
        "depth_of": [4, 3, 2, 1, 0],
        "hidden": [0, 1, 2, 3, 4],
        "wide": [7],
        "naps": [0, 30],
    }


def test_each_return_has_its_own_call_under_recursion(caller: Caller) -> None:
    events, summary = trace(
        [caller],
        *("uretprobe", ":depth_of", "-p", str(caller.pid), "--ret=int", "--arg=arg0:int"),
    )
    assert values(events, "arg0") == [0, 1, 2, 3, 4], "the innermost returns first"
    assert values(events, "ret") == [0, 1, 2, 3, 4]
    took = [event["duration_ns"] for event in events]
    assert took == sorted(took), "each within the next"
    assert took[0] > 0
    assert (summary["in_flight"], summary["unmatched"]) == (0, 0)


#: deep(1) returns 100, and calls deep(0), which returns 7, 168 bytes below on the stack: so
#: many lie between a call and its return where some kernels return through kprobe.multi.
FRAMED = r"""
#include <stdio.h>
long deep(long n);
__asm__(".text\n.type deep, @function\ndeep: test %rdi, %rdi\njz 1f\ndec %rdi\n"
        "sub $160, %rsp\ncall deep\nadd $160, %rsp\nmov $100, %eax\nret\n"
        "1: mov $7, %eax\nret\n.size deep, . - deep\n");
int main(void)
{
    getchar();
    deep(1);
    puts("done");
    fflush(stdout);
    return getchar();
}
"""


def test_a_return_of_a_call_that_was_left_out_is_not_its_callers(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("its frame is of x86_64")
    command = [need("gcc"), "-x", "c", "-", "-o", str(tmp_path / "framed")]
    subprocess.run(command, input=FRAMED, encoding="ascii", check=True)
    with running(str(tmp_path / "framed")) as process:
        words = ("uretprobe", ":deep", "-p", str(process.pid), "--ret=int", "--arg=arg0:int")
        events, summary = trace([process], *words, "--filter=arg0 == 1")
    assert (values(events, "arg0"), values(events, "ret")) == ([1], [100])
    assert (summary["filtered"], summary["in_flight"], summary["unmatched"]) == (1, 0, 1)


#: try(1) never returns: it jumps out. try(0) returns 5, from the same place on the stack.
JUMPING = """
#include <setjmp.h>
#include <stdio.h>
static jmp_buf out;
__attribute__((noipa)) int try(int jump)
{
    if (jump)
        longjmp(out, 1);
    return 5;
}
int main(void)
{
    getchar();
    for (volatile int jump = 1; jump >= 0; jump--)
        if (!setjmp(out))
            try(jump);
    puts("done");
    fflush(stdout);
    return getchar();
}
"""


@pytest.mark.parametrize("sample", ["0", "1"])
def test_a_call_that_never_returned_is_not_met_at_anothers_return(
    tmp_path: Path, sample: str
) -> None:
    command = [need("gcc"), "-x", "c", "-", "-o", str(tmp_path / "jumping")]
    subprocess.run(command, input=JUMPING, encoding="ascii", check=True)
    with running(str(tmp_path / "jumping")) as process:
        words = ("uretprobe", ":try", "-p", str(process.pid), "--ret=int", "--arg=arg0:int")
        events, summary = trace([process], *words, f"--filter=arg0:int == {sample}")
    returned = [(0, 5)] if sample == "0" else []
    assert list(zip(values(events, "arg0"), values(events, "ret"))) == returned
    assert (summary["filtered"], summary["in_flight"]) == (1, 1 - len(returned))


def test_each_return_has_its_own_call_among_threads(caller: Caller) -> None:
    events, _summary = trace(
        [caller], "uretprobe", ":fails", "-p", str(caller.pid), "--ret=int", "--arg=arg0:int"
    )
    assert len(events) == 30
    for event in events:
        number = event["args"]["arg0"]
        assert event["args"]["ret"] == (number if number % 3 else -1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((":fails", "--failed"), {n for n in range(100, 310) if n % 100 < 10 and not n % 3}),
        ((":fails", "--filter=arg0 == 207"), {207}),
    ],
    ids=["failed", "filter"],
)
def test_which_returns(caller: Caller, words: tuple[str, ...], expected: set[int]) -> None:
    events, _summary = trace([caller], "uretprobe", *words, "-p", str(caller.pid), "--arg=arg0:int")
    assert len(events) == len(expected)
    assert set(values(events, "arg0")) == expected


def test_slow_returns(caller: Caller) -> None:
    """Of two calls one is slow by itself, and the other where the machine is busy."""
    words = ("uretprobe", ":naps", "--slower=20", "-p", str(caller.pid), "--arg=arg0:int")
    events, summary = trace([caller], *words)
    assert 30 in values(events, "arg0")
    assert all(event["duration_ns"] >= 20_000_000 for event in events)
    assert len(events) + summary["filtered"] == 2


def test_numbers_and_texts_that_are_returned(caller: Caller) -> None:
    pid = str(caller.pid)
    wide, _summary = trace([caller], "uretprobe", ":wide", "-p", pid)
    assert values(wide, "ret") == [7 - 2**40]
    named, _summary = trace(
        [caller], "uretprobe", ":named", "-p", pid, "--ret=str", "--arg=arg0:str"
    )
    assert values(named, "ret") == ["yz", None]
    assert values(named, "arg0") == ["xyz", "nothing"]


def test_a_program_that_only_the_process_can_see(program: Path) -> None:
    folder = program.parent / "mounted"
    folder.mkdir(exist_ok=True)
    inner = f"mount -t tmpfs none {folder} && cp {program} {folder}/inside && exec {folder}/inside"
    with running(need("unshare"), "--mount", "sh", "-c", inner) as process:
        wait_for(process, "inside")
        assert not (folder / "inside").exists()
        found = [
            values(trace([process], "uprobe", word, "-p", str(process.pid))[0], "arg0")
            for word in (f"{folder}/inside:wide", "inside:wide", ":wide")
        ]
    assert found == [[7], [7], [7]]


def test_a_program_that_was_deleted(program: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(program, copy)
    with running(str(copy)) as process:
        wait_for(process, "copy")
        copy.unlink()
        found = [
            values(trace([process], "uprobe", word, "-p", str(process.pid))[0], "arg0")
            for word in ("copy:wide", ":wide")
        ]
    assert found == [[7], [7]]


def wait_for(process: Caller, name: str) -> None:
    """Until the process runs the program of this name."""
    while Path(f"/proc/{process.pid}/exe").readlink().name != name:
        assert process.poll() is None


def test_what_would_be_attached(program: Path) -> None:
    done = subprocess.run(
        [*EBPF_TOOL, "uretprobe", f"{program}:wide", "--args", "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, *_rest = done.stdout.splitlines()
    assert first == "Would attach to 1 function by uretprobe:"
    assert second.startswith(f"  {program}:wide(long ret, void *arg0, ")
    assert f"uprobe at {program}+0x" in second
    assert f"Files that the probes keep open: {2 * 2}" in done.stdout


def test_a_process_that_is_not_there(program: Path) -> None:
    command = [*EBPF_TOOL, "uprobe", "libnothing:x", "-p", str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it does not use libnothing (ENOENT). It uses: " in done.stderr
    assert "Traceback" not in done.stderr
