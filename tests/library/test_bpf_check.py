"""``make -C bpf check`` takes what comes from the source, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ..conftest import need

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source and of the committed objects."""
    for tool in ("make", "clang", "llvm-strip"):
        need(tool)
    shutil.copytree(ROOT / "bpf", tmp_path / "bpf")
    data = Path("libbpf_ctypes", "data")
    shutil.copytree(ROOT / data, tmp_path / data)
    return tmp_path


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-C", str(tree / "bpf"), "check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def edit(path: Path, old: str, new: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")


def test_the_committed_objects_come_from_the_source(tree: Path) -> None:
    done = check(tree)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("comes from this source") == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("kprobe.bpf.c", "pid_tgid >> 32", "pid_tgid >> 31", "section .BTF differs"),
        ("syscall_event.h", "__u64 syscall_nr;", "__s64 syscall_nr;", "section .BTF differs"),
        ("kprobe.bpf.c", "target_pid = 0;", "target_pid = 1;", "section .rodata differs"),
        ("kprobe.bpf.c", 'SEC("kprobe")', 'SEC("kretprobe")', "other sections"),
    ],
)
def test_another_source_is_refused(tree: Path, file: str, old: str, new: str, why: str) -> None:
    edit(tree / "bpf" / file, old, new)
    done = check(tree)
    assert done.returncode != 0
    assert why in done.stderr


def test_another_object_is_refused(tree: Path) -> None:
    path = tree / "libbpf_ctypes" / "data" / "aarch64" / "kprobe.bpf.o"
    shutil.copy(tree / "libbpf_ctypes" / "data" / "x86_64" / "kprobe.bpf.o", path)
    done = check(tree)
    assert done.returncode != 0
    assert "aarch64/kprobe.bpf.o does not come from this source" in done.stderr
