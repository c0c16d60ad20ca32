"""Which functions the words of a command line name, by an excerpt of /proc/kallsyms."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, kernel
from libbpf_ctypes.cli import functions
from libbpf_ctypes.cli.functions import Function, find_functions
from libbpf_ctypes.cli.usage import UsageError

from .test_kernel import EXCERPT

TRACED = [
    "vfs_fsync_range",
    "vfs_read",
    "vfs_readv",
    "vfs_write",
    "do_loop_readv_writev.isra.0",
    "do_sys_openat2",
    "__x64_sys_openat",
    "tcp_connect",
    "ext4_sync_file [ext4]",
    "ext4_file_read_iter [ext4]",
    "nf_nat_setup_info [nf_nat]",
]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of x86_64 with these symbols; the folder is its tracefs."""
    symbols = tmp_path / "kallsyms"
    lines = EXCERPT.read_text(encoding="ascii").splitlines(keepends=True)
    symbols.write_text("".join(line for line in lines if "[shadow]" not in line))
    (tmp_path / "available_filter_functions").write_text("\n".join(TRACED), encoding="ascii")
    (tmp_path / "blacklist").write_text("0xffffffff81c00d40-0xffffffff81c00e00\tnoist_exc_debug\n")
    monkeypatch.setattr(kernel, "_KALLSYMS", symbols)
    monkeypatch.setattr(kernel, "_BLACKLIST", tmp_path / "blacklist")
    monkeypatch.setattr(kernel, "TRACEFS", (str(tmp_path),))
    monkeypatch.setitem(functions._WRAPPERS, os.uname().machine, "__x64_sys_")
    return tmp_path


def find(*words: str, address: str | None = None, all_of: bool = False) -> list[Function]:
    return find_functions(list(words), address=address, all_of=all_of)


def labels(*words: str, all_of: bool = False) -> list[str]:
    return [each.label for each in find(*words, all_of=all_of)]


def refused(*words: str, address: str | None = None, all_of: bool = False) -> BpfError:
    with pytest.raises(BpfError) as caught:
        find(*words, address=address, all_of=all_of)
    return caught.value


def test_a_name() -> None:
    assert find("vfs_write") == [
        Function("vfs_write", "", 0xFFFFFFFF8133C8E0, 0, "", "vfs_write", False, False)
    ]


def test_a_system_call_by_its_plain_name() -> None:
    wrapper = Function("__x64_sys_openat", "", 0xFFFFFFFF81334CF0, 0, "openat", "", False, False)
    for word in ("openat", "syscall:openat", "__x64_sys_openat"):
        assert find(word) == [wrapper._replace(label=word)]


def test_a_function_of_exactly_that_name_wins(machine: Path) -> None:
    with (machine / "kallsyms").open("a", encoding="ascii") as file:
        file.write("ffffffff81400000 T openat\n")
    assert find("openat")[0].symbol == "openat"
    assert find("openat")[0].syscall == ""
    assert find("syscall:openat")[0].symbol == "__x64_sys_openat"
    assert find("vmlinux:openat")[0].symbol == "openat"


def test_a_glob_takes_what_can_be_probed() -> None:
    assert labels("vfs_*") == ["vfs_fsync_range", "vfs_read", "vfs_readv", "vfs_write"]
    assert labels("vfs_read?") == ["vfs_readv"]
    assert labels("vfs_[a-f]*") == ["vfs_fsync_range"]
    assert labels("vfs_[!a-f]*") == ["vfs_read", "vfs_readv", "vfs_write"]
    assert labels("ext4_*") == ["ext4:ext4_file_read_iter", "ext4:ext4_sync_file"]
    assert labels("ext4:*_file") == ["ext4:ext4_sync_file"]
    assert labels("vmlinux:*connect") == ["tcp_connect"]
    assert labels("syscall:open*") == ["openat"]
    assert labels("open*") == ["openat"], "nothing else matches"


def test_a_glob_without_tracefs(machine: Path) -> None:
    (machine / "available_filter_functions").unlink()
    assert "vfs_iter_read" in labels("vfs_*")
    assert not any(each.ftraceable for each in find("vfs_*"))
    error = refused("noist_*")
    assert "1 match, and none can be probed" in str(error)
    assert "it is on the kernel's kprobe blacklist" in error.hint


def test_why_a_glob_gives_nothing() -> None:
    assert "none can be probed" in str(refused("vfs_iter*"))
    assert "it is notrace" in refused("vfs_iter*").hint
    assert "'modprobe no_such_module'" in refused("no_such_module:*").hint
    assert refused("no_such_*").errno == errno.ENOENT


def test_each_function_once_in_the_words_order() -> None:
    found = find("vfs_write", "openat", "vfs_*", "vfs_write+0")
    assert [each.label for each in found] == [
        "vfs_write",
        "openat",
        "vfs_fsync_range",
        "vfs_read",
        "vfs_readv",
    ]
    assert all(each.ftraceable for each in found)


def test_a_function_of_two_names_is_one(machine: Path) -> None:
    with (machine / "kallsyms").open("a", encoding="ascii") as file:
        file.write("ffffffff8133c8e0 T vfs_write_too\n")
    (machine / "available_filter_functions").write_text("vfs_write\nvfs_write_too\n")
    assert labels("vfs_write*") == ["vfs_write"]
    assert labels("vfs_write_too", "vfs_write*") == ["vfs_write_too"]


def test_tracefs_may_know_a_system_call_by_another_name(machine: Path) -> None:
    with (machine / "kallsyms").open("a", encoding="ascii") as file:
        for name in ("__do_sys_fork", "__ia32_sys_fork", "__x64_sys_fork"):
            file.write(f"ffffffff81401000 T {name}\n")
        file.write("ffffffff81402000 T __do_sys_clone\nffffffff81403000 T __x64_sys_clone\n")
    with (machine / "available_filter_functions").open("a", encoding="ascii") as file:
        file.write("\n__do_sys_fork\n__do_sys_clone\n")
    found = find("fork", "clone", "openat")
    assert [each.ftraceable for each in found] == [True, False, True]
    assert labels("syscall:*") == ["fork", "openat"]


def test_an_offset() -> None:
    (found,) = find("vfs_read+16")
    assert (found.symbol, found.offset, found.label) == ("vfs_read", 16, "vfs_read+0x10")
    assert find("openat+0x4")[0].syscall == "", "the registers may hold anything by then"
    assert not any(each.ftraceable for each in find("vfs_read+0x10", "vfs_write+1"))
    assert "past the function's end (752 bytes)" in str(refused("vfs_read+0x2f0"))


def test_a_name_at_several_addresses(machine: Path) -> None:
    error = refused("cleanup")
    assert error.errno == errno.EADDRNOTAVAIL
    assert "4 functions have this name" in str(error)
    assert ": 0xffffffff811b2210 (behind " in error.hint
    assert ", 0xffffffff814c7d30 (behind vfs_iter_write), " in error.hint
    assert ", 0xffffffffc0281460 (nf_nat, behind " in error.hint
    (one,) = find("cleanup", address="0xffffffff814c7d30")
    assert (one.address, one.ambiguous, one.label) == (0xFFFFFFFF814C7D30, True, "cleanup")
    assert find("cleanup", address="ffffffff814c7d30") == [one]
    assert find("nf_nat:cleanup")[0].ambiguous is False
    assert "it is not there" in str(refused("cleanup", address="0x1234"))
    assert "it is not there" in str(refused("vfs_write", address="0x1234"))
    (machine / "available_filter_functions").write_text("cleanup\n" * 3 + "cleanup [nf_nat]\n")
    assert labels("cleanup", all_of=True) == [
        "cleanup@0xffffffff811b2210",
        "cleanup@0xffffffff814c7d30",
        "cleanup@0xffffffff816f0100",
        "nf_nat:cleanup",
    ]
    assert all(each.ftraceable for each in find("cleanup", all_of=True))


def test_which_of_a_name_ftrace_knows(machine: Path) -> None:
    lines = "ffffffff814c7d34 cleanup\n"
    (machine / "available_filter_functions_addrs").write_text(lines)
    assert labels("clean*") == ["cleanup@0xffffffff814c7d30"]


def test_hidden_addresses(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    symbols = machine / "kallsyms"
    lines = symbols.read_text(encoding="ascii").splitlines()
    symbols.write_text("".join(f"{0:016x}{line[16:]}\n" for line in lines))
    assert find("vfs_write")[0].address == 0
    assert "kernel.kptr_restrict" in refused("cleanup").hint
    (machine / "available_filter_functions").unlink()
    with caplog.at_level(logging.WARNING):
        assert labels("[ce][lx]*iter") == ["ext4:ext4_file_read_iter"]
        assert labels("[cv][lf][es]*")[0] == "nf_nat:cleanup"
    assert "3 functions are left out" in caplog.text


def test_variants_of_the_compiler() -> None:
    error = refused("do_loop_readv_writev")
    assert "The compiler made of it: do_loop_readv_writev.isra.0." in error.hint
    assert "--all" in error.hint
    assert labels("do_loop_readv_writev", all_of=True) == ["do_loop_readv_writev.isra.0"]
    assert labels("ext4_file_write_iter.part.0") == ["ext4_file_write_iter.part.0"]


def test_what_there_is_instead() -> None:
    assert "vfs_read" in refused("vfs_raed").hint
    assert "Of system calls there are: openat" in refused("opennat").hint
    assert "openat" in refused("sys_openat").hint
    assert "there is no such system call" in str(refused("syscall:opennat"))
    assert refused("jiffies").hint == "jiffies is data, not a function."
    assert "'modprobe no_such_module'" in refused("no_such_module:vfs_read").hint
    assert "does not let it be probed" in refused("bpf_prog_6deef7357e7b4530").hint


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "is not the name"),
        ("a b", "is not the name"),
        ("a:b:c", "is not the name"),
        (":vfs_read", "is not the name"),
        ("ext4:", "is not the name"),
        ("vfs_\x1bread", "is not the name"),
        ("vfs_read+", "behind '+' goes an offset"),
        ("vfs_read+x", "behind '+' goes an offset"),
        ("vfs_read+99999999999", "behind '+' goes an offset"),
        ("vfs_*+4", "not with a pattern"),
        ("vfs_[", "behind '['"),
        ("vfs_[)]", "behind '['"),
        ("vfs_[a--b]", "behind '['"),
        ("vfs_[z-a]", "ends before it begins"),
    ],
)
def test_words_that_are_none(word: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(word)
    assert told in str(caught.value)


def test_addresses_that_are_none() -> None:
    for text in ("", "0", "0x", "x", "-1", "0x1ffffffff81234560"):
        with pytest.raises(UsageError, match="--address takes an address"):
            find("cleanup", address=text)
    for words in (["vfs_*"], ["vfs_read", "cleanup"]):
        with pytest.raises(UsageError, match="--address chooses one"):
            find(*words, address="0x1234")
    with pytest.raises(UsageError, match="--address chooses one"):
        find("cleanup", address="0x1234", all_of=True)


def test_without_kallsyms_it_is_left_to_the_kernel(machine: Path) -> None:
    (machine / "kallsyms").unlink()
    assert find("ext4:ext4_iget+0x10") == [
        Function("ext4_iget", "ext4", 0, 16, "", "ext4:ext4_iget+0x10", False, False)
    ]
    for word in ("vfs_*", "syscall:openat"):
        assert "mount -t proc" in refused(word).hint
