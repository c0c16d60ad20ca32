"""Runs in the guest: reads requests from stdin, a line of JSON each, and answers so.

A request runs a command, or traces a workload: the tool is started, and when
it listens the workload runs; then the tool gets a signal, or ends by itself.

A command of this Python runs in a child of this process, which has imported what it needs: under
emulation to start an interpreter takes ten seconds. With "env" before it, it is started as a user
starts it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]

from tests.root.example_runs import read, run_here  # noqa: E402
from tests.vm.running import Run, execute, preload  # noqa: E402


def run(command: list[str], load: list[str]) -> dict[str, Any]:
    """Runs a command, while LOAD runs; answers with its status and output."""
    with tempfile.TemporaryDirectory() as place:
        beside = Run("load", Path(place), program(load)) if load else None
        answer = Run("command", Path(place), program(command)).finish()
        if beside:
            os.kill(beside.pid, signal.SIGTERM)
            beside.finish()
        return answer


def trace(tool: list[str], workload: list[str], number: int) -> dict[str, Any]:
    """Runs WORKLOAD while TOOL traces; NUMBER is the signal that ends it, 0 for none.

    The word @PID in the tool's command line is the workload's process id: the
    workload is started first, and waits for a line on its stdin.
    """
    with tempfile.TemporaryDirectory() as place:
        reader, cue = os.pipe()
        work = Run("work", Path(place), program(workload), stdin=reader)
        os.close(reader)
        tool = [word.replace("@PID", str(work.pid)) for word in tool]
        tracer = Run("tool", Path(place), program(tool))
        tracer.wait(lambda: "Listening" in read(tracer.err))
        listening = time.monotonic_ns()
        os.write(cue, b"go\n")
        os.close(cue)
        worked = work.finish()
        if number and not tracer.ended():
            os.kill(tracer.pid, number)
        answer = tracer.finish()
    assert worked["status"] == 0, worked["err"]
    return {**answer, "work": worked["out"], "tool_pid": tracer.pid, "listening": listening}


def program(command: list[str]) -> Callable[[], object]:
    """What a child does to be this command."""
    if command[0] != sys.executable:
        return execute(*command)

    def run_in_child() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        words = command[1:]
        if words[0] == "-c":
            with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as script:
                script.write(words[1])
            words = [script.name, *words[2:]]
        return run_here(words)

    return run_in_child


def main() -> None:
    """Answers requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    preload()
    print(json.dumps({"release": os.uname().release, "status": 0}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = (trace if "tool" in request else run)(**request)
        except Exception as error:  # the test that asked shall see it
            answer = {"status": -1, "out": "", "err": f"agent: {error!r}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
