"""latency and count of a program that knows itself what it called and how long it took."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from libbpf_ctypes.cli.histogram import read_scale

from ..conftest import lacking, need
from .tool import PATIENCE, ROOT, listening, rest, wait_until

#: Does what its lines of input say, each by a thread, and tells of each call of nap() between
#: which two times it took, as it was measured inside and outside of it.
PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FUNCTION __attribute__((noinline, noclone, used))

static long now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000L + at.tv_nsec;
}

FUNCTION int work(long number, const char *text)
{
	__asm__ volatile("" : : "r"(number), "r"(text) : "memory");
	return 0;
}

FUNCTION int between(long number, const char *text)
{
	return work(number, text) + 1;
}

FUNCTION int left(long number, const char *text)
{
	return between(number, text) + 1;
}

FUNCTION int right(long number, const char *text)
{
	return between(number, text) + 2;
}

/* Sleeps, at each of its levels; returns the time inside. */
FUNCTION long nap(long microseconds, int levels)
{
	long start = now(), before;

	usleep(microseconds);
	if (levels > 1) {
		long inside;

		before = now();
		inside = nap(microseconds, levels - 1);
		printf("nap %ld %ld\n", inside, now() - before);
	}
	return now() - start;
}

static void *act(void *line)
{
	char what[16], name[16], text[64] = "";
	long number = 0, times = 1;

	sscanf(line, "%15s %15s %ld %ld %63s", what, name, &times, &number, text);
	pthread_setname_np(pthread_self(), name);
	for (long i = 0; i < times; i++) {
		if (!strcmp(what, "left"))
			left(number, text);
		else if (!strcmp(what, "right"))
			right(number, text);
		else if (!strcmp(what, "each"))
			left(i, text);
		else {
			long before = now(), inside = nap(number, text[0] ? atoi(text) : 1);

			printf("nap %ld %ld\n", inside, now() - before);
		}
	}
	free(line);
	return NULL;
}

int main(void)
{
	pthread_t threads[64];
	char line[256];
	int count = 0;

	setvbuf(stdout, NULL, _IOLBF, 1 << 16);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "join\n")) {
			while (count)
				pthread_join(threads[--count], NULL);
			puts("done");
		} else {
			pthread_create(&threads[count++], NULL, act, strdup(line));
		}
	}
	_exit(0);
}
"""

Record = dict[str, Any]


class Nap(NamedTuple):
    """A call of nap(): it took so many nanoseconds at least and at most."""

    least: int
    most: int


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sums") / "program"
    command = [need("cc"), "-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    command += ["-x", "c", "-", "-o", str(path), "-pthread"]
    subprocess.run(command, input=PROGRAM, encoding="utf-8", check=True)
    return path


class Program:
    """The program, running."""

    def __init__(self, path: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([path], text=True, bufsize=1, **pipes)  # type: ignore[call-overload]
        assert self._line() == "ready"

    def _line(self) -> str:
        return str(self.process.stdout.readline()).strip()

    def begin(self, *lines: str) -> None:
        """Starts a thread for each line: what, its name, how often, a number, a text."""
        self.process.stdin.write("".join(f"{line}\n" for line in lines))

    def do(self, *lines: str) -> list[Nap]:
        """The same; waits for their end, and returns the calls of nap() that are over."""
        self.begin(*lines, "join")
        naps = []
        while (line := self._line()) != "done":
            naps.append(Nap(*map(int, line.split()[1:])))
        return naps

    def await_nap(self, name: str) -> None:
        """Waits until the thread of this name sleeps."""

        def sleeps() -> bool:
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                with contextlib.suppress(OSError):  # it has ended
                    if (task / "comm").read_text() == f"{name}\n":
                        return "nanosleep" in (task / "wchan").read_text()
            return False

        wait_until(sleeps)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def running(program: Path) -> Iterator[Program]:
    made = Program(program)
    yield made
    made.end()


class Tool:
    """ebpf-tool, which has begun to look at the running program."""

    def __init__(self, running: Program, *words: str) -> None:
        command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), *words]
        command += ["-p", str(running.process.pid)]
        self.process, _told = listening(command)
        self._read = ""

    def await_line(self, text: str) -> None:
        """Waits until it has printed a line with this text, after those that were waited for."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._read += line
            if text in line:
                return
        raise AssertionError(f"no {text} in {self._read}")

    def end(self, status: int = 0) -> str:
        """Ctrl-C, and all that it printed."""
        self.process.send_signal(signal.SIGINT)
        out, err = rest(self.process)
        assert self.process.returncode == status, err
        self.said = err
        return self._read + out

    def records(self, status: int = 0) -> list[Record]:
        """The same, of --json: of each type it is checked that they go together."""
        found = [json.loads(line) for line in self.end(status).splitlines()]
        assert found[0]["type"] == "header"
        total = found[-1]
        assert total["adds_up"]
        intervals = [record for record in found if record["type"] == "interval"]
        assert total["counted"] == sum(record["calls"] for record in intervals)
        return found[1:]


def groups(records: list[Record], kind: str = "count") -> list[Record]:
    return [record for record in records if record["type"] == kind]


def calls_by(records: list[Record], *names: str) -> dict[Any, int]:
    """Calls by what their groups have in common."""
    found: Counter[Any] = Counter()
    for record in groups(records):
        key = tuple(record["by"][name] for name in names)
        found[key if len(key) > 1 else key[0]] += record["calls"]
    return dict(found)


def of(path: Path, *functions: str) -> list[str]:
    return [f"uprobe:{path}:{function}" for function in functions]


# --- count


def test_calls_are_counted_by_thread_and_function(running: Program, program: Path) -> None:
    tool = Tool(running, "count", *of(program, "left", "work"), "--by", "comm,function", "--json")
    running.do("left a 100", "left b 200", "right c 700")
    records = tool.records()
    found = {
        (comm, function.rpartition(":")[2]): calls
        for (comm, function), calls in calls_by(records, "comm", "function").items()
    }
    assert found == {
        ("a", "left"): 100, ("a", "work"): 100, ("b", "left"): 200, ("b", "work"): 200,
        ("c", "work"): 700,
    }  # fmt: skip
    assert records[-1]["counted"] == 1300
    assert [record["calls"] for record in groups(records)] == [700, 200, 200, 100, 100]


def test_threads_on_all_cpus_lose_no_count(running: Program, program: Path) -> None:
    tool = Tool(running, "count", *of(program, "work"), "--json")
    running.do(*(f"left t{number} 5000" for number in range(8)))
    records = tool.records()
    assert [record["calls"] for record in groups(records)] == [40_000]


@pytest.mark.parametrize(("argument", "what"), [("arg0", "number"), ("arg1:str", "text")])
def test_calls_are_counted_by_an_argument(
    running: Program, program: Path, argument: str, what: str
) -> None:
    words = ("count", *of(program, "work"), "--by", f"comm,{argument}", "--json", "--top", "3")
    tool = Tool(running, *words)
    running.do("left a 3 7 seven", "left a 4 7 seven", "left a 9 8 eight", "left b 5 7 seven")
    running.do("left c 1 1 one")
    records = tool.records()
    values: tuple[Any, ...] = ("seven", "eight")
    if what == "number":  # without types it is a pointer
        values = ("0x7", "0x8")
    found = calls_by(records, "comm", argument.partition(":")[0])
    assert found == {("a", values[0]): 7, ("a", values[1]): 9, ("b", values[0]): 5}
    (interval,) = (record for record in records if record["type"] == "interval")
    assert (interval["groups"], interval["calls"]) == (4, 22)
    assert (interval["groups_left_out"], interval["calls_left_out"]) == (1, 1)


def test_calls_are_counted_by_the_stack_that_they_come_from(
    running: Program, program: Path
) -> None:
    tool = Tool(running, "count", *of(program, "work"), "--by", "user-stack", "--json")
    running.do("left a 30", "right a 20", "left b 10")
    found: Counter[str] = Counter()
    for record in groups(tool.records()):
        frames = [frame.partition("+")[0] for frame in record["by"]["user_stack"]]
        assert frames[0] == "work"
        # A function's first instruction has not yet kept its caller's frame: an older kernel
        # leaves the caller out.
        assert frames[1:3] in (["between", frames[2]], [frames[1], "act"])
        (side,) = {"left", "right"} & set(frames[1:3])
        found[side] += record["calls"]
    assert found == {"left": 40, "right": 20}


def test_stacks_are_folded(running: Program, program: Path) -> None:
    tool = Tool(running, "count", *of(program, "work"), "--format", "folded")
    running.do("left a;b 30", "right a;b 20")
    lines = [line.rpartition(" ") for line in tool.end().splitlines()]
    assert {line[0].partition(";")[0] for line in lines} == {"a:b"}
    assert {line[0].rpartition(";")[2] for line in lines} == {"work"}
    by_side = {
        side: int(calls)
        for stack, _, calls in lines
        for side in ("left", "right")
        if f";{side};" in stack
    }
    assert by_side == {"left": 30, "right": 20}


def test_what_finds_no_room_is_told(running: Program, program: Path) -> None:
    words = ("count", *of(program, "work"), "--by", "arg0", "--json", "--top", "9", "--strict")
    tool = Tool(running, *words)
    running.do("each a 70000")
    records = tool.records(status=3)
    total = records[-1]
    assert total["no_room"] > 0
    assert total["counted"] + total["no_room"] == 70_000 == total["seen"] - total["filtered"]
    assert "there is room for" in tool.said


# --- latency


def naps_of(records: list[Record]) -> list[Record]:
    found = groups(records, "latency")
    for record in found:
        assert sum(bucket["calls"] for bucket in record["buckets"]) == record["calls"]
    return found


def fits(record: Record, naps: list[Nap]) -> None:
    """Asserts that a histogram is one of these calls."""
    assert record["calls"] == len(naps)
    assert sum(nap.least for nap in naps) <= record["total_ns"] <= sum(nap.most for nap in naps)
    assert max(nap.least for nap in naps) <= record["max_ns"] <= max(nap.most for nap in naps)
    below = 0
    for bucket in record["buckets"]:
        assert sum(nap.most < bucket["from_ns"] for nap in naps) <= below
        assert sum(nap.least < bucket["from_ns"] for nap in naps) >= below
        below += bucket["calls"]


def test_times_are_those_that_the_program_measured(running: Program, program: Path) -> None:
    tool = Tool(running, "latency", *of(program, "nap"), "--by", "comm", "--json")
    naps = {"quick": running.do("nap quick 40 100"), "slow": running.do("nap slow 4 20000")}
    records = tool.records()
    found = {record["by"]["comm"]: record for record in naps_of(records)}
    assert set(found) == set(naps)
    for comm, record in found.items():
        fits(record, naps[comm])
    assert (records[-1]["not_returned"], records[-1]["unmatched"]) == (0, 0)


def test_steps_are_those_that_were_asked_for(running: Program, program: Path) -> None:
    words = ("latency", *of(program, "nap"), "--linear", "1ms:6ms:500us", "--json")
    tool = Tool(running, *words)
    naps = running.do("nap a 5 100", "nap b 5 2000", "nap c 2 20000")
    (record,) = naps_of(tool.records())
    fits(record, naps)
    scale = read_scale("1ms:6ms:500us")
    bounds = [scale.bounds(slot) for slot in range(12)]
    assert [(each["from_ns"], each["to_ns"]) for each in record["buckets"]] == bounds


def test_each_level_of_a_recursion_is_a_call_in_each_thread(
    running: Program, program: Path
) -> None:
    tool = Tool(running, "latency", *of(program, "nap"), "--by", "tid", "--json")
    naps = running.do(*(f"nap t{number} 3 1000 6" for number in range(4)))
    assert len(naps) == 4 * 3 * 6
    records = naps_of(tool.records())
    assert [record["calls"] for record in records] == [18] * 4
    total = sum(record["total_ns"] for record in records)
    assert sum(nap.least for nap in naps) <= total <= sum(nap.most for nap in naps)


def test_calls_in_flight_at_the_start_and_at_the_end_are_told(
    running: Program, program: Path
) -> None:
    running.begin("nap before 1 4000000")
    running.await_nap("before")
    tool = Tool(running, "latency", *of(program, "nap"), "--by", "comm", "--json")
    naps = running.do("nap during 1 1000")  # waits for the one before, too
    running.begin("nap after 1 600000000")
    running.await_nap("after")
    records = tool.records()
    (record,) = naps_of(records)
    assert record["by"] == {"comm": "during"}
    fits(record, [min(naps)])
    assert records[-1]["not_returned"] == 1
    assert "1 not returned" in tool.said


def test_intervals_are_parts_of_the_whole(running: Program, program: Path) -> None:
    tool = Tool(running, "latency", *of(program, "nap"), "-i", "0.3", "--json")
    naps = []
    for _ in range(3):
        naps += running.do("nap a 5 50000")
        tool.await_line('"type":"interval"')
    records = tool.records()
    intervals = [record for record in records if record["type"] == "interval"]
    assert len(intervals) >= 3
    assert [record["interval"] for record in intervals] == list(range(1, len(intervals) + 1))
    for one, following in zip(intervals, intervals[1:]):
        assert one["end_ns"] == following["start_ns"]
    parts = naps_of(records)
    assert sum(record["calls"] for record in parts) == len(naps)
    total = sum(record["total_ns"] for record in parts)
    assert sum(nap.least for nap in naps) <= total <= sum(nap.most for nap in naps)


def test_a_picture_that_finds_no_room_costs_nothing_else(
    running: Program, program: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        lacking("needs matplotlib: pip install 'libbpf-ctypes[plot]'")
    full = tmp_path / "full.svg"
    full.symlink_to("/dev/full")
    tool = Tool(running, "latency", *of(program, "nap"), "--plot", str(full))
    running.do("nap a 1 1000")
    assert ":nap: 1 call, " in tool.end(status=1)
    assert "1 counted in 1 group" in tool.said
    assert f"write to {full}: No space left" in tool.said


def test_nobody_called_it(running: Program, program: Path) -> None:
    tool = Tool(running, "latency", *of(program, "nap"))
    assert tool.end() == ""
    assert "nap was not called" in tool.said


def test_a_reader_that_leaves_ends_it(running: Program, program: Path) -> None:
    tool = Tool(running, "count", *of(program, "work"), "-i", "0.1", "--by", "comm")
    running.do("left a 10")
    tool.await_line("\ta\n")
    assert tool.process.stdout is not None
    tool.process.stdout.close()
    assert tool.process.wait(PATIENCE) == 0


# --- tracepoints


def test_tracepoints_are_counted_by_their_fields(
    running: Program, tracefs: Path, program: Path
) -> None:
    point = "tracepoint:syscalls:sys_enter_clock_nanosleep"
    tool = Tool(running, "count", point, "--by", "comm,which_clock", "--json")
    running.do("nap a 5 1000", "nap b 3 1000")
    assert calls_by(tool.records(), "comm") == {"a": 5, "b": 3}
