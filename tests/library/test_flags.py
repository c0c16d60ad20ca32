"""The names of flags have the numbers of this machine's own headers."""

from __future__ import annotations

import os
from ctypes import CDLL, c_longlong

import pytest

from libbpf_ctypes.cli import flags

from ..conftest import Compile

HEADERS = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/falloc.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#undef O_LARGEFILE	/* the C library's is 0: the kernel adds it itself */
"""


def test_the_numbers_are_the_headers(compile_library: Compile) -> None:
    names = flags.constants(os.uname().machine)
    lines = [
        f"#ifdef {name}\nlong long value_{name} = (long long){name};\n#endif" for name in names
    ]
    library = CDLL(str(compile_library(HEADERS + "\n".join(lines), "libflags.so")))
    checked = 0
    for name, value in names.items():
        try:
            real = c_longlong.in_dll(library, f"value_{name}").value
        except ValueError:
            continue  # these headers are older
        checked += 1
        assert real & 2**64 - 1 in (value & 2**64 - 1, value & 2**32 - 1), name
    assert checked > 0.9 * len(names)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_argument_and_member_has_a_table_that_is_there(machine: str) -> None:
    tables = {*flags._ARGUMENTS.values(), *flags._MEMBERS.values(), *flags._TYPEDEFS.values()}
    assert all(flags.table_format(table, machine, 4, True) for table in tables)


def test_every_argument_with_a_table_is_one() -> None:
    from libbpf_ctypes._syscalls import SYSCALLS

    for place in flags._ARGUMENTS:
        call, _, name = place.rpartition(".")
        texts = [SYSCALLS[call]] if call else list(SYSCALLS.values())
        found = [text for text in texts if name in text.replace("*", " ").replace(",", " ").split()]
        assert found, place
