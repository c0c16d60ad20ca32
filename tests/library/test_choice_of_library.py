"""LIBBPF_CTYPES_LIBRARY: each library that will not do is refused, with what to install."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from libbpf_ctypes import library_path, library_version

from ..conftest import Compile
from ..pure.helpers import ROOT, run_python, run_tool

ENVIRONMENT = "LIBBPF_CTYPES_LIBRARY"
VERSIONS = """
unsigned libbpf_major_version(void) { return %d; }
unsigned libbpf_minor_version(void) { return %d; }
"""


@pytest.fixture(scope="session")
def old_libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real libbpf 0.3, of Debian 11."""
    folder = tmp_path_factory.mktemp("bullseye") / "libbpf0"
    command = [str(ROOT / "bin" / "debian-package"), "bullseye", "libbpf0", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"cannot fetch Debian 11's libbpf0: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return next(folder.rglob("libbpf.so.0"))


Request = Callable[[str], str]


@pytest.fixture
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Request:
    """A function that makes the library of this name and returns its path."""

    def make(what: str) -> str:
        if what == "libbpf 0.3":
            return str(request.getfixturevalue("old_libbpf"))
        if what == "text":
            (tmp_path / "libbpf.so.1").write_text("no library\n" * 99, encoding="ascii")
            return str(tmp_path / "libbpf.so.1")
        if what.startswith("version "):
            compile_library: Compile = request.getfixturevalue("compile_library")
            numbers = tuple(int(word) for word in what[8:].split("."))
            return str(compile_library(VERSIONS % numbers))
        return what

    return make


REFUSED = {
    "/nonexistent/libbpf.so.1": "No such file",
    "libnonexistent.so.7": "No such file",
    "/": "directory",
    "text": "invalid ELF header",
    "libc.so.6": "this is no libbpf",
    "libbpf 0.3": "this is libbpf 0.x, too old",
    "version 0.8": "this is libbpf 0.x",
    "version 2.0": "this is libbpf 2.x",
    "version 1.0": "needs libbpf",
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_library_says_why_and_what_to_install(what: str, library: Request) -> None:
    path = library(what)
    code = """
from libbpf_ctypes import KPROBE_OBJECT, BpfObject, LibraryError
try:
    BpfObject.open(KPROBE_OBJECT)
except LibraryError as error:
    print(error.strerror)
    print(error)
"""
    done = run_python(code, LIBBPF_CTYPES_LIBRARY=path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    reason, text = done.stdout.splitlines()
    assert REFUSED[what] in reason
    assert path in text
    assert "apt install libbpf1" in text
    assert ENVIRONMENT in text


@pytest.mark.parametrize("what", REFUSED)
def test_the_command_says_it_too(what: str, library: Request) -> None:
    path = library(what)
    done = run_tool("kprobe", "vfs_read", "-q", LIBBPF_CTYPES_LIBRARY=path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("[ERROR] ")
    assert REFUSED[what] in done.stderr
    assert path in done.stderr
    assert "apt install libbpf1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_function_names_the_versions_and_the_library(library: Request) -> None:
    path = library("version 1.0")
    code = """
from libbpf_ctypes import LibraryError, library_version
from libbpf_ctypes._ffi import lib
print(library_version())
try:
    lib.bpf_map__lookup_elem
except LibraryError as error:
    print(error.operation, error.strerror, sep=": ")
try:
    lib.bpf_map__no_such_function
except AttributeError as error:
    print(error)
"""
    done = run_python(code, LIBBPF_CTYPES_LIBRARY=path)
    assert done.stdout.splitlines() == [
        "1.0",
        f"bpf_map__lookup_elem: needs libbpf 0.8; {path} is libbpf 1.0",
        "libbpf has no function bpf_map__no_such_function",
    ]


def test_the_library_may_be_named_and_an_empty_name_is_none() -> None:
    code = "import libbpf_ctypes as l; print(l.library_path(), l.library_version())"
    named = run_python(code, LIBBPF_CTYPES_LIBRARY=os.path.realpath(library_path()))
    assert named.stdout == f"{os.path.realpath(library_path())} {library_version()}\n"
    unnamed = run_python(code, LIBBPF_CTYPES_LIBRARY="")
    assert re.fullmatch(r"\S*libbpf\.so\S* 1\.\d+\n", unnamed.stdout), unnamed.stderr


def test_the_version_of_the_command() -> None:
    done = run_tool("--version")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("libbpf 1.")
    assert "libbpf.so" in done.stdout
