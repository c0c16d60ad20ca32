"""ebpf-tool list: an excerpt of kallsyms, the running kernel's types, all of the running kernel."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, Btf, kernel
from libbpf_ctypes.cli import functions
from libbpf_ctypes.cli import list as listing

from ..conftest import lacking
from ..pure.helpers import ROOT

EXCERPT = ROOT / "fixtures" / "kallsyms.txt"


class Lines(io.StringIO):
    """A stdout that is a terminal, or none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def listed(
    monkeypatch: pytest.MonkeyPatch, pattern: str | None, *, terminal: bool = False
) -> tuple[int, str]:
    """The status and the lines."""
    out = Lines(terminal)
    monkeypatch.setattr("sys.stdout", out)
    status = listing.run({"PATTERN": pattern})
    return status, out.getvalue()


@pytest.fixture
def excerpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These symbols, a tracefs, a blacklist; the types are the running kernel's."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        lacking("needs the running kernel's BTF")
    (tmp_path / "available_filter_functions").write_text("vfs_write\nvfs_fsync_range\n")
    (tmp_path / "blacklist").write_text("0x1-0x2\tnoist_exc_debug\n")
    monkeypatch.setattr(kernel, "_KALLSYMS", EXCERPT)
    monkeypatch.setattr(kernel, "_BLACKLIST", tmp_path / "blacklist")
    monkeypatch.setattr(kernel, "TRACEFS", (str(tmp_path),))
    monkeypatch.setattr(kernel, "has_kprobes", lambda: True)
    monkeypatch.setitem(functions._WRAPPERS, os.uname().machine, "__x64_sys_")


@pytest.mark.usefixtures("excerpt")
def test_prototypes_and_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = listed(monkeypatch, "vfs_[fw]*")
    with Btf.kernel() as types:
        prototypes = [types.function(name).prototype for name in ("vfs_fsync_range", "vfs_write")]
    assert status == 0
    assert out == f"vfs_fsync_range\t{prototypes[0]}\t\nvfs_write\t{prototypes[1]}\t\n"
    assert listed(monkeypatch, "openat") == (
        0,
        "openat\tlong openat(int dfd, const char *filename, int flags, umode_t mode)\t"
        "it is notrace: the kernel keeps it from ftrace, and kprobes with it\n",
    )
    _, out = listed(monkeypatch, "noist_*")
    name, _prototype, reason = out.split("\t")
    assert (name, reason) == ("noist_exc_debug", "it is on the kernel's kprobe blacklist\n")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("excerpt")
def test_on_a_terminal_the_prototypes_are_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    _, out = listed(monkeypatch, "*[_c]*[bewg]", terminal=True)
    lines = {line.split()[0]: line for line in out.splitlines()}
    places = {
        lines["vfs_write"].index("ssize_t vfs_write(struct file *file, "),
        lines["vfs_fsync_range"].index("int vfs_fsync_range("),
        lines["noist_exc_debug"].index("cannot be probed: it is on the kernel's"),
    }
    assert places == {2 + max(map(len, lines))}


@pytest.mark.usefixtures("excerpt")
def test_an_index_of_many_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = listed(monkeypatch, "*")
    monkeypatch.setattr(listing, "_FEW", 0)
    assert listed(monkeypatch, None) == one_by_one
    assert one_by_one[1].count("\n") > 20


@pytest.mark.usefixtures("excerpt")
def test_what_there_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert listed(monkeypatch, "vfs_raed") == (1, "")
    assert "Did you mean" in capsys.readouterr().err
    monkeypatch.setattr(kernel, "_KALLSYMS", tmp_path / "missing")
    assert listed(monkeypatch, None) == (1, "")
    assert "[ERROR] list functions: /proc/kallsyms cannot be read" in capsys.readouterr().err


@pytest.mark.usefixtures("excerpt")
def test_a_closed_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert listing.run({"PATTERN": "vfs_write"}) == 1
    assert capsys.readouterr().err == "[ERROR] write the list: stdout is closed\n"


@pytest.mark.usefixtures("excerpt")
def test_what_cannot_be_told_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "TRACEFS", ())
    monkeypatch.setattr(kernel, "_BLACKLIST", tmp_path / "missing")
    assert listed(monkeypatch, "vfs_write")[0] == 0
    told = capsys.readouterr().err
    assert "mount -t tracefs" in told
    assert "mount -t debugfs" in told
    monkeypatch.setattr(kernel, "has_kprobes", lambda: False)
    assert listed(monkeypatch, "vfs_write")[0] == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("[WARNING] This kernel has no kprobes")


@pytest.mark.usefixtures("excerpt")
def test_without_types_there_are_no_prototypes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Btf:
        raise BpfError("read the kernel's BTF", 2)

    monkeypatch.setattr(Btf, "kernel", none)
    assert listed(monkeypatch, "vfs_write") == (0, "vfs_write\t\t\n")
    terminal = listed(monkeypatch, "vfs_write", terminal=True)
    assert terminal == (0, "vfs_write  (its prototype is not known)\n")


def test_a_reader_that_has_seen_enough() -> None:
    import subprocess

    code = "from libbpf_ctypes.cli import list as l; raise SystemExit(l.run({'PATTERN': 'a*'}))"
    command = '"$0" -c "$1" | head -n 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "[ERROR]" not in done.stderr
