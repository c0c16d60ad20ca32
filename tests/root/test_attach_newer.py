"""The attach tests once more, under Debian 13's libbpf 1.5: what 1.1 lacks then runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from .tool import ROOT

FILES = [f"tests/root/test_attach_{name}.py" for name in ("probes", "events", "network")]


def test_attaching_under_a_newer_libbpf(newer_libbpf: str) -> None:
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
