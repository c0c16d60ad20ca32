"""Tests once more, under Debian 13's libbpf 1.5: what 1.1 lacks then runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from .tool import ROOT

GROUPS = {
    "attach": ("attach_probes", "attach_events", "attach_network", "attach_refused"),
    "introspection": ("info", "introspection", "features"),
    "maps": ("maps", "map_types"),
    "perf_buffer": ("perf_buffer", "readers", "events"),
    "programs": ("program_types", "program_settings", "programs", "links"),
    "ring_buffer": ("ring_buffer", "user_ring_buffer", "async", "safety"),
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
