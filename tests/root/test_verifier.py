"""A program that the kernel's verifier refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, BpfObject

from ..conftest import Compile

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def refused(compile_bpf: Compile) -> Path:
    """Our own source, with a read through what is no pointer."""
    source = (ROOT / "bpf" / "kprobe.bpf.c").read_text(encoding="utf-8")
    broken = source.replace("= *first_argument", "= *first_argument + *(__u64 *)pid_tgid")
    assert broken != source
    return compile_bpf(broken, "-D__TARGET_ARCH_x86", "-I", str(ROOT / "bpf"))


def test_the_error_holds_the_verifiers_log(refused: Path) -> None:
    with BpfObject.open(refused) as obj:
        with pytest.raises(BpfError) as caught:
            obj.load()
        assert not obj.loaded
    assert "verifier" in caught.value.hint
    assert "invalid mem access 'scalar'" in caught.value.log
    assert caught.value.operation == f"load {refused}"


def test_the_command_shows_its_last_lines(refused: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "ebpf-tool", "kprobe", "vfs_read", "--object", refused],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "The kernel's verifier refused a program" in done.stderr
    assert "The verifier's last lines:" in done.stderr
    assert "invalid mem access 'scalar'" in done.stderr
    assert "Traceback" not in done.stderr
