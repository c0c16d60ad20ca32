"""Arguments of a wrong type, programs of another one: refused in words, nothing left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import BpfError, BpfObject, LibraryError, Link, Program, attached_programs

from ..conftest import Compile
from .conftest import has_libbpf, number_of_fds

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} SOCKETS SEC(".maps");

SEC("uprobe") int probe(void *ctx) { return ctx ? 0 : 1; }
SEC("perf_event") int sample(void *ctx) { return ctx ? 0 : 1; }
SEC("tp") int event(void *ctx) { return ctx ? 0 : 1; }
SEC("raw_tp") int traced(void *ctx) { return ctx ? 0 : 1; }
SEC("tc") int filter(struct __sk_buff *ctx) { return ctx ? -1 : 0; }
SEC("xdp") int packet(struct xdp_md *ctx) { return ctx ? XDP_PASS : XDP_DROP; }
SEC("sk_msg") int message(struct sk_msg_md *ctx) { return ctx ? SK_PASS : SK_DROP; }
SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx) { return ctx ? SK_PASS : SK_DROP; }
SEC("cgroup/sock_create") int create(struct bpf_sock *ctx) { return ctx ? 1 : 0; }
SEC("socket") int reader(struct __sk_buff *ctx) { return ctx->len; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def obj(compile_bpf: Compile) -> Iterator[BpfObject]:
    with BpfObject.open(compile_bpf(SOURCE)) as made:
        made.load()
        yield made


#: The program, what is tried, and what the error says.
WRONG_TYPES: list[tuple[str, Any, str]] = [
    ("probe", lambda p: p.attach_kprobe(None), "None is not a function name"),
    ("probe", lambda p: p.attach_kprobe(b"vfs_read"), "b'vfs_read' is not a function name"),
    ("probe", lambda p: p.attach_kprobe("vfs_read", offset="1"), "the offset is '1'"),
    ("probe", lambda p: p.attach_kprobe("vfs_read", offset=1.5), "the offset is 1.5"),
    ("probe", lambda p: p.attach_kprobe("vfs_read", cookie=1.5), "the cookie is 1.5"),
    ("probe", lambda p: p.attach_kprobe("vfs\0read"), "not a function name"),
    ("probe", lambda p: p.attach_ksyscall(3), "3 is not the name of a system call"),
    ("probe", lambda p: p.attach_kprobe_multi(None), "neither a pattern nor a list"),
    ("probe", lambda p: p.attach_kprobe_multi(b"vfs_*"), "neither a pattern nor a list"),
    # libbpf was told of one address, in an array of none
    ("probe", lambda p: p.attach_kprobe_multi([1.5]), "a place is 1.5"),
    ("probe", lambda p: p.attach_kprobe_multi([1, None]), "a place is None"),
    ("probe", lambda p: p.attach_kprobe_multi([b"vfs_read"]), "a place is b'vfs_read'"),
    ("probe", lambda p: p.attach_kprobe_multi(["vfs_read"], cookie=1.5), "the cookie is 1.5"),
    ("probe", lambda p: p.attach_kprobe_multi(["a", "b"], cookie=(1, "2")), "the cookie is '2'"),
    ("probe", lambda p: p.attach_uprobe("libc", "getppid", pid="1"), "the process id is '1'"),
    ("probe", lambda p: p.attach_uprobe("libc", "getppid", pid=None), "the process id is None"),
    ("probe", lambda p: p.attach_uprobe("libc", "getppid", pid=1 << 22), "No such process"),
    ("probe", lambda p: p.attach_uprobe("libc", b"getppid"), "b'getppid' is not a symbol"),
    ("probe", lambda p: p.attach_uprobe("libc", offset=1.5), "the offset is 1.5"),
    ("probe", lambda p: p.attach_uprobe("libc", offset="1"), "the offset is '1'"),
    ("probe", lambda p: p.attach_uprobe("/etc/passwd", "root"), "neither a program nor a shared"),
    ("probe", lambda p: p.attach_uprobe_multi("libc", [None]), "a place is None"),
    ("probe", lambda p: p.attach_usdt("libc", "libc", "setjmp", cookie=2.0), "the cookie is 2.0"),
    ("event", lambda p: p.attach_tracepoint("syscalls", "x", cookie="1"), "the cookie is '1'"),
    ("traced", lambda p: p.attach_iter(map="x"), "the map is 'x', which has no descriptor"),
    ("sample", lambda p: p.attach_perf_event(None), "the event is None, which has no descriptor"),
    ("traced", lambda p: p.attach_freplace("p", "f"), "the program is 'p', which has no"),
    ("create", lambda p: p.attach_cgroup("/tmp", before="x"), "the program is 'x', which has no"),
    ("create", lambda p: p.attach_to("/tmp", "x"), "the attach type is 'x'"),
    ("create", lambda p: p.attach_to("/tmp", -1), "the attach type is -1"),
    ("create", lambda p: p.attach_to("/tmp", 1 << 32), "the attach type is 4294967296"),
    ("create", lambda p: attached_programs("/tmp", "x"), "the attach type is 'x'"),  # type: ignore[arg-type]
    ("message", lambda p: p.attach_sockmap(None), "the map is None, which has no descriptor"),
    ("packet", lambda p: p.attach_xdp("lo", mode=["skb"]), "is none of"),
    ("filter", lambda p: p.attach_tc("lo", ["ingress"]), "neither ingress nor egress"),
    ("packet", lambda p: Link.open_id("1"), "its number is '1', no integer"),  # type: ignore[arg-type]
    ("packet", lambda p: Program.open_id(1.5), "its number is 1.5, no integer"),  # type: ignore[arg-type]
]

#: Programs that libbpf or the kernel would take for something else, or refuse without a word.
OTHER_PROGRAMS: list[tuple[str, Any, str]] = [
    ("packet", lambda p: p.attach_kprobe("vfs_read"), "type XDP: its section must be kprobe"),
    ("packet", lambda p: p.attach_ksyscall("openat"), "type XDP: its section must be kprobe"),
    ("packet", lambda p: p.attach_kprobe_multi("*"), "type XDP: its section must be kprobe.multi"),
    ("packet", lambda p: p.attach_uprobe("libc", "getppid"), "its section must be uprobe"),
    ("packet", lambda p: p.attach_uprobe_multi("libc", "g*"), "its section must be uprobe.multi"),
    ("packet", lambda p: p.attach_usdt("libc", "libc", "setjmp"), "its section must be usdt"),
    ("filter", lambda p: p.attach_xdp("lo"), "type SCHED_CLS: its section must be xdp"),
    ("packet", lambda p: p.attach_tc("lo"), "type XDP: its section must be tc"),
    ("packet", lambda p: p.attach_cgroup("/tmp"), "section xdp does not go to a cgroup"),
    ("packet", lambda p: p.attach_netns(), "its section must be flow_dissector or sk_lookup"),
    ("packet", lambda p: p.attach_sockmap(0), "its section must be sk_msg or sk_skb"),
    ("reader", lambda p: p.attach(), r"Attach it by setsockopt\(SOL_SOCKET, SO_ATTACH_BPF, fd\)"),
]


@pytest.mark.parametrize(("name", "attach", "told"), WRONG_TYPES + OTHER_PROGRAMS)
def test_what_is_refused_in_words(obj: BpfObject, name: str, attach: Any, told: str) -> None:
    program = obj.programs[name]
    before = number_of_fds()
    with pytest.raises(BpfError, match=told):
        attach(program)
    assert number_of_fds() == before


@pytest.mark.parametrize(
    ("name", "attach", "told"),
    [
        ("packet", lambda p: p.attach_tcx("lo"), "type XDP: .* tcx/ingress or tcx/egress"),
        ("filter", lambda p: p.attach_tcx("lo"), "of section tc: it must be tcx/ingress or"),
        ("packet", lambda p: p.attach_netkit("lo"), "type XDP: .* netkit/primary or netkit/peer"),
        ("filter", lambda p: p.attach_netkit("lo"), "of section tc: it must be netkit/primary"),
    ],
)
def test_a_program_of_another_list(obj: BpfObject, name: str, attach: Any, told: str) -> None:
    """libbpf would attach the XDP program as such, and say that it is done."""
    kind = BpfError
    if not has_libbpf("1.3"):
        kind, told = LibraryError, r"needs libbpf 1\.3"
    with pytest.raises(kind, match=told):
        attach(obj.programs[name])


def test_a_library_of_a_strange_name(
    obj: BpfObject, compile_library: Compile, tmp_path: Path
) -> None:
    import ctypes

    path = tmp_path / "a new\nlibrary: \udcff%s.so"  # bytes that are no text, too
    compile_library("int strange(void) { return 1; }").rename(path)
    with obj.programs["probe"].attach_uprobe(path, "strange") as link:
        assert link.target == f"{path}:strange"
    assert ctypes.CDLL(str(path)).strange() == 1
    with obj.programs["probe"].attach_uprobe(str(path), "strange"):
        pass
