"""Runs the examples as their users do, with a known load, and prints what they printed.

    python example_runs.py [--fork] FOLDER NAME...

FOLDER holds the examples and their objects. All of them run at the same time: this is a script
of its own, so that it runs in a virtual machine, too. With --fork they are children of one
process that has imported what they need.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 900  # seconds, which nothing takes that does not hang, on a busy machine either
READY = "Ctrl-C ends it."


class Example:
    """One that runs: as a program of its own, or in a child of this process."""

    def __init__(self, command: list[str], place: Path, *, fork: bool) -> None:
        name = Path(command[0]).stem
        self.out, self.err = place / f"{name}.out", place / f"{name}.err"
        self.status: int | None = None
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.pid = os.fork()
            if self.pid == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                if fork:
                    os._exit(run_here(command))
                paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
                os.environ["PYTHONPATH"] = os.pathsep.join(paths)
                os.execv(sys.executable, [sys.executable, *command])

    def ended(self) -> bool:
        """Whether it ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait_for(self, text: str, file: Path) -> None:
        """Waits until it has printed TEXT, or ends; not for ever."""
        end = time.monotonic() + PATIENCE  # without it the test sees what is missing
        while text not in read(file) and not self.ended() and time.monotonic() < end:
            time.sleep(0.02)

    def finish(self) -> dict[str, Any]:
        """Ends it as Ctrl-C does; what came of it."""
        if not self.ended():
            os.kill(self.pid, signal.SIGINT)
        end = time.monotonic() + PATIENCE
        while not self.ended():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        return {"status": self.status, "out": read(self.out), "err": read(self.err)}


def preload() -> None:
    """Imports what the examples import: under emulation that takes each of them seconds."""
    sys.path.insert(0, str(ROOT))
    import docopt  # noqa: F401

    import libbpf_ctypes
    from libbpf_ctypes import declare, drift, library_version  # noqa: F401

    for name in libbpf_ctypes.__all__:
        getattr(libbpf_ctypes, name)
    library_version()  # loads libbpf


def run_here(command: list[str]) -> int:
    """Runs a Python program in this process; its exit status."""
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    try:
        runpy.run_path(command[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def read(file: Path) -> str:
    """What was written to a file so far."""
    return file.read_bytes().decode(errors="backslashreplace")


def arguments(name: str, known: dict[str, Any]) -> list[str]:
    """An example's words: each watches the load alone, where it can."""
    if name == "biolatency":
        return ["-D", known["device"]]
    if name == "xdpcount":
        return ["lo"]
    return [] if name in ("execsnoop", "exitsnoop") else ["-p", str(known["pid"])]


def last_words(name: str, done: dict[str, Any]) -> str:
    """What an example prints last of the load."""
    return {
        "opensnoop": "missing",
        "execsnoop": f"\n{done['killed']['pid']:>7} ",
        "exitsnoop": f"\n{done['killed']['pid']:>7} ",
        "tcpconnect": f" {done['ports'][1] or done['ports'][0]} ",
        "gethostlatency": "no address",
    }.get(name, "")


def main() -> None:
    """Prints {"load": {...}, "examples": {name: {"status", "out", "err"}}}."""
    fork = sys.argv[1] == "--fork"
    folder, *names = sys.argv[2:] if fork else sys.argv[1:]
    if not Path("/sys/kernel/tracing/events").exists():
        subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"], check=True)
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(watch(Path(folder), Path(place), names, fork)))


def watch(folder: Path, place: Path, names: list[str], fork: bool) -> dict[str, Any]:
    """Runs the load while the examples run."""
    command = [sys.executable, str(HERE / "example_load.py"), str(place)]
    pipes = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipes, stdout=pipes) as load:
        assert load.stdin is not None and load.stdout is not None
        if fork:
            preload()
        known = json.loads(load.stdout.readline())
        running = {
            name: Example([f"{folder}/{name}.py", *arguments(name, known)], place, fork=fork)
            for name in names
        }
        for example in running.values():
            example.wait_for(READY, example.err)
        load.stdin.write("go\n")
        load.stdin.flush()
        known.update(json.loads(load.stdout.readline()))
    for name, example in running.items():
        example.wait_for(last_words(name, known), example.out)
    return {"load": known, "examples": {name: run.finish() for name, run in running.items()}}


if __name__ == "__main__":
    main()
