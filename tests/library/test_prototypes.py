"""The prototypes against libbpf's own headers and symbol versions."""

from __future__ import annotations

import ctypes
import re
import subprocess
from enum import IntEnum

import pytest

from libbpf_ctypes import _ffi, enums, library_path
from libbpf_ctypes._ffi import PROTOTYPES, Prototype

from ..conftest import need
from .headers import Headers, disagreements, struct_name

OPTS = [_ffi.OpenOpts, _ffi.KprobeOpts, _ffi.UprobeOpts, _ffi.PerfBufferOpts]

#: Fields that libbpf has only since a later version than the headers may be of.
LATER = {"attach_mode": "1.2", "sample_period": "1.2"}


@pytest.fixture(scope="module")
def headers() -> Headers:
    return Headers()


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    """The version that each of libbpf's exported functions came with."""
    path = library_path()
    done = subprocess.run(
        [need("readelf"), "--dyn-syms", "--wide", path], capture_output=True, text=True, check=True
    )
    found = re.findall(r" (\w+)@@LIBBPF_([0-9.]+)", done.stdout)
    # 0.6.0 is called 0.6, but 0.0.6 is 0.0.6.
    return {
        name: version[:-2] if version.count(".") == 2 and version.endswith(".0") else version
        for name, version in found
    }


def assert_compiles(lines: list[str]) -> None:
    """Fails, with clang's words, if one of these C lines is wrong."""
    source = "#include <stddef.h>\n#include <linux/bpf.h>\n#include <bpf/libbpf.h>\n"
    command = [need("clang"), "-x", "c", "-fsyntax-only", "-"]
    text = source + "\n".join(lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototype_is_as_declared(name: str, headers: Headers) -> None:
    assert disagreements(PROTOTYPES[name], headers) == []


@pytest.mark.parametrize("name", PROTOTYPES)
def test_version_is_that_of_the_symbol(name: str, versions: dict[str, str]) -> None:
    assert PROTOTYPES[name].since == versions[name]


@pytest.mark.parametrize("name", PROTOTYPES)
def test_function_is_exported(name: str) -> None:
    assert getattr(_ffi.lib, name).argtypes == PROTOTYPES[name].arguments


OPEN = PROTOTYPES["bpf_object__open_mem"]
ATTACH = PROTOTYPES["bpf_program__attach_kprobe"]
OPTIONS = PROTOTYPES["bpf_program__attach_kprobe_opts"]
SIZE = PROTOTYPES["bpf_map__key_size"]
CLOSE = PROTOTYPES["bpf_object__close"]
P = _ffi.BpfProgramP


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (OPEN._replace(arguments=OPEN.arguments[:2]), "2 parameters, not 3"),
        (OPEN._replace(arguments=(*OPEN.arguments, ctypes.c_int)), "4 parameters, not 3"),
        (OPEN._replace(result=_ffi.BpfMapP), "result"),
        (OPEN._replace(result=ctypes.c_void_p), "result"),
        (OPEN._replace(result=ctypes.c_int), "result"),
        (OPEN._replace(result=None), "result"),
        (ATTACH._replace(arguments=(P, ctypes.c_int, ctypes.c_char_p)), "parameter 2"),
        (ATTACH._replace(arguments=(_ffi.BpfLinkP, *ATTACH.arguments[1:])), "parameter 1"),
        (ATTACH._replace(arguments=(P, ctypes.c_bool, ctypes.c_uint64)), "parameter 3"),
        (ATTACH._replace(arguments=(P, ctypes.c_bool, P)), "parameter 3"),
        (
            OPTIONS._replace(arguments=(P, ctypes.c_char_p, ctypes.POINTER(_ffi.UprobeOpts))),
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


@pytest.mark.parametrize("structure", OPTS, ids=struct_name)
def test_opts_are_laid_out_as_declared(structure: type[ctypes.Structure], headers: Headers) -> None:
    name = struct_name(structure)
    declared = headers.structs[name]
    ours = [field[0] for field in structure._fields_]
    missing = [field for field in ours if field not in declared]
    assert set(missing) <= set(LATER)
    known = [field for field in ours if field not in missing]
    assert declared[: len(known)] == known, "the first fields, in the order of the header"
    assert ours == known + missing
    lines = []
    for field in known:
        layout = getattr(structure, field)
        member = f"((struct {name} *)0)->{field}"
        lines += [
            f"_Static_assert(offsetof(struct {name}, {field}) == {layout.offset}, {field!r});",
            f"_Static_assert(sizeof({member}) == {layout.size}, {field!r});",
        ]
    assert_compiles([line.replace("'", '"') for line in lines])


def test_perf_event_attr_is_laid_out_as_it_was_first() -> None:
    attr = _ffi.PerfEventAttr
    lines = ["#include <linux/perf_event.h>"]
    for field, *_ in attr._fields_:
        if field != "flags":  # bit-fields in C, between read_format and wakeup_events
            offset = getattr(attr, field).offset
            lines.append(
                f"_Static_assert(offsetof(struct perf_event_attr, {field}) == {offset}, #);"
            )
    lines.append(f"_Static_assert(PERF_ATTR_SIZE_VER0 == {ctypes.sizeof(attr)}, #);")
    assert_compiles([line.replace("#)", '"")') for line in lines])


def test_a_wrong_layout_is_refused() -> None:
    line = '_Static_assert(offsetof(struct bpf_kprobe_opts, offset) == 4, "offset");'
    with pytest.raises(AssertionError, match=r"static_assert|static assertion"):
        assert_compiles([line])


@pytest.mark.parametrize("structure", OPTS, ids=struct_name)
def test_opts_say_their_own_size(structure: type[ctypes.Structure]) -> None:
    made = structure()
    assert made.sz == ctypes.sizeof(structure)
    assert bytes(made)[ctypes.sizeof(ctypes.c_size_t) :].strip(b"\0") == b""


@pytest.mark.parametrize(
    ("enumeration", "declared", "prefix"),
    [
        (enums.ProgramType, "bpf_prog_type", "BPF_PROG_TYPE_"),
        (enums.MapType, "bpf_map_type", "BPF_MAP_TYPE_"),
    ],
)
def test_enumerations_are_the_kernels(
    enumeration: type[IntEnum], declared: str, prefix: str, headers: Headers
) -> None:
    there = set(headers.enums[declared])
    ours = {f"{prefix}{member.name}": member.value for member in enumeration}
    common = {name: value for name, value in ours.items() if name in there}
    assert len(common) >= 30
    assert_compiles([f'_Static_assert({n} == {v}, "{n}");' for n, v in common.items()])
    # What this header lacks came after its last one.
    newest = max(common.values())
    assert all(value > newest for name, value in ours.items() if name not in there)
    assert sorted(ours.values()) == list(range(len(ours)))


@pytest.mark.parametrize("enumeration", [enums.ProgramType, enums.MapType])
def test_values_of_newer_kernels_are_tolerated(enumeration: type[IntEnum]) -> None:
    newer = enumeration(4000)
    assert newer == 4000
    assert newer.name == "UNKNOWN_4000"
    assert isinstance(newer, enumeration)
    assert newer not in list(enumeration)
    with pytest.raises(ValueError, match="name"):
        enumeration("name")  # type: ignore[arg-type]
