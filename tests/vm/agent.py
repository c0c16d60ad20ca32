"""Runs in the guest: reads requests from stdin, a line of JSON each, and answers so.

A request runs a command, or traces a workload: the tool is started, and when
it listens the workload runs; then the tool gets a signal, or ends by itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any


def run(command: list[str], timeout: float) -> dict[str, Any]:
    """Runs a command; answers with its status and output."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )
    return {"status": done.returncode, "out": text(done.stdout), "err": text(done.stderr)}


def trace(tool: list[str], workload: list[str], number: int, timeout: float) -> dict[str, Any]:
    """Runs WORKLOAD while TOOL traces; NUMBER is the signal that ends it, 0 for none.

    The word @PID in the tool's command line is the workload's process id: the
    workload is started first, and waits for a line on its stdin.
    """
    with tempfile.TemporaryFile() as out:
        work = subprocess.Popen(workload, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        tool = [word.replace("@PID", str(work.pid)) for word in tool]
        process = subprocess.Popen(tool, stdout=out, stderr=subprocess.PIPE)
        assert process.stderr is not None
        err = b""
        for line in process.stderr:
            err += line
            if b"Listening" in line:
                break
        listening = time.monotonic_ns()
        worked, _ = work.communicate(b"go\n", timeout=timeout)
        if number:
            process.send_signal(number)
        err += process.stderr.read()
        status = process.wait(timeout)
        out.seek(0)
        answer = {"status": status, "out": text(out.read()), "err": text(err)}
    return {**answer, "work": text(worked), "tool_pid": process.pid, "listening": listening}


def text(raw: bytes) -> str:
    """Bytes as JSON can carry them."""
    return raw.decode("utf-8", "backslashreplace")


def main() -> None:
    """Answers requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
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
