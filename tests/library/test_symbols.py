"""Functions of real ELF files and processes, by places that are known otherwise."""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libbpf_ctypes import BpfError
from libbpf_ctypes.cli import elf_symbols, user_symbols
from libbpf_ctypes.cli.elf_symbols import ElfSymbols
from libbpf_ctypes.cli.user_symbols import UserSymbols

from ..conftest import lacking, need

# The functions pad to different places; "hidden" is not in .dynsym, "alias" is another
# name of "shown", and "bare" is an assembler's, without a size.
LIBRARY = r"""
static __attribute__((noinline, used)) int hidden(int n) { return n * 3 + 1; }
int shown(int n) { return hidden(n) + 2; }
extern int alias(int n) __attribute__((alias("shown")));
extern int __alias(int n) __attribute__((alias("shown")));
int last(int n) { return n + shown(n); }
void *where_hidden(void) { return hidden; }
__asm__(".text\n.globl bare\n.type bare, @function\nbare: nop\nnop\nret\nud2\n"
	".globl end\n.type end, @function\nend: ret\n.size end, 1\nnop\n"
	".globl restorer\n.type restorer, @function\nrestorer: ret\n.size restorer, 1\n"
	".section .apart, \"ax\"\n.globl lonely\n.type lonely, @function\nlonely: nop\nret\n"
	".section .behind, \"ax\"\n.type local, @function\nlocal: nop\nret\n.size local, 2\n");
"""

# It prints the addresses of functions, and waits until its stdin is closed.
PROGRAM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>
int here(int n) { return n + 1; }
static void *vdso(const char *name)
{
	void *handle = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
	return handle ? dlsym(handle, name) : 0;
}
int main(int argc, char **argv)
{
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : 0;
	void *(*where)(void) = library ? (void *(*)(void))dlsym(library, "where_hidden") : 0;
	char byte;
	printf("here %p\n", (void *)here);
	printf("vdso %p\n", vdso("__vdso_clock_gettime"));
	if (library) {
		printf("shown %p\n", dlsym(library, "shown"));
		printf("last %p\n", dlsym(library, "last"));
		printf("restorer %p\n", dlsym(library, "restorer"));
		printf("hidden %p\n", where());
	}
	fflush(stdout);
	return read(0, &byte, 1) == 1;
}
"""


def compiled(source: str, path: Path, *flags: str) -> Path:
    command = [need("gcc"), "-O1", *flags, "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, encoding="utf-8", check=True)
    return path


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, with all its symbols and a build id."""
    folder = tmp_path_factory.mktemp("symbols")
    return compiled(LIBRARY, folder / "libx.so", "-shared", "-fPIC", "-Wl,--build-id")


@pytest.fixture(scope="module")
def places(built: Path) -> dict[str, int]:
    """The functions' addresses by nm, which are their offsets in the file as it is linked."""
    listed = subprocess.run([need("nm"), built], capture_output=True, text=True, check=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    return {words[2]: int(words[0], 16) for words in lines if len(words) == 3}


@contextlib.contextmanager
def symbols_of(path: Path) -> Iterator[ElfSymbols]:
    symbols = ElfSymbols.open(path)
    try:
        yield symbols
    finally:
        symbols.close()


def test_functions_of_a_library(built: Path, places: dict[str, int]) -> None:
    with symbols_of(built) as symbols:
        for name in ("hidden", "shown", "last", "where_hidden", "bare"):
            offset = symbols.offset_of(places[name])
            assert offset is not None
            wanted = "alias" if name == "shown" else name
            assert symbols.at(offset) == (wanted, 0)
            assert symbols.at(offset + 1) == (wanted, 1)
            assert symbols.address_of(offset) == places[name]
        listed = {each.name: each.address for each in symbols.functions()}
        assert {name: listed[name] for name in ("hidden", "shown", "alias", "__alias")} == {
            "hidden": places["hidden"],
            **dict.fromkeys(("shown", "alias", "__alias"), places["shown"]),
        }


def test_where_no_function_is_none_is_told(built: Path, places: dict[str, int]) -> None:
    with symbols_of(built) as symbols:
        end = symbols.offset_of(places["end"])
        assert end is not None
        assert symbols.at(end) == ("end", 0)
        assert symbols.at(end - 1) == ("bare", places["end"] - places["bare"] - 1)
        found = symbols.at(end + 1)  # it has one byte
        assert found is None or found[0] != "end"
        assert symbols.at(0) is None
        assert symbols.at(1 << 40) is None
        assert symbols.offset_of(1 << 40) is None


def test_a_stripped_library_names_what_it_exports(
    built: Path, places: dict[str, int], tmp_path: Path
) -> None:
    stripped = tmp_path / "libx.so"
    run(need("strip"), "-o", stripped, built)
    with symbols_of(stripped) as symbols:
        assert symbols.at(places["last"]) == ("last", 0)
        assert symbols.at(places["hidden"]) is None
        assert symbols.at(places["lonely"] + 1) == ("lonely", 1)
        assert symbols.at(places["local"]) is None, "lonely, without a size, ends with its section"


def build_id_of(path: Path) -> str:
    command = [need("readelf"), "-n", str(path)]
    notes = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return notes.partition("Build ID: ")[2].split()[0]


def test_debug_symbols_by_build_id(
    built: Path, places: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_id = build_id_of(built)
    folder = tmp_path / build_id[:2]
    folder.mkdir()
    run(need("objcopy"), "--only-keep-debug", built, folder / f"{build_id[2:]}.debug")
    run(need("strip"), "-o", tmp_path / "libx.so", built)
    monkeypatch.setattr(elf_symbols, "_DEBUG", tmp_path)
    with symbols_of(tmp_path / "libx.so") as symbols:
        assert symbols.at(places["hidden"] + 2) == ("hidden", 2)
        assert symbols.at(places["last"]) == ("last", 0)


def test_symbols_that_are_packed_in_the_file(
    built: Path, places: dict[str, int], tmp_path: Path
) -> None:
    """As Fedora does it: MiniDebugInfo."""
    mini, packed, stripped = tmp_path / "mini", tmp_path / "mini.xz", tmp_path / "libx.so"
    run(need("objcopy"), "--only-keep-debug", built, mini)
    packed.write_bytes(lzma.compress(mini.read_bytes()))
    run(need("strip"), "-o", stripped, built)
    run(need("objcopy"), "--add-section", f".gnu_debugdata={packed}", stripped)
    with symbols_of(stripped) as symbols:
        assert symbols.at(places["hidden"] + 2) == ("hidden", 2)
    packed.write_bytes(packed.read_bytes()[:-40])
    run(need("objcopy"), "--update-section", f".gnu_debugdata={packed}", stripped)
    with symbols_of(stripped) as symbols:  # damaged: what else there is
        assert symbols.at(places["last"]) == ("last", 0)


def test_symbols_that_are_packed_where_a_debug_file_has_none(
    built: Path, places: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two files have sections of their own, and names of them."""
    packed, stripped = tmp_path / "mini.xz", tmp_path / "libx.so"
    packed.write_bytes(lzma.compress(built.read_bytes()))
    run(need("strip"), "-o", stripped, built)
    run(need("objcopy"), "--add-section", f".gnu_debugdata={packed}", stripped)
    monkeypatch.setattr(elf_symbols, "_DEBUG", tmp_path)
    folder = tmp_path / build_id_of(built)[:2]
    folder.mkdir()
    debug = folder / f"{build_id_of(built)[2:]}.debug"
    run(need("strip"), "-o", debug, "--remove-section=.eh_frame", built)
    with symbols_of(stripped) as symbols:
        assert symbols.at(places["hidden"] + 2) == ("hidden", 2)


def test_a_file_of_32_bits(tmp_path: Path) -> None:
    source = "int early(int n) { return n + 1; }\nint late(int n) { return n * 5; }\n"
    thing, path = tmp_path / "x.o", tmp_path / "libx32.so"
    command = [need("clang"), "--target=i386-linux-gnu", "-O1", "-c", "-x", "c", "-", "-o"]
    subprocess.run([*command, str(thing)], input=source, encoding="utf-8", check=True)
    run(need("ld"), "-m", "elf_i386", "-shared", thing, "-o", path)
    with symbols_of(path) as symbols:
        assert not symbols.is_64
        offsets = {each.name: symbols.offset_of(each.address) for each in symbols.functions()}
        for name in ("early", "late"):
            offset = offsets[name]
            assert offset is not None
            assert symbols.at(offset + 1) == (name, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF", "not an ELF file"),
        (b"#!/bin/sh\n" + bytes(100), "not an ELF file"),
        (b"\x7fELF\x02\x02\x01" + bytes(100), "other byte order"),
        (b"\x7fELF\x02\x01\x01" + bytes(47) + b"\xff" * 10, "headers have 65535 bytes each"),
    ],
)
def test_no_elf_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(BpfError, match=reason):
        ElfSymbols.open(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(BpfError):
            ElfSymbols.open(path)


@given(st.data())
@settings(max_examples=300)
def test_damaged_files_are_refused_or_read(built: Path, data: st.DataObject) -> None:
    """Whatever a file holds, there is an answer or a BpfError."""
    content = bytearray(built.read_bytes())
    headers = int.from_bytes(content[40:48], sys.byteorder)
    places = st.integers(0, 63) | st.integers(64, 600) | st.integers(headers, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(places)] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    path = built.with_name("damaged.so")
    path.write_bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    try:
        symbols = ElfSymbols.open(path)
    except BpfError:
        return
    for offset in (0, *range(0x1000, 0x1200, 16), 0x2000, 1 << 63):
        found = symbols.at(offset)
        assert found is None or isinstance(found[0], str)
    with contextlib.suppress(BpfError):
        assert all(isinstance(each.name, str) for each in symbols.functions())
        symbols.has_section(".go.buildinfo")
    symbols.close()


def test_names_that_lie_nowhere(built: Path, tmp_path: Path) -> None:
    """The tables are read when the file is opened, the names later."""
    content = bytearray(built.read_bytes())
    headers, size, count = (
        int.from_bytes(content[40:48], sys.byteorder),
        int.from_bytes(content[58:60], sys.byteorder),
        int.from_bytes(content[60:62], sys.byteorder),
    )
    for at in range(headers, headers + size * count, size):
        if content[at + 4] == 3:  # SHT_STRTAB
            content[at + 24 : at + 32] = b"\xff" * 8
    path = tmp_path / "nowhere.so"
    path.write_bytes(content)
    with symbols_of(path) as symbols:
        assert all(symbols.at(offset) is None for offset in range(0x1000, 0x1200, 4))
        with pytest.raises(BpfError, match="it is damaged"):
            list(symbols.functions())


class Running(NamedTuple):
    """A program that waits, and the addresses that it printed."""

    process: subprocess.Popen[str]
    places: dict[str, int]

    @property
    def pid(self) -> int:
        return self.process.pid


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Compiles and runs PROGRAM."""
    started: list[subprocess.Popen[str]] = []

    def run_program(*arguments: str | Path, flags: tuple[str, ...] = ()) -> Running:
        path = compiled(PROGRAM, tmp_path / "program", *flags, "-ldl")
        pipe = subprocess.PIPE
        process = subprocess.Popen([path, *arguments], stdin=pipe, stdout=pipe, text=True)
        started.append(process)
        return Running(process, printed(process))

    yield run_program
    for process in started:
        process.kill()
        process.communicate()


def printed(process: subprocess.Popen[str]) -> dict[str, int]:
    """The addresses: as many lines as there come at once."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), True)
    text = os.read(process.stdout.fileno(), 4096).decode()
    pairs = [line.split() for line in text.splitlines()]
    return {name: int(address, 16) for name, address in pairs if address != "(nil)"}


@pytest.fixture
def symbols() -> Iterator[UserSymbols]:
    found = UserSymbols()
    yield found
    found.close()


@pytest.mark.parametrize("flags", [("-pie", "-fPIE"), ("-no-pie",)])
def test_functions_of_a_process(
    start: Start, symbols: UserSymbols, built: Path, flags: tuple[str, ...]
) -> None:
    running = start(built, flags=flags)
    names = ("here", "hidden", "shown", "vdso")
    frames = tuple(running.places[name] + 1 for name in names)
    assert symbols.names(running.pid, (*frames, running.places["restorer"], 0x10)) == (
        "here+0x1 (program)",
        "hidden+0x1 (libx.so)",
        "alias+0x1 (libx.so)",
        "clock_gettime+0x1 ([vdso])",
        "restorer+0x0 (libx.so)",
        "0x10",
    )


def test_a_static_program(start: Start, symbols: UserSymbols) -> None:
    running = start(flags=("-static", "-Wl,--no-warnings"))
    assert symbols.names(running.pid, (running.places["here"],)) == ("here+0x0 (program)",)


def test_files_that_were_deleted_or_replaced(
    start: Start, symbols: UserSymbols, built: Path, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("it takes CAP_CHECKPOINT_RESTORE to open a file that is gone")
    copy = tmp_path / "liby.so"
    copy.write_bytes(built.read_bytes())
    running = start(copy)
    copy.unlink()
    (tmp_path / "program").rename(tmp_path / "old")
    (tmp_path / "program").write_bytes(built.read_bytes())
    frames = (running.places["here"], running.places["last"] + 1)
    (here, last) = symbols.names(running.pid, frames) or ("", "")
    assert here in ("here+0x0 (program)", "here+0x0 (old)")
    assert last == "last+0x1 (liby.so)"


def test_a_file_of_overlayfs(built: Path) -> None:
    """Its number has more bits than the mapping's, before Linux 6.8."""
    number = built.stat().st_ino
    mapping = user_symbols._Mapping(0, 1, 0, "00:39", number ^ 1 << 63, str(built))
    user_symbols._open_file(os.getpid(), mapping).close()
    with pytest.raises(OSError, match="not there any more"):
        user_symbols._open_file(os.getpid(), mapping._replace(inode=number + 1))


def test_a_process_that_ended_is_remembered(
    start: Start, symbols: UserSymbols, built: Path
) -> None:
    running = start(built)
    assert symbols.names(running.pid, (running.places["here"],)) == ("here+0x0 (program)",)
    running.process.kill()
    running.process.wait()
    # Of a file that was not asked for while it ran, too.
    assert symbols.names(running.pid, (running.places["last"] + 1,)) == ("last+0x1 (libx.so)",)


def test_a_process_that_becomes_another_program(symbols: UserSymbols, tmp_path: Path) -> None:
    other = compiled(PROGRAM.replace("here", "there"), tmp_path / "other", "-ldl")
    starter = PROGRAM.replace(
        "return read(0, &byte, 1) == 1;",
        f"""
	if (read(0, &byte, 1) == 1) execl("{other}", "other", (char *)0);
	return 0;""",
    )
    program = compiled(starter, tmp_path / "program", "-ldl")
    pipe = subprocess.PIPE
    process = subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True)
    try:
        first = printed(process)["here"]
        assert symbols.names(process.pid, (first,)) == ("here+0x0 (program)",)
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        second = printed(process)["there"]
        assert symbols.names(process.pid, (second,)) == ("there+0x0 (other)",)
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_this_user_may_not_look_at(start: Start, symbols: UserSymbols) -> None:
    if os.geteuid():
        pytest.skip("only root can be another user")
    running = start()
    child = os.fork()
    if not child:
        os.setuid(65534)
        refused = symbols.names(running.pid, (0x1000,)) is None
        os._exit(0 if refused and "denied" in symbols.refusal else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_zombie_has_no_mappings(symbols: UserSymbols) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert symbols.names(child, (0x1000,)) is None
        assert symbols.refusal == "it has ended"
    finally:
        os.waitpid(child, 0)


def test_functions_of_a_jit_that_another_user_went_on_with(symbols: UserSymbols) -> None:
    """As of a service that was started as root."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    code = """
import ctypes, mmap, os, pathlib
def page():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    made = mmap.mmap(-1, 4096, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return made, ctypes.addressof(ctypes.c_char.from_buffer(made))
first, place = page()
print(f"{place:x}", flush=True)
input()
os.setuid(65534)
second, place = page()
pathlib.Path(f"/tmp/perf-{os.getpid()}.map").write_text(f"{place:x} 20 compiled\\n")
print(f"{place:x}", flush=True)
input()
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)
    path = Path(f"/tmp/perf-{process.pid}.map")
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        place = int(process.stdout.readline(), 16)
        assert symbols.names(process.pid, (place,)) == (f"{place:#x}",)
        process.stdin.write(b"\n")
        process.stdin.flush()
        place = int(process.stdout.readline(), 16)
        assert symbols.names(process.pid, (place + 4,)) == ("compiled+0x4 (JIT)",)
    finally:
        process.kill()
        process.communicate()
        path.unlink(missing_ok=True)


def newer_pythons() -> Iterator[str]:
    """Pythons that can write a perf map, those of pyenv too."""
    for version in ("3.12", "3.13", "3.14"):
        found = shutil.which(f"python{version}")
        if found:
            yield found
        yield from map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))


def writes_perf_maps(python: str) -> bool:
    done = subprocess.run(
        [python, "-X", "perf", "-c", ""], capture_output=True, text=True, check=False
    )
    return not done.returncode and not done.stderr


def test_functions_of_python_by_its_own_perf_map(symbols: UserSymbols, tmp_path: Path) -> None:
    """CPython's -X perf writes a piece of code for each function, and its name."""
    python = next(filter(writes_perf_maps, newer_pythons()), "")
    if not python:
        lacking("needs Python 3.12 or later")
    script = tmp_path / "jitted.py"
    script.write_text("def innermost():\n    print(1, flush=True)\n    input()\ninnermost()\n")
    pipe = subprocess.PIPE
    process = subprocess.Popen([python, "-X", "perf", script], stdin=pipe, stdout=pipe)
    path = Path(f"/tmp/perf-{process.pid}.map")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        places = code_of(process.pid, "py::innermost:", path)
        for place in places:
            assert symbols.names(process.pid, (place,)) == (
                f"py::innermost:{script}+{place - places[0]:#x} (JIT)",
            )
    finally:
        process.kill()
        process.communicate()
        path.unlink(missing_ok=True)


def code_of(pid: int, name: str, path: Path) -> range:
    """The addresses of a function's code by the last line of its name."""
    line = next(line for line in reversed(path.read_text().splitlines()) if name in line)
    start, size = (int(word, 16) for word in line.split()[:2])
    mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()
    ranges = [
        [int(each, 16) for each in line.split()[0].split("-")]
        for line in mapped
        if "x" in line.split()[1]
    ]
    assert any(low <= start and start + size <= high for low, high in ranges)
    return range(start, start + size)
