"""bin/quickstart: which words it runs at once, and for which it looks for libbpf and a kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .helpers import ROOT

#: Stands for .venv's Python: all modules are there, libbpf is not, and it tells what it is to run.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-I -") exit 0 ;;
"-I -c") exit 1 ;;
esac
shift
echo "$*"
"""
INSTALLER = "#!/bin/sh\necho installing >&2\nexit 1\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, script in ((".venv/bin/python", PYTHON), ("path/apt-get", INSTALLER)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(script)
        path.chmod(0o755)
    (tmp_path / "path" / "sudo").symlink_to("apt-get")
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "quickstart", tmp_path / "bin")
    return tmp_path


def run(checkout: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "quickstart"), *line.split()],
        env={**os.environ, "PATH": f"{checkout / 'path'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def with_libbpf(checkout: Path) -> Path:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(PYTHON.replace("exit 1", "exit 0"))
    return checkout


@pytest.mark.parametrize(
    "line", ["replay trace.rec", "replay trace.rec --time=wall", "-q replay trace.rec", "--help"]
)
def test_a_replay_needs_neither_libbpf_nor_a_kernel(checkout: Path, line: str) -> None:
    done = run(checkout, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{line}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("line", ["kprobe vfs_read", "kprobe replay", "schema replay", ""])
def test_a_trace_or_a_schema_needs_libbpf(checkout: Path, line: str) -> None:
    done = run(checkout, line)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "libbpf 1 is missing" in done.stderr


@pytest.mark.parametrize(
    "line", ["schema tool.bpf.o kprobe", "skeleton tool.bpf.o", "doctor --json", "list uprobe"]
)
def test_what_traces_nothing_needs_no_kernel_that_does(checkout: Path, line: str) -> None:
    done = run(with_libbpf(checkout), line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{line}\n"


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("uprobe libc:open64", True),
        ("-q uretprobe libc:open64", True),
        ("tracepoint sched:sched_switch", True),
        ("count tracepoint:sched:sched_switch", True),
        ("latency uprobe:libc:open64", True),
        ("latency vfs_read", False),
        ("kretprobe tracepoint", False),
    ],
)
def test_functions_of_programs_need_no_kprobes(checkout: Path, line: str, without: bool) -> None:
    script = with_libbpf(checkout) / "bin" / "quickstart"
    text = script.read_text().replace("/sys/bus/event_source", str(checkout / "nothing"))
    # Privileged, whoever runs the test.
    script.write_text(text.replace("if ! has_libbpf", "may_sudo() { true; }\nif ! has_libbpf"))
    (checkout / "path" / "sudo").unlink()
    sudo = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    for name, it in (("path/sudo", sudo), ("bin/vm", "#!/bin/sh\necho in a virtual machine\n")):
        (checkout / name).write_text(it)
        (checkout / name).chmod(0o755)
    done = run(checkout, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f"{line}\n" if without else "in a virtual machine\n")
