"""Every program, map, link and BTF in the kernel."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from libbpf_ctypes import (
    KPROBE_OBJECT,
    BpfError,
    BpfObject,
    Btf,
    Link,
    introspection,
    link_info,
    map_info,
    program_info,
    raw,
)
from libbpf_ctypes.introspection import btfs, links, maps, programs

from ..pure.helpers import run_python
from .tool import ROOT

LISTS: list[Callable[[], Iterator[Any]]] = [programs, maps, links, btfs]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_ours_is_among_them(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    before = descriptors()
    program = program_info(raw.bpf_program__fd(loaded.programs["syscall_kprobe"]))
    assert program in list(programs())
    assert map_info(loaded.maps["EVENTS"].fd) in list(maps())
    assert program.btf_id in [info.id for info in btfs()]
    with attach() as link:
        mine = link_info(raw.bpf_link__fd(link))
        assert mine in list(links())
    assert mine not in list(links())
    assert descriptors() == before


def test_the_kernels_own_types_are_among_them() -> None:
    vmlinux = [info for info in btfs() if info.name == "vmlinux"]
    assert len(vmlinux) == 1
    assert vmlinux[0].kernel_btf
    assert vmlinux[0].size > 1 << 20


@pytest.mark.parametrize("every", LISTS)
def test_ids_ascend(loaded: BpfObject, attach: Callable[[], Link], every: Any) -> None:
    with attach():
        ids = [info.id for info in every()]
    assert ids
    assert ids == sorted(set(ids))


def test_what_vanishes_meanwhile_is_left_out() -> None:
    obj = BpfObject.open(KPROBE_OBJECT)
    obj.load()
    mine = map_info(obj.maps["EVENTS"].fd)
    listed = introspection._ids("map", "map")
    assert mine.id in listed
    obj.close()
    before = descriptors()
    while mine.id in introspection._ids("map", "map"):
        pass  # the kernel frees a map a moment later
    left = [info.id for info in introspection._infos(listed, "map", "map", map_info)]
    assert mine.id not in left
    assert descriptors() == before


def test_an_iteration_that_is_left_leaks_nothing(loaded: BpfObject) -> None:
    before = descriptors()
    for every in LISTS:
        for _ in every():
            break
    assert descriptors() == before


def test_a_refusal_closes_the_descriptor(loaded: BpfObject) -> None:
    before = descriptors()

    def refuse(_fd: int) -> None:
        raise BpfError("read", errno.EPERM)

    with pytest.raises(BpfError):
        list(introspection._every("map", "map", refuse))
    assert descriptors() == before


def test_without_privilege_it_says_what_is_missing() -> None:
    code = """
import os
from libbpf_ctypes import BpfError, library_version
from libbpf_ctypes.introspection import btfs, links, maps, programs
library_version()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for every in (programs, maps, links, btfs):
    try:
        every()
    except BpfError as error:
        print(error.errno, error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for kind, line in zip(("program", "map", "link", "BTF"), lines):
        assert line.startswith(f"{errno.EPERM} list every {kind} in the kernel: ")
        assert "CAP_SYS_ADMIN" in line


def test_many_rounds_leave_no_descriptor(loaded: BpfObject) -> None:
    before = descriptors()
    for _ in range(20):
        for every in LISTS:
            assert all(info.id for info in every())
    assert descriptors() == before


def test_types_by_their_number_in_the_kernel(loaded: BpfObject) -> None:
    before = descriptors()
    identity = program_info(raw.bpf_program__fd(loaded.programs["syscall_kprobe"])).btf_id
    with Btf.open_id(identity) as mine:
        assert mine.layout("struct syscall_event") == loaded.btf.layout("struct syscall_event")
    own = next(info.id for info in btfs() if info.name == "vmlinux")
    with Btf.open_id(own) as kernel, Btf.kernel() as again:
        assert kernel.type_count == again.type_count
    for info in btfs():
        if info.kernel_btf and info.name != "vmlinux":
            with Btf.open_id(info.id) as module:
                assert module.base is not None
            break
    with pytest.raises(BpfError) as told:
        Btf.open_id(0x7FFFFFFF)
    assert told.value.errno == errno.ENOENT
    assert descriptors() == before


def test_a_kernel_without_btf() -> None:
    code = """
import errno, subprocess
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/sys/kernel/btf"], check=True)
from libbpf_ctypes import BpfError, Btf, features
assert Btf.modules() == []
assert not features.has_btf() and not features.has_module_btf() and not features.has_iterators()
for use in (Btf.kernel, lambda: Btf.module("module")):
    try:
        use()
    except BpfError as error:
        print(errno.errorcode[error.errno], error)
"""
    command = ["unshare", "--mount", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("ENOENT read the kernel's BTF: there is none")
        assert "CONFIG_DEBUG_INFO_BTF" in line
