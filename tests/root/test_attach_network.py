"""Programs at interfaces, hooks, sockets and cgroups, in a network namespace of the test's."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import (
    Attachment,
    BpfError,
    BpfObject,
    LibraryError,
    Link,
    attached_programs,
    raw,
)
from libbpf_ctypes.enums import AttachType, LinkType
from libbpf_ctypes.link_details import (
    CgroupDetails,
    DeviceDetails,
    NetfilterDetails,
    NetnsDetails,
    SockmapDetails,
    XdpDetails,
)

from ..conftest import Compile
from .conftest import has_libbpf
from .tool import wait_until

HEAD = """
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define OURS bpf_htons(0x88B5)	/* an Ethernet type for experiments */
__u64 first = 0, second = 0, order = 0;
char LICENSE[] SEC("license") = "GPL";
"""

PACKETS = (
    HEAD
    + """
#define FILTER(name, counter, digit) \\
int name(struct __sk_buff *skb) \\
{ \\
	if (skb->protocol == OURS) { \\
		__sync_fetch_and_add(&counter, 1); \\
		order = order * 10 + digit; \\
	} \\
	return -1;	/* TCX_NEXT, TC_ACT_UNSPEC */ \\
}
SEC("SECTION") FILTER(one, first, 1)
SEC("SECTION") FILTER(two, second, 2)

static __always_inline int count(struct xdp_md *ctx, __u64 *counter)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) <= (void *)(long)ctx->data_end && eth->h_proto == OURS)
		__sync_fetch_and_add(counter, 1);
	return XDP_PASS;
}
SEC("xdp") int fast(struct xdp_md *ctx) { return count(ctx, &first); }
SEC("xdp") int faster(struct xdp_md *ctx) { return count(ctx, &second); }
"""
)

FIREWALL = (
    HEAD
    + """
struct bpf_nf_ctx;
SEC("netfilter") int hook(struct bpf_nf_ctx *ctx)
{
	__sync_fetch_and_add(&first, 1);
	return ctx ? 1 : 0;	/* NF_ACCEPT, NF_DROP */
}
"""
)

SOCKETS = (
    HEAD
    + """
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} SOCKETS SEC(".maps");

SEC("sk_msg") int message(struct sk_msg_md *msg)
{
	__sync_fetch_and_add(&first, msg->size);
	return SK_PASS;
}

SEC("sk_skb/stream_parser") int parse(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&first, 1);
	return skb->len;
}

SEC("sk_skb/stream_verdict") int judge(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&second, skb->len);
	return SK_PASS;
}

SEC("flow_dissector") int dissect(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&first, 1);
	return skb ? 129 : BPF_DROP;	/* BPF_FLOW_DISSECTOR_CONTINUE: as without us */
}

SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx)
{
	if (ctx->local_port == 4242)
		__sync_fetch_and_add(&second, 1);
	return SK_PASS;
}

SEC("cgroup/sock_create") int create(struct bpf_sock *sk)
{
	__sync_fetch_and_add(&first, 1);
	return sk->family != 10;	/* AF_INET6 is forbidden */
}

SEC("cgroup/sock_create") int also(struct bpf_sock *sk)
{
	__sync_fetch_and_add(&second, 1);
	return sk ? 1 : 0;
}
"""
)

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


@pytest.fixture
def network() -> Iterator[None]:
    """This thread in a network namespace of its own, with a pair of interfaces, a and b."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert LIBC.unshare(CLONE_NEWNET) == 0
    try:
        ip("link add name a type veth peer name b")
        for name in ("lo", "a", "b"):
            ip(f"link set dev {name} up")
        wait_until_they_send()
        yield
    finally:
        assert LIBC.setns(before, CLONE_NEWNET) == 0
        os.close(before)


def wait_until_they_send() -> None:
    """The kernel opens a link's queue a moment after its other end is up."""

    def they_are_up() -> bool:
        shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
        return shown.stdout.count("qdisc noqueue state UP") == 2

    wait_until(they_are_up)


def ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def send(count: int = 1) -> None:
    """Sends frames of our type from interface a: they come in at b."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind(("a", 0))
        for _ in range(count):
            link.send(b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x88\xb5" + b"\0" * 46)


def value(obj: BpfObject, name: str) -> int:
    number = obj.variables[name].value
    assert isinstance(number, int)
    return number


def counts(obj: BpfObject) -> tuple[int, int]:
    return value(obj, "first"), value(obj, "second")


def assert_counted(obj: BpfObject, first: int, second: int) -> None:
    """A busy kernel hands a packet in a moment after it was sent."""
    wait_until(lambda: sum(counts(obj)) >= first + second)
    assert counts(obj) == (first, second)


def assert_order(obj: BpfObject, order: int) -> None:
    """The programs ran in this order, whenever that was."""
    wait_until(lambda: value(obj, "order") >= order)
    assert value(obj, "order") == order


def qdiscs(interface: str) -> str:
    command = ["tc", "qdisc", "show", "dev", interface]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def packets_path(compile_bpf: Compile) -> Path:
    return compile_bpf(PACKETS.replace("SECTION", "tc"))


@pytest.fixture
def packets(packets_path: Path, network: None) -> Iterator[BpfObject]:
    with BpfObject.open(packets_path) as obj:
        obj.load()
        yield obj


@pytest.mark.parametrize("interface", ["b", 0])
def test_xdp_by_a_link(packets: BpfObject, interface: str | int) -> None:
    target = interface or socket.if_nametoindex("b")
    with packets.programs["fast"].attach_xdp(target) as link:
        assert isinstance(link, Link)
        assert link.info.type == LinkType.XDP
        assert link.info.details == XdpDetails(socket.if_nametoindex("b"))
        send(3)
        assert_counted(packets, 3, 0)
        link.update(packets.programs["faster"])
        send()
        assert_counted(packets, 3, 1)
        with pytest.raises(BpfError, match="Another XDP program is attached"):
            packets.programs["faster"].attach_xdp("b")
    send()
    assert_counted(packets, 3, 1)


@pytest.mark.parametrize("mode", ["skb", "driver"])
def test_xdp_by_a_link_in_a_mode(packets: BpfObject, mode: str) -> None:
    with packets.programs["fast"].attach_xdp("b", mode=mode) as link:
        assert isinstance(link, Link)
        send(2)
        assert_counted(packets, 2, 0)
        shown = subprocess.run(["ip", "link", "show", "b"], capture_output=True, text=True)
        assert ("xdpgeneric" in shown.stdout) == (mode == "skb")
    send()
    assert_counted(packets, 2, 0)


@pytest.mark.parametrize("mode", ["auto", "skb", "driver"])
def test_xdp_by_netlink_and_replaced(packets: BpfObject, mode: str) -> None:
    fast, faster = packets.programs["fast"], packets.programs["faster"]
    first = fast.attach_xdp("b", mode=mode, link=False)
    assert isinstance(first, Attachment)
    send()
    assert_counted(packets, 1, 0)
    with pytest.raises(BpfError, match="Another XDP program is attached"):
        faster.attach_xdp("b", mode=mode, link=False)
    second = faster.attach_xdp("b", mode=mode, link=False, replace=fast)
    send()
    assert_counted(packets, 1, 1)
    with pytest.raises(BpfError, match="detach from interface b"):
        first.close()  # it is not there any more, and must not take away the second one
    send()
    assert_counted(packets, 1, 2)
    second.close()
    send()
    assert_counted(packets, 1, 2)


def test_tc_leaves_nothing_behind(packets: BpfObject) -> None:
    one, two = packets.programs["one"], packets.programs["two"]
    assert "clsact" not in qdiscs("a")
    with one.attach_tc("a", "egress", handle=7, priority=3) as link:
        assert (link.handle, link.priority) == (7, 3)
        assert link.program_id == one.info.id
        with two.attach_tc("a", "egress", priority=2) as before:
            assert before.handle > 0
            send()
            assert_order(packets, 21)
        assert "clsact" in qdiscs("a"), "the other one needs it"
        with pytest.raises(BpfError, match="replace=True takes its place"):
            two.attach_tc("a", "egress", handle=7, priority=3)
        send()
        assert_counted(packets, 2, 1)
    assert "clsact" not in qdiscs("a")
    send()
    assert_counted(packets, 2, 1)


def test_tc_in_any_order_of_closing(packets: BpfObject) -> None:
    first = packets.programs["one"].attach_tc("b", "ingress")
    second = packets.programs["two"].attach_tc("b", "egress")
    send()
    assert_counted(packets, 1, 0)
    first.close()
    assert "clsact" in qdiscs("b")
    second.close()
    assert "clsact" not in qdiscs("b")


def test_tc_replaces(packets: BpfObject) -> None:
    one, two = packets.programs["one"], packets.programs["two"]
    first = one.attach_tc("b", handle=1, priority=1)
    with two.attach_tc("b", handle=1, priority=1, replace=True) as link:
        assert link.program_id == two.info.id
        send()
        assert_counted(packets, 0, 1)
    with pytest.raises(BpfError, match="detach from ingress"):
        first.close()
    assert "clsact" not in qdiscs("b")


def test_tc_spares_a_qdisc_that_was_there(packets: BpfObject) -> None:
    subprocess.run(["tc", "qdisc", "add", "dev", "b", "clsact"], check=True)
    packets.programs["one"].attach_tc("b").close()
    assert "clsact" in qdiscs("b")


def test_tc_spares_a_qdisc_that_another_uses(packets: BpfObject) -> None:
    link = packets.programs["one"].attach_tc("b")
    command = "tc filter add dev b egress protocol all u32 match u32 0 0 classid 1:1"
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    link.close()
    assert "clsact" in qdiscs("b")


def test_tcx_in_order(compile_bpf: Compile, network: None) -> None:
    if not has_libbpf("1.3"):
        with BpfObject.open(compile_bpf(PACKETS.replace("SECTION", "tc"))) as obj:
            obj.load()
            with pytest.raises(LibraryError, match=r"needs libbpf 1\.3; .* is libbpf 1\.1"):
                obj.programs["one"].attach_tcx("b")
        return
    with BpfObject.open(compile_bpf(PACKETS.replace("SECTION", "tcx/ingress"))) as obj:
        obj.load()
        one, two = obj.programs["one"], obj.programs["two"]
        index = socket.if_nametoindex("b")
        with one.attach_tcx("b") as first:
            with two.attach_tcx("b", before=one) as second:
                send()
                assert_order(obj, 21)
                assert second.info.type == LinkType.TCX
                assert second.info.details == DeviceDetails(index, AttachType.TCX_INGRESS)
                found = attached_programs(index, AttachType.TCX_INGRESS)
                assert found.program_ids == (two.info.id, one.info.id)
                assert found.link_ids == (second.id, first.id)
            for beside in ({"after": first}, {"after": "all"}, {"before": "all"}):
                revision = attached_programs(index, AttachType.TCX_INGRESS).revision
                before = value(obj, "order")
                with two.attach_tcx("b", expected_revision=revision, **beside):
                    send()
                    expected = 12 if "after" in beside else 21
                    assert_order(obj, before * 100 + expected)
            with pytest.raises(BpfError, match="attached_programs") as caught:
                two.attach_tcx("b", expected_revision=1)
            assert caught.value.errno == errno.ESTALE
            with pytest.raises(BpfError, match="before one and after another"):
                two.attach_tcx("b", before="all", after="all")


def test_netkit_that_is_none(compile_bpf: Compile, network: None) -> None:
    section = "netkit/primary" if has_libbpf("1.3") else "tc"
    error, told = (BpfError, "netkit") if has_libbpf("1.3") else (LibraryError, r"libbpf 1\.3")
    with BpfObject.open(compile_bpf(PACKETS.replace("SECTION", section))) as obj:
        obj.load()
        with pytest.raises(error, match=told):
            obj.programs["one"].attach_netkit("a")


def test_netfilter(compile_bpf: Compile, network: None) -> None:
    if not has_libbpf("1.3"):  # it does not know the section: the program cannot be loaded
        return
    with BpfObject.open(compile_bpf(FIREWALL)) as obj:
        obj.load()
        hook = obj.programs["hook"]
        with hook.attach_netfilter("ipv4", "output", priority=-5) as link:
            assert link.info.type == LinkType.NETFILTER
            assert link.info.details == NetfilterDetails(pf=2, hooknum=3, priority=-5, flags=0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind(("127.0.0.1", 0))
                for _ in range(4):
                    sender.sendto(b"x", sender.getsockname())
            assert value(obj, "first") == 4
            with pytest.raises(BpfError, match="take another priority") as caught:
                hook.attach_netfilter("ipv4", "output", priority=-5)
            assert caught.value.errno == errno.EBUSY
        for arguments, told in (
            (("ipv5", "input"), "neither ipv4 nor ipv6"),
            (("ipv4", "inside"), "none of prerouting, input"),
        ):
            with pytest.raises(BpfError, match=told):
                hook.attach_netfilter(*arguments)


@pytest.fixture(scope="module")
def sockets_path(compile_bpf: Compile) -> Path:
    return compile_bpf(SOCKETS)


@pytest.fixture
def sockets(sockets_path: Path) -> Iterator[BpfObject]:
    with BpfObject.open(sockets_path) as obj:
        obj.load()
        yield obj


def test_socket_lookup_in_a_network_namespace(sockets: BpfObject, network: None) -> None:
    lookup = sockets.programs["lookup"]
    with lookup.attach_netns("/proc/thread-self/ns/net") as link:
        inode = Path("/proc/thread-self/ns/net").stat().st_ino
        assert link.info.type == LinkType.NETNS
        assert link.info.details == NetnsDetails(inode, AttachType.SK_LOOKUP)
        connect_in_vain(4242)
        connect_in_vain(4243)
        assert value(sockets, "second") == 1
        descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        with lookup.attach_netns(descriptor):
            connect_in_vain(4242)
            assert value(sockets, "second") == 3
        os.close(descriptor)
    connect_in_vain(4242)
    assert value(sockets, "second") == 3
    with pytest.raises(BpfError, match="/dev/null must be a network namespace"):
        lookup.attach_netns("/dev/null")
    with pytest.raises(BpfError, match="No such file"):
        lookup.attach_netns("/no/such/namespace")


def connect_in_vain(port: int) -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_flow_dissector_in_a_network_namespace(sockets: BpfObject, network: None) -> None:
    dissect = sockets.programs["dissect"]
    ip("addr add 10.99.0.1/24 dev a")
    namespace = "/proc/thread-self/ns/net"

    def dissected() -> int:
        """How many packets were dissected of one that asks for it: it goes out by 'a'."""
        before = value(sockets, "first")
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
            sender.bind(("a", 0x0800))
            sender.sendto(b"\x45" + bytes(39), ("a", 0x0800, 0, 0, b"\xff" * 6))
        return value(sockets, "first") - before

    assert dissected() == 0
    with dissect.attach_netns(namespace) as link:
        assert link.info.program_id == dissect.id
        assert dissected() > 0
        with pytest.raises(BpfError, match="Another flow dissector is attached"):
            dissect.attach_netns(namespace)
    assert dissected() == 0


def test_a_stream_parser_and_its_verdict(sockets: BpfObject) -> None:
    table, programs = sockets.maps["SOCKETS"], sockets.programs
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    parse, judge = programs["parse"], programs["judge"]
    with client, accepted, parse.attach_sockmap(table), judge.attach_sockmap(table):
        raw.bpf_map_update_elem(table.fd, bytes(4), struct.pack("Q", accepted.fileno()), 0)
        client.sendall(b"hello")
        assert accepted.recv(10) == b"hello"
        assert value(sockets, "first") > 0
        assert value(sockets, "second") == 5


def test_a_map_of_sockets(sockets: BpfObject) -> None:
    table, message = sockets.maps["SOCKETS"], sockets.programs["message"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    with client, accepted, message.attach_sockmap(table) as link:
        modern = has_libbpf("1.5") and Path("/proc/sys/kernel/osrelease").read_text() >= "6.10"
        assert isinstance(link, Attachment) or modern
        if isinstance(link, Link):
            assert link.info.type == LinkType.SOCKMAP
            assert link.info.details == SockmapDetails(table.info.id, AttachType.SK_MSG_VERDICT)
        raw.bpf_map_update_elem(table.fd, bytes(4), struct.pack("Q", client.fileno()), 0)
        client.sendall(b"hello")
        assert accepted.recv(10) == b"hello"
        assert value(sockets, "first") == 5
    with pytest.raises(BpfError):
        sockets.programs["lookup"].attach_sockmap(table)


#: Makes sockets in a cgroup, and prints which of them it may not.
CHILD = """
import socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
for family in (socket.AF_INET, socket.AF_INET6):
    try:
        socket.socket(family).close()
    except PermissionError:
        print(family.name)
"""


def refused_in(cgroup: Path) -> str:
    command = [sys.executable, "-c", CHILD, str(cgroup)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_cgroup(sockets: BpfObject, cgroup: Path) -> None:
    create, also = sockets.programs["create"], sockets.programs["also"]
    with create.attach_cgroup(cgroup) as link:
        assert isinstance(link, Link)
        inode, kind = cgroup.stat().st_ino, AttachType.CGROUP_INET_SOCK_CREATE
        assert link.info.type == LinkType.CGROUP
        assert link.info.details == CgroupDetails(inode, kind)
        assert refused_in(cgroup) == "AF_INET6\n"
        assert counts(sockets) == (2, 0)
        with also.attach_cgroup(cgroup):
            refused_in(cgroup)
            assert counts(sockets)[0] == 4
            found = attached_programs(cgroup, AttachType.CGROUP_INET_SOCK_CREATE)
            assert found.program_ids == (create.info.id, also.info.id)
    assert refused_in(cgroup) == ""
    with pytest.raises(BpfError, match="is no folder of cgroup version 2"):
        create.attach_cgroup("/tmp")
    with pytest.raises(BpfError, match="Not a directory"):
        create.attach_cgroup("/etc/passwd")
    with pytest.raises(BpfError, match="does not go to a cgroup"):
        sockets.programs["message"].attach_cgroup(cgroup)


def test_a_cgroup_without_a_link(sockets: BpfObject, cgroup: Path) -> None:
    create, also = sockets.programs["create"], sockets.programs["also"]
    multi = 2  # BPF_F_ALLOW_MULTI
    with create.attach_to(cgroup, flags=multi) as first:
        assert isinstance(first, Attachment)
        assert refused_in(cgroup) == "AF_INET6\n"
        found = attached_programs(cgroup, AttachType.CGROUP_INET_SOCK_CREATE)
        assert (found.program_ids, found.flags) == ((create.info.id,), multi)
    assert refused_in(cgroup) == ""
    first = create.attach_to(cgroup, flags=multi)
    second = also.attach_to(cgroup, flags=multi, replace=create)
    assert refused_in(cgroup) == ""
    second.close()
    with pytest.raises(BpfError, match="detach from"):
        first.close()  # it was replaced
    assert attached_programs(cgroup, AttachType.CGROUP_INET_SOCK_CREATE).program_ids == ()


def test_an_order_in_a_cgroup(sockets: BpfObject, cgroup: Path) -> None:
    create, also = sockets.programs["create"], sockets.programs["also"]
    with create.attach_cgroup(cgroup) as link:
        if not has_libbpf("1.6"):
            with pytest.raises(LibraryError, match=r"needs libbpf 1\.6"):
                also.attach_cgroup(cgroup, before=link)
            return
        with also.attach_cgroup(cgroup, before=link):
            found = attached_programs(cgroup, AttachType.CGROUP_INET_SOCK_CREATE)
            assert found.program_ids == (also.info.id, create.info.id)


@pytest.mark.parametrize(
    ("attach", "told"),
    [
        (lambda p: p.attach_xdp("nowhere"), r"no interface nowhere.* There are: lo"),
        (lambda p: p.attach_xdp(0), "the interface's index is 0"),
        (lambda p: p.attach_xdp("a\0b"), "not the name of an interface"),
        (lambda p: p.attach_xdp("b", mode="fast"), "mode 'fast' is none of"),
        (lambda p: p.attach_xdp("b", replace=5), "link=False"),
        (lambda p: p.attach_xdp("b"), "its section must be xdp"),
        (lambda p: p.attach_xdp(999), "there is no interface 999"),
        (lambda p: p.attach_tc("b", "sideways"), "neither ingress nor egress"),
        (lambda p: p.attach_tc("b", priority=1 << 16), "the priority is 65536"),
        (lambda p: p.attach_tc(999), "there is no interface 999"),
    ],
)
def test_what_is_refused_in_words(packets: BpfObject, attach: Any, told: str) -> None:
    program = packets.programs["one"]
    with pytest.raises(BpfError, match=told):
        attach(program)
    assert "clsact" not in qdiscs("b")
