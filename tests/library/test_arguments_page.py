"""docs/arguments.md: its commands are taken, its tables are all, its mistake is told so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from libbpf_ctypes._syscalls import SYSCALLS
from libbpf_ctypes.cli import flags
from libbpf_ctypes.cli.arguments import arguments_of
from libbpf_ctypes.cli.filter import compile_filter
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.scope import KernelTypes, scope_of
from libbpf_ctypes.cli.usage import UsageError

PAGE = (Path(__file__).parent.parent.parent / "docs" / "arguments.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ebpf-tool kprobe (\w+) (.*)$", PAGE, re.M)

pytestmark = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF"
)


def function(name: str) -> Function:
    syscall = name if name in SYSCALLS else ""
    return Function(name, "", 0, 0, syscall, name, False, False)


@pytest.mark.parametrize(("name", "options"), COMMANDS)
def test_a_command(name: str, options: str) -> None:
    words = shlex.split(options)
    specs = [word for option, word in zip(words, words[1:]) if option == "--arg"]
    filters = [word for option, word in zip(words, words[1:]) if option == "--filter"]
    assert len(words) == 2 * len(specs + filters) + ("--args" in words)
    with KernelTypes() as types:
        shapes = types.of(function(name))
        assert scope_of(function(name), shapes).typed
        found = arguments_of(function(name), shapes, all_of="--args" in words, specs=specs)
        assert found.shown and not found.left_out
        for text in filters:
            assert compile_filter(text, function(name), shapes).comparisons


def test_the_tables() -> None:
    tables = re.findall(
        r"`(\w+)`", PAGE.partition("<!-- tables -->")[2].partition("<!-- end -->")[0]
    )
    assert tables == flags.table_names()


def test_the_mistake() -> None:
    shown = PAGE.rpartition("```\n")[0].rpartition("```\n")[2]
    with KernelTypes() as types, pytest.raises(UsageError) as caught:
        compile_filter("cont > 4096", function("vfs_read"), types.of(function("vfs_read")))
    assert shown == f"ebpf-tool: {caught.value}\n"
