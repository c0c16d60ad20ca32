"""Debian 13's libbpf, newer than the system's: it loads, binds, opens and refuses."""

from __future__ import annotations

from ..pure.helpers import run_python


def told(library: str, code: str) -> list[str]:
    """The lines that this code prints when it runs with that library."""
    done = run_python(code, LIBBPF_CTYPES_LIBRARY=library)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_it_is_libbpf_1_5(newer_libbpf: str) -> None:
    code = "import libbpf_ctypes as l; print(l.library_version(), l.library_path())"
    assert told(newer_libbpf, code) == [f"1.5 {newer_libbpf}"]


def test_every_function_that_it_has_binds(newer_libbpf: str) -> None:
    code = """
from libbpf_ctypes import raw
from libbpf_ctypes._ffi import prototype
from libbpf_ctypes._libbpf import FUNCTIONS
for name in FUNCTIONS:
    if tuple(map(int, raw.since(name).split("."))) <= (1, 5):
        assert getattr(raw, name).argtypes == prototype(name).arguments
        print(name)
"""
    assert len(told(newer_libbpf, code)) >= 330


def test_the_shipped_object_opens(newer_libbpf: str) -> None:
    code = """
from libbpf_ctypes import KPROBE_OBJECT, BpfObject
with BpfObject.open(KPROBE_OBJECT) as obj:
    print(obj.programs["syscall_kprobe"].name)
    print(obj.programs["syscall_kprobe"].type.name, obj.maps["EVENTS"].type.name)
    obj.variables["target_pid"].value = 7
    print(obj.variables["target_pid"].value)
"""
    assert told(newer_libbpf, code) == ["syscall_kprobe", "KPROBE PERF_EVENT_ARRAY", "7"]


def test_a_damaged_object_is_refused_with_its_log(newer_libbpf: str) -> None:
    code = """
from libbpf_ctypes import KPROBE_OBJECT, BpfError, BpfObject
whole = KPROBE_OBJECT.read_bytes()
try:
    BpfObject.open(whole[:64] + bytes(len(whole) - 64))
except BpfError as error:
    print(error)
    print(error.log)
"""
    error, *log = told(newer_libbpf, code)
    assert error.startswith("open object of ")
    assert "The file is damaged" in error
    assert log[0].startswith("libbpf: ")
