"""A guest of each kernel, booted once; tests send it commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
#: It runs in a child of the guest's agent; with "env" before it, as a user starts it.
TOOL = [sys.executable, str(ROOT / "bin" / "ebpf-tool")]
WORKLOAD = [sys.executable, str(HERE / "workload.py")]
KERNELS = ("6.1", "6.12")


#: A load: processes that read a file, again and again.
CATS = "while :; do cat /etc/hostname; done >/dev/null 2>&1"


class Line(NamedTuple):
    """A line of the tool's output, taken apart."""

    pid: int
    tid: int
    comm: str
    label: str
    value: str
    timestamp: int


class Traced(NamedTuple):
    """What a trace of a workload gave."""

    status: int
    out: str
    err: str
    work: list[dict[str, Any]]
    tool_pid: int
    listening: int  # when the tool said that it listens, in the events' clock

    @property
    def lines(self) -> list[Line]:
        """The events, in the order they were printed; each must have the tool's form."""
        return [_parse(line) for line in self.out.splitlines()]


def _parse(line: str) -> Line:
    head, _, rest = line.partition("] ")
    comm, _, fields = rest.rpartition(": ")
    (label, value), (_, timestamp) = (field.split("=") for field in fields.split(", "))
    pid, tid = head[1:].split("/")
    return Line(int(pid), int(tid), comm, label, value, int(timestamp))


class Guest:
    """A virtual machine with an agent that runs commands."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self._process = subprocess.Popen(
            [
                str(ROOT / "bin" / "vm"),
                "--kernel",
                kernel,
                "--timeout",
                "5000",  # CI has not much more
                "--",
                sys.executable,
                str(HERE / "agent.py"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.release = str(self._answer()["release"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the guest ended with status {self._process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        assert answer["status"] != -1, answer["err"]
        return answer

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def run(self, *command: str, load: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; LOAD is a shell script that runs beside it."""
        beside = ["sh", "-c", load] if load else []
        done = self._ask(command=list(command), load=beside)
        return subprocess.CompletedProcess(command, done["status"], done["out"], done["err"])

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell script."""
        return self.run("sh", "-c", script)

    def tool(self, *arguments: str, load: str = "") -> subprocess.CompletedProcess[str]:
        """Runs ebpf-tool kprobe to its end."""
        return self.run(*TOOL, "kprobe", *arguments, load=load)

    def trace(self, *arguments: str, workload: str, number: int = 2) -> Traced:
        """Runs a workload while ebpf-tool kprobe traces, and ends it with a signal."""
        answer = self._ask(
            tool=[*TOOL, "kprobe", "--show-tid", *arguments],
            workload=WORKLOAD + workload.split(),
            number=number,
        )
        return Traced(
            answer["status"],
            answer["out"],
            answer["err"],
            json.loads(answer["work"]),
            answer["tool_pid"],
            answer["listening"],
        )

    def close(self) -> None:
        """Ends the agent, and so the machine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What spoils a guest comes last; pytest then sorts by guest."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session", params=KERNELS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A machine of each kernel."""
    machine = Guest(request.param)
    yield machine
    machine.close()
