"""Stacks by name, of made-up kernels and processes."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes import NotFoundError, kernel
from libbpf_ctypes.cli import demangle, kernel_symbols
from libbpf_ctypes.cli.kernel_symbols import KernelSymbols
from libbpf_ctypes.cli.perf_map import PerfMap
from libbpf_ctypes.cli.stacks import LiveStacks, RecordedStacks, function_of
from libbpf_ctypes.cli.user_symbols import UserSymbols

from ..conftest import lacking

SYMBOLS = """\
ffffffff81000000 T _stext
ffffffff81000010 t late
ffffffff81000010 T __early
ffffffff81000010 T early
ffffffff81000100 T vfs_read
ffffffff81000180 d a_table
ffffffff81000200 T __x64_sys_read
ffffffffc0001000 t ext4_file_open\t[ext4]
ffffffffc0002000 t bpf_prog_6deef7357e7b4530_call\t[bpf]
"""
GONE = 2**22 + 1  # no process has so high a number


class FakeMap:
    """The map STACKS."""

    def __init__(self, **stacks: tuple[int, ...]) -> None:
        self.stacks = {int(key[1:]): frames for key, frames in stacks.items()}
        self.looked_up: list[int] = []

    def lookup(self, key: bytes) -> bytes:
        number = int.from_bytes(key, sys.byteorder)
        self.looked_up.append(number)
        if number not in self.stacks:
            raise NotFoundError("look up")
        frames = self.stacks[number]
        # What comes behind is of another stack.
        return struct.pack("=129Q", len(frames), 0, *frames, *range(1, 128 - len(frames)))


class Live(LiveStacks):
    """With a list of what it told."""

    def __init__(self, stacks: FakeMap) -> None:
        self.told: list[str] = []
        super().__init__(stacks, tell=self.told.append)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    symbols, modules = tmp_path / "kallsyms", tmp_path / "modules"
    symbols.write_text(SYMBOLS)
    modules.write_text("ext4 1000000 2 - Live 0xffffffffc0001000\n")
    monkeypatch.setattr(kernel, "_KALLSYMS", symbols)
    monkeypatch.setattr(kernel_symbols, "_MODULES", modules)
    return tmp_path


@pytest.fixture
def no_demangler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pycxxfilt", None)
    demangle._demangler.cache_clear()
    yield
    demangle._demangler.cache_clear()


@pytest.fixture
def demangler() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("pycxxfilt is for Python 3.11 and later")
    if not demangle.can_demangle():
        lacking("needs pycxxfilt: pip install 'libbpf-ctypes[symbols]'")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000100, "vfs_read+0x0"),
        (0xFFFFFFFF8100011A, "vfs_read+0x1a"),
        (0xFFFFFFFF81000190, "vfs_read+0x90"),  # data lies elsewhere
        (0xFFFFFFFF81000011, "early+0x1"),  # the plainest of three names
        (0xFFFFFFFFC0001010, "ext4_file_open+0x10 [ext4]"),
        (0xFFFFFFFFC0002004, "bpf_prog_6deef7357e7b4530_call+0x4 [bpf]"),
        (0xFFFFFFFF80FFFFFF, "0xffffffff80ffffff"),
        (0xFFFFFFFF82000000, "0xffffffff82000000"),
        (0xFFFFFFFFC1000000, "0xffffffffc1000000"),
    ],
)
def test_functions_of_the_kernel(machine: Path, address: int, name: str) -> None:
    assert KernelSymbols().name(address, address) == name


def test_a_caller_whose_last_instruction_was_the_call(machine: Path) -> None:
    """It does not return, and the next function begins right behind it."""
    stacks = Live(FakeMap(_1=(0xFFFFFFFF81000100, 0xFFFFFFFF81000200)))
    assert stacks.kernel(1) == ("vfs_read+0x0", "vfs_read+0x100")
    assert not stacks.told


def test_a_stack_is_read_once(machine: Path) -> None:
    fake = FakeMap(_7=(0xFFFFFFFF81000104,))
    stacks = Live(fake)
    assert stacks.kernel(7) == stacks.kernel(7) == ("vfs_read+0x4",)
    assert stacks.kernel(0) == stacks.user(0, 1) == ()
    assert stacks.kernel(8) == ()  # the map lacks it
    assert fake.looked_up == [7, 8]


def test_a_module_that_is_loaded_meanwhile(machine: Path) -> None:
    stacks = Live(FakeMap(_1=(0xFFFFFFFFC0001010,), _2=(0xFFFFFFFFC0002810,)))
    assert stacks.kernel(1) == ("ext4_file_open+0x10 [ext4]",)
    with (machine / "kallsyms").open("a") as file:
        file.write("ffffffffc0002800 t fuse_open\t[fuse]\n")
    with (machine / "modules").open("a") as file:
        file.write("fuse 4096 0 - Live 0xffffffffc0002800\n")
    assert stacks.kernel(2) == ("fuse_open+0x10 [fuse]",)


@pytest.mark.parametrize("text", ["", "0000000000000000 T vfs_read\n0000000000000000 T x\n"])
def test_hidden_addresses_are_told_once(machine: Path, text: str) -> None:
    (machine / "kallsyms").write_text(text)
    stacks = Live(FakeMap(_1=(0xFFFFFFFF81000100,), _2=(0xFFFFFFFF81000200,)))
    assert stacks.kernel(1) == ("0xffffffff81000100",)
    assert stacks.kernel(2) == ("0xffffffff81000200",)
    assert len(stacks.told) == 1
    assert "kptr_restrict" in stacks.told[0]


def test_a_process_that_has_ended() -> None:
    stacks = Live(FakeMap(_1=(0x401000, 0x402000), _2=(0x403000,)))
    assert stacks.user(1, GONE) == ("0x401000", "0x402000")
    assert stacks.user(2, GONE) == ("0x403000",)
    assert len(stacks.told) == 1
    assert f"process {GONE}" in stacks.told[0]


def test_a_return_address_at_a_mappings_beginning() -> None:
    """Where a call is not the instruction before it: that of a probed return, [uprobes]+0x0."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    start = next(int(line.partition("-")[0], 16) for line in maps if line.endswith("[vdso]"))
    symbols = UserSymbols()
    assert (symbols.names(os.getpid(), (start, start)) or ())[1] == "[vdso]+0x0"


def test_what_is_no_address_ends_a_stack() -> None:
    """A function without a frame pointer keeps other things there."""
    live = Live(
        FakeMap(
            k5=(0x1000, 0x2000, 0x652F00656E6F7A65, 0x3000), k6=(0x1000, 0, 0x2000), k7=(0x1000, 1)
        )
    )
    assert live.user(5, GONE) == ("0x1000", "0x2000")
    assert live.user(6, GONE) == live.user(7, GONE) == ("0x1000",)


def test_a_child_that_ended_was_where_its_parent_was() -> None:
    place = ctypes.cast(ctypes.pythonapi.PyObject_Repr, ctypes.c_void_p).value or 0
    stacks = Live(FakeMap(_1=(place + 4,)))
    (frame,) = stacks.user(1, os.getpid())
    assert frame.startswith("PyObject_Repr+0x4 (")
    assert stacks.user(1, GONE) == (frame,)
    assert not stacks.told
    stacks.close()


@pytest.fixture
def code() -> Iterator[int]:
    """The address of a page of this process that no file is behind, as of a JIT's code."""
    access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    with mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, access) as page:
        view = ctypes.c_char.from_buffer(page)
        yield ctypes.addressof(view)
        del view


@pytest.fixture
def own_map() -> Iterator[Path]:
    """The file that a JIT in this process would write."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.touch()
    yield path
    path.unlink()


def test_functions_of_a_jit(code: int, own_map: Path) -> None:
    own_map.write_text(f"{code:x} 20 py::leaf:/app/x.py\n{code + 32:x} 20 LazyCompile:~a;b \x1b\n")
    stacks = Live(FakeMap(_1=(code + 4, code + 33), _2=(code + 0x44,), _3=(code + 0x45,)))
    assert stacks.user(1, os.getpid()) == (
        "py::leaf:/app/x.py+0x4 (JIT)",
        "LazyCompile:~a;b \\x1b+0x1 (JIT)",
    )
    assert stacks.user(2, os.getpid()) == (f"{code + 0x44:#x}",)
    with own_map.open("a") as file:  # compiled meanwhile
        file.write(f"{code + 0x40:x} 10 late\n")
    assert stacks.user(3, os.getpid()) == ("late+0x5 (JIT)",)


def test_a_name_of_a_jit_has_a_limit(code: int, own_map: Path) -> None:
    own_map.write_text(f"{code:x} 20 {'x' * 9999}\n")
    (frame,) = Live(FakeMap(_1=(code,))).user(1, os.getpid())
    assert frame == f"{'x' * 4096}+0x0 (JIT)"


def test_a_map_is_read_on_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "perf-1.map"
    path.write_text("1000 10 first\nno line\n2000 zz no size\n30")
    perf_map = PerfMap(str(path), (os.getuid(),))
    perf_map.refresh()
    assert perf_map.at(0x1008) == ("first", 8)
    assert perf_map.at(0x1010) is None
    assert perf_map.at(0x3008) is None
    with path.open("a") as file:
        file.write("00 10 a name with blanks\n1000 20 compiled again\n")
    perf_map.refresh()
    assert perf_map.at(0x3008) == ("a name with blanks", 8)
    assert perf_map.at(0x1018) == ("compiled again", 0x18)
    path.write_text("1000 10 new\n")  # another process of the same number
    perf_map.refresh()
    assert perf_map.at(0x1008) == ("new", 8)
    assert perf_map.at(0x3008) is None
    path.write_text("0x2000 0x10 Java's\n0x1000 0x10 anew\n0x3000 0x10 and more\n")
    perf_map.refresh()
    assert perf_map.at(0x1008) == ("anew", 8)
    assert perf_map.at(0x2001) == ("Java's", 1)
    path.unlink()
    perf_map.refresh()
    assert perf_map.at(0x1008) == ("anew", 8)


def test_code_that_a_jit_wrote_over_other_code(tmp_path: Path) -> None:
    path = tmp_path / "perf-1.map"
    path.write_text("1000 100 large\n2040 10 one\n2050 10 two\n3000 20 left\n3020 20 right\n")
    perf_map = PerfMap(str(path), (os.getuid(),))
    perf_map.refresh()
    with path.open("a") as file:
        file.write("1040 10 small\n2000 100 over both\n3010 20 between\n")
    perf_map.refresh()
    assert perf_map.at(0x1044) == ("small", 4)
    assert (perf_map.at(0x1000), perf_map.at(0x1050)) == (None, None), "what is left of large"
    assert [perf_map.at(at) for at in (0x2044, 0x2050)] == [
        ("over both", 0x44),
        ("over both", 0x50),
    ]
    assert (perf_map.at(0x3000), perf_map.at(0x3030)) == (None, None)
    assert perf_map.at(0x3020) == ("between", 0x10)


def test_a_map_of_another_user_or_no_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "perf-1.map"
    path.write_text("1000 10 first\n")
    foreign = PerfMap(str(path), (os.getuid() + 1,))
    foreign.refresh()
    assert foreign.at(0x1000) is None
    path.unlink()
    os.mkfifo(path)  # to open it would wait for a writer
    waiting = PerfMap(str(path), (os.getuid(),))
    waiting.refresh()
    assert waiting.at(0x1000) is None


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        ("vfs_read+0x1a", "vfs_read"),
        ("ext4_file_open+0x10 [ext4]", "ext4_file_open"),
        ("read+0x10 (libc.so.6)", "read"),
        ("operator new(unsigned long)+0x1f (libstdc++.so.6)", "operator new(unsigned long)"),
        ("<[u8; 4] as a::B>::f+0x1 (x)", "<[u8; 4] as a::B>::f"),
        ("clock_gettime+0x4 ([vdso])", "clock_gettime"),
        ("[libc.so.6]+0x1f00a", "[libc.so.6]"),
        ("0x7f5a1c2f", "[unknown]"),
        ("py::f:/a (b)/c.py+0x4 (JIT)", "py::f:/a (b)/c.py"),
        ("f+0x4 (lib (1).so)", "f"),
    ],
)
def test_the_function_of_a_frame(frame: str, name: str) -> None:
    assert function_of(frame) == name


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        (
            "_ZNSt6vectorIiSaIiEE9push_backERKi",
            "std::vector<int, std::allocator<int>>::push_back(int const&)",
        ),
        ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
        ("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
        ("_Znonsense", "_Znonsense"),
        ("_R", "_R"),
        ("main", "main"),
        ("?f@@YAXH@Z", "?f@@YAXH@Z"),
    ],
)
def test_names_of_cpp_and_rust(demangler: None, mangled: str, name: str) -> None:
    assert demangle.demangle(mangled) == name


def test_names_without_the_demangler(no_demangler: None) -> None:
    assert demangle.demangle("_ZN3fooEv") == "_ZN3fooEv"
    assert not demangle.can_demangle()


def test_that_names_are_mangled_is_told_once(no_demangler: None, code: int, own_map: Path) -> None:
    own_map.write_text(f"{code:x} 20 _Z3foov\n")
    stacks = Live(FakeMap(_1=(code + 1,), _2=(code + 2,)))
    assert stacks.user(1, os.getpid()) == ("_Z3foov+0x1 (JIT)",)
    assert stacks.user(2, os.getpid()) == ("_Z3foov+0x2 (JIT)",)
    assert len(stacks.told) == 1
    assert "pip install 'libbpf-ctypes[symbols]'" in stacks.told[0]


def test_stacks_of_a_recording() -> None:
    stacks = RecordedStacks()
    stacks.add_kernel(1, ("vfs_read+0x1a",))
    stacks.add_user(2, 10, ("read+0x10 (libc.so.6)",))
    assert stacks.kernel(1) == ("vfs_read+0x1a",)
    assert stacks.user(2, 10) == ("read+0x10 (libc.so.6)",)
    assert stacks.kernel(2) == stacks.user(2, 11) == stacks.user(0, 10) == ()
