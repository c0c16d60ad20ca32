"""ebpf-tool skeleton: the module it writes, its types, and objects that mean harm."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from libbpf_ctypes import BpfObject, Skeleton
from libbpf_ctypes.skeleton_source import skeleton_source

from ..conftest import Compile, lacking
from ..pure.helpers import ROOT, run_python, run_tool
from .bad_objects import BAD
from .skeletons import SOURCE

USES = """
from __future__ import annotations

from libbpf_ctypes import PerfBuffer, RingBuffer
from my_tool_bpf import CALL, Call, Key, MyTool, None_


def show(event: Call) -> str:
    first: bytes = event.inners[0].b
    return f"{event.number + event.pid} {event.comm.upper()} {event.ok} {event.level} {first!r}"


with MyTool.open() as skel:
    skel.variables.target_pid = 42
    skel.variables.quiet = True
    skel.variables.text = b"12345678"
    skel.variables.class_ += 1
    skel.maps.events.max_entries = 1 << 20
    skel.load()
    skel.attach()
    skel.maps.import_[1] += 5
    skel.maps.Map[Key(cpu=3)] = None_(index=7)
    print(sum(none.index for none in skel.maps.Map.values()), 1 in skel.maps.import_)
    skel.links.None_ = skel.programs.None_.attach_uprobe("libc.so.6", "open64")
    for event in RingBuffer(skel.maps.events, CALL):
        print(show(event))
    for sample in PerfBuffer(skel.maps.events):
        print(sample.hex())
"""

#: What a type checker must refuse, in the place of a line above.
MISUSES = [
    "skel.variables.targt_pid = 42",
    "skel.variables.target_pid = '42'",
    "skel.variables.quiet = 1",
    "skel.variables.text = 'abc'",
    "skel.variables.text += 1",
    "skel.maps.evnts",
    "skel.maps.import_['1']",
    "skel.maps.import_[1] = '5'",
    "skel.maps.import_[1].count",
    "skel.maps.Map[3]",
    "skel.maps.Map[Key(cpu=3)].indx",
    "skel.maps.Map[Key(cpu=3)] = 7",
    "Key(cpus=3)",
    "skel.programs.on_entr",
    "skel.links.on_entr",
    "skel.links.on_enter = skel.programs.on_enter",
    "skel.links.on_enter.close()",
    "skel.attch()",
    "CALL.size.upper()",
    "CALL.decode(bytes(48)).nmber",
    "CALL.decode(bytes(48)).comm + 1",
    "next(iter(RingBuffer(skel.maps.events, CALL))).nmber",
    "next(iter(PerfBuffer(skel.maps.events, CALL))).nmber",
    "next(iter(RingBuffer(skel.maps.events))).number",
]


class Written(NamedTuple):
    """A module that was written."""

    path: Path
    text: str


def write(object_file: Path, module: Path, *words: str) -> Written:
    done = run_tool("skeleton", object_file, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    module.write_text(done.stdout, encoding="utf-8")
    return Written(module, done.stdout)


def load(path: Path) -> ModuleType:
    """Imports a module from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    del sys.modules[path.stem]
    return module


@pytest.fixture(scope="module")
def object_file(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE, "-Wno-unused-parameter", name="my-tool.bpf.o")


@pytest.fixture(scope="module")
def bare_file(compile_bpf: Compile) -> Path:
    """An object without BTF, of one program."""
    source = '__attribute__((section("kprobe"), used)) int probe(void *c) { return c == 0; }'
    return compile_bpf(source, name="1.o", debug=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skeletons")


@pytest.fixture(scope="module")
def written(object_file: Path, folder: Path) -> Written:
    return write(object_file, folder / "my_tool_bpf.py")


@pytest.fixture(scope="module")
def module(written: Written) -> ModuleType:
    return load(written.path)


@pytest.fixture(scope="module")
def checked(written: Written, bare_file: Path, folder: Path) -> dict[str, str]:
    """What mypy --strict says, by file; for MISUSES by number."""
    (folder / "uses.py").write_text(USES, encoding="utf-8")
    write(bare_file, folder / "bare.py")
    before, _, _ = USES.partition("    for event")
    for number, line in enumerate(MISUSES):
        text = f"{before}    print({line})\n" if "= " not in line else f"{before}    {line}\n"
        (folder / f"misuse_{number}.py").write_text(text, encoding="utf-8")
    files = [written.path.name, "uses.py", "bare.py"]
    files += [f"misuse_{number}.py" for number in range(len(MISUSES))]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    command += ["--config-file=", "--cache-dir", str(folder / "cache"), *files]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={"MYPYPATH": str(ROOT)}
    )
    if "No module named mypy" in done.stderr:
        lacking("needs mypy")
    assert done.stderr == ""
    told = dict.fromkeys((Path(file).stem for file in files), "")
    for line in done.stdout.splitlines()[:-1]:
        told[line.partition(".py:")[0]] += f"{line}\n"
    return told


def test_the_module_holds_under_mypy_strict(checked: dict[str, str]) -> None:
    assert checked["my_tool_bpf"] == ""
    assert checked["bare"] == ""


def test_a_tool_that_uses_it_holds_under_mypy_strict(checked: dict[str, str]) -> None:
    assert checked["uses"] == ""


@pytest.mark.parametrize("number", range(len(MISUSES)), ids=MISUSES)
def test_a_misuse_is_an_error(number: int, checked: dict[str, str]) -> None:
    errors = checked[f"misuse_{number}"].splitlines()
    assert len([line for line in errors if ": error: " in line]) == 1, errors


def test_it_passes_ruff_check(written: Written, bare_file: Path, folder: Path) -> None:
    bare = write(bare_file, folder / "bare_again.py")
    rules = "E,F,W,I,UP,B,S,RUF"
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--target-version=py39"]
    command += ["--no-cache", "--select", rules, str(written.path), str(bare.path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if "No module named ruff" in done.stderr:
        lacking("needs ruff")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_for_python_3_9_and_always_the_same(object_file: Path, written: Written) -> None:
    ast.parse(written.text, feature_version=(3, 9))
    for _ in range(2):
        with BpfObject.open(object_file) as obj:
            again = skeleton_source(obj, str(object_file), "libbpf_ctypes")
            assert again == written.text


def test_every_part_has_an_attribute(module: Any, object_file: Path) -> None:
    with module.MyTool.open() as skel, BpfObject.open(object_file) as obj:
        assert [p.name for p in vars(skel.programs).values()] == list(obj.programs)
        assert [m.name for m in vars(skel.maps).values()] == list(obj.maps)
        kept = [value for value in vars(type(skel.variables)).values() if hasattr(value, "name")]
        assert [value.name for value in kept] == list(obj.variables)
        assert list(vars(skel.links)) == list(vars(skel.programs)) == ["on_enter", "None_"]
        assert set(vars(skel.links).values()) == {None}
        assert {"import_", "Map", "events", "rodata", "bss", "data"} < set(vars(skel.maps))
        assert isinstance(skel, Skeleton)
        assert repr(skel) == "<MyTool: <BpfObject my-tool (open)>>"
    assert skel.obj.closed
    skel.close()


def test_variables_are_attributes(module: Any) -> None:
    with module.MyTool.open() as skel:
        variables = skel.variables
        assert (variables.target_pid, variables.quiet, variables.offset) == (0, False, -1)
        assert (variables.text, variables.level) == (b"abc" + bytes(5), 1)
        variables.target_pid, variables.quiet, variables.text = 7, True, b"12345678"
        variables.bytes_, variables.class_, variables._private, variables._obj_ = 1, 2, 3, 4
        names = ("target_pid", "quiet", "text", "bytes", "class", "__private", "_obj")
        values = [skel.obj.variables[name].value for name in names]
        assert values == [7, True, b"12345678", 1, 2, 3, 4]
        with pytest.raises(AttributeError, match="targt_pid"):
            variables.targt_pid = 1
        with pytest.raises(AttributeError):
            _ = variables.targt_pid


def test_records_of_the_structs_that_variables_and_maps_name(module: Any) -> None:
    assert not hasattr(module, "OnlyFunctions")
    call = module.CALL.decode(
        (9).to_bytes(8, "little") + (7).to_bytes(4, "little") + b"\1" + b"name".ljust(19, b"\0")
        + (2).to_bytes(4, "little") + b"\1\0ab\2\0cd" + (5).to_bytes(4, "little")
    )  # fmt: skip
    assert isinstance(call, module.Call)
    assert (call.number, call.pid, call.ok, call.comm, call.level) == (9, 7, True, "name", "HIGH")
    assert [(inner.a, inner.b) for inner in call.inners] == [(1, b"ab"), (2, b"cd")]
    assert call.count == 5
    assert module.Call.__module__ == module.__name__
    assert module.NONE.decode(b"\3\0\0\0").index == 3
    assert module.KEY.size == 4
    assert module.MAP.decode(bytes(8)).str == 0
    odd = module.ODD.decode(bytes(range(module.ODD.size)))
    assert (odd.bits_0, odd.union_4, odd.inside) == (b"\0", bytes(range(4, 8)), 0x0908)
    assert (len(odd.ratios), [len(row) for row in odd.grid], len(odd.names)) == (2, [3, 3], 2)
    assert isinstance(odd.wide, int) and isinstance(odd.ratio, float)
    assert module.REST.decode(b"\1\0\0\0").size == 1
    assert module.EMPTY.size == 0
    assert module.LINK.decode(b"\1\0\0\0\2\0\0\0")["class"] == 2


def test_the_package_it_imports_from(object_file: Path, folder: Path) -> None:
    for package in (".vendor.libbpf_ctypes", "tool._bpf", "..x"):
        text = write(object_file, folder / "other.py", f"--package={package}").text
        imported = re.findall(r"^from (\S+) import", text, re.M)
        assert imported[-2:] == [package, f"{package}.skeleton"]
        assert "libbpf_ctypes" not in text.replace(package, "")


@pytest.mark.parametrize("package", ["", ".", "a..b", "a.b.", "a b", "class", "a.if", "é", "a;b"])
def test_a_package_that_is_none(package: str, object_file: Path) -> None:
    done = run_tool("skeleton", object_file, f"--package={package}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--package takes a package's name" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", BAD)
def test_bad_objects(what: str, tmp_path: Path, compile_bpf: Compile) -> None:
    make, told = BAD[what]
    done = run_tool("skeleton", make(tmp_path, compile_bpf))
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_newer_than_this(compile_bpf: Compile, folder: Path) -> None:
    source = """
struct { int (*type)[999]; int (*max_entries)[1]; int *key; int *value; }
newer __attribute__((section(".maps"), used));
__attribute__((section("no_such_section/x"), used)) int probe(void *c) { return c == 0; }
"""
    module: Any = load(write(compile_bpf(source, name="new.o"), folder / "newer.py").path)
    with module.New.open() as skel:
        assert skel.maps.newer.type == 999
        assert skel.programs.probe.section == "no_such_section/x"
        assert vars(skel.links) == {"probe": None}


def test_an_object_without_btf(bare_file: Path, folder: Path) -> None:
    module: Any = load(write(bare_file, folder / "bare_loaded.py").path)
    with module.Record.open() as skel:
        assert skel.programs.probe.name == "probe"
        assert not vars(skel.maps)


#: Names that would end a literal, a line or a comment, or be code.
EVIL = [
    b"\"]; open('evil','w') #..",
    b'\']; open("evil","w") #..',
    b"\n        open('evil','w')#",
    b'"""\nopen("evil","w")\n"""',
    b"\\\"+open('evil','w')or\"..",
    b"\r\nopen('evil','w')\r\n....",
    b"\x0copen('evil','w')#\x1b[31m.",
    "]\u2028open('evil','w')\xe9..".encode(),
    b"\xff\xfe{open('evil','w')}!!!",
]


@pytest.mark.parametrize("evil", EVIL)
def test_names_never_become_code(
    evil: bytes, compile_bpf: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {kind: f"evil_{kind}".ljust(24, "x") for kind in ("p", "m", "v", "s", "f", "e")}
    source = """
struct S { int F; enum { E } kind; }; const struct S *const layout = 0; int V = 1;
struct { int (*type)[2]; int *key; struct S *value; int (*max_entries)[1]; }
M __attribute__((section(".maps"), used));
__attribute__((section("kprobe"), used)) int P(void *c) { return c == 0 && V; }
"""
    for kind, name in names.items():
        source = re.sub(rf"\b{kind.upper()}\b", name, source)
    content = compile_bpf(source).read_bytes()
    evil = evil[:23].ljust(23, b".")
    for kind, name in names.items():
        content = content.replace(name.encode(), evil + kind.encode())
    monkeypatch.chdir(tmp_path)
    file = '"""\nopen("evil")\n.bpf.o'
    with BpfObject.open(content, name='"""') as obj:
        assert any("evil" in name for name in (*obj.programs, *obj.maps, *obj.variables))
        text = skeleton_source(obj, file, "libbpf_ctypes")
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)}
    assert not {call for call in calls if "open" in call}
    (tmp_path / "hostile.py").write_text(text, encoding="utf-8")
    module: Any = load(tmp_path / "hostile.py")
    skeleton = next(v for v in vars(module).values() if isinstance(v, type) and v is not Skeleton
                    and issubclass(v, Skeleton))  # fmt: skip
    with skeleton.open() as skel:
        assert skel.content() == content
        assert len(vars(skel.programs)) == 1
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"hostile.py"}


#: Of an object with one byte changed, each in a process of its own: what libbpf opens.
DAMAGED = """
import ast, itertools, json, pathlib, sys
from libbpf_ctypes import BpfError, BpfObject
from libbpf_ctypes.skeleton_source import skeleton_source
from tests.library import damaged

def write(data):
    try:
        with BpfObject.open(data) as obj:
            ast.parse(skeleton_source(obj, "damaged.bpf.o", "libbpf_ctypes"))
    except BpfError as error:
        return "refused" if str(error) else "refused without a word"
    except BaseException as error:
        return repr(error)
    return "written"

whole = pathlib.Path(sys.argv[1]).read_bytes()
variants = [data for _, data in itertools.islice(damaged.corrupted(whole), 150)]
opened = [data for data in variants if damaged.outcome(damaged.use, data) == "opened"]
print(json.dumps([damaged.outcome(write, data) for data in opened]))
"""


def test_damaged_objects(object_file: Path) -> None:
    done = run_python(DAMAGED, object_file)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) > 50
    assert set(outcomes) <= {"written", "refused"}
    assert "written" in outcomes


def test_what_is_wrong_with_the_words(object_file: Path) -> None:
    cases: list[tuple[list[str | Path], str]] = [
        ([], "skeleton needs the name of an object file"),
        ([object_file, "struct"], "skeleton takes one object file"),
        ([object_file, "-d", "5"], "skeleton takes no option -d"),
    ]
    for words, told in cases:
        done = run_tool("skeleton", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
