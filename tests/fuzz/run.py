"""Runs the fuzz targets for a bounded time.

    python tests/fuzz/run.py SECONDS [TARGET...]

With atheris (libFuzzer) each run is guided by the branches that the data reaches;
without it hypothesis' ``fuzz_one_input`` gets random bytes, and this is said. What
breaks a target is written to fixtures/fuzz/TARGET/, where tests/pure/test_fuzz.py
finds it from then on. Exit status 1: something was found.
"""

from __future__ import annotations

import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

#: Each target's name: its module here is fuzz_NAME, and the function in it, too.
TARGETS = ("decoder", "recording")
FIXTURES = ROOT / "fixtures" / "fuzz"
MAX_BYTES = 4096


def load(name: str) -> Callable[[bytes], None]:
    """The function of a target."""
    module = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    target: Callable[[bytes], None] = getattr(module, f"fuzz_{name}")
    return target


def with_atheris(atheris: Any, name: str, seconds: int) -> None:
    """Fuzzes by coverage; the process ends in it."""
    with atheris.instrument_imports(include=["libbpf_ctypes", "tests.fuzz"]):
        target = load(name)
    with tempfile.TemporaryDirectory() as corpus:
        options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-verbosity=0"]
        options += [f"-artifact_prefix={FIXTURES / name}{os.sep}", "-print_final_stats=1"]
        atheris.Setup(["fuzz", *options, corpus, str(FIXTURES / name)], target)
        atheris.Fuzz()


def with_hypothesis(name: str, seconds: int) -> None:
    """Fuzzes with random bytes, by hypothesis."""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    target = load(name)
    last = [b""]

    @settings(database=None, deadline=None)
    @given(st.binary(max_size=MAX_BYTES))
    def run(data: bytes) -> None:
        last[0] = data
        target(data)

    fuzz_one_input = run.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    chance, runs, end = random.Random(), 0, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            fuzz_one_input(chance.randbytes(chance.randrange(MAX_BYTES)))
            runs += 1
    except Exception:
        found = FIXTURES / name / f"crash-{abs(hash(last[0])):x}"
        found.write_bytes(last[0])
        print(f"written to {found.relative_to(ROOT)}", file=sys.stderr)
        raise
    print(f"{name}: {runs} runs without a finding")


def main() -> int:
    """Runs each target in a process of its own: libFuzzer ends the one it runs in."""
    if sys.argv[1:2] == ["--one"]:
        name, seconds = sys.argv[2], int(sys.argv[3])
        try:
            import atheris
        except ImportError:
            print(f"{name}: no atheris here, so random bytes through hypothesis", file=sys.stderr)
            with_hypothesis(name, seconds)
        else:
            with_atheris(atheris, name, seconds)
        return 0
    status = 0
    for name in sys.argv[2:] or TARGETS:
        (FIXTURES / name).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--one", name, sys.argv[1]]
        status |= subprocess.run(command, check=False).returncode != 0
    return status


if __name__ == "__main__":
    sys.exit(main())
