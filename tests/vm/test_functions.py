"""Functions of real kernels: found, attached to many at once and one by one, detached, listed."""

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

const volatile __u32 pid = 0;
__u64 total = 0;
char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} HITS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} NESTED SEC(".maps");

static __always_inline int note(void *ctx)
{
	__u32 cookie = bpf_get_attach_cookie(ctx);
	__u64 *hits, zero = 0;

	__sync_fetch_and_add(&total, 1);
	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	hits = bpf_map_lookup_elem(&HITS, &cookie);
	if (hits)
		__sync_fetch_and_add(hits, 1);
	if (!cookie)
		bpf_map_update_elem(&NESTED, &cookie, &zero, BPF_ANY);
	return 0;
}

SEC("kprobe") int on_kprobe(void *ctx) { return note(ctx); }
SEC("kprobe.multi") int on_kprobe_multi(void *ctx) { return note(ctx); }
"""

_results: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="session")
def object_of_functions(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE)


@pytest.fixture
def found(guest: Guest, object_of_functions: Path) -> dict[str, Any]:
    """What the guest's script saw, of one process for each kernel."""
    if guest.kernel not in _results:
        script = [sys.executable, str(HERE / "functions_guest.py"), str(object_of_functions)]
        done = guest.run(*script)
        assert done.returncode == 0, done.stderr
        _results[guest.kernel] = json.loads(done.stdout)
    return _results[guest.kernel]


@pytest.fixture
def method(guest: Guest) -> str:
    """How several functions are attached to."""
    return "kprobe" if guest.kernel == "6.1" else "kprobe.multi"


def test_system_calls_by_their_names(found: dict[str, Any]) -> None:
    assert found["system_call"] == [
        ["__x64_sys_openat", "", 0, "openat", "openat", False],
        ["__x64_sys_read", "", 0, "read", "syscall:read", False],
        ["__x64_sys_write", "", 0, "write", "__x64_sys_write", False],
    ]


def test_a_glob_is_what_tracefs_lists(found: dict[str, Any]) -> None:
    assert found["glob"] is True


def test_a_modules_function(found: dict[str, Any]) -> None:
    assert found["of_a_module"] == [True, 1, True]


def test_each_function_is_told_by_its_cookie(found: dict[str, Any], method: str) -> None:
    assert found["by_cookie"] == [method, [3, 1, 2, 0], [0, 0, 0, 0]]


def test_a_name_at_several_addresses(found: dict[str, Any]) -> None:
    assert found["several_addresses"] == {"listed": True, "probed": True, "all": True}


def test_offsets(found: dict[str, Any]) -> None:
    seen = found["offsets"]
    assert seen["1"][0] == errno.EILSEQ
    assert "attach kprobe to vfs_read+0x1: " in seen["1"][1]
    assert "not the beginning of an instruction" in seen["1"][1]
    assert "attached" in (seen.get("vfs_read+0x5"), seen.get("vfs_read+0x9")), seen
    assert "past the function's end" in seen["behind"]


def test_variants_are_offered_and_taken(found: dict[str, Any]) -> None:
    assert found["variants"] == [True, True]


def test_of_several_what_is_refused_is_told(found: dict[str, Any]) -> None:
    count, (warning,), alone = found["refusals"]
    assert count == 1
    assert warning.startswith("1 of 2 functions could not be probed, as IT: attach kprobe to IT: ")
    assert "IT is on the kernel's kprobe blacklist" in warning
    assert alone is True


def test_a_stop_in_between_leaves_nothing(found: dict[str, Any]) -> None:
    told = [[done, 10] for done in range(5)]
    assert found["a_stop_in_between"] == [5, told, 5, ""]


def test_one_by_one(found: dict[str, Any]) -> None:
    limited, method, count, probes, told, left = found["one_by_one"]
    assert "10 single probes need 84 open files, and this user may have 70" in limited
    assert (method, count, probes) == ("kprobe", 10, 10)
    assert told == [[done, 10] for done in range(1, 11)]
    assert left == ""


def test_a_thousand_at_once(found: dict[str, Any], method: str) -> None:
    expected = None if method == "kprobe" else ["kprobe.multi", True, True, True]
    assert found["a_thousand"] == expected


def test_missed_calls(found: dict[str, Any], method: str) -> None:
    told = None if method == "kprobe" else 5
    assert found["missed"] == [["kprobe", told, True], [method, told, True]]


def test_what_calls_cost(found: dict[str, Any], method: str) -> None:
    several, (within,), (alone,) = found["what_calls_cost"]
    assert several == [f"{method}, by ftrace"] * 3
    assert within.startswith("kprobe, by a breakpoint, which costs an exception")
    assert alone == "kprobe, by ftrace"


def test_list(found: dict[str, Any]) -> None:
    statuses, out, wrong, reasons = found["listed"]
    assert statuses == [0, 0]
    assert wrong == []
    assert "" in reasons
    assert "it is on the kernel's kprobe blacklist" in reasons
    assert "its code was freed after boot" in reasons
    prototype = "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"
    assert f"vfs_read\t{prototype}\t\n" in out
    call = "long openat(int dfd, const char *filename, int flags, umode_t mode)"
    assert out.endswith(f"openat\t{call}\t\n")
