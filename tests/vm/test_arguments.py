"""Arguments of real calls: each is printed as what it was called with."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from .conftest import HERE, Guest


@pytest.fixture(scope="module")
def traced(guest: Guest) -> dict[str, Any]:
    """What arguments_guest.py printed."""
    done = guest.run(sys.executable, str(HERE / "arguments_guest.py"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    for name, trace in found.items():
        assert name == "pid" or trace["status"] == 0, trace["err"]
    return found


@pytest.mark.parametrize(
    "line",
    [
        'openat: dfd=AT_FDCWD, filename="/etc/hostname", flags=O_RDONLY|O_CLOEXEC, mode=0',
        'openat: dfd=AT_FDCWD, filename="/nonexist/\\"é\\x0a", '
        "flags=O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, mode=0640",
        "openat: dfd=AT_FDCWD, filename=<unreadable>, flags=O_RDONLY, mode=",
        f'openat: dfd=77, filename="{"x" * 255}"..., flags=O_RDONLY|O_DIRECTORY|O_PATH, mode=',
        "mmap: addr=NULL, len=8192, prot=PROT_READ, flags=MAP_SHARED|MAP_ANONYMOUS, fd=-1, off=0x0",
        "socket: family=AF_INET6, type=SOCK_DGRAM|SOCK_CLOEXEC, protocol=0",
        "kill: pid=@, sig=0",
        "kill: pid=@, sig=SIGURG",
        'umount: name="/nowhere", flags=MNT_DETACH',
        'mount: dev_name="none", dir_name="/nowhere", type="tmpfs", flags=MS_RDONLY|MS_BIND, '
        "data=NULL",
        "fallocate: fd=99, mode=FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, offset=-4, len=5",
        'rename: oldname="/nowhere/a", newname="/nowhere/b"',
        'unlink: pathname="/nowhere/c"',
        'access: filename="/nowhere/d", mode=R_OK|X_OK',
        "lseek: fd=98, offset=-3, whence=SEEK_END",
        "fcntl: fd=97, cmd=F_GETFD, arg=",
        'mkdir: pathname="/nowhere/e/f", mode=0751',
    ],
)
def test_a_system_call(traced: dict[str, Any], line: str) -> None:
    lines = [each.replace("syscall:", "", 1) for each in traced["system calls"]["lines"]]
    line = line.replace("@", str(traced["pid"]))
    found = [each for each in lines if each == line or (line[-1] == "=" and each.startswith(line))]
    assert len(found) == 1, lines


def test_only_calls_that_the_filter_wants_are_there(traced: dict[str, Any]) -> None:
    assert traced["filtered"]["lines"] == [
        "how.flags=O_RDWR|O_LARGEFILE|O_CREAT|O_CLOEXEC, how->mode=0604"
    ]


def test_pointers_are_followed(traced: dict[str, Any]) -> None:
    name = 'file->f_path.dentry->d_name.name="hostname"'
    expected = f"{name}, count:hex, *pos=3, current->tgid={traced['pid']}"
    (line,) = traced["followed"]["lines"]
    assert line == expected.replace("count:hex", "count=0x309")


def test_the_seventh_argument_lies_on_the_stack(traced: dict[str, Any]) -> None:
    assert traced["on the stack"]["lines"] == ["pgoff=3"]
