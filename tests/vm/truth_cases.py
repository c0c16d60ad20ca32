"""The command lines that are tried at the same time, and which calls each must tell."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from .truth import Call

#: Of these every call that the cast's threads make is known.
KNOWN = ("open", "openat", "openat2", "write", "kill", "unlinkat")


class Case(NamedTuple):
    """Words after the command, the system calls, and which calls of them."""

    words: str
    calls: tuple[str, ...]
    which: Callable[[Call], object] = bool
    command: str = "kprobe"


def _comm(*names: str) -> Callable[[Call], object]:
    return lambda call: call["comm"] in names


def _count(call: Call) -> int:
    count = call["arguments"][2]
    assert isinstance(count, int)
    return count


def _path(call: Call) -> str:
    return call.get("path") or ""


def _argument(call: Call, number: int) -> int:
    """An argument as a signed number."""
    value = call["arguments"][number]
    assert isinstance(value, int)
    return value - 2**64 if value >= 2**63 else value


_WRITES, _OPENS = ("write",), ("openat",)

#: One option each, or some together: the events are exactly the calls that fit.
CHOSEN = {
    "all": Case("openat open openat2 write kill unlinkat --args", KNOWN),
    "kernel": Case(
        "do_sys_openat2 --args --arg how.flags:open_flags --arg how.mode:oct",
        ("open", "openat", "openat2"),
    ),
    "written": Case("ksys_write --comm gt-* --args --filter count>4096", _WRITES,
                    lambda call: _count(call) > 4096),
    "pids": Case("write -p {user.pid} --pid {box.pid}", _WRITES, _comm("gt-user", "gt-box")),
    "tids": Case(
        "openat write --tid {main.tids[1]} --tid {inner.tids[0]}",
        ("openat", "write"),
        _comm("gt-worker-1", "gt-inner"),
    ),
    "uid": Case("openat --uid 1234", _OPENS, _comm("gt-user")),
    "glob": Case(
        "write --comm gt-*[12] --comm ?t-us*", _WRITES,
        _comm("gt-worker-1", "gt-worker-2", "gt-user"),
    ),
    "container": Case("write --cgroup {cgroup.id:.12}", _WRITES, _comm("gt-box", "gt-inner")),
    "four": Case(
        "write --comm gt-* --filter|not (count < 1 or count == 4096) and (fd > 2 and count != 1)",
        _WRITES, lambda call: _count(call) not in (0, 1, 4096),
    ),
    "flags": Case(
        "openat --comm gt-* --filter|flags & O_ACCMODE == O_RDWR and flags & O_TRUNC != 0", _OPENS,
        lambda call: call["arguments"][2] & os.O_TRUNC and call["arguments"][2] & 3 == os.O_RDWR,
    ),
    "paths": Case(
        'openat --comm gt-* --filter|filename == "/gt/*" and filename != "*/x/*"', _OPENS,
        lambda call: _path(call).startswith("/gt/") and "/x/" not in _path(call),
    ),
    "backwards": Case(
        "lseek --comm gt-* --filter offset<0", ("lseek",), lambda call: _argument(call, 1) < 0
    ),
    "member": Case(
        "do_sys_openat2 --comm gt-* --filter|how.flags & O_CLOEXEC != 0",
        ("open", "openat", "openat2"),
        lambda call: call["call"] == "openat" and call["arguments"][2] & os.O_CLOEXEC,
    ),
    "box_pids": Case("openat -p 1", _OPENS, _comm("gt-box")),
    "signals": Case("send_signal_locked --comm gt-* --args", ("kill",)),
    "names": Case(
        "vfs_write --comm gt-* --arg file.f_path.dentry.d_name.name:str --arg count "
        "--arg file.f_flags:open_flags",
        _WRITES,
    ),
    "maps": Case("do_mmap --comm gt-* --args", ("mmap",)),
    "numbers": Case("lseek mmap --comm gt-* --args", ("lseek", "mmap")),
    "returns": Case("openat open openat2 write kill unlinkat --args --comm gt-*", KNOWN,
                    command="kretprobe"),
    "failed": Case("openat --failed --comm gt-*", _OPENS, lambda call: call["result"] < 0,
                   "kretprobe"),
    "stacks": Case("vfs_write -k -u --comm gt-*", _WRITES, command="kretprobe"),
}  # fmt: skip

#: Returns and sums, in the first act: bpftrace and funclatency are there, too.
FIRST = {"latency": "latency nanosleep --json"}
RETURNS = {
    "deep": "kretprobe ep_loop_check_proc --args --comm gt-* --json",
    "slower": "kretprobe nanosleep --slower 4 --json",
    "pointers": "kretprobe do_filp_open --comm gt-* --json",
    "latency_by": "latency nanosleep --by comm --json",
    "linear": "latency nanosleep --linear 0:30ms:3ms --json",
    "counts": "count openat write --by comm,function --comm gt-* --json",
    "counts_by": "count write --by count --comm gt-* --json",
    "count_stacks": "count vfs_write --by stack --comm gt-* --json",
    "flight": "kretprobe read --comm gt-flight --json",
}

#: What is not --json, or not all that fits.
OTHERS = {
    "lines": "openat --args --show-tid --comm gt-*",
    "box_lines": "openat",
    "columns": "openat --comm gt-* --fields pid,tid,host_pid,host_tid,ns_pid,ns_tid,uid,gid,comm,"
    "cpu,cgroup,function,filename,time",
    "sample": "write --comm gt-* --sample 1/4 --json",
    "cpu": "write --comm gt-* --cpu 1 --json",
    "count": "openat --comm gt-* -n 5 --json",
    "recorded": "openat write --args --comm gt-* --time wall --record {folder.path}/a.rec",
    "flood": "write --comm gt-flood --json --strict --buffer 4K",
    "flood_enough": "write --comm gt-flood --json --strict --buffer 8M",
}

_REPLAYS = {
    "replay": "{folder.path}/a.rec --time wall",
    "replay_json": "{folder.path}/a.rec --json",
}


def words(line: str) -> list[str]:
    """The words of a command line; what stands after a bar is one."""
    head, bar, tail = line.partition("|")
    return [*head.split(), tail] if bar else head.split()


def command_lines() -> dict[str, list[str]]:
    """All of them, as truth_guest.py takes them."""
    return {
        **{name: line.split() for name, line in FIRST.items()},
        **{name: [case.command, "--json", *words(case.words)] for name, case in CHOSEN.items()},
        **{name: ["kprobe", *words(line)] for name, line in OTHERS.items()},
        **{name: line.split() for name, line in RETURNS.items()},
        **{name: ["replay", *words(line)] for name, line in _REPLAYS.items()},
    }
