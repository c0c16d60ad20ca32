"""The shipped object, loaded and attached by uprobe to libc's open64."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest

from libbpf_ctypes import KPROBE_OBJECT, BpfObject, ClosedError, Link, library_version

from ..conftest import Compile, lacking
from .getppid import READERS, SOURCE, Make, choose, running
from .tool import LOAD, SLOW_LOAD, Caller, Tool, wait_until

#: Called through ctypes, so that a test knows the first argument: an address.
LIBC = ctypes.CDLL(None, use_errno=True)


def call_open64(path: ctypes.Array[ctypes.c_char], times: int = 1) -> int:
    """Calls open64(path) so often; returns the register that each event carries."""
    for _ in range(times):
        fd = LIBC.open64(path, os.O_RDONLY)
        if fd >= 0:
            os.close(fd)
    return ctypes.addressof(path)


def close_during_poll(buffer: Any, timeout: float, meanwhile: Callable[[], object]) -> None:
    """Closes a buffer that another thread polls: an orderly end on both sides."""
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                buffer.poll(timeout)
        except ClosedError:
            pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    meanwhile()
    buffer.close()
    thread.join(60)
    assert not thread.is_alive()
    assert errors == []


@pytest.fixture
def loaded() -> Iterator[BpfObject]:
    """The shipped object, loaded, tracing this process only."""
    with BpfObject.open(KPROBE_OBJECT) as obj:
        obj.variables["target_pid"].value = os.getpid()
        obj.variables["preemptible"].value = True  # it runs by uprobe
        obj.load()
        yield obj


@pytest.fixture
def attach(loaded: BpfObject) -> Callable[[], Link]:
    """Attaches the loaded program to open64; closed with the object."""
    return lambda: loaded.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64")


def _running(code: str) -> Iterator[Tool]:
    """A Python process that has begun to open, and runs until the test ends."""
    begun = "print(flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", begun + code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.stdout.close()
    process.kill()
    process.wait()


@pytest.fixture
def load() -> Iterator[Tool]:
    """A process that opens as fast as it can."""
    yield from _running(LOAD)


@pytest.fixture
def slow_load() -> Iterator[Tool]:
    """A process that opens 50 times a second."""
    yield from _running(SLOW_LOAD)


@pytest.fixture
def caller() -> Iterator[Caller]:
    """A process that opens when it is told to."""
    made = Caller()
    yield made
    made.end()


def has_libbpf(version: str) -> bool:
    """Whether the loaded libbpf is of this version or newer."""
    numbers = [[int(part) for part in text.split(".")] for text in (library_version(), version)]
    return numbers[0] >= numbers[1]


@pytest.fixture(scope="session")
def tracefs() -> Iterator[Path]:
    """Where tracefs is mounted, if need be for the tests."""
    folder = Path("/sys/kernel/tracing")
    if (folder / "events").is_dir():
        yield folder
        return
    subprocess.run(["mount", "-t", "tracefs", "tracefs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A new cgroup of version 2."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if root is None:
        lacking("needs a mounted cgroup of version 2")
    made = root / f"libbpf-ctypes-{os.getpid()}"
    made.mkdir()
    yield made
    remove(made)


def remove(*cgroups: Path) -> None:
    """Removes cgroups, as soon as what was in them has ended."""

    def removed(cgroup: Path) -> bool:
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        return not cgroup.exists()

    for cgroup in cgroups:
        wait_until(partial(removed, cgroup))


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    folder = tmp_path / "bpffs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def getppid_object(compile_bpf: Compile) -> Path:
    """The object of getppid.py."""
    return compile_bpf(SOURCE)


@pytest.fixture(params=READERS)
def make_reader(
    request: pytest.FixtureRequest, getppid_object: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """A function that opens a reader, of each kind, of the events of this process's getppid."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # one CPU's buffer: the events are in order
    with running(getppid_object, choose(request.param, monkeypatch)) as obj:
        yield Make(obj, request.param)
    os.sched_setaffinity(0, before)


def number_of_fds() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
