"""Struct call_events made up, and the functions that they are of."""

from __future__ import annotations

import struct
from typing import Any

from libbpf_ctypes.cli.formats import DECIMAL, POINTER, TEXT, Format, ShownArgument
from libbpf_ctypes.cli.line_options import LineOptions
from libbpf_ctypes.cli.origin import Origin, Traced
from libbpf_ctypes.cli.text import WallClock
from libbpf_ctypes.events import CallEvent, call_event_schema

INT = Format(DECIMAL, 4, True)
AT = Format(DECIMAL, 4, True, ((2**64 - 1, 0xFFFFFF9C, "AT_FDCWD"),))
FLAGS = Format(DECIMAL, 4, False, ((1, 1, "O_WRONLY"), (0x80000, 0x80000, "O_CLOEXEC")))
ERROR = Format(DECIMAL, 8, True, ((2**64 - 1, 2**64 - 2, "-ENOENT"),))

OPENAT = Traced(
    "openat",
    "__x64_sys_openat",
    "",
    (
        ShownArgument("dfd", "int", 0, -1, AT),
        ShownArgument("filename", "const char *", 1, 0, Format(TEXT)),
        ShownArgument("flags", "int", 2, -1, FLAGS),
    ),
)
READ = Traced(
    "ext4:ext4_read",
    "ext4_read",
    "ext4",
    (ShownArgument("file", "struct file *", 0, -1, Format(POINTER)),),
)
RETURNED = OPENAT._replace(
    arguments=(*OPENAT.arguments, ShownArgument("ret", "long", 3, -1, ERROR)), returns=True
)
NOTHING = Traced("sync", "ksys_sync", "", ())

ORIGIN = Origin("0.1.0", "host", "x86_64", "6.1.0-test", "0c1d7e9a-0000-4000-8000-000000000000")

#: 2026-09-21T14:13:20 UTC, less a second for the events' own times.
OFFSET = 1_790_000_000 * 10**9


def options(**changes: Any) -> LineOptions:
    """The options of a command without any, and these."""
    plain = LineOptions(pids=(), show_tid=False, time="ns", raw_args=False)
    return plain._replace(**changes)


def clock() -> WallClock:
    """A clock that is set, in UTC."""
    made = WallClock()
    made.set(OFFSET, 0)
    return made


def sample(
    comm: bytes = b"cat",
    values: tuple[int, ...] = (),
    texts: tuple[bytes, ...] = (b"",),
    **fields: int,
) -> bytes:
    """A struct call_event as the kernel sends it, with the padding of a perf sample."""
    numbers = {
        "pid": 10, "tid": 11, "syscall_nr": 0, "timestamp_ns": 10**9, "function": 0, "cpu": 1,
        "uid": 1000, "gid": 100, "host_pid": 10, "host_tid": 11, "ns_pid": 1, "ns_tid": 2,
        "cgroup": 77, "unreadable": 0, "duration_ns": 0, "kernel_stack": 0, "user_stack": 0,
    }  # fmt: skip
    assert set(fields) <= set(numbers)
    numbers.update(fields)
    order = list(numbers.values())
    head = struct.pack("=IIQQ16s", *order[:4], comm)
    middle = struct.pack("=8I5Q", *order[4:])
    row = struct.pack("=8Q", *values, *[0] * (8 - len(values)))
    return head + middle + row + b"".join(text.ljust(256, b"\0") for text in texts) + bytes(4)


def call(
    comm: bytes = b"cat",
    values: tuple[int, ...] = (),
    texts: tuple[bytes, ...] = (b"",),
    **fields: int,
) -> CallEvent:
    """A decoded struct call_event."""
    return call_event_schema(len(texts)).decode(sample(comm, values, texts, **fields))


class KnownStacks:
    """The stacks of one call, whichever process's it is: keys 7 and 8."""

    def kernel(self, key: int) -> tuple[str, ...]:
        return {7: ("vfs_open+0x1a", "ext4_open+0x2 [ext4]")}.get(key, ())

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        known = {8: ("open64+0x10 (libc.so.6)", "std::map<a;b, c>::get()+0x5 (p)", f"[{pid}]+0x1")}
        return known.get(key, ())


def a_return(value: int = 3, took: int = 12345, **fields: int) -> CallEvent:
    """A return of RETURNED."""
    values = (0xFFFFFF9C, 12, 0, value % 2**64)
    return call(b"cat", values, (b"/etc/passwd",), duration_ns=took, **fields)


def an_open(path: bytes = b"/etc/passwd", flags: int = 0x80000, **fields: int) -> CallEvent:
    """A call of OPENAT, the first function."""
    length = min(len(path) + 1, 256)
    return call(b"cat", (0xFFFFFF9C, length, flags), (path[:255],), **fields)
