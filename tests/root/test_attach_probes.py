"""Probes in programs and libraries, perf events: each runs, with the cookie it was given."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import (
    BpfError,
    BpfObject,
    LibraryError,
    PerfEvent,
    PerfType,
    SoftwareEvent,
)
from libbpf_ctypes.link_details import PerfEventDetails, UprobeMultiDetails

from ..conftest import Compile
from .conftest import has_libbpf

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 hits = 0, cookie = 0, sum = 0;

static __always_inline int note(void *ctx)
{
	__sync_fetch_and_add(&hits, 1);
	cookie = bpf_get_attach_cookie(ctx);
	__sync_fetch_and_add(&sum, cookie);
	return 0;
}

SEC("uprobe") int probe(void *ctx) { return note(ctx); }
SEC("perf_event") int sample(void *ctx) { return note(ctx); }
char LICENSE[] SEC("license") = "GPL";
"""

MULTI = SOURCE.replace('SEC("uprobe")', 'SEC("uprobe.multi")')

USDT = """
#include <stdbool.h>
#include <linux/ptrace.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

__u64 hits = 0, cookie = 0;
__s64 argument = 0;

SEC("usdt")
int tick(struct pt_regs *ctx)
{
	long value = 0;

	__sync_fetch_and_add(&hits, 1);
	cookie = bpf_usdt_cookie(ctx);
	if (!bpf_usdt_arg(ctx, 0, &value))
		argument = value;
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""

#: A library with three functions, and a static probe whose note <sys/sdt.h> would write.
LIBRARY = r"""
unsigned short attach_semaphore __attribute__((section(".probes")));
long attach_one(long value) { return value + 1; }
long attach_two(long value) { return value + 2; }
long attach_six(long value) { return value + 6; }

void tick(long value)
{
	__asm__ __volatile__(
		"990: nop\n"
		".pushsection .note.stapsdt, \"?\", \"note\"\n"
		".balign 4\n"
		".4byte 992f - 991f, 994f - 993f, 3\n"
		"991: .asciz \"stapsdt\"\n"
		"992: .balign 4\n"
		"993: .8byte 990b, _.stapsdt.base, 0\n"
		".asciz \"attach\"\n"
		".asciz \"tick\"\n"
		".asciz \"-8@%0\"\n"
		"994: .balign 4\n"
		".popsection\n"
		".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
		".weak _.stapsdt.base\n"
		".hidden _.stapsdt.base\n"
		"_.stapsdt.base: .space 1\n"
		".popsection\n"
		:: "r"(value));
}
"""

COOKIE = 0xFEED_FACE_CAFE_BEEF


class Traced:
    """A library of ours, its functions callable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: Any = ctypes.CDLL(str(path))


@pytest.fixture(scope="module")
def library(compile_library: Compile) -> Traced:
    """The library, loaded."""
    return Traced(compile_library(LIBRARY, "libattached.so"))


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> Path:
    """The probes."""
    return compile_bpf(SOURCE)


@pytest.fixture
def obj(path: Path) -> Iterator[BpfObject]:
    """The probes, loaded."""
    with BpfObject.open(path) as made:
        made.load()
        yield made


def value(obj: BpfObject, name: str) -> int:
    """A variable of the loaded program."""
    number = obj.variables[name].value
    assert isinstance(number, int)
    return number


def seen(obj: BpfObject) -> tuple[int, int]:
    """How often it ran, and the last cookie."""
    return value(obj, "hits"), value(obj, "cookie")


@pytest.mark.parametrize("retprobe", [False, True])
def test_a_uprobe_at_a_symbol_with_a_cookie(
    obj: BpfObject, library: Traced, retprobe: bool
) -> None:
    probe = obj.programs["probe"]
    with probe.attach_uprobe(library.path, "attach_one", retprobe=retprobe, cookie=COOKIE) as link:
        assert link.target == f"{library.path}:attach_one"
        assert library.calls.attach_one(1) == 2
        library.calls.attach_two(1)
        assert seen(obj) == (1, COOKIE)
    library.calls.attach_one(1)
    assert seen(obj) == (1, COOKIE), "closed: detached"


def test_a_uprobe_at_an_offset_and_of_one_process(obj: BpfObject, library: Traced) -> None:
    symbols = subprocess.run(
        ["nm", "-D", library.path], capture_output=True, text=True, check=True
    ).stdout
    offset = next(int(line.split()[0], 16) for line in symbols.splitlines() if "attach_two" in line)
    probe = obj.programs["probe"]
    with probe.attach_uprobe(library.path, offset=offset, pid=0, cookie=3):
        library.calls.attach_two(1)
        assert seen(obj) == (1, 3)
        code = f"import ctypes; ctypes.CDLL({str(library.path)!r}).attach_two(1)"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert seen(obj) == (1, 3), "another process"


@pytest.mark.parametrize("name", ["libc.so.6", "libc"])
def test_a_library_by_its_name(obj: BpfObject, name: str) -> None:
    with obj.programs["probe"].attach_uprobe(name, "getppid", pid=os.getpid(), cookie=4):
        os.getppid()
        assert seen(obj) == (1, 4)


@pytest.mark.parametrize("mode", ["perf", "link"])
def test_modes_of_a_uprobe(obj: BpfObject, library: Traced, mode: str) -> None:
    probe = obj.programs["probe"]
    if not has_libbpf("1.2"):
        with pytest.raises(LibraryError, match=r"attached needs libbpf 1\.2; .* 1\.1"):
            probe.attach_uprobe(library.path, "attach_one", mode=mode)
        return
    cookie = 9 if mode == "link" else 0
    with probe.attach_uprobe(library.path, "attach_one", mode=mode, cookie=cookie):
        library.calls.attach_one(1)
        assert seen(obj) == (1, cookie)


def test_a_uprobe_through_tracefs(obj: BpfObject, library: Traced, tracefs: Path) -> None:
    probe = obj.programs["probe"]
    if not has_libbpf("1.2"):
        with pytest.raises(LibraryError):
            probe.attach_uprobe(library.path, "tick", mode="legacy")
        return
    events = tracefs / "uprobe_events"
    with tempfile.TemporaryDirectory() as folder:  # libbpf 1.5 takes the path into a short name
        path = Path(folder, "l.so")
        os.link(library.path, path)
        with probe.attach_uprobe(path, "attach_one", mode="legacy"):
            assert folder in events.read_text()
            library.calls.attach_one(1)
            assert seen(obj)[0] == 1
        assert folder not in events.read_text()


@pytest.mark.parametrize(
    ("functions", "cookie", "expected"),
    [
        ("attach_*", None, (3, 0)),
        (["attach_one", "attach_six"], [10, 32], (2, 42)),
        (["attach_one", "attach_two", "attach_six"], 5, (3, 15)),
    ],
)
def test_many_functions_at_once(
    compile_bpf: Compile,
    library: Traced,
    functions: str | list[str],
    cookie: Any,
    expected: tuple[int, int],
) -> None:
    if not has_libbpf("1.3"):
        with BpfObject.open(compile_bpf(SOURCE)) as obj:
            obj.load()
            with pytest.raises(LibraryError, match=r"needs libbpf 1\.3; .* is libbpf 1\.1"):
                obj.programs["probe"].attach_uprobe_multi(library.path, functions, cookie=cookie)
        return
    with BpfObject.open(compile_bpf(MULTI)) as obj:
        obj.load()
        probe = obj.programs["probe"]
        with probe.attach_uprobe_multi(library.path, functions, pid=os.getpid(), cookie=cookie):
            for name in ("attach_one", "attach_two", "attach_six"):
                library.calls[name](1)
            assert (value(obj, "hits"), value(obj, "sum")) == expected


def test_a_stripped_library(compile_bpf: Compile) -> None:
    if not has_libbpf("1.3"):
        return
    with BpfObject.open(compile_bpf(MULTI)) as obj:
        obj.load()
        probe = obj.programs["probe"]
        with probe.attach_uprobe_multi("libc.so.6", "getppi?", pid=os.getpid()) as link:
            details = link.info.details
            assert isinstance(details, UprobeMultiDetails)
            assert (details.path[-10:], details.pid) == ("/libc.so.6", os.getpid())
            assert (details.retprobe, details.ref_ctr_offsets, details.cookies) == (
                False,
                (0,),
                (0,),
            )
            assert len(details.offsets) == 1 and details.offsets[0] > 0
            os.getppid()
            assert value(obj, "hits") == 1
        with pytest.raises(BpfError, match="a pattern or offsets of it, but no list of symbols"):
            probe.attach_uprobe_multi("libc.so.6", ["getppid", "no_such_function"])


def test_a_counter_of_attached_probes(obj: BpfObject, library: Traced) -> None:
    """As a static probe's semaphore: the kernel counts in the traced process's memory."""
    semaphore = ctypes.c_uint16.in_dll(library.calls, "attach_semaphore")
    shown = subprocess.run(
        ["readelf", "-SW", library.path], capture_output=True, text=True, check=True
    ).stdout
    offset = next(int(line.split()[-7], 16) for line in shown.splitlines() if " .probes " in line)
    probe = obj.programs["probe"]
    assert semaphore.value == 0
    with probe.attach_uprobe(library.path, "attach_one", ref_ctr_offset=offset):
        assert semaphore.value == 1
        library.calls.attach_one(1)
        assert value(obj, "hits") == 1
    assert semaphore.value == 0


def test_a_static_probe(compile_bpf: Compile, library: Traced) -> None:
    if has_libbpf("1.7"):  # clang finds the system's older <bpf/usdt.bpf.h>
        return
    with BpfObject.open(compile_bpf(USDT, "-D__TARGET_ARCH_x86")) as obj:
        obj.load()
        tick = obj.programs["tick"]
        with tick.attach_usdt(library.path, "attach", "tick", pid=os.getpid(), cookie=COOKIE):
            library.calls.tick(ctypes.c_long(-77))
            assert (*seen(obj), value(obj, "argument")) == (1, COOKIE, -77)
        with pytest.raises(BpfError, match=r"no probe of the name .*attach:tock: 'readelf"):
            tick.attach_usdt(library.path, "attach", "tock")


def test_a_static_probe_of_another_layout_warns(
    compile_bpf: Compile, library: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = 208, 304  # bytes of the header's struct before libbpf 1.7, and in that
    for size in (old, new):
        caplog.clear()
        with BpfObject.open(compile_bpf(USDT, "-D__TARGET_ARCH_x86")) as obj:
            assert obj.maps["__bpf_usdt_specs"].value_size == old
            obj.maps["__bpf_usdt_specs"].value_size = size
            obj.load()
            obj.programs["tick"].attach_usdt(library.path, "attach", "tick").close()
        warned = "will misread cookie and arguments" in caplog.text
        assert warned == (size != (new if has_libbpf("1.7") else old))


def test_a_probe_by_its_section(compile_bpf: Compile, library: Traced) -> None:
    source = SOURCE.replace('SEC("uprobe")', f'SEC("uprobe/{library.path}:attach_one")')
    with BpfObject.open(compile_bpf(source)) as obj:
        obj.load()
        links = obj.attach()
        assert [link.target for link in links] == [f"uprobe/{library.path}:attach_one"]
        library.calls.attach_one(1)
        assert seen(obj) == (1, 0)
        with pytest.raises(BpfError, match=r"'perf_event' does not say.*attach_perf_event\(\)"):
            obj.programs["sample"].attach()


@pytest.mark.parametrize("by_descriptor", [False, True])
def test_a_sampler(obj: BpfObject, by_descriptor: bool) -> None:
    with PerfEvent.open(
        PerfType.SOFTWARE, SoftwareEvent.CPU_CLOCK, period=1_000_000, pid=0
    ) as event:
        sample = obj.programs["sample"]
        link = sample.attach_perf_event(event.fd if by_descriptor else event, cookie=COOKIE)
    burn_until_it_ran(obj)
    assert seen(obj)[1] == COOKIE
    link.close()
    before = seen(obj)
    burn(0.02)
    assert seen(obj) == before


def test_what_the_kernel_tells_of_a_perf_event(obj: BpfObject) -> None:
    """Of CPU_CLOCK it tells the number of an own unit."""
    event = PerfEvent.open(PerfType.SOFTWARE, SoftwareEvent.PAGE_FAULTS, period=1 << 40, pid=0)
    with event, obj.programs["sample"].attach_perf_event(event, cookie=COOKIE) as link:
        details = link.info.details
    assert isinstance(details, PerfEventDetails)
    assert (details.type, details.config) == (PerfType.SOFTWARE, SoftwareEvent.PAGE_FAULTS)
    assert details.cookie == COOKIE


def test_a_sampler_of_a_cpu_by_frequency(obj: BpfObject) -> None:
    cpu = next(iter(os.sched_getaffinity(0)))
    event = PerfEvent.open(PerfType.SOFTWARE, SoftwareEvent.CPU_CLOCK, frequency=999, cpu=cpu)
    with event, obj.programs["sample"].attach_perf_event(event):
        burn_until_it_ran(obj)
    assert repr(event) == "<PerfEvent perf event 1:0x0 (closed)>"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def burn_until_it_ran(obj: BpfObject) -> None:
    """Uses this process's time until the program was run, at most 10 s of it."""
    for _ in range(1000):
        if value(obj, "hits"):
            return
        burn(0.01)
    raise AssertionError("it never ran")


def test_what_no_event_is() -> None:
    for arguments, told in (
        ({"period": 1}, "name a process, a CPU or both"),
        ({"pid": 0}, "name a period or a frequency"),
        ({"pid": 0, "period": 1, "frequency": 1}, "name a period or a frequency"),
        ({"pid": 1 << 31, "period": 1}, "a number is too large"),
        ({"pid": "1", "period": 1}, "'1' is not a number"),
        ({"pid": 0, "period": 1.5}, "1.5 is not a number"),
    ):
        with pytest.raises(BpfError, match=told):
            PerfEvent.open(PerfType.SOFTWARE, 0, **arguments)
    with pytest.raises(BpfError, match="no such process") as caught:
        PerfEvent.open(PerfType.SOFTWARE, 0, pid=(1 << 22) + 1, period=1)
    assert caught.value.errno == errno.ESRCH
    with pytest.raises(BpfError, match="This machine has no such event"):
        PerfEvent.open(PerfType.SOFTWARE, 99, pid=0, period=1)


@pytest.mark.parametrize(
    ("attach", "told"),
    [
        (lambda p: p.attach_uprobe("libc.so.6", "a\0b"), "not a symbol"),
        (lambda p: p.attach_uprobe("libc.so.6"), "neither a symbol nor an offset"),
        (lambda p: p.attach_uprobe("a\0b", "f"), "not a path"),
        (lambda p: p.attach_uprobe("libc.so.6", "f", pid=-2), "the process id is -2"),
        (lambda p: p.attach_uprobe("libc.so.6", "f", pid=1 << 31), "the process id is 2147483648"),
        (lambda p: p.attach_uprobe("libc.so.6", "f", offset=-1), "the offset is -1"),
        (lambda p: p.attach_uprobe("libc.so.6", "f", cookie=1 << 64), "the cookie is"),
        (lambda p: p.attach_uprobe("libc.so.6", "f", mode="fast"), "none of auto, legacy"),
        (lambda p: p.attach_uprobe("libc.so.6", "no_such_f"), "nm -D FILE"),
        (lambda p: p.attach_uprobe("/no/such/file", "f"), "No such file"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", []), "not a function name"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", ["a", 1]), "mixes names and numbers"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", "a*", cookie=1), "not with a pattern"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", ["a"], cookie=[1, 2]), "2 cookies for 1"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", ["a"], ref_ctr_offsets=[]), "0 counters"),
        (lambda p: p.attach_usdt("libc.so.6", "", "x"), "not a name of USDT"),
        (lambda p: p.attach_perf_event(-1), "the event.s descriptor is -1"),
        (lambda p: p.attach_perf_event(999), "Bad file descriptor"),
    ],
)
def test_what_is_refused_in_words(obj: BpfObject, attach: Any, told: str) -> None:
    with pytest.raises(BpfError, match=told):
        attach(obj.programs["probe"])


def test_an_event_that_is_not_started(obj: BpfObject) -> None:
    if not has_libbpf("1.7"):
        return  # refused: below
    arguments = (PerfType.SOFTWARE, SoftwareEvent.CPU_CLOCK)
    with (
        PerfEvent.open(*arguments, period=1_000_000, pid=0) as event,
        obj.programs["sample"].attach_perf_event(event, enable=False),
    ):
        burn(0.05)
        assert value(obj, "hits") == 0
        fcntl.ioctl(event.fd, 0x2400)  # PERF_EVENT_IOC_ENABLE
        burn_until_it_ran(obj)


@pytest.mark.parametrize(
    ("attach", "since"),
    [
        (lambda p: p.attach_perf_event(0, enable=False), "1.7"),
        (lambda p: p.attach_kprobe_multi("vfs_*", unique_match=True), "1.6"),
        (lambda p: p.attach_uprobe_multi("libc.so.6", "open*", session=True), "1.6"),
    ],
)
def test_options_of_a_newer_libbpf(obj: BpfObject, attach: Any, since: str) -> None:
    told, kind = (
        (f"needs libbpf {since}", LibraryError) if not has_libbpf(since) else ("attach ", BpfError)
    )
    with pytest.raises(kind, match=told):
        attach(obj.programs["probe"])


def test_a_descriptor_of_something_else(obj: BpfObject, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(BpfError, match="attach to perf"),
    ):
        obj.programs["sample"].attach_perf_event(file.fileno())
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "its copy is closed"
