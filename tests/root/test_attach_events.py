"""Tracepoints, raw tracepoints, iterators, and all of an object at once: each runs."""

from __future__ import annotations

import errno
import logging
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import BpfError, BpfObject, IteratorLink, LibraryError, raw
from libbpf_ctypes.link_details import IterDetails

from ..conftest import Compile
from .conftest import has_libbpf
from .tool import ROOT

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 pid = 0;
__u64 hits = 0, cookie = 0;

static __always_inline int note(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	__sync_fetch_and_add(&hits, 1);
	cookie = bpf_get_attach_cookie(ctx);
	return 0;
}

SEC("tp") int event(void *ctx) { return note(ctx); }
SEC("raw_tp") int raw(void *ctx) { NOTE_RAW }
char LICENSE[] SEC("license") = "GPL";
"""
RAW = "if (ctx && bpf_get_current_pid_tgid() >> 32 == pid) hits++; return 0;"

ITERATORS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define KERNEL __attribute__((preserve_access_index))
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; __u64 session_id, seq_num; } KERNEL;
struct task_struct { int pid, tgid; } KERNEL;
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } KERNEL;
struct bpf_map;
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key, *value;
} KERNEL;
struct cgroup;
struct bpf_iter__cgroup { struct bpf_iter_meta *meta; struct cgroup *cgroup; } KERNEL;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} NUMBERS SEC(".maps");

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	int numbers[2];

	if (!task)
		return 0;
	numbers[0] = task->tgid;
	numbers[1] = task->pid;
	bpf_seq_write(ctx->meta->seq, numbers, sizeof(numbers));
	return 0;
}

SEC("iter/bpf_map_elem")
int elements(struct bpf_iter__bpf_map_elem *ctx)
{
	static const char format[] = "%d=%lld\\n";
	__u32 *key = ctx->key;
	__u64 *value = ctx->value, values[2];

	if (!key || !value)
		return 0;
	values[0] = *key;
	values[1] = *value;
	bpf_seq_printf(ctx->meta->seq, format, sizeof(format), values, sizeof(values));
	return 0;
}

SEC("iter/cgroup")
int groups(struct bpf_iter__cgroup *ctx)
{
	if (ctx->cgroup)
		bpf_seq_write(ctx->meta->seq, "c", 1);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def value(obj: BpfObject, name: str) -> int:
    number = obj.variables[name].value
    assert isinstance(number, int)
    return number


def source(cookie_of_raw: bool = False) -> str:
    return SOURCE.replace("NOTE_RAW", "return note(ctx);" if cookie_of_raw else RAW)


def load(path: Path) -> BpfObject:
    obj = BpfObject.open(path)
    obj.variables["pid"].value = os.getpid()
    obj.load()
    return obj


@pytest.fixture
def obj(compile_bpf: Compile) -> Iterator[BpfObject]:
    with load(compile_bpf(source())) as made:
        yield made


def test_a_tracepoint_with_a_cookie(obj: BpfObject, tracefs: Path) -> None:
    event = obj.programs["event"]
    with event.attach_tracepoint("syscalls", "sys_enter_getppid", cookie=77) as link:
        assert link.target == "syscalls:sys_enter_getppid"
        os.getppid()
        os.getppid()
        assert (value(obj, "hits"), value(obj, "cookie")) == (2, 77)
    os.getppid()
    assert value(obj, "hits") == 2
    with pytest.raises(BpfError, match=r"no event sys_enter_getpidd\. Did .*sys_enter_getpid") as e:
        event.attach_tracepoint("syscalls", "sys_enter_getpidd")
    assert e.value.errno == errno.ENOENT
    with pytest.raises(BpfError, match="no category syscall in"):
        event.attach_tracepoint("syscall", "sys_enter_getpid")
    with pytest.raises(BpfError, match="not the name of a tracepoint"):
        event.attach_tracepoint("syscalls", "")


def test_a_raw_tracepoint_with_a_cookie(compile_bpf: Compile) -> None:
    if not has_libbpf("1.4"):
        missing = pytest.raises(LibraryError, match=r"needs libbpf 1\.4; .* is libbpf 1\.1")
        with load(compile_bpf(source())) as obj, missing:
            obj.programs["raw"].attach_raw_tracepoint("sys_enter", cookie=1)
        return
    with load(compile_bpf(source(cookie_of_raw=True))) as obj:
        link = obj.programs["raw"].attach_raw_tracepoint("sys_enter", cookie=88)
        os.getppid()
        assert value(obj, "hits") > 0
        assert value(obj, "cookie") == 88
        link.close()


def test_all_of_an_object_at_once(
    compile_bpf: Compile, tracefs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = source().replace('SEC("tp")', 'SEC("tp/syscalls/sys_enter_getppid")')
    text += f'SEC("raw_tp/sys_exit") int both(void *ctx) {{ {RAW} }}'
    with load(compile_bpf(text)) as obj, caplog.at_level(logging.WARNING):
        links = obj.attach()
        assert [link.target for link in links] == [
            "tp/syscalls/sys_enter_getppid",
            "raw_tp/sys_exit",
        ]
        assert "raw is not attached: its section 'raw_tp' does not say to what" in caplog.text
        assert "attach_raw_tracepoint()" in caplog.text
        before = value(obj, "hits")
        os.getppid()
        assert value(obj, "hits") >= before + 2
    assert all(link.closed for link in links)


def test_all_or_nothing(compile_bpf: Compile, tracefs: Path) -> None:
    text = source().replace('SEC("raw_tp")', 'SEC("raw_tp/sys_enter")')
    text += 'SEC("tp/syscalls/no_such") int wrong(void *ctx) { return note(ctx); }'
    with load(compile_bpf(text)) as obj:
        with pytest.raises(BpfError, match="attach wrong to tp/syscalls/no_such"):
            obj.attach()
        before = value(obj, "hits")
        os.getppid()
        assert value(obj, "hits") == before, "the first one is detached again"
        obj.programs["wrong"].autoattach = False
        assert len(obj.attach()) == 1


def test_an_object_of_nothing_that_attaches_itself(compile_bpf: Compile) -> None:
    text = '#include <linux/bpf.h>\n__attribute__((section("xdp"), used)) int x(void *c)'
    text += "{ return c ? 2 : 1; }"
    with BpfObject.open(compile_bpf(text)) as obj:
        obj.load()
        with pytest.raises(BpfError, match=r"no section says to what.* Its programs: x \(xdp\)"):
            obj.attach()
        with pytest.raises(BpfError, match=r"'xdp' does not say to what.*by attach_xdp\(\)"):
            obj.programs["x"].attach()


@pytest.fixture(scope="module")
def iterators_path(compile_bpf: Compile) -> Path:
    return compile_bpf(ITERATORS)


@pytest.fixture
def iterators(iterators_path: Path) -> Iterator[BpfObject]:
    with BpfObject.open(iterators_path) as made:
        made.load()
        yield made


def test_an_iterator_is_read_like_a_file_and_runs_anew(iterators: BpfObject) -> None:
    numbers = iterators.maps["NUMBERS"]
    with iterators.programs["elements"].attach_iter(map=numbers) as link:
        assert isinstance(link, IteratorLink)
        assert link.info.details == IterDetails("bpf_map_elem", numbers.info.id, 0, 0, 0, 0)
        assert link.read() == ""
        for key in (1, 2):
            raw.bpf_map_update_elem(numbers.fd, struct.pack("I", key), struct.pack("Q", key * 7), 0)
        assert sorted(link.read().splitlines()) == ["1=7", "2=14"]
        with link.open("rb") as binary, link.open() as text:
            assert sorted(binary.read().split()) == [b"1=7", b"2=14"]
            assert sorted(line.rstrip() for line in text) == ["1=7", "2=14"]
        with pytest.raises(BpfError, match="neither 'r' nor 'rb'"):
            link.open("w")
    with pytest.raises(BpfError, match="it is closed"):
        link.open()


def own_threads() -> set[tuple[int, int]]:
    """This process's: NumPy has some, and what was joined may take a moment to end."""
    return {(os.getpid(), int(task.name)) for task in Path("/proc/self/task").iterdir()}


def test_an_iterator_of_tasks(iterators: BpfObject) -> None:
    tasks = iterators.programs["tasks"]

    def listed(link: IteratorLink) -> set[tuple[int, int]]:
        with link, link.open("rb") as file:
            return set(struct.iter_unpack("ii", file.read()))

    pid = os.getpid()
    everyone = listed(tasks.attach_iter())
    assert len(everyone) > 1
    assert (pid, pid) in everyone
    thread_id = threading.get_native_id()
    with tasks.attach_iter(tid=thread_id) as link:
        assert link.info.details == IterDetails("task", 0, 0, 0, thread_id, 0)
    assert listed(tasks.attach_iter(tid=threading.get_native_id())) == {(pid, pid)}
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        fd = os.pidfd_open(pid)
        of_process: list[dict[str, Any]] = [{"pid": pid}, {"pid_fd": fd}]
        for chosen in of_process:
            before = own_threads()
            found = listed(tasks.attach_iter(**chosen))
            assert before & own_threads() <= found <= before, "what ended may be gone in between"
            assert {(pid, pid), (pid, thread.native_id)} <= found
        os.close(fd)
    finally:
        event.set()
        thread.join()


def test_an_iterator_by_its_section(iterators: BpfObject) -> None:
    with iterators.programs["tasks"].attach() as link:
        assert isinstance(link, IteratorLink)
        with link.open("rb") as file:
            assert len(file.read()) >= 16


def test_an_iterator_of_cgroups(iterators: BpfObject, cgroup: Path) -> None:
    groups = iterators.programs["groups"]
    (cgroup / "a" / "b").mkdir(parents=True)
    try:
        for order, count in (("self", 1), ("descendants", 3), ("descendants-first", 3)):
            with groups.attach_iter(cgroup=cgroup, order=order) as link:
                details = link.info.details
                assert isinstance(details, IterDetails)
                assert (details.target_name, details.cgroup_id) == ("cgroup", cgroup.stat().st_ino)
                assert details.order > 0
                assert link.read() == "c" * count, order
        with groups.attach_iter(cgroup=cgroup / "a" / "b", order="ancestors") as link:
            assert len(link.read()) >= 3
    finally:
        (cgroup / "a" / "b").rmdir()
        (cgroup / "a").rmdir()
    with pytest.raises(BpfError, match="'sideways' is none of self, descendants"):
        groups.attach_iter(cgroup=cgroup, order="sideways")
    with pytest.raises(BpfError, match="of a map, of tasks or of cgroups"):
        groups.attach_iter(cgroup=cgroup, pid=1)


@pytest.fixture(scope="module")
def kprobe_path(compile_bpf: Compile) -> Path:
    return compile_bpf(source().replace('SEC("tp")', 'SEC("kprobe")'))


@pytest.mark.parametrize(
    ("attach", "told"),
    [
        (lambda p: p.attach_kprobe("vfs_read"), "CONFIG_KPROBES"),
        (lambda p: p.attach_kprobe("vfs_read", offset=-1), "the offset is -1"),
        (lambda p: p.attach_kprobe("vfs_read", cookie=-1), "the cookie is -1"),
        (lambda p: p.attach_kprobe(0), "the address is 0"),
        (lambda p: p.attach_kprobe(4096, offset=1), "an offset goes with a name"),
        (lambda p: p.attach_kprobe_multi("vfs_*"), "CONFIG_KPROBES"),
        (lambda p: p.attach_kprobe_multi("vfs_*", cookie=1), "not with a pattern"),
        (lambda p: p.attach_kprobe_multi(["vfs_read", ""]), "not a function name"),
        (lambda p: p.attach_kprobe_multi(["a"], retprobe=True, session=True), "session"),
        (lambda p: p.attach_ksyscall("openat"), "CONFIG_KPROBES"),
        (lambda p: p.attach_ksyscall(""), "not the name of a system call"),
        (lambda p: p.attach_trace(), "its section must be fentry"),
        (lambda p: p.attach_lsm(), "its section must be lsm"),
        (lambda p: p.attach_iter(), "its section must be iter"),
        (lambda p: p.attach_freplace(), "its section must be freplace|only BPF_PROG_TYPE_EXT"),
        (lambda p: p.attach_freplace(function="f"), "both a program and its function"),
    ],
)
def test_what_this_kernel_lacks_or_is_wrong_is_told(
    kprobe_path: Path, attach: Any, told: str
) -> None:
    if told == "CONFIG_KPROBES" and Path("/sys/bus/event_source/devices/kprobe").exists():
        pytest.skip("this kernel has kprobes: tests/vm attaches them")
    with BpfObject.open(kprobe_path) as obj:
        obj.load()
        with pytest.raises(BpfError, match=told):
            attach(obj.programs["event"])


def test_tracefs_that_is_not_mounted(compile_bpf: Compile) -> None:
    code = """
import sys
from libbpf_ctypes import BpfError, BpfObject
with BpfObject.open(sys.argv[1]) as obj:
    obj.load()
    program = obj.programs["event"]
    for attach, arguments in [
        (program.attach, ()),
        (program.attach_tracepoint, ("syscalls", "sys_enter_getppid")),
    ]:
        try:
            attach(*arguments)
        except BpfError as error:
            print(error)
"""
    umount = (
        "for each in /sys/kernel/tracing /sys/kernel/debug; do umount -l $each; done 2>/dev/null"
    )
    command = ["unshare", "--mount", "sh", "-c", f'{umount}; exec "$@"', "sh"]
    text = source().replace('SEC("tp")', 'SEC("tp/syscalls/sys_enter_getppid")')
    command += [sys.executable, "-c", code, str(compile_bpf(text))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    told = "tracefs is not mounted: 'mount -t tracefs tracefs /sys"
    assert done.stdout.count(told) == 2, done.stdout
