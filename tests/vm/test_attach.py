"""Every way to attach that needs a real kernel: each is seen to run there, or says why not."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Compile
from .conftest import HERE, Guest

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define KERNEL __attribute__((preserve_access_index))
const volatile __u32 pid = 0;
__u64 hits = 0, cookie = 0, sum = 0;
char LICENSE[] SEC("license") = "GPL";

static __always_inline int ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == pid;
}

static __always_inline int note(void *ctx)
{
	if (!ours())
		return 0;
	__sync_fetch_and_add(&hits, 1);
	cookie = bpf_get_attach_cookie(ctx);
	__sync_fetch_and_add(&sum, cookie);
	return 0;
}

static __always_inline int count(void *ctx)
{
	if (ctx && ours())
		__sync_fetch_and_add(&hits, 1);
	return 0;
}

SEC("kprobe") int on_kprobe(void *ctx) { return note(ctx); }
SEC("kprobe/__x64_sys_getppid") int on_kprobe_section(void *ctx) { return note(ctx); }
SEC("kprobe.multi") int on_kprobe_multi(void *ctx) { return note(ctx); }
SEC("kprobe.session") int on_session(void *ctx) { return note(ctx); }
SEC("uprobe.multi") int on_uprobe_multi(void *ctx) { return note(ctx); }
SEC("fentry/do_sys_openat2") int on_fentry(void *ctx) { return note(ctx); }
SEC("fexit/do_sys_openat2") int on_fexit(void *ctx) { return note(ctx); }
SEC("raw_tp") int on_raw(void *ctx) { return count(ctx); }
SEC("raw_tp") int on_raw_cookie(void *ctx) { return note(ctx); }

SEC("tp_btf/sys_enter") int on_tp_btf(__u64 *ctx)
{
	return ctx[1] == 110 ? count(ctx) : 0;	/* getppid */
}

SEC("fmod_ret/security_inode_mkdir") int on_fmod_ret(void *ctx)
{
	note(ctx);
	return ours() ? -1 : 0;
}

SEC("lsm/inode_mkdir") int on_lsm(void *ctx)
{
	count(ctx);
	return ours() ? -1 : 0;
}

SEC("lsm_cgroup/socket_bind") int on_lsm_cgroup(void *ctx)
{
	count(ctx);
	return !ours();
}

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } KERNEL;
struct task_struct { int tgid; } KERNEL;
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } KERNEL;

SEC("iter/task") int on_tasks(struct bpf_iter__task *ctx)
{
	static const char format[] = "%d\\n";
	struct task_struct *task = ctx->task;
	__u64 value;

	if (!task)
		return 0;
	value = task->tgid;
	bpf_seq_printf(ctx->meta->seq, format, sizeof(format), &value, sizeof(value));
	return 0;
}

static __always_inline int packet(struct __sk_buff *skb)
{
	if (skb->protocol == 0x0008)	/* IPv4 in network order: not what IPv6 sends by itself */
		__sync_fetch_and_add(&hits, 1);
	return -1;
}
SEC("tcx/ingress") int on_tcx(struct __sk_buff *skb) { return packet(skb); }
SEC("netkit/primary") int on_netkit(struct __sk_buff *skb) { return packet(skb); }
"""

STRUCT_OPS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct sock;
struct tcp_congestion_ops {
	char name[16];
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
};
__u64 hits = 0;
char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/init") void init(__u64 *ctx) { hits += ctx != 0; }
SEC("struct_ops/ssthresh") __u32 ssthresh(__u64 *ctx) { return ctx ? 2 : 3; }
SEC("struct_ops/undo_cwnd") __u32 undo_cwnd(__u64 *ctx) { return ctx ? 2 : 3; }
SEC("struct_ops/cong_avoid") void cong_avoid(__u64 *ctx) { hits += ctx != 0; }

SEC(".struct_ops") struct tcp_congestion_ops ours = {
	.name = "bpf_ours",
	.ssthresh = (void *)ssthresh,
	.cong_avoid = (void *)cong_avoid,
	.undo_cwnd = (void *)undo_cwnd,
	.init = (void *)init,
};
"""

FREPLACE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";

__attribute__((noinline)) int chosen(struct xdp_md *ctx)
{
	volatile int result = 1;

	return ctx ? result : 0;
}
SEC("xdp") int entry(struct xdp_md *ctx) { return chosen(ctx); }
SEC("freplace/chosen") int replacement(struct xdp_md *ctx) { return ctx ? 2 : 3; }
"""

COOKIE = 0xFEED_FACE_CAFE_BEEF
_results: dict[tuple[str, str], dict[str, Any]] = {}


class Results:
    """What the guest's script saw, of one kernel and one libbpf."""

    def __init__(self, kernel: str, library: str, found: dict[str, Any]) -> None:
        self.kernel, self.library, self.found = kernel, library, found

    def check(self, name: str, expected: list[Any]) -> None:
        assert self.found[name] == expected, f"{name}: {self.found[name]}"

    def refused(self, name: str, *words: str, kind: str = "BpfError", code: int | None = 0) -> None:
        """The case ended with this error, that says so."""
        found = self.found[name]
        assert found[0] == kind, f"{name}: {found}"
        assert code == 0 or found[1] == code, f"{name}: {found}"
        for word in words:
            assert word in found[2], f"{name}: {found}"

    def lacks_libbpf(self, name: str, version: str) -> None:
        self.refused(
            name, f"needs libbpf {version}", "is libbpf 1.1", kind="LibraryError", code=None
        )


@pytest.fixture(scope="session")
def objects(compile_bpf: Compile) -> list[Path]:
    """The three objects, compiled here for the guests."""
    return [compile_bpf(source) for source in (SOURCE, STRUCT_OPS, FREPLACE)]


@pytest.fixture(params=["system", "newer"])
def results(
    request: pytest.FixtureRequest, guest: Guest, objects: list[Path], newer_libbpf: str
) -> Results:
    """The script's results, of one process for each kernel and libbpf."""
    key = (guest.kernel, str(request.param))
    if key not in _results:
        library = f"LIBBPF_CTYPES_LIBRARY={newer_libbpf}" if key[1] == "newer" else "A=B"
        script = [sys.executable, str(HERE / "attach_guest.py"), *map(str, objects)]
        done = guest.run("env", library, *script)
        assert done.returncode == 0, done.stderr
        _results[key] = json.loads(done.stdout)
    return Results(*key, _results[key])


def test_kprobes(results: Results) -> None:
    results.check("kprobe", [3, COOKIE])
    results.check("kretprobe", [3, COOKIE])
    results.check("kprobe_by_address", [3, 7])
    results.check("kprobe_by_section", [3, 0])
    results.check("ksyscall", [3, 9])
    results.check("kretsyscall", [3, 10])
    results.refused("ksyscall_that_is_none", "no system call getpppid")


def test_modes_of_a_kprobe(results: Results) -> None:
    if results.library == "system":
        for mode in ("legacy", "perf", "link"):
            results.lacks_libbpf(f"kprobe_{mode}", "1.2")
        return
    results.check("kprobe_legacy", [3, 0])
    results.check("kprobe_perf", [3, 0])
    results.check("kprobe_link", [3, 8])
    results.refused("kprobe_perf_with_a_cookie", "Mode 'perf' has no cookies")


def test_many_kprobes_at_once(results: Results) -> None:
    names = ("multi_by_pattern", "multi_by_names", "multi_of_nothing")
    if results.kernel == "6.1":
        for name in names:
            told = "CONFIG_FPROBE: use attach_kprobe()"
            results.refused(f"kprobe_{name}", told, code=errno.EOPNOTSUPP)
        return
    results.check("kprobe_multi_by_pattern", [1, 0])
    results.check("kprobe_multi_by_names", [2, 42])
    results.check("kretprobe_multi_by_addresses", [2, 10])
    results.refused("kprobe_multi_of_nothing", "no such function")


def test_sessions(results: Results) -> None:
    if results.library == "system":
        results.lacks_libbpf("session_by_the_library", "1.5")
    elif results.kernel == "6.1":
        results.refused("session")
    else:
        results.check("session", [6, 30])


def test_functions_by_btf(results: Results) -> None:
    results.check("fentry", [3, 11])
    results.check("fexit", [3, 12])
    results.check("tp_btf", [3, 0])
    results.check("fmod_ret", ["made", "refused", "made", 1, 13])


def test_security_modules(results: Results) -> None:
    results.check("lsm", ["made", "refused", "made", 1, 0])
    results.check("lsm_by_section", ["made", "refused", "made", 1, 0])
    results.check("lsm_cgroup", ["refused", "bound", 1])


def test_iterators_freplace_and_struct_ops(results: Results) -> None:
    results.check("iterator", [True, True])
    results.check("freplace", [1, 2, 2, 1])
    assert results.found["struct_ops"][0] is True, results.found["struct_ops"]
    assert results.found["struct_ops"][1] > 0
    assert results.found["struct_ops"][2] is False
    results.check("struct_ops_by_the_object", [1, True])


def test_what_came_later(results: Results) -> None:
    later = {
        "tcx": "6.6",
        "uprobe_multi": "6.6",
        "raw_tracepoint_with_a_cookie_that_is_not_read": "6.9",
    }
    if results.library == "system":
        for name in later:
            assert results.found[name][0] in ("LibraryError", "BpfError")
    elif results.kernel == "6.1":
        for name, since in {**later, "netkit_that_is_none": "6.7"}.items():
            results.refused(name, f"needs Linux {since}")
    else:
        results.check("tcx", [0, True])
        results.check("netkit", [1, 1])
        results.refused("netkit_that_is_none", "lo must be a netkit device's primary end")
        results.check("uprobe_multi", [1, 0])
        results.check("raw_tracepoint_with_a_cookie", [True, 15])
