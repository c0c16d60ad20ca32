"""Each refusal of a real kernel says what, why and what next, with status 1."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from libbpf_ctypes.kernel import CAP_BPF, CAP_PERFMON

from .conftest import CATS, HERE, ROOT, TOOL, Guest

TRACER = (CAP_PERFMON, CAP_BPF)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Status 1, the words on stderr, no traceback, nothing on stdout."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("[ERROR]"))
    for word in words:
        assert word in error, error


def as_nobody(
    guest: Guest, *arguments: str, capabilities: tuple[int, ...] = (), **situation: int
) -> subprocess.CompletedProcess[str]:
    """Runs the tool as user nobody, as nobody_guest.py says."""
    given = json.dumps({"capabilities": capabilities, **situation})
    return guest.run(TOOL[0], str(HERE / "nobody_guest.py"), given, "kprobe", *arguments)


def test_an_unknown_function_and_its_neighbours(guest: Guest) -> None:
    done = guest.tool("do_sys_openatx", "-d", "1")
    assert_refused(done, "do_sys_openatx", "no function of that name", "do_sys_openat2")


def test_a_blacklisted_function(guest: Guest) -> None:
    lines = guest.shell("cat /sys/kernel/debug/kprobes/blacklist").stdout.splitlines()
    function = next(line.split()[-1] for line in lines if "kprobe" in line)
    done = guest.tool(function, "-d", "1")
    assert_refused(done, f"{function} is on the kernel's kprobe blacklist", "callers")


def test_data_is_not_a_function(guest: Guest) -> None:
    assert_refused(guest.tool("init_task", "-d", "1"), "init_task is data, not a function")


def test_a_module_that_is_not_loaded(guest: Guest) -> None:
    done = guest.tool("xfs:xfs_file_open", "-d", "1")
    assert_refused(done, "Module xfs is not loaded", "modprobe xfs")


def test_a_function_of_a_module(guest: Guest) -> None:
    """The overlay file system is a module in Debian's kernels, and the guest uses it."""
    done = guest.tool("overlay:ovl_open", "-n", "40", load=CATS)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\] cat: inode=0x[0-9a-f]+, ", done.stdout), done.stdout


def test_without_privilege(guest: Guest) -> None:
    done = as_nobody(guest, "do_sys_openat2", "-d", "1")
    assert_refused(done, "Missing CAP_BPF and CAP_PERFMON", "Run as root, or give", "enough")


def test_two_capabilities_are_enough(guest: Guest) -> None:
    """Started as a user starts it."""
    words = " ".join([*TOOL, "kprobe", "do_sys_openat2", "-d", "0.5"])
    given = "--inh-caps=-all,+perfmon,+bpf --ambient-caps=+perfmon,+bpf"
    before = "sysctl -q kernel.perf_event_paranoid=2"
    done = guest.shell(f"{before}; exec setpriv --reuid 65534 --clear-groups {given} {words}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\[INFO\] \d+ events, 0 lost", done.stderr)


def test_debians_paranoia(guest: Guest) -> None:
    """Debian's kernels have a level 3, where CAP_PERFMON does not suffice."""
    done = as_nobody(guest, "do_sys_openat2", "-d", "1", capabilities=TRACER, paranoid=3)
    assert_refused(done, "perf_event_paranoid is 3", "sysctl kernel.perf_event_paranoid=2")


def test_locked_memory_limit(guest: Guest) -> None:
    guest.shell("sysctl -q kernel.perf_event_mlock_kb=8")
    words = ("do_sys_openat2", "-d", "0.5")
    smaller = as_nobody(guest, *words, capabilities=TRACER, memlock=0)
    refused = as_nobody(guest, *words, "--buffer=1M", capabilities=TRACER, memlock=0)
    guest.shell("sysctl -q kernel.perf_event_mlock_kb=516")
    told = ("kernel.perf_event_mlock_kb = 8", "RLIMIT_MEMLOCK", "CAP_IPC_LOCK")
    assert smaller.returncode == 0, smaller.stderr
    assert "[WARNING] The buffers are smaller than usual" in smaller.stderr
    assert all(text in smaller.stderr for text in told)
    assert_refused(refused, *told)


def test_an_offset_must_lie_at_an_instruction_of_the_function(guest: Guest) -> None:
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from libbpf_ctypes import KPROBE_OBJECT, BpfError, BpfObject
with BpfObject.open(KPROBE_OBJECT) as obj:
    for program in obj.programs.values():
        program.autoload = program.name == "syscall_kprobe"  # the kernel's check takes seconds
    obj.load()
    for offset in (0, 1, 2, 3, 1 << 20):
        try:
            obj.programs["syscall_kprobe"].attach_kprobe("vfs_read", offset=offset).close()
            print(offset, "attached")
        except BpfError as error:
            print(offset, error)
"""
    done = guest.run(TOOL[0], "-c", code, str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 attached\n")
    assert "not the beginning of an instruction" in done.stdout
    assert "1048576 attach kprobe to vfs_read+0x100000: the offset lies past" in done.stdout


def test_a_return_probe(guest: Guest) -> None:
    code = """
import os, sys; sys.path.insert(0, sys.argv[1])
from libbpf_ctypes import KPROBE_OBJECT, SYSCALL_EVENT, BpfObject, PerfBuffer
with BpfObject.open(KPROBE_OBJECT) as obj:
    for program in obj.programs.values():
        program.autoload = program.name == "syscall_kprobe"  # the kernel's check takes seconds
    obj.variables["target_pid"].value = os.getpid()
    obj.load()
    with PerfBuffer(obj.maps["EVENTS"], SYSCALL_EVENT) as buffer:
        with obj.programs["syscall_kprobe"].attach_kprobe("vfs_read", retprobe=True):
            with open("/dev/zero", "rb", buffering=0) as zero:
                for _ in range(5): zero.read(7)
        print(len(buffer.poll(1)))
"""
    done = guest.run(TOOL[0], "-c", code, str(ROOT))
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


@pytest.mark.last  # lockdown cannot be undone
def test_a_locked_down_kernel(guest: Guest) -> None:
    script = "mount -t securityfs none /sys/kernel/security; cd /sys/kernel/security"
    done = guest.shell(f"{script}; echo confidentiality >lockdown && cat lockdown")
    assert "[confidentiality]" in done.stdout, done.stderr
    done = guest.tool("vfs_read", "-d", "1")
    assert_refused(done, "locked down (mode confidentiality)", "lockdown=confidentiality")
