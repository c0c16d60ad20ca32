"""Starting ebpf-tool with its probe on libc's open64, and reading what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent.parent
TOOL = [sys.executable, str(Path(__file__).with_name("tool_by_uprobe.py"))]

#: Opens files for ever, as fast as it can or 50 times a second.
LOAD = "import os\nwhile 1:\n try: os.open('/nonexistent', 0)\n except OSError: pass\n"
SLOW_LOAD = "import time\n" + LOAD.replace("pass", "time.sleep(0.02)")

_CALLER = """
import os, sys
print(flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        try: os.open("/nonexistent", 0)
        except OSError: pass
    print(flush=True)
"""

#: Seconds that nothing takes but what hangs.
PATIENCE = 120

Tool = subprocess.Popen[str]


class Caller:
    """A process that opens as often as it is told to, on one CPU."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CALLER], stdin=pipe, stdout=pipe, text=True
        )
        self.pid = self._process.pid
        os.sched_setaffinity(self.pid, {min(os.sched_getaffinity(0))})
        self._await()

    def open(self, times: int) -> None:
        """Has it open; returns when it is done."""
        assert self._process.stdin is not None
        print(times, file=self._process.stdin, flush=True)
        self._await()

    def _await(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "\n"

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def start(*arguments: str, stdout: int | IO[str] = subprocess.PIPE) -> Tool:
    """Starts the tool and returns once it listens."""
    return listening([*TOOL, "open64", *arguments], stdout)[0]


def listening(command: list[str], stdout: int | IO[str] = subprocess.PIPE) -> tuple[Tool, str]:
    """Runs a command until it listens; the process, and what it told until then."""
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    return process, await_listening(process)


def await_listening(process: Tool) -> str:
    """Waits until it listens; what it told until then."""
    told = ""
    assert process.stderr is not None
    for line in process.stderr:
        told += line
        if "Listening" in line:
            return told
    raise AssertionError(f"it ended with status {process.wait()} before it listened: {told}")


def rest(process: Tool) -> tuple[str, str]:
    """What it still prints, to its end; not communicate(), which forgets what was buffered."""
    out = process.stdout.read() if process.stdout else ""
    err = process.stderr.read() if process.stderr else ""
    process.wait(PATIENCE)
    return out, err


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool to its end."""
    command = [*TOOL, "open64", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def trace(
    caller: Caller, times: int, *arguments: str, command: Sequence[str] = (*TOOL, "open64")
) -> subprocess.CompletedProcess[str]:
    """Runs the tool while the caller, and no other, opens so often; ends it as Ctrl-C does."""
    whole = [*command, "-p", str(caller.pid), *arguments]
    process, told = listening(whole)
    caller.open(times)
    process.send_signal(signal.SIGINT)
    out, err = rest(process)
    return subprocess.CompletedProcess(whole, process.returncode, out, told + err)


def overrun(process: Tool, caller: Caller, times: int, out: Path, more: int = 1) -> str:
    """Stops the tool, which writes to a file, while the caller opens so often, and then once more.

    The last call is made when there is room again, and carries the kernel's report of losses. Ends
    the tool as Ctrl-C does. Args: more: such calls. Returns: what it told.
    """
    stop(process)
    caller.open(times)
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: out.read_bytes().count(b"\n") >= 10)
    caller.open(more)
    process.send_signal(signal.SIGINT)
    return rest(process)[1]


def stop(process: Tool) -> None:
    """Stops a process; returns when it has stopped."""
    process.send_signal(signal.SIGSTOP)
    status = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for it, but not for ever."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
