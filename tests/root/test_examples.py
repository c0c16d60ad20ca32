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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
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
        timeout=60,
        check=False,
    )


def test_the_end_of_its_time(examples: Path) -> None:
    done = run(examples, "exitsnoop.py", "-d", "1")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert done.stdout.startswith("    PID  PARENT COMM ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("opensnoop.py -p word", "-p takes a whole number, not 'word'"),
        ("opensnoop.py -d -1", "-d takes a whole number, not '-1'"),
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
