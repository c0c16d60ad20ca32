"""Tests once more, under Debian 13's libbpf: the perf buffer's, programs' and links'."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from .tool import ROOT

GROUPS = {
    "perf_buffer": (
        "perf_buffer",
        "readers",
        "events",
        "ring_buffer",
        "user_ring_buffer",
        "async",
        "safety",
    ),
    "ring_buffer": ("ring_buffer", "user_ring_buffer", "async", "safety"),
    "programs": ("program_types", "program_settings", "programs", "links"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_under_a_newer_libbpf(group: str, newer_libbpf: str) -> None:
    files = [f"tests/root/test_{name}.py" for name in GROUPS[group]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
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
