"""ebpf-tool with objects that will not do: told in words, before anything is loaded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from libbpf_ctypes import kernel

from ..conftest import Compile
from ..pure.helpers import PACKAGE, ROOT, run_tool
from .bad_objects import BAD


def refused(*words: str | Path) -> str:
    """Runs the command, which must fail; returns the one line that it says."""
    done = run_tool("kprobe", "vfs_read", "-q", *words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("[ERROR] ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.strip()


@pytest.mark.parametrize("words", [["uprobe", "libc:no_such"], ["count", "uprobe:libc:no_such"]])
def test_an_error_is_told_though_nobody_reads_the_objects(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), *words, "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("[ERROR] find libc:no_such: ")


@pytest.mark.parametrize("what", BAD)
def test_bad_objects(what: str, tmp_path: Path, compile_bpf: Compile) -> None:
    make, told = BAD[what]
    path = make(tmp_path, compile_bpf)
    line = refused("--object", path)
    assert f"open {path}: " in line
    assert told in line


PARTS = {
    "program": """__attribute__((section("kprobe"), used)) int syscall_kprobe(void *ctx)
{ return ctx == 0; }
""",
    "EVENTS": """struct { int (*type)[4]; int (*key_size)[4]; int (*value_size)[4]; }
EVENTS __attribute__((section(".maps"), used));
""",
    "COUNTERS": """struct { int (*type)[6]; int (*key_size)[4]; int (*value_size)[72];
int (*max_entries)[1]; } COUNTERS __attribute__((section(".maps"), used));
""",
    "machine": 'const char machine[] = "@MACHINE@";\n',
    "target_pid": "const volatile unsigned target_pid = 0;\n",
    "tracer_pid": "const volatile unsigned tracer_pid = 0;\n",
    "until_ns": "volatile unsigned long long until_ns = -1;\n",
}
MISSING = {
    "program": "find program syscall_kprobe: the object has no program of that name",
    "EVENTS": "find map EVENTS: the object has no map of that name",
    "COUNTERS": "find map COUNTERS: the object has no map of that name",
    "machine": "find variable machine: the object has no variable of that name",
    "target_pid": "find variable target_pid: the object has no variable of that name",
    "tracer_pid": "find variable tracer_pid: the object has no variable of that name",
    "until_ns": "find variable until_ns: the object has no variable of that name",
}


def source(*, without: str, machine: str = platform.machine()) -> str:
    text = "".join(part for name, part in PARTS.items() if name != without)
    return text.replace("@MACHINE@", machine)


@pytest.mark.parametrize("part", PARTS)
def test_an_object_that_lacks_a_part(part: str, compile_bpf: Compile) -> None:
    line = refused("--object", compile_bpf(source(without=part)))
    assert MISSING[part] in line
    assert "It has: " in line


def test_an_object_for_another_machine(compile_bpf: Compile) -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    for path in (
        PACKAGE / "data" / other / "kprobe.bpf.o",
        compile_bpf(source(without="", machine=other)),
    ):
        line = refused("--object", path)
        assert "built for another machine" in line
        assert other in line
        assert "data folder" in line


def test_names_that_a_terminal_would_act_on(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\x1b[31m\xff.o")
    line = refused("--object", path)
    assert r"\x1b[31m\xff.o" in line
    path.write_bytes(b"text")
    assert r"\x1b[31m\xff.o: it is not an ELF file" in refused("--object", path)


@pytest.mark.skipif(not kernel.in_initial_pid_namespace(), reason="process ids are the host's")
def test_processes_that_cannot_be_traced() -> None:
    free = next(pid for pid in range(4194304, 1, -1) if not Path(f"/proc/{pid}").exists())
    assert f"trace process {free}: there is no process" in refused("-p", str(free))


def test_what_is_going_on_is_told_before_the_error(tmp_path: Path) -> None:
    done = run_tool("kprobe", "vfs_read", "-d", "2", "--object", tmp_path / "missing.o")
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert "[INFO] Attaching kprobe to function: vfs_read" in before
    assert "[INFO] Duration: 2 seconds (0 = until Ctrl+C)" in before
    assert last.startswith("[ERROR] open ")
    verbose = run_tool("kprobe", "vfs_read", "-qv", "--object", tmp_path / "missing.o")
    assert verbose.stderr.splitlines()[-1].startswith("[ERROR]")
