"""Functions of programs and libraries by name: where they lie, by what nm and the loader say."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes.cli.arguments import arguments_of
from libbpf_ctypes.cli.elf_symbols import ElfSymbols
from libbpf_ctypes.cli.fetches import RETURN_VALUE
from libbpf_ctypes.cli.instructions import beginnings
from libbpf_ctypes.cli.specs import MINUS_ONE
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.cli.user_functions import UserFunction, find_user_functions

from ..conftest import need

SOURCE = r"""
#define KEEP __attribute__((noinline, used))
static KEEP int twice(int a) { return a + 1; }
KEEP int work(int a) { return twice(a) * 3; }
KEEP int other_name(int a) __attribute__((alias("work")));
KEEP int __other_name(int a) __attribute__((alias("work")));
KEEP int work_harder(int a) { return work(a) * 5; }
static int fast(int a) { return a * 7; }
static int (*choose(void))(int) { return fast; }
int chosen(int) __attribute__((ifunc("choose")));
KEEP int old_work(int a) { return a - 1; }
KEEP int new_work(int a) { return a - 2; }
__asm__(".symver old_work, versioned@ONE");
__asm__(".symver new_work, versioned@@TWO");
int sleep(unsigned);
int main(void) { return sleep(60); }
"""
SECOND = "static __attribute__((noinline, used)) int twice(int a) { return a + 2; }\n"
VERSIONS = "ONE { global: versioned; }; TWO { global: *; } ONE;\n"


LIBRARY, PROGRAM = ("-shared",), ("-pie",)


def build(folder: Path, *flags: str) -> Path:
    """The source as a library or a program."""
    names = {"one.c": SOURCE, "two.c": SECOND, "versions": VERSIONS}
    for name, text in names.items():
        (folder / name).write_text(text, encoding="ascii")
    path = folder / "libwork.so.1"
    sources = [folder / "one.c", folder / "two.c"]
    version = f"-Wl,--version-script={folder / 'versions'}"
    command = [need("gcc"), "-O1", "-fPIC", version, *flags, *map(str, sources), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library."""
    return build(tmp_path_factory.mktemp("work"), *LIBRARY)


def find(*words: str, pid: int = 0, all_of: bool = False) -> list[UserFunction]:
    return find_user_functions(list(words), pids=(pid,) if pid else (), all_of=all_of)


def names(*words: str, all_of: bool = False) -> list[str]:
    return [each.symbol for each in find(*words, all_of=all_of)]


def nm(path: Path, *flags: str) -> dict[str, int]:
    """Names and addresses."""
    command = [need("nm"), "--defined-only", *flags, str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in text.splitlines()]
    return {name.partition("@")[0]: int(address, 16) for address, kind, name in words
            if kind in "TtWi"}  # fmt: skip


def offset_in_file(path: Path, address: int) -> int:
    """By what readelf says of the segments."""
    command = [need("readelf"), "-lW", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["LOAD"]:
            offset, virtual, _physical, size = (int(word, 16) for word in words[1:5])
            if 0 <= address - virtual < size:
                return address - virtual + offset
    raise AssertionError(f"{address:#x} is in no segment")


def test_every_function_lies_where_nm_says(work: Path) -> None:
    known = nm(work)
    found = find(f"{work}:work*", f"{work}:new_work")
    assert [each.label for each in found] == [
        f"{work}:work",
        f"{work}:work_harder",
        f"{work}:new_work",
    ]
    for each in found:
        assert each.offset == offset_in_file(work, known[each.symbol])
        assert each[:3] == (str(work), each.offset, each.symbol)
        assert (each.inside, each.module) == (0, str(work))


def test_libc_as_the_loader_finds_it() -> None:
    (open64,) = find("libc:open64")
    libc = Path(open64.path)
    assert open64.offset == offset_in_file(libc, nm(libc, "-D")["open64"])
    assert find("libc.so.6:open64")[0][:3] == open64[:3]
    assert (open64.label, open64.module) == ("libc:open64", "libc")
    program = Path(shutil.which("env") or "")
    with pytest.raises(BpfError, match="env:no_such"):
        find("env:no_such")  # found by PATH
    assert program.exists()


def test_one_place_is_probed_once(work: Path) -> None:
    assert names(f"{work}:*other_name") == ["other_name"], "the name with fewer underscores"
    assert names(f"{work}:work", f"{work}:other_name", f"{work}:wor?") == ["work"]


def instructions(path: Path) -> dict[int, int]:
    """The addresses of all instructions and how long they are, by what objdump says."""
    command = [need("objdump"), "-dw", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^ +([0-9a-f]+):\t((?:[0-9a-f]+ )+)", text, re.M)
    return {int(address, 16): len(code.replace(" ", "")) // 2 for address, code in lines}


def test_places_within(work: Path) -> None:
    (start,) = find(f"{work}:work")
    known, address = nm(work), nm(work)["work_harder"]
    lengths = instructions(work)
    second = lengths[known["work"]]
    (inside,) = find(f"{work}:work+{second:#x}")
    assert (inside.offset, inside.inside) == (start.offset + second, second)
    assert inside.label == f"{work}:work+{second:#x}"
    (there,) = find(f"{work}:{address:#x}")
    assert (there.symbol, there.inside) == ("work_harder", 0)
    second = lengths[address]
    (behind,) = find(f"{work}:{address + second}")
    assert (behind.label, behind.inside) == (f"{work}:work_harder+{second:#x}", second)
    for word, told in (("work+4096", "past the function's end"), ("0x3", "no code at this")):
        with pytest.raises(BpfError, match=told):
            find(f"{work}:{word}")
    with pytest.raises(UsageError, match="an offset goes with one function's name"):
        find(f"{work}:wor*+4")


def test_no_place_in_the_midst_of_an_instruction(work: Path) -> None:
    """The kernel would take it, and the program run another instruction."""
    address, lengths = nm(work)["work"], instructions(work)
    symbols = ElfSymbols.open(work)
    size = next(each.size for each in symbols.functions() if each.address == address)
    symbols.close()
    for place in range(1, size):
        for word in (f"work+{place}", f"{address + place:#x}"):
            if address + place in lengths:
                assert find(f"{work}:{word}")[0].inside == place
                continue
            with pytest.raises(BpfError, match="in the midst of an instruction") as caught:
                find(f"{work}:{word}")
            assert caught.value.errno == errno.EILSEQ
            before = max(at for at in lengths if at < address + place)
            assert f"One begins at +{before - address:#x}, the next at " in caught.value.hint


def test_instructions_begin_where_objdump_says() -> None:
    """In all of libc, but for what its authors wrote as data."""
    path = Path(find("libc:open64")[0].path)
    lengths, code = instructions(path), path.read_bytes()
    symbols = ElfSymbols.open(path)
    functions = {each.address: each.size for each in symbols.functions() if each.size}
    wrong = 0
    symbols.close()
    for address, size in functions.items():
        start = symbols.offset_of(address)
        if start is None or address not in lengths:
            continue
        known = {at for at in range(address, address + size) if at in lengths}
        found = beginnings(code[start : start + size], os.uname().machine)
        wrong += {address + at for at in found} != known
    assert len(functions) > 1000
    assert wrong <= len(functions) // 200


def test_a_place_without_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = build(tmp_path, *PROGRAM)
    address = nm(program)["work"]
    stripped = tmp_path / "stripped"
    subprocess.run([need("strip"), "-o", stripped, program], check=True)
    assert find(f"{stripped}:{address:#x}")[0].symbol == f"{address:#x}"
    assert "no name tells whether an instruction begins there" in caplog.text


def test_what_a_probe_of_its_return_would_break(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = build(tmp_path, *PROGRAM)
    words = [f"{program}:_start", f"{program}:{nm(program)['_start']:#x}", "libc:_setjmp",
             "libc:swapcontext"]  # fmt: skip
    for word in words:
        assert find(word)
        with pytest.raises(BpfError, match=r"does not return as others do.*Trace its calls"):
            find_user_functions([word], returns=True)
    every = {each.symbol for each in find_user_functions([f"{program}:*"], returns=True)}
    assert {each.symbol for each in find(f"{program}:*")} - every == {"_start"}
    assert "_start left out: a probe of its return would break the program" in caplog.text


def test_a_program_of_go(tmp_path: Path) -> None:
    """Go copies its stacks, and the address that a probe of a return puts there with them."""
    source = '__attribute__((section(".go.buildinfo"), used)) char info[16]; void work(void) {}'
    path = tmp_path / "libgo.so"
    command = [need("gcc"), "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, encoding="ascii", check=True)
    assert find(f"{path}:work")
    with pytest.raises(BpfError, match=r"it is a Go program.*Trace its calls with uprobe"):
        find_user_functions([f"{path}:work"], returns=True)


def test_a_name_of_several(work: Path) -> None:
    with pytest.raises(BpfError, match="2 functions have this name") as caught:
        find(f"{work}:twice")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    addresses = [word.rstrip(".,") for word in caught.value.hint.split() if ":0x" in word]
    assert len(addresses) == 2
    both = find(f"{work}:twice", all_of=True)
    assert [each.offset for each in find(*addresses)] == [each.offset for each in both]
    assert len({each.label for each in both}) == 2


def test_versions(work: Path) -> None:
    known = nm(work)
    (now,) = find(f"{work}:versioned")
    assert now.offset == offset_in_file(work, known["new_work"]), "what is linked with today"
    offsets = {each.offset for each in find(f"{work}:versioned", all_of=True)}
    assert offsets == {offset_in_file(work, known[name]) for name in ("new_work", "old_work")}


def test_what_is_chosen_when_the_program_starts(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BpfError, match=r"chooses at its start which code it is \(IFUNC\)"):
        find(f"{work}:chosen")
    with caplog.at_level(logging.WARNING):
        assert "choose" in names(f"{work}:cho*")
    assert "1 function is left out" in caplog.text


def test_what_a_stripped_file_still_names(work: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "libwork.so"
    subprocess.run([need("strip"), "-o", stripped, work], check=True)
    assert find(f"{stripped}:work")[0].offset == find(f"{work}:work")[0].offset
    with pytest.raises(BpfError, match=r"no function has this very name.*There is: "):
        find(f"{stripped}:wrk")
    program = build(tmp_path, *PROGRAM, "-s")
    with pytest.raises(BpfError, match=r"names no functions.*PROGRAM:0x1234"):
        find(f"{program}:main")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("libc:opn64", r"no function has this very name.*There is: open64"),
        ("libc:zz*zz", "no function's name matches"),
        ("libnothing_like_it:x", "there is no libnothing_like_it"),
        ("/no/such/file:x", r"read /no/such/file: .*ENOENT"),
        ("/etc/hostname:x", "is not an ELF file"),
        ("/proc/self/fd:x", "it is not a regular file"),
    ],
)
def test_what_there_is_not(word: str, told: str) -> None:
    with pytest.raises(BpfError, match=told):
        find(word)


@pytest.mark.parametrize("word", ["open64", "libc:", ":main", "a\x1b:b", "libc:\n"])
def test_what_is_no_word(word: str) -> None:
    with pytest.raises(UsageError, match=r"is no BINARY:SYMBOL|name it with -p"):
        find(word)


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/\x1bsh -e\n", encoding="ascii")
    with pytest.raises(BpfError, match=r"It is a script: trace what runs it \(/bin/\\x1bsh -e\)"):
        find(f"{script}:main")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process of a program of ours, and its file."""
    path = build(tmp_path, *PROGRAM)
    with subprocess.Popen([path]) as process:
        while "libc" not in Path(f"/proc/{process.pid}/maps").read_text(encoding="ascii"):
            assert process.poll() is None
        yield process.pid, path
        process.kill()


def test_what_a_process_uses(sleeper: tuple[int, Path]) -> None:
    pid, path = sleeper
    (main,), (libc,) = find(":main", pid=pid), find("libc:open64", pid=pid)
    assert (main.label, main.offset) == (f"{path.name}:main", find(f"{path}:main")[0].offset)
    assert libc.path.startswith(f"/proc/{pid}/root/")
    assert Path(libc.path).samefile(find("libc:open64")[0].path)
    with pytest.raises(BpfError, match=r"it does not use libpython.*It uses: .*libc"):
        find("libpython:x", pid=pid)
    for name in (str(path), os.path.relpath(path)):
        assert find(f"{name}:main", pid=pid)[0].offset == main.offset


def test_a_program_that_was_replaced(sleeper: tuple[int, Path]) -> None:
    pid, path = sleeper
    offset = find(f"{path}:main")[0].offset
    path.unlink()
    path.write_bytes(b"nothing")
    assert find(":main", pid=pid)[0].offset == offset
    (still,) = find(f"{path.name}:main", pid=pid) if os.geteuid() == 0 else find(":main", pid=pid)
    assert still.offset == offset


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(BpfError, match="there is no such process"):
        find(":main", pid=process.pid)


def test_what_is_known_of_its_arguments(work: Path) -> None:
    second = instructions(work)[nm(work)["work"]]
    (function,), (inside,) = find(f"{work}:work"), find(f"{work}:work+{second}")
    plain = arguments_of(function, Shapes(None), all_of=True)
    assert [one.name for one in plain.shown] == [f"arg{number}" for number in range(6)]
    assert arguments_of(inside, Shapes(None), all_of=True).shown[0].name in ("di", "x0")
    texts = ["arg0:str", "arg1:int", "arg2:ulong", "arg3:open_flags"]
    text, number, large, flags = arguments_of(function, Shapes(None), specs=texts).shown
    assert (text.text, number.words(2**32 - 1), large.words(2**64 - 1)) == (0, "-1", str(2**64 - 1))
    assert flags.words(os.O_RDWR) == "O_RDWR"


@pytest.mark.parametrize(
    ("ret", "value", "words"),
    [
        ("", 2**64 - 2, "-2"),
        ("", 2**32 - 1, str(2**32 - 1)),
        ("int", 2**32 - 1, "-1"),
        ("hex", 255, "0xff"),
        ("errno", 2**64 - 13, "-EACCES"),
        ("pointer", 0, "NULL"),
    ],
)
def test_what_it_returns(work: Path, ret: str, value: int, words: str) -> None:
    (function,) = find(f"{work}:work")
    found = arguments_of(function, Shapes(None), returns=True, ret=ret)
    assert [one.name for one in found.shown] == ["ret", "arg0"]
    assert found.fetches[0].source == RETURN_VALUE
    assert found.shown[0].words(value) == words
    assert (found.failed, found.failed_shift) == (MINUS_ONE, 0)


def test_a_text_that_is_returned(work: Path) -> None:
    (function,) = find(f"{work}:work")
    found = arguments_of(function, Shapes(None), specs=["arg0:str"], returns=True, ret="str")
    assert [one.text for one in found.shown] == [0, 1]
    assert found.fetches[0].offsets == (0,)
    with pytest.raises(UsageError, match=r"--ret nothing: .*there is no format 'nothing'"):
        arguments_of(function, Shapes(None), returns=True, ret="nothing")
