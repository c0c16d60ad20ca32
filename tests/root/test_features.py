"""What this kernel can do: the answers, and what those hear who may not ask."""

from __future__ import annotations

import errno
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import BpfError, NotFoundError, features
from libbpf_ctypes.btf import Btf
from libbpf_ctypes.enums import MapType, ProgramType

from ..conftest import lacking
from .tool import ROOT

REPORT = """
import json
from libbpf_ctypes import features
print(json.dumps([line._asdict() for line in features.report()]))
"""
NOBODY = ["setpriv", "--reuid", "65534", "--clear-groups"]
NONE = ["--inh-caps=-all"]
TRACER = ["--inh-caps=-all,+cap_38,+cap_39", "--ambient-caps=+cap_38,+cap_39"]  # PERFMON, BPF


def report(*before: str) -> dict[str, dict[str, Any]]:
    """Each line of report(), by its name, as another user hears it."""
    command = [*before, sys.executable, "-c", REPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {line["name"]: line for line in json.loads(done.stdout)}


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
    code = """
import os
from libbpf_ctypes import features
before = len(os.listdir("/proc/self/fd"))
features.report()
print(len(os.listdir("/proc/self/fd")) - before)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_without_privilege_there_is_no_false_no() -> None:
    mine, theirs = report(), report(*NOBODY, *NONE)
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
    mine, theirs = report(), report(*NOBODY, *TRACER)
    for name, line in theirs.items():
        assert line["answer"] in (None, mine[name]["answer"]), name
        if line["answer"] is None and mine[name]["answer"] is not None:
            assert "Missing CAP_NET_ADMIN" in line["reason"], line
    for name in ("has_ring_buffer", "has_kprobe_multi", "program type KPROBE", "map type HASH"):
        assert theirs[name]["answer"] is mine[name]["answer"] is not None


def test_root_of_a_user_namespace_has_no_capability_here() -> None:
    mine, theirs = report(), report("unshare", "--user", "--map-root-user")
    for name, line in theirs.items():
        assert line["answer"] in (None, mine[name]["answer"]), name
    assert theirs["program type KPROBE"]["answer"] is None
    assert theirs["map type LRU_HASH"]["answer"] is None


def test_missing_capabilities() -> None:
    code = """
from libbpf_ctypes import features
from libbpf_ctypes.enums import MapType, ProgramType
ask = features.missing_capabilities
print(ask(), ask("network"), ask("introspection"), ask(ProgramType.XDP), ask(MapType.HASH))
"""

    def told(*before: str) -> str:
        command = [*before, sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return done.stdout.strip()

    both = "('CAP_BPF', 'CAP_PERFMON')"
    net = "('CAP_BPF', 'CAP_NET_ADMIN')"
    assert told() == "() () () () ()"
    assert told(*NOBODY, *NONE) == f"{both} {net} ('CAP_SYS_ADMIN',) {net} ('CAP_BPF',)"
    only = "('CAP_NET_ADMIN',)"
    assert told(*NOBODY, *TRACER) == f"() {only} ('CAP_SYS_ADMIN',) {only} ()"
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
