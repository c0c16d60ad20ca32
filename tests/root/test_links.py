"""Links: pinned, updated, detached, opened by path or number, discarded."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from libbpf_ctypes import BpfError, BpfObject, ClosedError, LibraryError, Link, LinkType
from libbpf_ctypes.link_details import StructOpsDetails

from ..conftest import Compile
from .conftest import has_libbpf

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 pid = 0;
__u64 calls = 0;

SEC("raw_tp/sys_enter")
int count(void *ctx __attribute__((unused)))
{
	if (bpf_get_current_pid_tgid() >> 32 == pid)
		__sync_fetch_and_add(&calls, 1);
	return 0;
}

SEC("cgroup/sysctl")
int one(void *ctx __attribute__((unused)))
{
	return 1;
}

SEC("cgroup/sysctl")
int two(void *ctx __attribute__((unused)))
{
	return 1;
}

SEC("cgroup/dev")
int device(void *ctx __attribute__((unused)))
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE)


@pytest.fixture
def obj(path: Path) -> Iterator[BpfObject]:
    """The object, loaded, counting the calls of this process."""
    with BpfObject.open(path) as opened:
        opened.variables["pid"].value = os.getpid()
        opened.load()
        yield opened


@pytest.fixture
def counts(obj: BpfObject) -> Callable[[], bool]:
    """Whether the program is attached: it counts this process's system calls."""

    def are_counted() -> bool:
        before = obj.variables["calls"].value
        os.getppid()
        return bool(obj.variables["calls"].value != before)

    return are_counted


def attached(obj: BpfObject) -> Link:
    return obj.programs["count"].attach_raw_tracepoint("sys_enter")


@pytest.fixture
def in_cgroup(obj: BpfObject, cgroup: Path) -> Iterator[Link]:
    """A program attached to a control group: a link of a type that can be updated."""
    with obj.programs["one"].attach_cgroup(cgroup) as link:
        yield link


def test_what_the_kernel_tells(obj: BpfObject) -> None:
    with attached(obj) as link:
        info = link.info
        assert info.type is LinkType.RAW_TRACEPOINT
        assert info.program_id == obj.programs["count"].id
        assert link.id == info.id > 0
        assert Path(f"/proc/self/fd/{link.fd}").readlink().name == "anon_inode:bpf_link"


def test_closed_it_is_detached(obj: BpfObject, counts: Callable[[], bool]) -> None:
    link = attached(obj)
    assert counts()
    link.close()
    link.close()
    assert not counts()


def test_pinned_it_goes_on_after_close(
    obj: BpfObject, bpffs: Path, counts: Callable[[], bool]
) -> None:
    with attached(obj) as link:
        assert link.pin_path is None
        link.pin(bpffs / "folder" / "link")
        assert link.pin_path == str(bpffs / "folder" / "link")
        with pytest.raises(BpfError, match="EBUSY"):
            link.pin(bpffs / "other")
    assert counts()
    with Link.open_pinned(bpffs / "folder" / "link") as link:
        assert link.pin_path == str(bpffs / "folder" / "link")
        assert link.info.type is LinkType.RAW_TRACEPOINT
    assert counts()
    with Link.open_pinned(bpffs / "folder" / "link") as link:
        link.unpin()
        assert link.pin_path is None
        assert counts()
        with pytest.raises(BpfError, match="it is not pinned"):
            link.unpin()
    assert not counts()


def test_opened_by_number_it_goes_on_as_long_as_anybody_holds_it(
    obj: BpfObject, bpffs: Path, counts: Callable[[], bool]
) -> None:
    link = attached(obj)
    with Link.open_id(link.id) as other:
        assert other.id == link.id
        assert other.fd != link.fd
        assert other.pin_path is None
        link.close()
        assert counts()
        other.pin(bpffs / "link")
        assert other.pin_path == str(bpffs / "link")
        with pytest.raises(BpfError, match="EBUSY"):
            other.pin(bpffs / "other")
    assert counts()
    with Link.open_pinned(bpffs / "link") as link, Link.open_id(link.id) as other:
        with pytest.raises(BpfError, match="it is not pinned"):  # as far as it knows
            other.unpin()
        link.unpin()
        link.close()
        other.pin(bpffs / "other")
        other.unpin()
        assert not (bpffs / "other").exists()
    assert not counts()


@pytest.mark.parametrize(("number", "word"), [(-1, "ERANGE"), (1 << 32, "ERANGE"), (0, "ENOENT")])
def test_a_number_that_is_none(number: int, word: str) -> None:
    with pytest.raises(BpfError, match=word):
        Link.open_id(number)


def test_a_map_is_no_link(obj: BpfObject, bpffs: Path) -> None:
    obj.pin_maps(bpffs / "maps")
    pins = list((bpffs / "maps").iterdir())
    assert pins
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for pinned in pins:
        with pytest.raises(BpfError, match="it is a map, not a link") as caught:
            Link.open_pinned(pinned)
        assert caught.value.errno == errno.EINVAL
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_another_program_takes_its_place(obj: BpfObject, in_cgroup: Link) -> None:
    one, two = obj.programs["one"], obj.programs["two"]
    assert in_cgroup.info.program_id == one.id
    in_cgroup.update(two)
    assert in_cgroup.info.program_id == two.id
    with pytest.raises(BpfError, match="Another program than the expected one") as caught:
        in_cgroup.update(one, expected=one)
    assert caught.value.errno == errno.EPERM
    in_cgroup.update(one, expected=two)
    assert in_cgroup.info.program_id == one.id
    with Link.open_id(in_cgroup.id) as other:
        other.update(two)
    assert in_cgroup.info.program_id == two.id


def test_a_program_of_another_type_does_not(obj: BpfObject, in_cgroup: Link) -> None:
    with pytest.raises(BpfError, match="not to such a program: attach it anew"):
        in_cgroup.update(obj.programs["device"])
    assert in_cgroup.info.program_id == obj.programs["one"].id


def test_a_type_of_link_that_cannot_be_updated(obj: BpfObject) -> None:
    with attached(obj) as link, pytest.raises(BpfError, match="Links of this type cannot"):
        link.update(obj.programs["count"])


def test_no_map_takes_a_programs_place(obj: BpfObject) -> None:
    some = next(iter(obj.maps.values()))
    newer = has_libbpf("1.2")
    with attached(obj) as link:
        kind: type[Exception] = BpfError if newer else LibraryError
        with pytest.raises(kind, match="EINVAL" if newer else r"needs libbpf 1\.2"):
            link.update_map(some)
        with Link.open_id(link.id) as other, pytest.raises(BpfError, match="opened by its number"):
            other.update_map(some)


STRUCT_OPS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct sock;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

SEC("struct_ops/ssthresh")
__u32 ssthresh(void *ctx __attribute__((unused)))
{
	return 2;
}

SEC("struct_ops/cong_avoid")
void cong_avoid(void *ctx __attribute__((unused)))
{
}

SEC("struct_ops/undo_cwnd")
__u32 undo_cwnd(void *ctx __attribute__((unused)))
{
	return 2;
}

#define CONGESTION(variable) \\
	SEC(".struct_ops.link") \\
	struct tcp_congestion_ops variable = { \\
		.ssthresh = (void *)ssthresh, \\
		.cong_avoid = (void *)cong_avoid, \\
		.undo_cwnd = (void *)undo_cwnd, \\
		.name = "test_links", \\
	}

CONGESTION(first);
CONGESTION(second);

char LICENSE[] SEC("license") = "GPL";
"""


def test_another_map_takes_its_place(compile_bpf: Compile) -> None:
    """A TCP congestion control is replaced by another one of its name."""
    if not has_libbpf("1.2"):  # test_no_map_takes_a_programs_place has that
        with BpfObject.open(compile_bpf(STRUCT_OPS)) as obj:
            assert "first" not in obj.maps
        return
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with BpfObject.open(compile_bpf(STRUCT_OPS)) as obj:
        obj.load()
        first, second = obj.maps["first"], obj.maps["second"]
        with first.attach_struct_ops() as link:
            assert link.info.type is LinkType.STRUCT_OPS
            assert "test_links" in available.read_text().split()
            assert link.info.details == StructOpsDetails(first.info.id)
            link.update_map(second)
            assert link.info.details == StructOpsDetails(second.info.id)
            with pytest.raises(BpfError, match="Links of this type cannot be updated"):
                link.update(obj.programs["ssthresh"])
        assert "test_links" not in available.read_text().split()


def test_detached_by_force(obj: BpfObject, in_cgroup: Link, bpffs: Path) -> None:
    in_cgroup.pin(bpffs / "link")
    with Link.open_id(in_cgroup.id) as other:
        other.detach()
        assert other.info.details == in_cgroup.info.details
        assert "cgroup_id=0" in repr(other.info.details)
    in_cgroup.detach()  # there is nothing left to detach
    in_cgroup.unpin()
    in_cgroup.close()


def test_a_type_of_link_without_forced_detach(obj: BpfObject) -> None:
    with attached(obj) as link:
        with pytest.raises(BpfError, match="close it") as caught:
            link.detach()
        assert caught.value.errno == errno.EOPNOTSUPP


def test_disconnected_it_goes_on_as_long_as_the_process(path: Path) -> None:
    """In a process of its own, as the descriptor stays open to its end."""
    script = f"""
import os
from libbpf_ctypes import BpfObject, Link

def counts():
    before = obj.variables["calls"].value
    os.getppid()
    return obj.variables["calls"].value != before

with BpfObject.open({str(path)!r}) as obj:
    obj.variables["pid"].value = os.getpid()
    obj.load()
    for through in ("the link", "its number"):
        link = obj.programs["count"].attach_raw_tracepoint("sys_enter")
        other = Link.open_id(link.id)
        fd = (link if through == "the link" else other).fd
        (link if through == "the link" else other).disconnect()
        other.close()
        link.close()
        assert counts(), through
        os.close(fd)
        assert not counts(), through
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("went on\n", "")


def discard(link: Callable[[], object]) -> list[str]:
    """The warnings of a link that nobody keeps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        link()
        gc.collect()
    return [str(warning.message) for warning in caught]


def test_a_discarded_link_warns_and_is_detached(obj: BpfObject, counts: Callable[[], bool]) -> None:
    assert discard(lambda: attached(obj)) == ["unclosed <Link to sys_enter>"]
    assert not counts()


def test_a_discarded_link_that_is_pinned_does_not_warn(
    obj: BpfObject, bpffs: Path, counts: Callable[[], bool]
) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    assert discard(lambda: attached(obj).pin(bpffs / "link")) == []
    assert discard(lambda: Link.open_pinned(bpffs / "link")) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert counts()


def test_a_discarded_link_that_was_unpinned_warns(
    obj: BpfObject, bpffs: Path, counts: Callable[[], bool]
) -> None:
    attached(obj).pin(bpffs / "link")
    assert len(discard(lambda: Link.open_pinned(bpffs / "link").unpin())) == 1
    assert not counts()


def test_a_discarded_link_by_number_warns(obj: BpfObject) -> None:
    with attached(obj) as link:
        assert len(discard(lambda: Link.open_id(link.id))) == 1
        assert link.info


def test_the_object_closes_its_links(obj: BpfObject) -> None:
    link = attached(obj)
    number = link.id
    obj.close()
    assert link.closed
    with pytest.raises(BpfError, match="ENOENT"):
        Link.open_id(number)


@pytest.mark.parametrize("by_number", [False, True])
def test_use_after_close(obj: BpfObject, bpffs: Path, by_number: bool) -> None:
    with attached(obj) as first:
        link = Link.open_id(first.id) if by_number else first
        link.close()
        link.close()
        for call in (
            lambda: link.fd,
            lambda: link.id,
            lambda: link.info,
            lambda: link.pin_path,
            lambda: link.pin(bpffs / "link"),
            lambda: link.update(obj.programs["count"]),
            link.unpin,
            link.detach,
            link.disconnect,
        ):
            with pytest.raises(ClosedError, match="it is closed"):
                call()
        assert "(closed)" in repr(link)
