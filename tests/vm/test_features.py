"""What Debian's 6.1 and 6.12 can do, against a table written from their sources."""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes.enums import MapType, ProgramType

from ..conftest import Compile
from .conftest import HERE, Guest

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PROGRAM(section, name) SEC(section) int name(void *ctx) { return 0; }
PROGRAM("kprobe", on_kprobe)
PROGRAM("kretprobe", on_kretprobe)
PROGRAM("kprobe.multi", on_multi)
PROGRAM("uprobe", on_uprobe)
PROGRAM("tp/sched/sched_switch", on_tracepoint)
PROGRAM("raw_tp/sched_switch", on_raw)
PROGRAM("fentry/vfs_read", on_fentry)
PROGRAM("lsm/file_open", on_lsm)
PROGRAM("iter/task", on_iterator)
SEC("cgroup_skb/egress") int on_egress(void *ctx) { return 1; }
SEC("xdp") int on_xdp(void *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
"""

#: Each feature: on 6.1, on 6.12, and what of the configuration it needs.
TRUTH = {
    "has_kprobes": (True, True, "KPROBES"),
    "has_uprobes": (True, True, "UPROBES"),
    "has_perf_link": (True, True, "PERF_EVENTS"),
    "has_bpf_cookie": (True, True, "BPF_EVENTS"),
    "has_kprobe_multi": (False, True, "FPROBE"),  # in the sources since 5.18
    "has_kprobe_session": (False, True, "FPROBE"),  # 6.10
    "has_uprobe_multi": (False, True, "UPROBES"),  # 6.6
    "has_uprobe_session": (False, False, "UPROBES"),  # 6.13
    "has_tcx": (False, True, "NET_XGRESS"),  # 6.6
    "has_netkit": (False, True, "NETKIT"),  # 6.7
    "has_netfilter": (False, True, "NETFILTER_BPF_LINK"),  # 6.4
    "has_ring_buffer": (True, True, "BPF_SYSCALL"),
    "has_user_ring_buffer": (True, True, "BPF_SYSCALL"),  # 6.1
    "has_arena": (False, True, "BPF_SYSCALL"),  # 6.9
    "has_map_batch": (True, True, "BPF_SYSCALL"),
    "has_btf": (True, True, "DEBUG_INFO_BTF"),
    "has_module_btf": (True, True, "DEBUG_INFO_BTF_MODULES"),
    "has_fentry": (True, True, "DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    "has_iterators": (True, True, "BPF_SYSCALL"),
    "has_bpf_lsm": (True, True, "BPF_LSM"),
}
#: Types that are not on both: on 6.1, on 6.12.
TYPES = {
    "program type LIRC_MODE2": (False, False),  # CONFIG_BPF_LIRC_MODE2
    "program type NETFILTER": (False, True),  # 6.4
    "map type CGRP_STORAGE": (False, True),  # 6.2
    "map type ARENA": (False, True),  # 6.9
    "map type INSN_ARRAY": (False, False),  # 6.19
}
HELPERS = {
    "KPROBE ringbuf_output": (True, True),
    "KPROBE get_attach_cookie": (True, True),
    "KPROBE xdp_adjust_head": (False, False),
    "KPROBE cgrp_storage_get": (False, True),  # 6.2
    "KPROBE override_return": (False, False),  # CONFIG_BPF_KPROBE_OVERRIDE
    "TRACING get_func_ip": (True, True),
    "TRACING xdp_adjust_head": (False, False),
    "LSM get_attach_cookie": (True, True),
    "XDP xdp_adjust_head": (True, True),
    "XDP user_ringbuf_drain": (True, True),  # 6.1
}
METHODS = {
    "kprobe": (["link", "perf", "legacy"], ["multi", "link", "perf", "legacy"]),
    "uprobe": (["link", "perf", "legacy"], ["multi", "link", "perf", "legacy"]),
    "tracepoint": (["link", "perf"], ["link", "perf"]),
    "tc": (["legacy"], ["link", "legacy"]),
}

_told: dict[str, dict[str, Any]] = {}


@pytest.fixture
def told(guest: Guest, compile_bpf: Compile) -> dict[str, Any]:
    """What the guest's script printed; it runs once on each kernel."""
    if guest.kernel not in _told:
        script = str(HERE / "features_guest.py")
        done = guest.run(sys.executable, script, str(compile_object(compile_bpf)))
        assert done.returncode == 0, done.stderr
        _told[guest.kernel] = json.loads(done.stdout)
    return _told[guest.kernel]


@lru_cache(maxsize=1)
def compile_object(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE, "-Wno-unused-parameter")


def column(guest: Guest) -> int:
    return ("6.1", "6.12").index(guest.kernel)


def config(guest: Guest) -> set[str]:
    """What the kernel was built with, as its package says."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "libbpf_ctypes" / "kernels" / guest.kernel / "boot"
    lines = (folder / f"config-{guest.release}").read_text(encoding="utf-8").splitlines()
    return {line.partition("=")[0][7:] for line in lines if line.startswith("CONFIG_")}


def test_every_feature(guest: Guest, told: dict[str, Any]) -> None:
    answers = {name: answer for name, answer in told["report"].items() if name[:4] == "has_"}
    assert answers == {name: truth[column(guest)] for name, truth in TRUTH.items()}
    assert told["reasons"] == []


def test_the_table_is_not_against_the_configuration(guest: Guest) -> None:
    built = config(guest)
    for name, truth in TRUTH.items():
        assert not truth[column(guest)] or truth[2] in built, name
    assert ("FPROBE" in built) is TRUTH["has_kprobe_multi"][column(guest)]
    assert not {"BPF_LIRC_MODE2", "BPF_KPROBE_OVERRIDE"} & built


def test_every_type(guest: Guest, told: dict[str, Any]) -> None:
    types = [f"program type {kind.name}" for kind in ProgramType if kind]
    types += [f"map type {kind.name}" for kind in MapType if kind]
    answers = {name: answer for name, answer in told["report"].items() if " type " in name}
    expected = {name: TYPES.get(name, (True, True))[column(guest)] for name in types}
    assert answers == expected


def test_helpers(guest: Guest, told: dict[str, Any]) -> None:
    assert told["helpers"] == {name: truth[column(guest)] for name, truth in HELPERS.items()}


def test_the_ways_to_attach(guest: Guest, told: dict[str, Any]) -> None:
    assert told["methods"] == {what: truth[column(guest)] for what, truth in METHODS.items()}
    assert told["missing"] == []


def test_nothing_is_left_open(told: dict[str, Any]) -> None:
    assert told["left"] == 0


def test_what_links_say(guest: Guest, told: dict[str, Any]) -> None:
    links = told["links"]
    new = guest.kernel != "6.1"
    if not new:
        assert "error" in links.pop("multi")
    assert all(link.get("listed") for link in links.values()), links
    details = {name: link["details"] for name, link in links.items()}
    kinds = {name: link["kind"] for name, link in links.items()}
    assert details["raw"]["name"] == "sched_switch"
    assert details["fentry"]["attach_type"] == 24
    assert details["fentry"]["target_btf_id"] > 0
    assert details["lsm"]["attach_type"] == 27
    assert details["iterator"]["target_name"] == "task"
    assert details["egress"]["cgroup_id"] > 0
    assert details["xdp"]["ifindex"] == 1
    if not new:  # it does not tell of perf events
        assert {details[name] for name in ("kprobe", "kretprobe", "uprobe", "tracepoint")} == {None}
        return
    assert (details["kprobe"]["function"], details["kprobe"]["cookie"]) == ("vfs_read", 7)
    assert (details["kprobe"]["retprobe"], details["kretprobe"]["retprobe"]) == (False, True)
    assert details["kprobe"]["address"] > 0
    assert kinds["kprobe"] == kinds["kretprobe"] == "KprobeDetails"
    assert details["multi"]["cookies"] in ([8, 9], [9, 8])  # by address
    assert all(details["multi"]["addresses"])
    assert details["uprobe"]["path"].endswith("libc.so.6")
    assert (details["uprobe"]["offset"] > 0, details["uprobe"]["cookie"]) == (True, 5)
    assert details["tracepoint"]["name"] == "sched_switch"


def test_types_of_the_kernel_and_of_a_module(told: dict[str, Any]) -> None:
    types = told["types"]
    wanted = "do_sys_openat2(int dfd, const char *filename, struct open_how *how)"
    assert types["prototype"].endswith(wanted)
    assert types["task"] > 4096
    assert "overlay" in types["modules"]
    wanted = "int ovl_open(struct inode *inode, struct file *file)"
    assert [types[name] for name in ("ovl_open", "alone", "by_id")] == [wanted] * 3
    assert types["own"]
    assert types["dump"]
    assert types["listed"]
