"""What this kernel can do: the answers, and what those hear who may not ask."""

from __future__ import annotations

import errno
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from libbpf_ctypes import BpfError, NotFoundError, features
from libbpf_ctypes.btf import Btf
from libbpf_ctypes.enums import MapType, ProgramType

from ..conftest import lacking
from .tool import ROOT

#: All is read and loaded before the process becomes another user, who may not read it.
BECOME = """
import ctypes, difflib, encodings.ascii, json, os, struct
from libbpf_ctypes import features, layout, library_version
from libbpf_ctypes.enums import MapType, ProgramType

def become_nobody(*capabilities):
    libc = ctypes.CDLL(None)
    assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    mask = sum(1 << number for number in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    assert libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)) == 0

library_version()
"""
REPORT = "print(json.dumps([line._asdict() for line in features.report()]))"
NOBODY = "become_nobody()"
TRACER = "become_nobody(38, 39)"  # CAP_PERFMON, CAP_BPF


def told(*lines: str, before: tuple[str, ...] = ()) -> str:
    """What this code prints."""
    command = [*before, sys.executable, "-c", "\n".join([BECOME, *lines])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def report(*lines: str, before: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Each line of report(), by its name, after this code."""
    answers = json.loads(told(*lines, REPORT, before=before))
    return {line["name"]: line for line in answers}


def config() -> dict[str, str]:
    """How this kernel was built."""
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        lacking("needs /proc/config.gz")
    lines = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name[7:]: value for name, _, value in lines}


def test_the_answers_are_those_of_the_kernels_configuration() -> None:
    built = config()

    def has(name: str) -> bool:
        return name in built

    probes = has("KPROBES") and has("KPROBE_EVENTS")
    assert features.has_kprobes() is probes
    assert features.has_uprobes() is has("UPROBE_EVENTS")
    assert features.has_kprobe_multi() is has("FPROBE")
    assert features.has_kprobe_session() is has("FPROBE")
    assert features.has_uprobe_multi() is has("UPROBE_EVENTS")
    assert features.has_tcx() is has("NET_XGRESS")
    assert features.has_netkit() is has("NETKIT")
    assert features.has_netfilter() is has("NETFILTER_BPF_LINK")
    assert features.has_btf() is has("DEBUG_INFO_BTF")
    assert features.has_module_btf() is has("DEBUG_INFO_BTF_MODULES")
    assert features.has_program_type(ProgramType.LIRC_MODE2) is has("BPF_LIRC_MODE2")
    assert features.has_program_type(ProgramType.XDP) is has("NET")
    assert features.has_map_type(MapType.XSKMAP) is has("XDP_SOCKETS")
    assert features.has_map_type(MapType.CGROUP_STORAGE) is has("CGROUP_BPF")


def test_what_kernels_have_for_long() -> None:
    assert features.has_ring_buffer()
    assert features.has_map_batch()
    assert features.has_perf_link()
    assert features.has_bpf_cookie()
    for name in ["SOCKET_FILTER", "KPROBE", "TRACEPOINT", "RAW_TRACEPOINT", "PERF_EVENT"]:
        assert features.has_program_type(ProgramType[name])
    for name in [
        "HASH",
        "ARRAY",
        "PERCPU_HASH",
        "LRU_HASH",
        "LPM_TRIE",
        "QUEUE",
        "STACK",
        "RINGBUF",
    ]:
        assert features.has_map_type(MapType[name])


def test_what_no_kernel_has() -> None:
    assert not features.has_program_type(ProgramType.UNSPEC)
    assert not features.has_map_type(MapType.UNSPEC)
    for ask, number in ((features.has_program_type, 7777), (features.has_map_type, 7777)):
        with pytest.raises(BpfError, match="does not know it"):
            ask(number)


def test_types_newer_than_libbpf_are_tried() -> None:
    """libbpf 1.1 knows neither; the kernel's own BTF says what is in it."""
    with Btf.kernel() as btf:
        enums = dict(btf.layout("enum bpf_map_type").constants)
    assert features.has_map_type(MapType.ARENA) is ("BPF_MAP_TYPE_ARENA" in enums)
    assert features.has_map_type(MapType.INSN_ARRAY) is ("BPF_MAP_TYPE_INSN_ARRAY" in enums)
    assert features.has_map_type(MapType.USER_RINGBUF) is ("BPF_MAP_TYPE_USER_RINGBUF" in enums)


def test_helpers() -> None:
    assert features.has_helper(ProgramType.KPROBE, "ringbuf_output")
    assert features.has_helper(ProgramType.KPROBE, "bpf_ringbuf_output")
    assert features.has_helper(ProgramType.KPROBE, 130)
    assert features.has_helper(ProgramType.XDP, "xdp_adjust_head")
    assert not features.has_helper(ProgramType.KPROBE, "xdp_adjust_head")
    assert not features.has_helper(ProgramType.XDP, "get_attach_cookie")
    assert not features.has_helper(ProgramType.KPROBE, 99999)
    with pytest.raises(NotFoundError, match="Did you mean: ringbuf_output"):
        features.has_helper(ProgramType.KPROBE, "ringbuf_ouput")
    for number in (-1, 1 << 40):
        with pytest.raises(NotFoundError, match="there is none"):
            features.has_helper(ProgramType.KPROBE, number)
    with pytest.raises(TypeError, match="not the name or number of a helper"):
        features.has_helper(ProgramType.KPROBE, cast("Any", None))
    with pytest.raises(BpfError, match="depends on what they are attached to"):
        features.has_helper(ProgramType.EXT, "ringbuf_output")


def test_the_ways_to_attach() -> None:
    with_kprobes = features.has_kprobes()
    assert bool(features.attach_methods("kprobe")) is with_kprobes
    assert set(features.attach_methods("uprobe")) >= {"link", "perf"}
    assert features.attach_methods("tracepoint") == ("link", "perf")
    assert features.attach_methods("tc") == (*["link"] * features.has_tcx(), "legacy")
    with pytest.raises(ValueError, match="not kprobe"):
        features.attach_methods("nothing")


def test_an_answer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    features.has_ring_buffer()
    features.has_map_type(MapType.RINGBUF)
    features.has_helper(ProgramType.KPROBE, "ringbuf_output")

    def refuse(*_arguments: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("libbpf_ctypes._probes.load", refuse)
    monkeypatch.setattr("libbpf_ctypes._probes.create_map", refuse)
    monkeypatch.setattr("libbpf_ctypes._kinds.calling", refuse)
    assert features.has_ring_buffer()
    assert features.has_map_type(MapType.RINGBUF)
    assert features.has_helper(ProgramType.KPROBE, "ringbuf_output")


def test_asking_leaves_no_descriptor() -> None:
    count = 'len(os.listdir("/proc/self/fd"))'
    assert told(f"before = {count}", "features.report()", f"print({count} - before)") == "0"


def test_without_privilege_there_is_no_false_no() -> None:
    mine, theirs = report(), report(NOBODY)
    assert mine.keys() == theirs.keys()
    for name, line in theirs.items():
        assert line["answer"] in (None, mine[name]["answer"]), name
        if line["answer"] is None and mine[name]["answer"] is not None:
            assert "Missing CAP_BPF" in line["reason"], line
            assert line["reason"].startswith("find out whether this kernel has "), line
    unknown = [name for name, line in theirs.items() if line["answer"] is None]
    assert len(unknown) > len(theirs) - 10
    assert theirs["has_btf"]["answer"] is mine["has_btf"]["answer"]


def test_with_two_capabilities_what_needs_no_other_is_answered() -> None:
    mine, theirs = report(), report(TRACER)
    for name, line in theirs.items():
        assert line["answer"] in (None, mine[name]["answer"]), name
        if line["answer"] is None and mine[name]["answer"] is not None:
            assert "Missing CAP_NET_ADMIN" in line["reason"], line
    for name in ("has_ring_buffer", "has_kprobe_multi", "program type KPROBE", "map type HASH"):
        assert theirs[name]["answer"] is mine[name]["answer"] is not None


def test_root_of_a_user_namespace_has_no_capability_here() -> None:
    mine, theirs = report(), report(before=("unshare", "--user", "--map-root-user"))
    for name, line in theirs.items():
        assert line["answer"] in (None, mine[name]["answer"]), name
    assert theirs["program type KPROBE"]["answer"] is None
    assert theirs["map type LRU_HASH"]["answer"] is None


def test_missing_capabilities() -> None:
    ask = """
ask = features.missing_capabilities
print(ask(), ask("network"), ask("introspection"), ask(ProgramType.XDP), ask(MapType.HASH))
"""
    both = "('CAP_BPF', 'CAP_PERFMON')"
    net = "('CAP_BPF', 'CAP_NET_ADMIN')"
    assert told(ask) == "() () () () ()"
    assert told(NOBODY, ask) == f"{both} {net} ('CAP_SYS_ADMIN',) {net} ('CAP_BPF',)"
    only = "('CAP_NET_ADMIN',)"
    assert told(TRACER, ask) == f"() {only} ('CAP_SYS_ADMIN',) {only} ()"
    with pytest.raises(ValueError, match="not one of tracing"):
        features.missing_capabilities("nothing")


def test_a_policy_that_forbids_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As seccomp does, or the policy of this machine with fentry."""

    def refuse(*_arguments: object) -> int:
        raise BpfError("bpf_prog_load", errno.EPERM)

    from libbpf_ctypes._ffi import lib

    monkeypatch.setattr(lib, "bpf_prog_load", refuse, raising=False)
    monkeypatch.setattr(lib, "libbpf_probe_bpf_prog_type", lambda *_: 0, raising=False)
    with pytest.raises(BpfError, match="this process may not ask") as told:
        features.has_program_type.__wrapped__(ProgramType.XDP)
    assert told.value.errno == errno.EPERM
    assert "seccomp" in told.value.hint
