"""The examples on the running kernel: what they print of a known load, and their errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..pure.helpers import ROOT
from .example_checks import CHECKS, RUNS, build, check


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def ran(examples: Path) -> Any:
    command = [sys.executable, str(RUNS), str(examples), *CHECKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_prints_what_was_done(name: str, ran: dict[str, Any]) -> None:
    check(name, ran)


def test_each_example_is_run(examples: Path) -> None:
    assert {path.name for path in examples.glob("*.bpf.c")} == {f"{name}.bpf.c" for name in CHECKS}
    assert {path.name for path in examples.glob("*.bpf.o")} == {f"{name}.bpf.o" for name in CHECKS}


def test_they_are_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 90, path.name


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )


def test_the_end_of_its_time(examples: Path) -> None:
    done = run(examples, "exitsnoop.py", "-d", "1")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert done.stdout.startswith("    PID  PARENT COMM ")


@pytest.mark.parametrize("words", ["exitsnoop.py -d 1", "syscount.py -d 1", "syscount.py -h"])
def test_output_that_cannot_be_written(examples: Path, words: str) -> None:
    command = [sys.executable, *words.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ends: list[tuple[int, bytes]] = []
    read_end, pipe = os.pipe()
    os.close(read_end)
    for stdout in (pipe, os.open("/dev/full", os.O_WRONLY)):
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, cwd=examples, env=environment,
            timeout=300, check=False,
        )  # fmt: skip
        os.close(stdout)
        last = [line for line in done.stderr.splitlines() if b"Ctrl-C ends it." not in line]
        ends.append((done.returncode, b"\n".join(last)))
    told = f"{words.split()[0]}: write the output: No space left on device"
    assert ends == [(0, b""), (1, told.encode())]


def test_nothing_to_show(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = subprocess.run(
        ["losetup", "--find", "--show", str(tmp_path / "disk")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    try:
        done = run(examples, "biolatency.py", "-D", Path(made.stdout.strip()).name, "-d", "1")
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
    assert (done.returncode, done.stdout) == (0, "no requests\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("opensnoop.py -p word", "-p takes a whole number of 32 bits, not 'word'"),
        ("opensnoop.py -d -1", "-d takes a whole number of 32 bits, not '-1'"),
        ("execsnoop.py -u 4294967296", "-u takes a whole number of 32 bits, not '4294967296'"),
        ("runqlat.py --no-such", "Usage: runqlat.py"),
        ("biolatency.py -D no/such", "there is no block device 'no/such'"),
        ("xdpcount.py nosuch", "xdpcount.py: attach"),
        ("gethostlatency.py -l nosuch.so", "gethostlatency.py: attach"),
    ],
)
def test_what_is_wrong_is_told(examples: Path, words: str, told: str) -> None:
    done = run(examples, *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_object_that_is_not_built(examples: Path, tmp_path: Path) -> None:
    for name in ("runqlat.py", "shared.py"):
        (tmp_path / name).write_bytes((examples / name).read_bytes())
    done = run(tmp_path, "runqlat.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"runqlat.py: open {tmp_path}/runqlat.bpf.o: No such file")
    assert len(done.stderr.splitlines()) == 1
