"""Starting ebpf-tool with its probe on libc's open64, and reading what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent.parent
TOOL = [sys.executable, str(Path(__file__).with_name("tool_by_uprobe.py"))]

#: Opens files for ever, as fast as it can or 50 times a second.
LOAD = "import os\nwhile 1:\n try: os.open('/nonexistent', 0)\n except OSError: pass\n"
SLOW_LOAD = "import time\n" + LOAD.replace("pass", "time.sleep(0.02)")

Tool = subprocess.Popen[str]


def start(*arguments: str, stdout: int | IO[str] = subprocess.PIPE) -> Tool:
    """Starts the tool and returns once it listens."""
    command = [*TOOL, "open64", *arguments]
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    await_listening(process)
    return process


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
    process.wait(10)
    return out, err


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool to its end."""
    return subprocess.run(
        [*TOOL, "open64", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
