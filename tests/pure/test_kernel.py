"""What the package says about the running kernel, from an excerpt of /proc/kallsyms."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, kernel
from libbpf_ctypes.kernel import Kallsyms, Symbol, kprobe_hint, nearest_functions

from .helpers import ROOT

EXCERPT = ROOT / "fixtures" / "kallsyms.txt"


@pytest.fixture
def kallsyms(monkeypatch: pytest.MonkeyPatch) -> Kallsyms:
    """The excerpt, in place of this machine's symbols."""
    monkeypatch.setattr(kernel, "_KALLSYMS", EXCERPT)
    monkeypatch.setattr(kernel, "has_kprobes", lambda: True)
    return Kallsyms()


def hint(number: int | None, function: str) -> str:
    return kprobe_hint(BpfError("attach", number), function)


def test_symbols_are_found_by_their_whole_name(kallsyms: Kallsyms) -> None:
    assert kallsyms.find("vfs_write") == [Symbol("T", "vfs_write", "", 0xFFFFFFFF8133C8E0)]
    assert kallsyms.find("vfs_wri") == []
    assert kallsyms.find("fs_write") == []
    assert kallsyms.find("vfs_.*") == []
    assert kallsyms.find("") == []


def test_a_name_may_stand_for_several_symbols(kallsyms: Kallsyms) -> None:
    modules = [symbol.module for symbol in kallsyms.find("cleanup")]
    assert modules == ["", "", "", "nf_nat"]
    assert kallsyms.find("vfs_read") == [
        Symbol("T", "vfs_read", "", 0xFFFFFFFF8133C300),
        Symbol("t", "vfs_read", "shadow", 0xFFFFFFFFC02A5000),
    ]


def test_variants_are_symbols_of_their_own(kallsyms: Kallsyms) -> None:
    assert kallsyms.find("do_loop_readv_writev") == []
    assert len(kallsyms.find("do_loop_readv_writev.isra.0")) == 1
    assert kallsyms.find("ext4_file_write_iter.part.0")[0].module == "ext4"


def test_data_is_told_from_code(kallsyms: Kallsyms) -> None:
    functions = kallsyms.functions()
    for name in ("jiffies", "runqueues", "init_mm", "nf_nat_locks", "fixed_percpu_data"):
        assert not kallsyms.find(name)[0].is_function
        assert name not in functions
    for name in ("vfs_read", "weak_helper", "arch_syscall_fallback", "ext4_sync_file"):
        assert kallsyms.find(name)[0].is_function
        assert name in functions


def test_a_function_ends_where_the_next_symbol_begins(kallsyms: Kallsyms) -> None:
    assert kallsyms.size("vfs_read") == 0x2F0
    assert kallsyms.size("startup_64") == 0x40, "another symbol has the same address"
    assert kallsyms.size("do_open_execat.isra.0") == 0x1F0
    assert kallsyms.size("no_such_function") == 0
    assert kallsyms.size("jiffies") == 0, "data"
    assert kallsyms.size("bpf_prog_6deef7357e7b4530") == 0, "the last one"


def test_hidden_addresses_and_a_missing_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden = tmp_path / "kallsyms"
    text = EXCERPT.read_text(encoding="ascii")
    hidden.write_text("".join(f"{0:016x}{line[16:]}\n" for line in text.splitlines()))
    monkeypatch.setattr(kernel, "_KALLSYMS", hidden)
    assert Kallsyms().find("vfs_write") == [Symbol("T", "vfs_write", "")]
    assert Kallsyms().size("vfs_read") == 0
    monkeypatch.setattr(kernel, "_KALLSYMS", tmp_path / "missing")
    assert Kallsyms().find("vfs_write") == []
    assert Kallsyms().functions() == set()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("vfs_raed", "vfs_read"),
        ("vfs_writ", "vfs_write"),
        ("vfs_writee", "vfs_write"),
        ("do_loop_readv_writev", "do_loop_readv_writev.isra.0"),
        ("do_open_execat", "do_open_execat.cold"),
        ("ext4_file_write_iter", "ext4_file_write_iter.part.0"),
        ("do_loop_readv_writev.isra.1", "do_loop_readv_writev.isra.0"),
        ("openat2", "do_sys_openat2"),
    ],
)
def test_nearest_functions(kallsyms: Kallsyms, name: str, first: str) -> None:
    near = nearest_functions(name, kallsyms.functions())
    assert near[0] == first
    assert name not in near


def test_nearest_functions_are_few_and_distinct() -> None:
    names = {f"vfs_read{letter}" for letter in "abcdefgh"} | {"vfs_read.isra.0", "tcp_close"}
    near = nearest_functions("vfs_read", names)
    assert len(near) == len(set(near)) == 4
    assert near[0] == "vfs_read.isra.0"
    assert "tcp_close" not in near
    assert len(nearest_functions("vfs_read", names, limit=2)) == 2
    assert nearest_functions("nothing_like_it_at_all", names) == []


@pytest.mark.usefixtures("kallsyms")
class TestKprobeHint:
    """kprobe_hint for each error number that the kernel answers with."""

    def test_a_typing_error(self) -> None:
        text = hint(errno.ENOENT, "vfs_raed")
        assert "Did you mean" in text
        assert "vfs_read" in text

    def test_a_name_like_no_other(self) -> None:
        assert "/proc/kallsyms" in hint(errno.ENOENT, "nothing_like_it_at_all")

    def test_data(self) -> None:
        assert hint(errno.ENOENT, "jiffies") == "jiffies is data, not a function."

    def test_a_module_that_is_not_loaded(self) -> None:
        text = hint(errno.ENOENT, "no_such_module:vfs_read")
        assert "no_such_module is not loaded" in text
        assert "modprobe no_such_module" in text

    def test_a_function_that_may_not_be_probed(self) -> None:
        assert "does not let it be probed" in hint(errno.ENOENT, "noist_exc_debug")

    def test_code_that_was_freed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        symbols = ("10 T _sinittext", "20 T start_kernel", "30 T _einittext", "40 T vfs_read")
        (tmp_path / "kallsyms").write_text("".join(f"{line}\n" for line in symbols))
        monkeypatch.setattr(kernel, "_KALLSYMS", tmp_path / "kallsyms")
        freed = "The code of start_kernel was freed after boot: it is called no more."
        assert hint(errno.EINVAL, "start_kernel") == freed
        assert "cannot be probed" in hint(errno.EINVAL, "vfs_read")

    @pytest.mark.parametrize(("online", "told"), [("1-3", "CPU 0 is"), ("0,2", "until the next")])
    def test_no_device(
        self, online: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "online").write_text(f"{online}\n")
        monkeypatch.setattr(kernel, "_ONLINE", tmp_path / "online")
        assert told in hint(errno.ENODEV, "vfs_read")

    def test_several_functions_of_one_name(self) -> None:
        assert "Several functions are called cleanup" in hint(errno.EADDRNOTAVAIL, "cleanup")

    def test_an_offset_within_an_instruction(self) -> None:
        assert "beginning of an instruction" in hint(errno.EILSEQ, "vfs_read")

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
    def test_the_blacklist(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blacklist = tmp_path / "blacklist"
        blacklist.write_text("0xffffffff81c00d40-0xffffffff81c00e00\tnoist_exc_debug\n")
        monkeypatch.setattr(kernel, "_BLACKLIST", blacklist)
        assert "is on the kernel's kprobe blacklist" in hint(number, "noist_exc_debug")
        assert "is on the kernel's kprobe blacklist" not in hint(number, "noist_exc")
        monkeypatch.setattr(kernel, "_BLACKLIST", tmp_path / "missing")
        assert kernel.is_blacklisted("noist_exc_debug") is None
        assert "cannot be probed" in hint(number, "noist_exc_debug")

    @pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
    def test_privilege(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel, "capabilities", lambda: 1 << kernel.CAP_BPF)
        text = hint(number, "vfs_read")
        assert "Missing CAP_PERFMON." in text
        monkeypatch.setattr(kernel, "capabilities", lambda: 0)
        assert "Missing CAP_BPF and CAP_PERFMON." in hint(number, "vfs_read")

    def test_lockdown_and_other_guards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel, "capabilities", lambda: 1 << kernel.CAP_SYS_ADMIN)
        monkeypatch.setattr(kernel, "lockdown", lambda: "confidentiality")
        assert "lockdown=confidentiality" in hint(errno.EPERM, "vfs_read")
        monkeypatch.setattr(kernel, "lockdown", lambda: "integrity")
        assert "seccomp" in hint(errno.EPERM, "vfs_read")

    def test_a_kernel_without_kprobes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel, "has_kprobes", lambda: False)
        for number in (errno.ENOENT, errno.EINVAL, errno.EPERM, None):
            text = hint(number, "vfs_read")
            assert "CONFIG_KPROBES" in text
            assert "bin/vm" in text

    def test_nothing_is_claimed_of_other_errors(self) -> None:
        assert hint(errno.ENOMEM, "vfs_read") == ""
        assert hint(None, "vfs_read") == ""


def test_capabilities_are_those_of_this_process() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    assert f"{kernel.capabilities():016x}" == effective.split()[1]
