"""libbpf's interface in _libbpf.py against headers, compiler and library: all of it is there."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes import (
    BpfError,
    LibraryError,
    _ffi,
    _types,
    enums,
    library_path,
    library_version,
    raw,
)
from libbpf_ctypes._ffi import Prototype, prototype
from libbpf_ctypes._libbpf import CALLBACKS, CONSTANTS, ENUMS, FUNCTIONS, STRUCTS, VERSION
from libbpf_ctypes._types import Opts, pointer_class, struct_class

from ..conftest import need
from .headers import INCLUDES, Headers, disagreements

ROOT = Path(__file__).parent.parent.parent
INSTALLED = Path("/usr/include")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The headers of Debian's newest libbpf."""
    folder = tmp_path_factory.mktemp("headers") / "libbpf-dev"
    command = [str(ROOT / "bin" / "debian-package"), "sid", "libbpf-dev", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "usr" / "include"


@pytest.fixture(scope="module", params=["installed", "newest"])
def headers(request: pytest.FixtureRequest) -> Headers:
    if request.param == "newest":
        return Headers(request.getfixturevalue("newest"))
    return Headers(INSTALLED)


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def version_of(headers: Headers) -> str:
    text = (headers.folder / "bpf" / "libbpf_version.h").read_text(encoding="utf-8")
    return ".".join(re.findall(r"_VERSION (\d+)", text))


def errors_of(headers: Headers, lines: list[str]) -> list[str]:
    """clang's errors for these lines of C behind libbpf's headers."""
    command = [need("clang"), "-x", "c", "-I", str(headers.folder), "-ferror-limit=0"]
    done = subprocess.run(
        [*command, "-fsyntax-only", "-"],
        input=INCLUDES + "\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    return re.findall(r"error: (.*)", done.stderr)


def exported(path: str) -> dict[str, str]:
    """The version that each function came with which a library exports."""
    command = [need("readelf"), "--dyn-syms", "--wide", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.findall(r" FUNC +GLOBAL +\S+ +\d+ (\w+)@@LIBBPF_([0-9.]+)", done.stdout)
    # 0.6.0 is called 0.6, but 0.0.6 is 0.0.6.
    return {
        name: version[:-2]
        if re.fullmatch(r"(\d+\.[1-9]\d*|[1-9]\d*\.\d+)\.0", version)
        else version
        for name, version in found
    }


def test_every_function_is_as_declared(headers: Headers) -> None:
    newer = number(version_of(headers)) > number(VERSION)
    missing = [name for name in headers.functions if name not in FUNCTIONS]
    # Declared by mistake: no version of the library has them.
    assert newer or set(missing) <= {"libbpf_set_memlock_rlim", "btf__new_split"}, missing
    there = [name for name in FUNCTIONS if headers.function(name) is not None]
    assert len(there) >= 300
    wrong = {name: found for name in there if (found := disagreements(prototype(name), headers))}
    assert wrong == {}
    last = number(version_of(headers))
    absent = [n for n in FUNCTIONS if n not in there and number(FUNCTIONS[n][0]) <= last]
    assert absent == []


def test_every_symbol_of_the_library_is_there_with_its_version() -> None:
    assert len(FUNCTIONS) >= 340
    assert {n: v for n, v in exported(library_path()).items() if n not in FUNCTIONS} == {}
    there = exported(library_path())
    assert {name: FUNCTIONS[name][0] for name in there} == there


def test_every_function_of_the_library_binds() -> None:
    for name in exported(library_path()):
        assert getattr(_ffi.lib, name).argtypes == prototype(name).arguments


def test_newer_symbols_are_there_with_their_versions(newer_libbpf: str) -> None:
    there = exported(newer_libbpf)
    assert len(there) >= 330
    assert there.pop("libbpf_set_memlock_rlim") == "0.7"  # declared since, exported since 1.4
    assert {name: FUNCTIONS[name][0] for name in there} == there


def fields(kind: Any, before: str = "", start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Of each field of a struct, those of structs inside too: path, offset, size; no bit-fields."""
    for name, type_, *width in kind._fields_:
        if width:
            continue
        at = start + getattr(kind, name).offset
        if name in getattr(kind, "_anonymous_", ()):
            yield from fields(type_, before, at)
            continue
        yield before + name, at, ctypes.sizeof(type_)
        if issubclass(type_, (ctypes.Structure, ctypes.Union)) and "__" in type_.__name__:
            yield from fields(type_, f"{before}{name}.", at)


#: What stands for the end of an enumeration, and moves when something is added.
MOVING = {
    "BPF_TCP_MAX_STATES",
    "MAX_BPF_ATTACH_TYPE",
    "MAX_BPF_LINK_TYPE",
    "__BPF_FUNC_MAX_ID",
    "__MAX_BPF_ATTACH_TYPE",
    "__MAX_BPF_LINK_TYPE",
    "__MAX_BPF_MAP_TYPE",
    "__MAX_BPF_PROG_TYPE",
}

#: The structs that C has a name for, not those inside of others.
NAMED = [name for name in STRUCTS if not re.search(r"__\d+$", name)]


def test_every_struct_is_laid_out_as_the_compiler_does(headers: Headers) -> None:
    same = version_of(headers) == VERSION
    lines, checked = [], 0
    for name in NAMED:
        if name not in headers.structs:
            assert not same, f"struct {name} is in no header"
            continue
        kind, made = STRUCTS[name][0], struct_class(name)
        ours = list(fields(made))
        known = [field for field in ours if field[0] in headers.structs[name]]
        unknown = [path for path, _, _ in ours if path not in headers.structs[name]]
        for path, offset, size in known:
            what = f'"{name}.{path}");'
            lines.append(f"_Static_assert(offsetof({kind} {name}, {path}) == {offset}, {what}")
            if not any(newer.startswith(f"{path}.") for newer in unknown):
                member = f"(({kind} {name} *)0)->{path}"
                lines.append(f"_Static_assert(sizeof({member}) == {size}, {what}")
        checked += len(known)
        if len(known) == len(ours):
            size = ctypes.sizeof(made)
            lines.append(f'_Static_assert(sizeof({kind} {name}) == {size}, "{name}");')
        elif kind == "struct" and name in headers.own:
            assert not same, f"{name} has {unknown}, which its header has not"
            if not made.__dict__.get("_anonymous_"):
                assert ours[: len(known)] == known, f"{name}: what is newer comes last"
    assert errors_of(headers, lines) == []
    assert checked >= 300


def test_no_struct_and_no_field_is_missing(headers: Headers) -> None:
    if number(version_of(headers)) > number(VERSION):
        pytest.skip(f"libbpf {version_of(headers)} is out: run bin/generate-prototypes")
    missing = [n for n in headers.own if n in headers.structs and n not in STRUCTS]
    assert missing == []
    for name in NAMED:
        made = struct_class(name)
        ours = {path for path, _, _ in fields(made)} | {f[0] for f in made._fields_}
        theirs = {path for path in headers.structs.get(name, []) if "__reserved" not in path}
        assert theirs - ours == set(), name


def test_every_enumerator_has_its_value(headers: Headers) -> None:
    newer = number(version_of(headers)) > number(VERSION)
    values = dict(CONSTANTS)
    for name, constants in ENUMS.items():
        values.update(constants)
        assert newer or set(headers.enums.get(name, [])) - MOVING <= set(constants), name
    missing = [n for n in headers.own if n in headers.enums and n not in ENUMS]
    assert missing == []
    there = {constant for constants in headers.enums.values() for constant in constants}
    common = {name: value for name, value in values.items() if name in there - MOVING}
    assert len(common) >= 500
    lines = [f'_Static_assert((__u64){n} == {v % 2**64}ULL, "{n}");' for n, v in common.items()]
    assert errors_of(headers, lines) == []


def test_what_is_missing_is_told(headers: Headers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above do fail."""
    monkeypatch.delitem(FUNCTIONS, "bpf_map__fd")
    with pytest.raises(AssertionError):
        test_every_function_is_as_declared(headers)
    monkeypatch.setitem(STRUCTS, "btf_dump_opts", ("struct", "u32 sz"))
    monkeypatch.delitem(_types._made, "btf_dump_opts", raising=False)
    with pytest.raises(AssertionError):
        test_every_struct_is_laid_out_as_the_compiler_does(headers)
    monkeypatch.delitem(STRUCTS, "btf_dump_opts")
    with pytest.raises(AssertionError):
        test_no_struct_and_no_field_is_missing(headers)
    monkeypatch.setitem(ENUMS["libbpf_tristate"], "TRI_YES", 2)
    with pytest.raises(AssertionError):
        test_every_enumerator_has_its_value(headers)


P = pointer_class("bpf_program")
OPEN = prototype("bpf_object__open_mem")
ATTACH = prototype("bpf_program__attach_kprobe")
OPTIONS = prototype("bpf_program__attach_kprobe_opts")
SIZE = prototype("bpf_map__key_size")
CLOSE = prototype("bpf_object__close")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (OPEN._replace(arguments=OPEN.arguments[:2]), "2 parameters, not 3"),
        (OPEN._replace(arguments=(*OPEN.arguments, ctypes.c_int)), "4 parameters, not 3"),
        (OPEN._replace(result=pointer_class("bpf_map")), "result"),
        (OPEN._replace(result=ctypes.c_void_p), "result"),
        (OPEN._replace(result=ctypes.c_int), "result"),
        (OPEN._replace(result=None), "result"),
        (ATTACH._replace(arguments=(P, ctypes.c_int, ctypes.c_char_p)), "parameter 2"),
        (
            ATTACH._replace(arguments=(pointer_class("bpf_link"), *ATTACH.arguments[1:])),
            "parameter 1",
        ),
        (ATTACH._replace(arguments=(P, ctypes.c_bool, ctypes.c_uint64)), "parameter 3"),
        (ATTACH._replace(arguments=(P, ctypes.c_bool, P)), "parameter 3"),
        (
            OPTIONS._replace(
                arguments=(P, ctypes.c_char_p, ctypes.POINTER(struct_class("bpf_uprobe_opts")))
            ),
            "parameter 3",
        ),
        (SIZE._replace(result=ctypes.c_int32), "result"),
        (SIZE._replace(result=ctypes.c_uint64), "result"),
        (CLOSE._replace(result=ctypes.c_int), "result"),
        (CLOSE._replace(name="bpf_object__shut"), "is not declared"),
    ],
)
def test_a_wrong_prototype_is_refused(wrong: Prototype, told: str, headers: Headers) -> None:
    found = disagreements(wrong, headers)
    assert len(found) == 1
    assert told in found[0]


def test_a_wrong_layout_is_refused(headers: Headers) -> None:
    line = '_Static_assert(offsetof(struct bpf_kprobe_opts, offset) == 4, "offset");'
    assert len(errors_of(headers, [line])) == 1


def test_opts_say_their_own_size() -> None:
    opts = [
        name for name, (_, fields) in STRUCTS.items() if fields.partition(",")[0] == "size_t sz"
    ]
    assert len(opts) >= 45
    for name in opts:
        made = struct_class(name)()
        assert isinstance(made, Opts)
        assert made.sz == ctypes.sizeof(made), name
        assert bytes(made)[ctypes.sizeof(ctypes.c_size_t) :].strip(b"\0") == b"", name


def test_options_that_would_never_reach_libbpf_are_refused() -> None:
    """ctypes takes any attribute of a Structure, and cuts numbers to their fields' size."""
    assert raw.bpf_map_create_opts(map_flags=2**32 - 1, map_extra=2**64 - 1).map_flags == 2**32 - 1
    with pytest.raises(AttributeError, match="map_flag"):
        raw.bpf_map_create_opts(map_flag=1)
    opts = raw.bpf_map_create_opts()
    with pytest.raises(AttributeError, match="map_flag"):
        opts.map_flag = 1
    with pytest.raises(AttributeError, match="tstamp"):
        raw.bpf_insn(tstamp=1)
    for wrong in (-1, 1 << 32):
        with pytest.raises(OverflowError, match=f"map_flags is out of range: {wrong}"):
            raw.bpf_map_create_opts(map_flags=wrong)


def test_raw_has_all_by_name() -> None:
    for name in dir(raw):
        if name not in FUNCTIONS or number(FUNCTIONS[name][0]) <= number(library_version()):
            assert getattr(raw, name) is not None
    assert raw.BPF_MAP_TYPE_HASH == 1
    assert raw.bpf_map_type.BPF_MAP_TYPE_HASH == 1
    assert raw.BPF_ANY == 0
    assert raw.since("bpf_map__lookup_elem") == "0.8"
    hidden = {name for name in STRUCTS if name in {*FUNCTIONS, *ENUMS, *CALLBACKS}}
    assert {f"struct_{name}" for name in hidden} == {
        n for n in dir(raw) if n.startswith("struct_bpf_")
    }
    assert raw.struct_bpf_prog_query_opts(prog_cnt=1).prog_cnt == 1
    with pytest.raises(AttributeError, match=f"libbpf {VERSION} has nothing of the name bpf_no"):
        _ = raw.bpf_no


def test_raw_functions_raise_their_errors() -> None:
    with pytest.raises(BpfError) as told:
        raw.bpf_object__open(b"/nonexistent")
    assert told.value.errno == 2
    assert not raw.bpf_object()
    with pytest.raises(BpfError) as told:
        raw.bpf_obj_get(b"/nonexistent")
    assert told.value.errno == 2
    assert raw.libbpf_bpf_map_type_str(raw.BPF_MAP_TYPE_HASH) == b"hash"
    assert raw.libbpf_bpf_map_type_str(9999) is None


def test_a_function_that_the_library_lacks_is_told_with_versions() -> None:
    last = number(library_version())
    lacking = [name for name in FUNCTIONS if number(FUNCTIONS[name][0]) > last]
    if not lacking:
        pytest.fail("the installed libbpf is the newest: this test needs an older one")
    for name in lacking:
        with pytest.raises(LibraryError) as told:
            getattr(raw, name)
        message = str(told.value)
        assert f"needs libbpf {FUNCTIONS[name][0]}; {library_path()}" in message
        assert f"is libbpf {library_version()}" in message
        assert f"Install libbpf {FUNCTIONS[name][0]} or newer" in message


@pytest.mark.parametrize(
    ("enumeration", "declared", "prefix"),
    [
        (enums.ProgramType, "bpf_prog_type", "BPF_PROG_TYPE_"),
        (enums.MapType, "bpf_map_type", "BPF_MAP_TYPE_"),
        (enums.AttachType, "bpf_attach_type", "BPF_"),
        (enums.LinkType, "bpf_link_type", "BPF_LINK_TYPE_"),
    ],
)
def test_enumerations_are_the_kernels(
    enumeration: type[IntEnum], declared: str, prefix: str
) -> None:
    theirs = {n: v for n, v in ENUMS[declared].items() if not n.startswith("__")}
    ours = {f"{prefix}{member.name}": member.value for member in enumeration}
    assert ours.items() <= theirs.items()
    assert set(theirs.values()) == set(ours.values())


@pytest.mark.parametrize("enumeration", [enums.ProgramType, enums.MapType])
def test_values_of_newer_kernels_are_tolerated(enumeration: type[IntEnum]) -> None:
    newer = enumeration(4000)
    assert newer == 4000
    assert newer.name == "UNKNOWN_4000"
    assert isinstance(newer, enumeration)
    assert newer not in list(enumeration)
    with pytest.raises(ValueError, match="name"):
        enumeration("name")  # type: ignore[arg-type]
