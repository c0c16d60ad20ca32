"""Objects that are opened: their parts, and what is refused before and after."""

from __future__ import annotations

import gc
import os
import platform
import warnings
from pathlib import Path

import pytest

from libbpf_ctypes import KPROBE_OBJECT, BpfError, BpfObject, ClosedError, NotFoundError, PerfBuffer
from libbpf_ctypes.btf import Kind
from libbpf_ctypes.enums import MapType, ProgramType

from ..conftest import Compile
from ..pure.helpers import PACKAGE

SHIPPED = sorted(PACKAGE.glob("data/*/kprobe.bpf.o"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("how", ["path", "text", "bytes"])
def test_the_shipped_objects(path: Path, how: str) -> None:
    sources: dict[str, str | Path | bytes]
    sources = {"path": path, "text": str(path), "bytes": path.read_bytes()}
    source = sources[how]
    with BpfObject.open(source) as obj:
        loaded = [program.name for program in obj.programs.values() if program.autoload]
        assert loaded == ["syscall_kprobe"]
        assert {"call_kprobe", "return_kprobe_multi", "count_tracepoint"} <= set(obj.programs)
        program = obj.programs["syscall_kprobe"]
        assert (program.name, program.section) == ("syscall_kprobe", "kprobe")
        assert program.type is ProgramType.KPROBE
        assert repr(program) == "<Program syscall_kprobe (KPROBE)>"
        assert {"EVENTS", "COUNTERS"} <= set(obj.maps)
        events, counters = obj.maps["EVENTS"], obj.maps["COUNTERS"]
        assert events.type is MapType.PERF_EVENT_ARRAY
        assert (events.key_size, events.value_size) == (4, 4)
        assert counters.type is MapType.PERCPU_ARRAY
        assert (counters.key_size, counters.value_size, counters.max_entries) == (4, 72, 1)
        assert {"target_pid", "tracer_pid", "machine"} <= set(obj.variables)
        assert obj.variables["target_pid"].value == 0
        assert obj.variables["machine"].value == path.parent.name.encode() + b"\0"
        assert not obj.loaded
        assert "(open)" in repr(obj)
    assert "(closed)" in repr(obj)


def test_both_machines_are_shipped() -> None:
    assert [path.parent.name for path in SHIPPED] == ["aarch64", "x86_64"]
    if platform.machine() in ("aarch64", "x86_64"):
        assert KPROBE_OBJECT in SHIPPED


def test_the_parts_are_mappings_in_the_objects_order() -> None:
    with BpfObject.open(SHIPPED[0]) as obj:
        assert len(obj.maps) == len(list(obj.maps))
        assert list(obj.maps.values()) == [obj.maps[name] for name in obj.maps]
        assert "EVENTS" in obj.maps
        assert "NOTHING" not in obj.maps
        assert obj.maps.get("NOTHING") is None
        assert "EVENTS" in repr(obj.maps)


def test_a_missing_name_lists_what_there_is() -> None:
    with BpfObject.open(SHIPPED[0]) as obj:
        with pytest.raises(NotFoundError, match=r"program probe.*It has: syscall_kprobe"):
            obj.programs["probe"]
        with pytest.raises(NotFoundError, match=r"map events.*It has: .*EVENTS"):
            obj.maps["events"]
        with pytest.raises(NotFoundError, match=r"variable pid.*target_pid"):
            obj.variables["pid"]
        with pytest.raises(KeyError):
            obj.maps["events"]


@pytest.mark.parametrize(
    "name", ["ä.o", b"\xff\xfe.o", ".o", "no dots", "many.dots.in.it", "x" * 200]
)
def test_any_file_name(name: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(SHIPPED[0].read_bytes())
    with BpfObject.open(path) as obj:
        assert obj.source == str(path)
        obj.variables["target_pid"].value = 5
        assert obj.variables["target_pid"].value == 5


def test_an_object_without_programs_and_one_without_btf(compile_bpf: Compile) -> None:
    with BpfObject.open(compile_bpf("int answer = 42;\n")) as obj:
        assert not obj.programs
        assert obj.variables["answer"].value == 42
        with pytest.raises(NotFoundError, match="It has: none"):
            obj.programs["probe"]
    program = """
__attribute__((section("kprobe"), used)) int probe(void *ctx) { return ctx == 0; }
int answer = 42;
"""
    with BpfObject.open(compile_bpf(program, debug=False)) as obj:
        assert list(obj.programs) == ["probe"]
        assert not obj.variables
        assert [m.type for m in obj.maps.values()] == [MapType.ARRAY]


def test_a_closed_object_refuses_every_use() -> None:
    obj = BpfObject.open(SHIPPED[0])
    program, events = obj.programs["syscall_kprobe"], obj.maps["EVENTS"]
    variable = obj.variables["target_pid"]
    obj.close()
    obj.close()  # does nothing
    assert obj.closed
    for use in (
        obj.load,
        lambda: program.name,
        lambda: program.attach_kprobe("vfs_read"),
        lambda: events.name,
        lambda: events.lookup(bytes(4)),
        lambda: PerfBuffer(events),
        lambda: variable.value,
        lambda: setattr(variable, "value", 1),
    ):
        with pytest.raises(ClosedError, match="it is closed"):
            use()
    assert repr(program) == "<Program of a closed object>"
    assert repr(events) == "<Map of a closed object>"
    assert variable.type.kind is Kind.INT, "known without the object"


def test_a_forked_child_may_not_use_it() -> None:
    with BpfObject.open(SHIPPED[0]) as obj:
        child = os.fork()
        if not child:
            status = 1
            try:
                obj.load()
            except ClosedError as error:
                status = 0 if "forked" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert obj.programs["syscall_kprobe"].name == "syscall_kprobe"


def test_a_forgotten_object_warns() -> None:
    obj = BpfObject.open(SHIPPED[0])
    with pytest.warns(ResourceWarning, match="unclosed <BpfObject"):
        del obj
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with BpfObject.open(SHIPPED[0]) as obj:
            pass
        del obj
        gc.collect()


def test_what_needs_a_loaded_object_says_so() -> None:
    with BpfObject.open(SHIPPED[0]) as obj:
        program = obj.programs["syscall_kprobe"]
        with pytest.raises(BpfError, match="attach kprobe to vfs_read: the object is not loaded"):
            program.attach_kprobe("vfs_read")
        with pytest.raises(BpfError, match=r"not loaded.*load\(\) first"):
            program.attach_uprobe("/bin/sh", offset=0x1000)
        for use in (
            lambda: obj.maps["COUNTERS"].fd,
            lambda: obj.maps["COUNTERS"].lookup(bytes(4)),
            lambda: obj.maps["COUNTERS"].lookup_percpu(bytes(4)),
            lambda: PerfBuffer(obj.maps["EVENTS"]),
        ):
            with pytest.raises(BpfError, match=r"not loaded.*load\(\) first"):
                use()


@pytest.mark.parametrize("function", ["", "vfs_read\0x"])
def test_names_that_no_function_has(function: str) -> None:
    with BpfObject.open(SHIPPED[0]) as obj, pytest.raises(BpfError, match="not a function name"):
        obj.programs["syscall_kprobe"].attach_kprobe(function)


def test_what_no_perf_buffer_can_read() -> None:
    with BpfObject.open(SHIPPED[0]) as obj:
        with pytest.raises(BpfError, match="of type PERCPU_ARRAY, not PERF_EVENT_ARRAY"):
            PerfBuffer(obj.maps["COUNTERS"])
        for pages in (0, -8, 3, 63):
            with pytest.raises(BpfError, match=f"{pages} pages are not a power of two"):
                PerfBuffer(obj.maps["EVENTS"], pages=pages)
        with pytest.raises(BpfError, match="not a per-CPU map"):
            obj.maps["EVENTS"].lookup_percpu(bytes(4))
