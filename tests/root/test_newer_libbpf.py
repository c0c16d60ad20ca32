"""The perf buffer's tests once more, under Debian 13's libbpf."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from .tool import ROOT

FILES = [f"tests/root/test_{name}.py" for name in ("perf_buffer", "readers", "events")]


def test_the_perf_buffer_under_a_newer_libbpf(newer_libbpf: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "LIBBPF_CTYPES_LIBRARY": newer_libbpf},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"[1-9]\d* passed in .*", summary), done.stdout
