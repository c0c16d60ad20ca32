"""What the kernel tells of programs, maps, links and BTF by their descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    Link,
    btf_info,
    link_info,
    map_info,
    program_info,
    raw,
)
from libbpf_ctypes.enums import LinkType, MapType, ProgramType
from libbpf_ctypes.info import descriptor_kind
from libbpf_ctypes.link_details import UprobeDetails

from ..pure.helpers import run_python
from .tool import ROOT


def program_fd(obj: BpfObject) -> int:
    return int(raw.bpf_program__fd(obj.programs["syscall_kprobe"]))


def test_a_program(loaded: BpfObject) -> None:
    info = program_info(program_fd(loaded))
    assert (info.name, info.type) == ("syscall_kprobe", ProgramType.KPROBE)
    assert info.id > 0
    age = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - info.load_time_ns
    assert 0 < age < 60 * 10**9
    assert info.created_by_uid == os.geteuid()
    assert info.gpl_compatible
    assert len(bytes.fromhex(info.tag)) == 8
    assert info.xlated_prog_len % 8 == 0 < info.xlated_prog_len
    assert info.verified_insns > 0
    assert map_info(loaded.maps["EVENTS"].fd).id in info.map_ids
    assert len(info.map_ids) == len(set(info.map_ids)) > 1


def test_a_map(loaded: BpfObject) -> None:
    info = map_info(loaded.maps["EVENTS"].fd)
    assert (info.name, info.type) == ("EVENTS", MapType.PERF_EVENT_ARRAY)
    assert (info.key_size, info.value_size) == (4, 4)
    assert info.max_entries == loaded.maps["EVENTS"].max_entries


def test_btf(loaded: BpfObject) -> None:
    info = btf_info(raw.bpf_object__btf_fd(loaded))
    assert info.id == program_info(program_fd(loaded)).btf_id
    assert (info.name, info.kernel_btf) == ("", False)
    assert info.size > 100


def test_a_link_on_a_user_function(loaded: BpfObject, attach: Callable[[], Link]) -> None:
    with attach() as link:
        info = link_info(raw.bpf_link__fd(link))
    assert info.type == LinkType.PERF_EVENT
    assert info.program_id == program_info(program_fd(loaded)).id
    assert isinstance(info.details, UprobeDetails)
    assert info.details.path.endswith("/libc.so.6")
    assert info.details.offset > 0
    assert not info.details.retprobe


def test_a_descriptor_of_another_kind_is_told(loaded: BpfObject) -> None:
    fd = loaded.maps["EVENTS"].fd
    assert descriptor_kind(fd) == "map"
    assert descriptor_kind(program_fd(loaded)) == "program"
    for ask in (program_info, link_info, btf_info):
        with pytest.raises(BpfError, match="it is a map, no"):
            ask(fd)
    with (
        Path(os.devnull).open("rb") as file,
        pytest.raises(BpfError, match="nothing of BPF's, no map"),
    ):
        map_info(file.fileno())
    with pytest.raises(BpfError, match="no such descriptor"):
        map_info(-1)


def test_without_proc_it_still_opens_what_is_pinned(bpffs: Path) -> None:
    """It cannot see of what kind a descriptor is."""
    code = """
import ctypes, errno, subprocess, sys
from pathlib import Path
from libbpf_ctypes import KPROBE_OBJECT, BpfObject, Map
from libbpf_ctypes.info import descriptor_kind
pin = Path(sys.argv[1], "events")
with BpfObject.open(KPROBE_OBJECT) as obj:
    obj.load()
    obj.maps["EVENTS"].pin(pin)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/proc"], check=True)
    try:
        descriptor_kind(obj.maps["EVENTS"].fd)
    except OSError as error:
        print(errno.errorcode[error.errno])
    with Map.open_pinned(pin) as events:
        print(events.info.name)
"""
    command = ["unshare", "--mount", sys.executable, "-c", code, str(bpffs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ENOENT\nEVENTS\n"), done.stderr


def test_a_process_that_has_changed_its_user_still_asks() -> None:
    """It may not look at its own descriptors in /proc."""
    code = """
import os
from libbpf_ctypes import KPROBE_OBJECT, BpfObject, map_info
with BpfObject.open(KPROBE_OBJECT) as obj:
    obj.load()
    fd = obj.maps["EVENTS"].fd
    os.setuid(65534)
    print(map_info(fd).name)
"""
    done = run_python(code)
    assert (done.returncode, done.stdout) == (0, "EVENTS\n"), done.stderr
