"""Btf as users have it: types, functions, layouts, C source, of objects, files and the kernel."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from libbpf_ctypes import BpfError, BpfObject, ClosedError, NotFoundError, Schema, raw
from libbpf_ctypes.btf import Btf, BtfType, Kind

from ..conftest import Compile, need
from ..pure.helpers import run_python

SOURCE = """
typedef unsigned int u32;
typedef unsigned long long u64;
enum colour { RED, GREEN = 5, BLUE = -1 };
struct inner { u32 first; unsigned char second; };
union either { u64 number; char text[6]; };
struct outer {
	struct inner one;
	const struct outer *next;
	u32 low : 3, high : 7;
	union either both;
	struct { short hidden; };
	enum colour colour;
	int (*call)(struct inner *one, ...);
	volatile char name[16];
	u64 rest[];
};
struct outer *unused;
int counter;
__attribute__((noinline)) int add(const struct outer *one, u64 by)
{
	counter += by;
	return one->low + by;
}
"""

needs_kernel_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF"
)


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE)


@pytest.fixture
def btf(path: Path) -> Iterator[Btf]:
    with Btf.from_file(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def kernel() -> Iterator[Btf]:
    with Btf.kernel() as opened:
        yield opened


def test_types_by_name_kind_and_id(btf: Btf) -> None:
    outer = btf.find("struct outer")
    assert (outer.name, outer.kind) == ("outer", Kind.STRUCT)
    assert outer == btf.find("outer") == btf.find("outer", Kind.STRUCT) == btf.find(outer.id)
    assert btf.find("u64").kind == Kind.TYPEDEF
    assert btf.find("enum colour").kind == Kind.ENUM
    assert btf.find(0).kind == Kind.VOID
    structs = [entry.name for entry in btf.types(Kind.STRUCT)]
    assert sorted(structs) == ["", "inner", "outer"]
    everything = list(btf.types())
    assert [entry.id for entry in everything] == list(range(1, btf.type_count))
    assert everything == [btf.find(entry.id) for entry in everything], "both ways to read them"


@pytest.mark.parametrize(
    "which", ["nothing", "struct u64", "enum outer", "outer\0", "", " ", 10**6, -1, 1 << 32]
)
def test_what_is_not_there(which: str | int, btf: Btf) -> None:
    with pytest.raises(NotFoundError) as told:
        btf.find(which)
    assert told.value.errno == errno.ENOENT


def test_layouts_are_those_of_the_compiler(btf: Btf, tmp_path: Path) -> None:
    layout = btf.layout("struct outer")
    assert [m.name for m in layout.members] == [
        *["one", "next", "low", "high", "both", "", "colour", "call", "name", "rest"]
    ]
    named = [m for m in layout.members if m.name and not m.bits]
    checks = [f"offsetof(struct outer, {m.name}) == {m.offset}" for m in named]
    checks += [f"sizeof(struct outer) == {layout.size}"]
    source = "#include <stddef.h>\n" + SOURCE
    source += "".join(f'_Static_assert({check}, "");\n' for check in checks)
    command = [need("cc"), "-x", "c", "-fsyntax-only", "-"]
    subprocess.run(command, input=source, text=True, check=True)
    by_name = {m.name: m for m in layout.members}
    low, high = by_name["low"], by_name["high"]
    assert (low.bits, high.bits, high.bit_offset - low.bit_offset) == (3, 7, 3)
    assert by_name["one"].type.members[1].name == "second"
    assert by_name["both"].type.kind == Kind.UNION
    assert dict(by_name["colour"].type.constants) == {"RED": 0, "GREEN": 5, "BLUE": -1}
    assert (by_name["name"].type.length, by_name["rest"].type.length) == (16, 0)
    assert btf.layout("u64").size == 8


def test_a_function(btf: Btf) -> None:
    add = btf.function("add")
    assert add.prototype == "int add(const struct outer *one, u64 by)"
    assert [parameter.name for parameter in add.parameters] == ["one", "by"]
    assert add.returns.signed
    entries = list(btf.types(Kind.FUNC))
    assert [btf.function(entry) for entry in entries] == [add]
    with pytest.raises(NotFoundError):
        btf.function("outer")
    with pytest.raises(BpfError, match="no function"):
        btf.function(btf.find("outer"))


def test_declarations(btf: Btf) -> None:
    call = next(m for m in btf.types() if m.kind == Kind.FUNC_PROTO and "..." in words(btf, m))
    assert words(btf, call) == "int x(struct inner *, ...)"
    assert btf.declaration("struct inner", "all") == "struct inner all"
    assert btf.declaration("u64") == "u64"
    const = next(m for m in btf.types(Kind.CONST))
    assert btf.declaration(const, strip_modifiers=True) == "struct outer"


def words(btf: Btf, entry: BtfType) -> str:
    return btf.declaration(entry, "x")


def test_the_c_source_is_the_same_types_again(btf: Btf, compile_bpf: Compile) -> None:
    source = btf.dump("struct outer")
    assert source.count("struct inner {") == 1
    assert "int counter" not in source
    again = compile_bpf(source + "\nstruct outer *unused;\n")
    with Btf.from_file(again) as second:
        assert second.layout("struct outer") == btf.layout("struct outer")
    whole = btf.dump()
    assert source.strip() in whole
    assert btf.dump() == whole, "not what was not printed before"


def test_bytes_as_an_initializer(btf: Btf) -> None:
    inner = btf.layout("struct inner")
    data = (77).to_bytes(4, "little") + b"\2" + bytes(3)
    assert len(data) == inner.size
    text = btf.format_data("struct inner", data)
    assert text.split("\n")[0] == "(struct inner){"
    assert "\t.first = (u32)77,\n" in text
    assert btf.format_data("struct inner", data, compact=True, skip_names=True) == "{77,2,}"
    zero = btf.format_data("struct inner", bytes(8), emit_zeroes=True)
    assert ".first" in zero
    assert ".first" not in btf.format_data("struct inner", bytes(8))
    with pytest.raises(BpfError) as told:
        btf.format_data("struct inner", data[:5])
    assert told.value.errno == errno.E2BIG
    assert "5 bytes" in told.value.operation
    assert told.value.strerror == "it has 8 bytes"


def test_bytes_and_back(btf: Btf) -> None:
    data = btf.raw_data()
    with Btf.from_bytes(data) as again:
        assert again.raw_data() == data
        assert list(again.types()) == list(btf.types())
    assert (btf.pointer_size, btf.endianness) == (8, "little")


def test_of_another_byte_order(compile_bpf: Compile, btf: Btf, tmp_path: Path) -> None:
    with Btf.from_file(compile_bpf(SOURCE, target="bpfeb")) as big:
        assert big.endianness == "big"
        assert big.layout("struct inner") == btf.layout("struct inner")
        assert {entry.name for entry in big.types()} == {entry.name for entry in btf.types()}
        assert big.dump("struct inner") == btf.dump("struct inner")
        raw_file = tmp_path / "raw"
        raw_file.write_bytes(big.raw_data())
    with Btf.from_file(raw_file) as again:
        assert again.endianness == "big"
        assert again.function("add") == btf.function("add")


def test_files_without_types(tmp_path: Path, compile_bpf: Compile) -> None:
    for where in (tmp_path / "missing", tmp_path, Path("/dev/zero")):
        with pytest.raises(BpfError, match="read BTF from"):
            Btf.from_file(where)
    text = tmp_path / "text"
    text.write_text("types")
    bare = compile_bpf("int f(void) { return 0; }", debug=False)
    for where in (text, bare):
        with pytest.raises(BpfError) as told:
            Btf.from_file(where)
        assert str(where) in str(told.value)
    for name in ("", "a\0b"):
        with pytest.raises(BpfError, match="not a path"):
            Btf.from_file(name)
    for data in (b"", b"types", bytes(100)):
        with pytest.raises(BpfError, match="from bytes"):
            Btf.from_bytes(data)


def test_an_objects_types_go_with_it(path: Path) -> None:
    obj = BpfObject.open(path)
    btf = obj.btf
    assert btf.function("add").prototype.startswith("int add(")
    assert Schema.from_btf(btf, "inner").record._fields == ("first", "second")
    assert str(path) in repr(btf) or "object of" in repr(btf)
    obj.close()
    for use in (btf.dump, lambda: btf.find("outer"), lambda: btf.declaration(1), btf.raw_data):
        with pytest.raises(ClosedError):
            use()
    btf.close()
    obj = BpfObject.open(path)
    btf = obj.btf
    btf.close()
    assert obj.btf.find("outer").name == "outer", "closing it leaves the object's alone"
    obj.close()


def split(base: Btf, folder: Path) -> Path:
    """A file with types that build on those of BASE, as a module's do."""
    pointer = raw.btf__new_empty_split(base)
    try:
        identity = raw.btf__add_struct(pointer, b"on_top", 16)
        raw.btf__add_field(pointer, b"below", base.find("struct inner").id, 0, 0)
        raw.btf__add_typedef(pointer, b"inner", identity)  # a name that the base has, too
        assert identity == base.type_count
        size = ctypes.c_uint32()
        data = ctypes.string_at(raw.btf__raw_data(pointer, ctypes.byref(size)), size.value)
    finally:
        raw.btf__free(pointer)
    file = folder / "split"
    file.write_bytes(data)
    return file


def test_types_on_top_of_others(btf: Btf, tmp_path: Path) -> None:
    with Btf.from_file(split(btf, tmp_path), base=btf) as top:
        assert top.base is btf
        assert [entry.name for entry in top.types(own=True)] == ["on_top", "inner"]
        assert list(top.types())[:-2] == list(btf.types())
        assert top.find("struct inner") == btf.find("struct inner")
        assert top.layout("on_top").members[0].type == btf.layout("struct inner")
        assert top.dump("on_top").count("struct inner {") == 1
        assert "struct outer {" not in top.dump()


def test_types_of_a_kind_are_read_fast(btf: Btf, tmp_path: Path) -> None:
    with Btf.from_file(split(btf, tmp_path), base=btf) as top:
        for store, kind in ((btf, Kind.FUNC), (btf, Kind.STRUCT), (top, Kind.TYPEDEF)):
            told = [(entry.id, entry.name) for entry in store.types(kind, own=True)]
            assert told and list(store._own_of(kind)) == told


def test_a_base_that_is_closed_or_forgotten(path: Path, tmp_path: Path) -> None:
    base = Btf.from_file(path)
    top = Btf.from_file(split(base, tmp_path), base=base)
    top.dump()
    base.close()
    for name, *arguments in (["dump"], ["find", "on_top"], ["declaration", 1], ["raw_data"]):
        with pytest.raises(ClosedError):
            getattr(top, str(name))(*arguments)
    top.close()
    base = Btf.from_file(path)
    top = Btf.from_file(split(base, tmp_path), base=base)
    del base
    gc.collect()
    assert top.find("struct inner").size == 8, "it keeps its base alive"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        top.close()
        del top
        gc.collect()


def test_a_forked_child_is_refused(btf: Btf) -> None:
    btf.declaration("u64")
    child = os.fork()
    if not child:
        for use in (lambda: btf.declaration("u64"), btf.dump, lambda: list(btf.types())):
            try:
                use()
            except ClosedError:
                continue
            os._exit(1)
        btf.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert btf.declaration("u64") == "u64"


def test_a_forgotten_one_warns(path: Path) -> None:
    btf = Btf.from_file(path)
    btf.declaration("u64")
    with pytest.warns(ResourceWarning, match="unclosed <Btf"):
        del btf


def test_what_is_no_btf_is_refused_before_libbpf_reads_it(btf: Btf, path: Path) -> None:
    data, other = btf.raw_data(), cast("Any", 3)
    makes: list[Callable[[], object]] = [
        lambda: Btf.of(other),
        lambda: Btf.from_bytes(data, other),
        lambda: Btf.from_bytes(other),
        lambda: Btf.from_file(path, other),
        lambda: Btf.module("module", other),
        lambda: Btf.open_id(1, other),
    ]
    for make in makes:
        with pytest.raises(TypeError):
            make()
    for which in (None, 1.5, b"u64", ["u64"]):
        with pytest.raises(TypeError, match="not the id or name of a type"):
            btf.find(cast("Any", which))


def test_what_c_would_cut_off(btf: Btf) -> None:
    identity = btf.find("u64").id
    foreign = BtfType(btf.type_count, Kind.INT, "u64", 8)  # of a larger BTF
    for which in (identity + (1 << 32), -1, foreign):
        for use in (btf.find, btf.layout, btf.dump, btf.declaration):
            with pytest.raises(NotFoundError):
                use(which)
    for number in (identity + (1 << 32), -1):
        with pytest.raises(BpfError):
            btf.type(number)
        with pytest.raises(BpfError):
            Btf.open_id(number)
    with pytest.raises(BpfError, match="not a name"):
        btf.declaration("u64", "a\0b")
    with pytest.raises(BpfError):
        btf.parameters("takes\0more")


#: Reads in one thread what another closes; each round ends by ClosedError, or was quicker.
CLOSE_WHILE_READING = """
import sys, threading
from libbpf_ctypes import BpfObject, Btf, ClosedError, Schema
sys.setswitchinterval(1e-5)
path = sys.argv[1]
USES = [
    lambda btf: list(btf.types()),
    lambda btf: btf.dump(),
    lambda btf: btf.layout("struct outer"),
    lambda btf: btf.find("struct inner"),
    lambda btf: btf.raw_data(),
    lambda btf: Schema.from_btf(btf, "struct inner"),
]
unexpected = []

def read(use, btf, started):
    try:
        while True:
            use(btf)
            started.set()
    except ClosedError:
        started.set()
    except BaseException as error:
        unexpected.append(repr(error))
        started.set()

for round in range(40):
    for use in USES:
        for owner in ("file", "object"):
            obj = BpfObject.open(path)
            btf = Btf.of(obj) if owner == "object" else Btf.from_file(path)
            started = threading.Event()
            thread = threading.Thread(target=read, args=(use, btf, started))
            thread.start()
            started.wait()
            (obj if owner == "object" else btf).close()
            thread.join()
            obj.close()
print(unexpected)
"""


def test_closed_by_one_thread_while_another_reads(path: Path) -> None:
    done = run_python(CLOSE_WHILE_READING, str(path))
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_schema_by_the_words_of_c(btf: Btf) -> None:
    assert Schema.from_btf(btf, "struct inner").size == Schema.from_btf(btf, "inner").size
    assert btf.find("struct inner", Kind.STRUCT) == btf.find("inner")


@needs_kernel_btf
def test_prototypes_of_the_kernel(kernel: Btf) -> None:
    wanted = "do_sys_openat2(int dfd, const char *filename, struct open_how *how)"
    assert kernel.function("do_sys_openat2").prototype.endswith(wanted)
    wanted = "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"
    assert kernel.function("vfs_read").prototype == wanted


@needs_kernel_btf
def test_the_kernels_types_compile_and_keep_their_size(kernel: Btf) -> None:
    names = ["task_struct", "open_how", "sock"]
    source = kernel.dump(*[f"struct {name}" for name in names])
    for name in names:
        layout = kernel.layout(f"struct {name}")
        assert layout.size == kernel.find(f"struct {name}").size > 0
        source += f'_Static_assert(sizeof(struct {name}) == {layout.size}, "");\n'
    command = [need("clang"), "-target", "bpf", "-w", "-x", "c", "-fsyntax-only", "-"]
    subprocess.run(command, input=source, text=True, check=True)


@needs_kernel_btf
def test_structs_of_the_kernel_by_name_alone(kernel: Btf) -> None:
    assert Schema.from_btf(kernel, "open_how").record._fields == ("flags", "mode", "resolve")
    with pytest.raises(NotFoundError, match="the kernel's BTF has no struct") as told:
        Schema.from_btf(kernel, "open_ho")
    assert "open_how" in told.value.hint


@needs_kernel_btf
def test_many_structs_of_the_kernel_become_schemas_of_their_size(kernel: Btf) -> None:
    entries = [entry for entry in kernel.types(Kind.STRUCT) if entry.name][::200]
    assert len(entries) > 20
    for entry in entries:
        layout = kernel.layout(entry)
        assert layout.size == entry.size
        assert all(m.end <= layout.size for m in layout.members)


@needs_kernel_btf
def test_the_modules(kernel: Btf) -> None:
    modules = Btf.modules()
    assert "vmlinux" not in modules
    for name in ("no_such_module", "", "../vmlinux"):
        with pytest.raises(BpfError, match="module"):
            Btf.module(name)
    for name in modules[:2]:
        with Btf.module(name, kernel) as btf:
            assert btf.type_count > kernel.type_count


def test_an_objects_types_need_no_close(path: Path) -> None:
    with BpfObject.open(path) as obj, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        btf = obj.btf
        assert btf.declaration("u64") == "u64"
        printer = btf._printer
        assert printer is not None
        del btf
        assert printer._dump is None
