"""Which folder of tests this machine can run (under CI: all); compilers, a newer libbpf."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

Compile = Callable[..., Path]

TESTS = Path(__file__).parent
CI = os.environ.get("CI") == "true"

# Hypothesis measures each example's time, and that of its making: this machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What a shell starts in its background ignores SIGINT, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing_for_library() -> str:
    from libbpf_ctypes import LibraryError, library_version

    try:
        library_version()
    except LibraryError as error:
        return str(error)
    return ""


def _missing_for_root() -> str:
    return "" if os.geteuid() == 0 else "needs root: run 'sudo bin/test'"


def _missing_for_vm() -> str:
    if _missing_for_root():
        return _missing_for_root()
    if not shutil.which("qemu-system-x86_64"):
        return "needs QEMU: 'bin/vm true' sets it up"
    return ""


# Each folder also needs what the ones before it need.
REQUIREMENTS = {
    "pure": (),
    "fleet": (),
    "library": (_missing_for_library,),
    "root": (_missing_for_library, _missing_for_root),
    "vm": (_missing_for_library, _missing_for_vm),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that this machine cannot run and says why; fails it under CI."""
    folder = item.path.relative_to(TESTS).parts[0]
    for missing in REQUIREMENTS[folder]:
        reason = missing()
        if reason:
            lacking(f"tests/{folder} {reason}")


def lacking(reason: str) -> NoReturn:
    """Skips the test, or the module, for this reason; under CI it fails."""
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def need(tool: str) -> str:
    """The path of a program; without it the test is skipped, under CI it fails."""
    return shutil.which(tool) or lacking(f"needs {tool}")


@pytest.fixture(scope="session")
def newer_libbpf() -> str:
    """The path of a real libbpf 1.5, Debian 13's: LIBBPF_CTYPES_LIBRARY of a child process."""
    return _libbpf("trixie")


@pytest.fixture(scope="session")
def newest_libbpf() -> str:
    """The path of Debian's newest libbpf, 1.7 or later."""
    return _libbpf("sid")


def _libbpf(suite: str) -> str:
    command = [str(TESTS.parent / "bin" / "libbpf"), suite]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"needs what 'bin/libbpf {suite}' builds: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def compile_bpf(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function that compiles C to a BPF object, with the flags of bpf/Makefile.

    ``compile_bpf(source, "-O0", target="bpfeb", debug=False)`` returns its path.
    """
    clang = need("clang")
    multiarch = ""
    for question in ("-print-multiarch", "-dumpmachine"):
        answer = subprocess.run([clang, question], capture_output=True, text=True, check=False)
        multiarch = multiarch or answer.stdout.strip()

    def compile_object(
        source: str, *flags: str, target: str = "bpf", name: str = "test.bpf.o", debug: bool = True
    ) -> Path:
        path = tmp_path_factory.mktemp("bpf") / name
        command = [clang, "-O2", "-target", target, "-mcpu=v2", "-Wall", "-Wextra", "-Werror"]
        command += ["-g"] if debug else []
        command += ["-idirafter", f"/usr/include/{multiarch}", *flags]
        command += ["-x", "c", "-c", "-", "-o", str(path)]
        subprocess.run(command, input=source, encoding="utf-8", check=True)
        return path

    return compile_object


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function that compiles C to a shared library of this machine."""
    compiler = need("cc")

    def compile_shared(source: str, name: str = "libtest.so") -> Path:
        path = tmp_path_factory.mktemp("library") / name
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, encoding="utf-8", check=True)
        return path

    return compile_shared
