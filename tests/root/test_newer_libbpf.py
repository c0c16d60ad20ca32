"""Tests once more, under libbpf 1.5 and the newest one: what 1.1 lacks then runs."""

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


#: Where 1.6 and 1.7 have what 1.5 has not.
NEWEST = ("attach", "introspection", "programs")


@pytest.mark.parametrize("group", GROUPS)
def test_under_libbpf_1_5(group: str, newer_libbpf: str) -> None:
    run(group, newer_libbpf)


@pytest.mark.parametrize("group", NEWEST)
def test_under_the_newest_libbpf(group: str, newest_libbpf: str) -> None:
    run(group, newest_libbpf)


def run(group: str, library: str) -> None:
    files = [f"tests/root/test_{name}.py" for name in GROUPS[group]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "LIBBPF_CTYPES_LIBRARY": library},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"[1-9]\d* passed in .*", summary), done.stdout
