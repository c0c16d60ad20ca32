"""Modules that ebpf-tool skeleton wrote, used: variables, maps, links, events; vendored, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import BpfError, ClosedError, RingBuffer

from ..conftest import Compile
from ..library.skeletons import SOURCE
from ..library.test_skeleton import load, write
from ..program_types import HEAD, STRUCT_OPS
from ..pure.helpers import PACKAGE
from .conftest import LIBC


@pytest.fixture(scope="module")
def object_file(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE, "-Wno-unused-parameter", name="my-tool.bpf.o")


@pytest.fixture(scope="module")
def module(object_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("skeleton")
    module = load(write(object_file, folder / "my_tool_bpf.py").path)
    shutil.rmtree(folder)  # the module needs no file
    return module


@pytest.fixture
def skel(module: Any) -> Iterator[Any]:
    with module.MyTool.open() as opened:
        opened.variables.target_pid = os.getpid()
        opened.variables.offset = -5
        opened.load()
        yield opened


def test_attach_by_section_events_and_variables(skel: Any, module: Any) -> None:
    skel.attach()
    assert skel.links.on_enter is not None
    assert skel.links.None_ is None, "its section does not say to what"
    with RingBuffer(skel.maps.events, module.CALL) as buffer:
        LIBC.getppid()
        events: list[Any] = buffer.poll(5)
        skel.detach()
    assert skel.links.on_enter is None
    assert {(event.pid, event.ok, event.level) for event in events} == {(os.getpid(), True, "HIGH")}
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert skel.variables.bytes_ >= len(events)
    assert skel.variables.offset == -5
    count = skel.variables.bytes_
    LIBC.getppid()
    assert skel.variables.bytes_ == count, "it is detached"
    skel.attach()
    skel.variables.class_ = 40  # which each event carries
    skel.variables._private = 2
    with RingBuffer(skel.maps.events, module.CALL) as buffer:
        buffer.poll(0)
        LIBC.getppid()
        assert buffer.poll(5)[-1].count == 42


def test_a_link_of_ones_own_and_maps(skel: Any, module: Any) -> None:
    skel.links.None_ = skel.programs.None_.attach_uprobe("libc.so.6", "getppid", pid=os.getpid())
    skel.attach()
    own = skel.links.None_
    for _ in range(7):
        LIBC.getppid()
    assert skel.maps.import_[1] == 7
    skel.maps.import_[1] += 5
    assert dict(skel.maps.import_) == {0: 0, 1: 12, 2: 0, 3: 0}
    skel.maps.Map[module.Key(cpu=3)] = module.NONE.record(index=7)
    assert [(key.cpu, none.index) for key, none in skel.maps.Map.items()] == [(3, 7)]
    assert skel.links.None_ is own, "attach() leaves it as it is"
    skel.detach()
    assert own.closed


def test_constants_are_constant_and_closed_is_closed(skel: Any) -> None:
    with pytest.raises(BpfError, match="set variable target_pid"):
        skel.variables.target_pid = 1
    skel.attach()
    link = skel.links.on_enter
    skel.close()
    assert link.closed
    with pytest.raises(ClosedError):
        _ = skel.variables.offset


def test_programs_that_are_switched_off_are_left_out(module: Any) -> None:
    with module.MyTool.open() as skel:
        skel.programs.None_.autoload = False
        skel.programs.on_enter.autoattach = False
        skel.load()
        skel.attach()
        assert set(vars(skel.links).values()) == {None}


def test_what_cannot_be_attached_leaves_nothing(compile_bpf: Compile, tmp_path: Path) -> None:
    source = """
__attribute__((section("raw_tp/sys_enter"), used)) int good(void *c) { return c == 0; }
__attribute__((section("raw_tp/no_such_tracepoint"), used)) int bad(void *c) { return c == 0; }
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
"""
    module: Any = load(write(compile_bpf(source, name="two.o"), tmp_path / "two.py").path)
    with module.Two.open() as skel:
        skel.load()
        with pytest.raises(BpfError, match="no_such_tracepoint"):
            skel.attach()
        assert list(vars(skel.links).items()) == [("good", None), ("bad", None)]


def test_a_struct_ops_map_is_attached(compile_bpf: Compile, tmp_path: Path) -> None:
    source = (HEAD + STRUCT_OPS).replace('"program_types"', '"skeleton_ops"')
    path = compile_bpf(source, "-Wno-unused-parameter", name="ops.o")
    module: Any = load(write(path, tmp_path / "ops.py").path)
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with module.Ops.open() as skel:
        assert dict.fromkeys(("program", "congestion")).items() <= vars(skel.links).items()
        skel.load()
        skel.attach()
        assert skel.links.congestion is not None
        assert "skeleton_ops" in known.read_text().split()
        skel.detach()
        assert skel.links.congestion is None
        assert "skeleton_ops" not in known.read_text().split()


TOOL = """
from .two_bpf import CALL, MyTool
from .vendor.bpf import RingBuffer
import os, sys

with MyTool.open() as skel:
    skel.variables.target_pid = os.getpid()
    skel.load()
    skel.attach()
    with RingBuffer(skel.maps.events, CALL) as buffer:
        os.getppid()
        print(buffer.poll(5)[0].comm)
assert not [name for name in sys.modules if name.startswith("libbpf_ctypes")]
"""


def test_vendored_under_another_name(object_file: Path, tmp_path: Path) -> None:
    tool = tmp_path / "mytool"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tool / "vendor" / "bpf", ignore=ignore)
    for folder in (tool, tool / "vendor"):
        (folder / "__init__.py").touch()
    (tool / "__main__.py").write_text(TOOL, encoding="utf-8")
    write(object_file, tool / "two_bpf.py", "--package=.vendor.bpf")
    done = subprocess.run(
        [sys.executable, "-m", "mytool"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("python")
