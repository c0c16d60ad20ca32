"""What the rich programs are told, from the running kernel's own types."""

from __future__ import annotations

import pytest

from ..conftest import lacking
from ..pure.helpers import run_tool


def dry_run(*words: str, command: str = "kprobe") -> tuple[list[str], str]:
    """The lines of the plan, and what is on stderr."""
    done = run_tool(command, *words, "--dry-run")
    if "/proc/kallsyms" in done.stderr:
        lacking("/proc/kallsyms cannot be read")
    return done.stdout.splitlines(), done.stderr


def test_functions_without_the_filters_arguments_are_not_traced() -> None:
    lines, told = dry_run("vfs_read", "vfs_fsync", "vfs_write", "--filter", "count > 4096")
    assert lines[0].startswith("Would attach to 2 functions")
    assert [line.split("(")[0].strip() for line in lines[1:3]] == ["vfs_read", "vfs_write"]
    assert lines[3] == "Every call: up to 1 comparison, 0 reads of memory"
    assert "[WARNING] 1 of 3 functions are not traced" in told


def test_a_filter_that_no_function_has_arguments_for() -> None:
    lines, told = dry_run("vfs_read", "vfs_write", "--filter", "cuont > 4096")
    assert lines == []
    complaint, text, caret, _try = [line for line in told.splitlines() if "[WARNING]" not in line]
    assert "cuont" in complaint
    assert "count" in complaint
    assert caret.index("^") == text.index("cuont")


def test_only_what_can_fail_is_traced_for_failures() -> None:
    """Of what returns nothing, each return would be let through, or none."""
    done = run_tool("kretprobe", "kfree", "vfs_read", "--failed", "--dry-run")
    if "/proc/kallsyms" in done.stderr:
        lacking("/proc/kallsyms cannot be read")
    assert done.stdout.splitlines()[0].startswith("Would attach to 1 function by kretprobe")
    assert "  vfs_read(ssize_t ret, " in done.stdout
    assert "1 of 2 functions are not traced: they return nothing that tells of" in done.stderr
    done = run_tool("kretprobe", "kfree", "--failed", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--failed: kfree returns nothing that tells of an error" in done.stderr


def test_the_plan_says_what_is_read_and_sent() -> None:
    lines, _ = dry_run("openat", "--args", "--comm", "cat", "-p", "1", "--sample", "1/10")
    assert "openat = __" in lines[1]
    assert "(int dfd, const char *filename, int flags, umode_t mode): kprobe" in lines[1]
    assert lines[2:4] == [
        "Every call: looks at its process, name; 6 reads of memory for a system call's arguments",
        "A call that is chosen: 1 read of memory, 432 bytes in its CPU's buffer; one of 10, by "
        "chance",
    ]
    lines, _ = dry_run("openat", command="count")
    assert "Every call: is chosen" in lines
    lines, _ = dry_run("openat", "--by", "flags", command="count")
    assert "Every call: 6 reads of memory for a system call's arguments" in lines


def test_the_plan_says_what_stacks_and_returns_cost() -> None:
    done = run_tool("kretprobe", "vfs_read", "-k", "-u", "--fields", "ns_pid", "--dry-run")
    if "/proc/kallsyms" in done.stderr:
        lacking("/proc/kallsyms cannot be read")
    assert done.stdout.splitlines()[2:4] == [
        "Every call: looks at its pid namespaces",
        "A call that is chosen: 0 reads of memory, its kernel stack, its user stack, kept until it "
        "returns, then 176 bytes in its CPU's buffer",
    ]
    done = run_tool("count", "vfs_read", "--by", "kernel-stack", "--dry-run")
    assert ": 0 reads of memory, its kernel stack, added to its group\n" in done.stdout


def test_a_key_that_is_none_is_named() -> None:
    done = run_tool("count", "vfs_read", "--by", "comm,fucntion", "--dry-run")
    if "/proc/kallsyms" in done.stderr:
        lacking("/proc/kallsyms cannot be read")
    assert done.returncode == 2
    assert "--by: 'fucntion' is none of function, comm, " in done.stderr
    assert "(did you mean function?); vfs_read: there is no argument fucntion" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fields", "pid,cuont"], "--fields: 'cuont' is no field (time, pid, "),
        (["--arg", "cuont"], "--arg cuont: vfs_read: there is no argument cuont"),
        (["--uid", "no-such-user"], "--uid: there is no user 'no-such-user'"),
        (["--cpu", "3-1"], "--cpu takes numbers of CPUs as 0,2-3, not '3-1'"),
        (["--sample", "2/3"], "--sample takes one of N, as 1/100, not '2/3'"),
        (["--record", "x"], "--dry-run traces nothing: leave --record out"),
        (["--comm", ""], "--comm takes the name of a process, or a pattern, not ''"),
        (["--comm", "x" * 40 + "*" + "y" * 40], "too long"),
        (["--comm", "systemd-journald*"], "matches nothing: the kernel keeps 15 bytes of a name"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], told: str) -> None:
    done = run_tool("kprobe", "vfs_read", "--dry-run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_the_kernel_cuts() -> None:
    _lines, told = dry_run("vfs_read", "--comm", "a-name-of-seventeen")
    assert "[WARNING] The kernel keeps 15 bytes of a name: --comm 'a-name-of-seven' it is." in told
