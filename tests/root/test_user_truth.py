"""Known calls of a library's functions and of the kernel, told by uprobe and tracepoint.

All observers run at the same time: ebpf-tool with each command line, bpftrace and funclatency.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple

import pytest

from ..conftest import Compile, need
from .known_calls import DEPTH, NAPS, NOBODY, SOURCE, THREADS

ROOT = Path(__file__).parent.parent.parent
CALLS = Path(__file__).with_name("known_calls.py")
PATIENCE = 300  # seconds; they are many, and begin at the same time

COMMANDS = {
    "returns": "uretprobe {lib}:nap {lib}:recurse {lib}:outer --args --json",
    "fail": "uretprobe {lib}:fail --json",
    "failed": "uretprobe {lib}:fail --failed --json",
    "slower": "uretprobe {lib}:nap --slower 2.5 --json",
    "hang": "uretprobe {lib}:hang --json",
    "stacks": "uprobe {lib}:inner -u --json",
    "folded": "uprobe {lib}:inner -u --format folded",
    "enter": "tracepoint syscalls:sys_enter_getpgid --args --comm kc-* --json",
    "exit": "tracepoint syscalls:sys_exit_getpgid --comm kc-* --json",
    "latency": "latency uprobe:{lib}:nap --json",
    "by_comm": "latency uprobe:{lib}:nap --by comm --json",
    "linear": "latency uprobe:{lib}:nap --linear 0:20ms:2ms --json",
    "recursive": "latency uprobe:{lib}:recurse --json",
    "count": "count uprobe:{lib}:nap uprobe:{lib}:fail --by function,comm --json",
    "count_stacks": "count uprobe:{lib}:inner --by stack --json",
    "count_enter": "count tracepoint:syscalls:sys_enter_getpgid --by comm,pid --json",
    "count_exit": "count tracepoint:syscalls:sys_exit_getpgid --filter ret<0 --by ret --json",
}
BPFTRACE = """
uprobe:LIB:nap { @began[tid] = nsecs; @us[tid] = arg0; }
uretprobe:LIB:nap /@began[tid]/ {
    if (pid == PID) { @ns = hist(nsecs - @began[tid]); } else { printf("ready"); }
    delete(@began[tid]); delete(@us[tid]);
}
"""


class Answer(NamedTuple):
    """What an observer printed."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The objects of --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Those of one type."""
        assert self.status == 0, self.err
        return [record for record in self.records if record["type"] == kind]


class Truth(NamedTuple):
    """The calls that were made, and what was told of them."""

    pid: int
    made: list[dict[str, Any]]
    told: dict[str, Answer]

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The calls of a function."""
        return [call for call in self.made if call["call"] == name]


class Observer:
    """A program that runs and prints to files."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._files: list[IO[bytes]] = [
            tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            for _ in range(2)
        ]
        self._process = subprocess.Popen(command, stdout=self._files[0], stderr=self._files[1])

    def read(self) -> list[str]:
        """What it printed so far."""
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        told = [os.pread(file.fileno(), size, 0) for file, size in zip(self._files, sizes)]
        return [text.decode() for text in told]

    def wait_for(self, text: str, meanwhile: Callable[[], object] = bool) -> None:
        """Waits until it printed this; without it the tests see what is missing."""
        end = time.monotonic() + PATIENCE
        while text not in "".join(self.read()) and time.monotonic() < end:
            if self._process.poll() is not None:
                break
            meanwhile()
            time.sleep(0.02)

    def end(self) -> Answer:
        """Ends it as Ctrl-C does."""
        self._process.send_signal(2)
        status = self._process.wait(PATIENCE)
        out, err = self.read()
        for file in self._files:
            file.close()
        return Answer(status, out, err)


@pytest.fixture(scope="module")
def truth(
    tracefs: Path, compile_library: Compile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Truth]:
    """All of it, played once."""
    bpftrace, stdbuf = need("bpftrace"), need("stdbuf")
    library = compile_library(SOURCE, "libknown.so")
    folder = tmp_path_factory.mktemp("truth")
    target = subprocess.Popen(
        [sys.executable, str(CALLS), str(library)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert target.stdin is not None
    assert target.stdout is not None
    with target:
        pid = json.loads(target.stdout.readline())["pid"]
        script = BPFTRACE.replace("LIB", str(library)).replace("PID", str(pid))
        peers = {
            "bpftrace": Observer([bpftrace, "-B", "none", "-f", "json", "-e", script], folder),
            "funclatency": Observer(  # it finds libknown.so in the process
                [stdbuf, "-oL", need("funclatency"), "-p", str(pid), "known:nap"], folder
            ),
        }
        tool = [sys.executable, str(ROOT / "bin" / "ebpf-tool")]
        ours = {
            name: Observer([*tool, *line.format(lib=library).split(), "-p", str(pid)], folder)
            for name, line in COMMANDS.items()
        }
        for observer in ours.values():
            observer.wait_for("Listening")
        peers["funclatency"].wait_for("Tracing")
        peers["bpftrace"].wait_for("ready", lambda: ctypes.CDLL(str(library)).nap(1))
        print(file=target.stdin, flush=True)
        made = json.loads(target.stdout.readline())
        told = {name: observer.end() for name, observer in {**ours, **peers}.items()}
        print(file=target.stdin, flush=True)
        yield Truth(pid, made, told)


def test_returns_have_what_was_called_and_what_came_back(truth: Truth) -> None:
    events = truth.told["returns"].of("event")
    for name in ("nap", "outer"):
        made = truth.calls(name)
        told = [event for event in events if event["function"].endswith(f":{name}")]
        assert len(told) == len(made)
        for call in made:
            (event,) = (each for each in told if is_of(each, call))
            assert (event["args"]["ret"], number(event)) == (call["result"], call["argument"])
            assert event["comm"] == call["comm"]
            assert call["argument"] * 1000 * (name == "nap") <= event["duration_ns"]


def is_of(event: dict[str, Any], call: dict[str, Any]) -> bool:
    """Whether the event is of this call: of its thread, and within its time."""
    end = event["timestamp_ns"]
    began = end - event["duration_ns"]
    within: bool = call["before"] <= began <= end <= call["after"]
    return within and event["host_tid"] == call["tid"]


def number(event: dict[str, Any]) -> int:
    """The first argument: without types it is printed as an address."""
    return int(event["args"]["arg0"], 16)


def test_recursion_each_call_with_its_own_return(truth: Truth) -> None:
    events = [e for e in truth.told["returns"].of("event") if e["function"].endswith("recurse")]
    assert len(events) == len(THREADS) * (DEPTH + 1)
    for call in truth.calls("recurse"):
        mine = [event for event in events if is_of(event, call)]
        # The innermost returns first, and each lies within the one that called it.
        assert [number(event) for event in mine] == list(range(DEPTH + 1))
        assert [event["args"]["ret"] for event in mine] == [2 * n + 1 for n in range(DEPTH + 1)]
        begins = [event["timestamp_ns"] - event["duration_ns"] for event in mine]
        assert begins == sorted(begins, reverse=True)
        assert all(event["duration_ns"] > 50_000 * n for n, event in enumerate(mine, 1))


def test_what_failed(truth: Truth) -> None:
    made = truth.calls("fail")
    told = Counter(event["host_tid"] for event in truth.told["fail"].of("event"))
    assert told == Counter(call["tid"] for call in made)
    failed = Counter(event["host_tid"] for event in truth.told["failed"].of("event"))
    assert failed == Counter(call["tid"] for call in made if call["result"] == -1)
    (summary,) = truth.told["failed"].of("summary")
    assert (summary["delivered"], summary["filtered"]) == (9, 6)


def test_what_was_slow(truth: Truth) -> None:
    told = truth.told["slower"].of("event")
    assert all(event["duration_ns"] >= 2_500_000 for event in told)
    for call in truth.calls("nap"):
        found = [event for event in told if is_of(event, call)]
        if call["argument"] >= 2500:
            assert len(found) == 1
        elif call["after"] - call["before"] < 2_500_000:
            assert found == []


def test_calls_in_flight_at_the_start_and_at_the_end(truth: Truth) -> None:
    """One returned in the trace and had begun before; one began in it and did not return.

    The kernel does not run a probe of the return of what began before the probe was there.
    """
    assert truth.told["hang"].of("event") == []
    (summary,) = truth.told["hang"].of("summary")
    assert (summary["seen"], summary["in_flight"], summary["delivered"]) == (1, 1, 0)
    assert summary["adds_up"] is True


def test_stacks_have_the_known_frames(truth: Truth) -> None:
    events = truth.told["stacks"].of("event")
    assert len(events) == len(THREADS)
    for event in events:
        names = [re.sub(r"\+0x[0-9a-f]+ .*", "", frame) for frame in event["user_stack"]]
        assert names[:3] == ["inner", "middle", "outer"]
        assert all("(libknown.so)" in frame for frame in event["user_stack"][:3])
        assert event["user_stack"][0].startswith("inner+0x0 ")
    lines = truth.told["folded"].out.splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == len(THREADS)
    assert all(re.search(r";outer;middle;inner \d+$", line) for line in lines), lines
    assert {line.partition(";")[0] for line in lines} == set(THREADS)
    groups = truth.told["count_stacks"].of("count")
    assert sum(group["calls"] for group in groups) == len(THREADS)
    for group in groups:
        stack = group["by"]["user_stack"]
        assert [re.split(r"[+ ]", frame)[0] for frame in stack[:3]] == ["inner", "middle", "outer"]


def test_a_tracepoint_tells_its_fields(truth: Truth) -> None:
    events = truth.told["enter"].of("event")
    told = Counter((event["comm"], event["args"]["pid"]) for event in events)
    assert told == Counter((comm, pid) for comm in THREADS for pid in (1, truth.pid, NOBODY))
    groups = truth.told["count_enter"].of("count")
    counts = {(group["by"]["comm"], group["by"]["pid"]): group["calls"] for group in groups}
    assert counts == {(comm, truth.pid): 3 for comm in THREADS}


def test_a_tracepoint_names_an_error(truth: Truth) -> None:
    events = truth.told["exit"].of("event")
    assert len(events) == 3 * len(THREADS)
    failed = [event for event in events if event["args"]["ret"] < 0]
    assert {event["words"]["ret"] for event in failed} == {"-ESRCH"}
    assert Counter(event["comm"] for event in failed) == Counter(THREADS)
    (group,) = truth.told["count_exit"].of("count")
    assert (group["by"]["ret"], group["words"]["ret"]) == (-errno.ESRCH, "-ESRCH")
    assert group["calls"] == len(THREADS)


def test_counts_are_the_calls_that_were_made(truth: Truth) -> None:
    made = Counter((call["call"], call["comm"]) for call in truth.made)
    told = {
        (group["by"]["function"].rpartition(":")[2], group["by"]["comm"]): group["calls"]
        for group in truth.told["count"].of("count")
    }
    assert told == {key: n for key, n in made.items() if key[0] in ("nap", "fail")}
    (total,) = truth.told["count"].of("total")
    assert total["counted"] == total["seen"] == sum(told.values())


@pytest.mark.parametrize("name", ["latency", "linear"])
def test_a_histogram_holds_the_known_calls(truth: Truth, name: str) -> None:
    (group,) = truth.told[name].of("latency")
    assert_holds(group, truth.calls("nap"))


def test_a_histogram_for_each_thread_name(truth: Truth) -> None:
    groups = truth.told["by_comm"].of("latency")
    assert {group["by"]["comm"] for group in groups} == set(THREADS)
    for group in groups:
        mine = [call for call in truth.calls("nap") if call["comm"] == group["by"]["comm"]]
        assert len(mine) == len(NAPS)
        assert_holds(group, mine)


def assert_holds(group: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    """Each call took as long as it had to at least, and at most as its caller saw."""
    least = [call["argument"] * 1000 for call in calls]
    most = [call["after"] - call["before"] for call in calls]
    assert group["calls"] == len(calls)
    assert sum(bucket["calls"] for bucket in group["buckets"]) == len(calls)
    assert sum(least) <= group["total_ns"] <= sum(most)
    assert max(least) <= group["max_ns"] <= max(most)
    below = 0
    for bucket in group["buckets"]:
        assert sum(each < bucket["from_ns"] for each in most) <= below
        assert below <= sum(each < bucket["from_ns"] for each in least)
        below += bucket["calls"]


def test_recursion_is_in_the_histogram(truth: Truth) -> None:
    (group,) = truth.told["recursive"].of("latency")
    assert group["calls"] == len(THREADS) * (DEPTH + 1)
    events = [e for e in truth.told["returns"].of("event") if e["function"].endswith("recurse")]
    assert sum(50_000 * (number(event) + 1) for event in events) <= group["total_ns"]


def ours(truth: Truth) -> Counter[int]:
    """The histogram by powers of two: the bucket's beginning, and its calls."""
    (group,) = truth.told["latency"].of("latency")
    return Counter({bucket["from_ns"]: bucket["calls"] for bucket in group["buckets"]})


def assert_same_buckets(truth: Truth, theirs: Counter[int]) -> None:
    """The same calls in the same buckets, but for those whose time may lie beside an edge.

    Each took as long as it had to at least, and at most as its caller saw.
    """
    mine, calls = ours(truth), truth.calls("nap")
    assert sum(mine.values()) == sum(theirs.values()) == len(calls)
    spans = [(call["argument"] * 1000, call["after"] - call["before"]) for call in calls]
    doubtful = sum(least.bit_length() != most.bit_length() for least, most in spans)
    assert sum((mine - theirs).values()) <= doubtful, (mine, theirs)


def test_bpftrace_has_the_same_buckets(truth: Truth) -> None:
    answer = truth.told["bpftrace"]
    lines = [json.loads(line) for line in answer.out.splitlines() if line.startswith("{")]
    (data,) = (line["data"]["@ns"] for line in lines if line["type"] == "hist")
    theirs = Counter({bucket.get("min", 0): bucket["count"] for bucket in data if bucket["count"]})
    assert_same_buckets(truth, theirs)


def test_funclatency_has_the_same_buckets(truth: Truth) -> None:
    answer = truth.told["funclatency"]
    rows = re.findall(r"^ *(\d+) -> \d+ +: (\d+) ", answer.out, re.M)
    assert rows, answer
    theirs = Counter({int(least): int(calls) for least, calls in rows if int(calls)})
    assert_same_buckets(truth, theirs)
