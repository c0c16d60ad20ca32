"""Runs the examples as their users do, with a known load, and prints what they printed.

    python example_runs.py FOLDER NAME...

FOLDER holds the examples and their objects. All of them run at the same time: this is a script
of its own, so that it runs in a virtual machine, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 60
READY = "Ctrl-C ends it."


class Example:
    """One that runs."""

    def __init__(self, folder: Path, place: Path, name: str, words: list[str]) -> None:
        self.out, self.err = place / f"{name}.out", place / f"{name}.err"
        command = [sys.executable, str(folder / f"{name}.py"), *words]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)

    def wait_for(self, text: str, file: Path) -> None:
        """Waits until it has printed TEXT, or ends; not for ever."""
        end = time.monotonic() + PATIENCE
        while text not in read(file) and self.process.poll() is None:
            if time.monotonic() > end:
                return  # the test sees what is missing
            time.sleep(0.02)

    def finish(self) -> dict[str, Any]:
        """Ends it as Ctrl-C does; what came of it."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        return {"status": status, "out": read(self.out), "err": read(self.err)}


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
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    if not Path("/sys/kernel/tracing/events").exists():
        subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"], check=True)
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(watch(folder, Path(place), names)))


def watch(folder: Path, place: Path, names: list[str]) -> dict[str, Any]:
    """Runs the load while the examples run."""
    command = [sys.executable, str(HERE / "example_load.py"), str(place)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as load:
        assert load.stdin is not None and load.stdout is not None
        known = json.loads(load.stdout.readline())
        running = {n: Example(folder, place, n, arguments(n, known)) for n in names}
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
