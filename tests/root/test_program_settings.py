"""What can be set on a program and its object between open and load, and what that does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from libbpf_ctypes import (
    AttachType,
    BpfError,
    BpfObject,
    ClosedError,
    LibraryError,
    ProgramType,
)

from ..conftest import Compile
from .conftest import has_libbpf

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile int verdict = 2;
__u64 runs = 0;

__attribute__((noinline)) int answer(struct xdp_md *ctx)
{
	volatile int chosen = verdict;

	return ctx ? chosen : XDP_ABORTED;
}

SEC("xdp")
int packet(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&runs, 1);
	return answer(ctx);
}

SEC("xdp")
int plain(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

SEC("xdp")
int refused(struct xdp_md *ctx)
{
	return *(int *)(long)ctx->data;
}

char LICENSE[] SEC("license") = "GPL";
"""
PACKET = bytes(64)
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
#: r0 = VERDICT; exit
RETURN = {n: bytes([0xB7, 0, 0, 0, n, 0, 0, 0, 0x95]) + bytes(7) for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def path(compile_bpf: Compile) -> Path:
    return compile_bpf(SOURCE, name="settings.bpf.o")


@pytest.fixture
def obj(path: Path) -> Iterator[BpfObject]:
    """The object, opened; the program that the verifier refuses is not to be loaded."""
    with BpfObject.open(path) as opened:
        opened.programs["refused"].autoload = False
        yield opened


def test_what_the_file_says(path: Path) -> None:
    with BpfObject.open(path) as obj:
        program = obj.programs["plain"]
        assert (program.name, program.section) == ("plain", "xdp")
        assert program.type is ProgramType.XDP
        assert program.expected_attach_type is AttachType.XDP
        assert (program.flags, program.log_level, program.log_size, program.log) == (0, 0, 0, "")
        assert program.autoload
        assert program.autoattach
        assert program.instructions == RETURN[XDP_DROP]


def test_a_program_without_autoload_stays_out(obj: BpfObject) -> None:
    assert not obj.programs["refused"].autoload
    obj.load()
    with pytest.raises(BpfError, match=r"not loaded.*autoload is off") as caught:
        _ = obj.programs["refused"].fd
    assert caught.value.errno == errno.EBADF
    assert obj.programs["packet"].fd > 0


def test_nothing_has_a_descriptor_before_load(obj: BpfObject) -> None:
    with pytest.raises(BpfError, match=r"Call the object's load\(\) first"):
        _ = obj.programs["plain"].fd
    with pytest.raises(BpfError, match="not loaded"):
        obj.programs["plain"].test_run(PACKET)


def test_another_type_and_attach_type(obj: BpfObject) -> None:
    """As a socket filter the same instructions drop all but one byte."""
    program = obj.programs["plain"]
    program.type = ProgramType.CGROUP_SKB
    program.expected_attach_type = AttachType.CGROUP_INET_EGRESS
    obj.load()
    assert program.info.type is ProgramType.CGROUP_SKB
    assert program.expected_attach_type is AttachType.CGROUP_INET_EGRESS


def test_autoattach_and_flags(obj: BpfObject) -> None:
    program = obj.programs["plain"]
    program.autoattach = False
    assert not program.autoattach
    program.flags = 1 << 5  # BPF_F_XDP_HAS_FRAGS, Linux 5.18
    assert program.flags == 1 << 5
    obj.load()
    program.autoattach = True
    assert program.autoattach


def test_an_unknown_flag_is_the_kernels_to_refuse(obj: BpfObject) -> None:
    obj.programs["plain"].flags = 1 << 31
    with pytest.raises(BpfError, match="EINVAL"):
        obj.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", -1),
        ("flags", 1 << 32),
        ("log_level", -1),
        ("log_size", -1),
        ("log_size", 1 << 30),
        ("type", 1 << 32),
    ],
)
def test_numbers_out_of_range_are_not_cut(obj: BpfObject, name: str, value: int) -> None:
    program = obj.programs["plain"]
    before = getattr(program, name)
    with pytest.raises(BpfError, match=str(value)) as caught:
        setattr(program, name, value)
    assert caught.value.errno == errno.ERANGE
    assert getattr(program, name) == before


SETTINGS: list[tuple[str, Callable[[Any], object]]] = [
    ("autoload", lambda program: setattr(program, "autoload", False)),
    ("type", lambda program: setattr(program, "type", ProgramType.KPROBE)),
    ("expected attach type", lambda program: setattr(program, "expected_attach_type", 0)),
    ("flags", lambda program: setattr(program, "flags", 0)),
    ("log level", lambda program: setattr(program, "log_level", 1)),
    ("log size", lambda program: setattr(program, "log_size", 100)),
    ("instructions", lambda program: setattr(program, "instructions", RETURN[1])),
    ("ifindex", lambda program: program.set_ifindex(1)),
    ("attach target", lambda program: program.set_attach_target("vfs_read")),
]


@pytest.mark.parametrize(("what", "change"), SETTINGS)
def test_settings_after_load_and_after_close(
    obj: BpfObject, what: str, change: Callable[[Any], object]
) -> None:
    program = obj.programs["plain"]
    obj.load()
    with pytest.raises(BpfError, match=f"set {what} of program plain: .*loaded already") as caught:
        change(program)
    assert caught.value.errno == errno.EBUSY
    obj.close()
    with pytest.raises(ClosedError, match="it is closed"):
        change(program)


def test_the_verifiers_log_in_a_buffer_of_the_program(obj: BpfObject) -> None:
    program = obj.programs["plain"]
    program.log_size = 100_000
    program.log_level = 2
    assert (program.log_size, program.log_level, program.log) == (100_000, 2, "")
    obj.load()
    assert "exit" in program.log
    assert "processed 2 insns" in program.log
    assert obj.programs["packet"].log == ""


def test_a_refusal_is_in_the_programs_log_and_in_the_errors(path: Path) -> None:
    with BpfObject.open(path) as obj:
        program = obj.programs["refused"]
        program.log_size = 100_000
        with pytest.raises(BpfError) as caught:
            obj.load()
        assert "processed" in program.log
        assert program.log in caught.value.log
        assert "verifier refused" in caught.value.hint
        with pytest.raises(BpfError, match=r"an earlier load failed.*Open the object again"):
            obj.load()


def test_variables_after_a_failed_load(path: Path) -> None:
    """libbpf 1.5 has made the constants' memory read-only by then: a write would crash."""
    with BpfObject.open(path) as obj:
        with pytest.raises(BpfError):
            obj.load()
        assert obj.variables["verdict"].value == 2
        with pytest.raises(BpfError, match="it is a constant") as caught:
            obj.variables["verdict"].value = 1
        assert caught.value.errno == errno.EBUSY
        obj.variables["runs"].value = 7
        assert obj.variables["runs"].value == 7


def test_a_log_that_does_not_fit(obj: BpfObject) -> None:
    """The kernel refuses then; the log is cut, and within its buffer."""
    program = obj.programs["packet"]
    program.log_size = 200
    program.log_level = 2
    with pytest.raises(BpfError) as caught:
        obj.load()
    assert caught.value.errno == errno.ENOSPC
    assert 0 < len(program.log) < 200


def test_a_log_level_for_all_programs(path: Path) -> None:
    with BpfObject.open(path, kernel_log_level=4) as obj:
        assert obj.programs["plain"].log_level == 4


def test_other_instructions(obj: BpfObject) -> None:
    program = obj.programs["plain"]
    program.instructions = RETURN[XDP_TX]
    assert program.instructions == RETURN[XDP_TX]
    obj.load()
    assert program.test_run(PACKET).retval == XDP_TX


@pytest.mark.parametrize("instructions", [b"", bytes(7), RETURN[1][:8], RETURN[1] * 2])
def test_instructions_of_another_length_are_refused(obj: BpfObject, instructions: bytes) -> None:
    program = obj.programs["plain"]
    with pytest.raises(BpfError, match=f"{len(instructions)} bytes") as caught:
        program.instructions = instructions
    assert caught.value.errno == errno.EINVAL
    assert program.instructions == RETURN[XDP_DROP]


def test_instructions_after_load_have_their_functions(obj: BpfObject) -> None:
    before = len(obj.programs["packet"].instructions)
    obj.load()
    assert len(obj.programs["packet"].instructions) > before  # answer() follows


def test_prepare(obj: BpfObject) -> None:
    """Maps are there, programs are not; then instructions may have any length."""
    program = obj.programs["plain"]
    if not has_libbpf("1.6"):
        with pytest.raises(LibraryError, match=r"needs libbpf 1\.6"):
            obj.prepare()
        obj.load()  # nothing was tried
        return
    obj.prepare()
    assert not obj.loaded
    with pytest.raises(BpfError, match="EALREADY"):
        obj.prepare()
    obj.variables["runs"].value = 7
    assert obj.variables["runs"].value == 7
    with pytest.raises(BpfError, match="it is a constant"):
        obj.variables["verdict"].value = XDP_DROP
    program.instructions = RETURN[XDP_TX][:8] + RETURN[XDP_PASS]
    obj.load()
    assert program.test_run(PACKET).retval == XDP_PASS
    obj.programs["packet"].test_run(PACKET)
    assert obj.variables["runs"].value == 8


def test_functions_and_lines(obj: BpfObject) -> None:
    program = obj.programs["packet"]
    if not has_libbpf("1.6"):
        with pytest.raises(LibraryError, match=r"needs libbpf 1\.6"):
            _ = program.function_info
        with pytest.raises(LibraryError, match=r"needs libbpf 1\.6"):
            _ = program.line_info
        return
    obj.load()
    assert [info.offset > 0 for info in program.function_info] == [False, True]
    lines = program.line_info
    assert {Path(line.file).name for line in lines} == {"<stdin>"}
    texts = SOURCE.splitlines()
    shown = {(texts[line.line - 1].strip(), line.column) for line in lines}
    assert ("return answer(ctx);", len("\treturn a")) in shown
    assert lines[0].offset == 0 < lines[-1].offset
    program.unload()
    assert program.function_info == []
    assert program.line_info == []


def test_an_attach_target_that_is_not_there(obj: BpfObject) -> None:
    program = obj.programs["plain"]
    program.type = ProgramType.TRACING
    program.expected_attach_type = AttachType.TRACE_FENTRY
    program.set_attach_target("vfs_read")
    with pytest.raises(BpfError, match="set attach target of program plain") as caught:
        program.set_attach_target("no_such_function")
    assert caught.value.errno in (errno.ESRCH, errno.ENOENT)
    with pytest.raises(BpfError, match="not loaded"):
        program.set_attach_target("answer", obj.programs["packet"])


def test_an_attach_target_in_another_program(obj: BpfObject, path: Path) -> None:
    """Named and taken; whether the kernel then loads it is test_program_types.py's."""
    with BpfObject.open(path) as replacing:
        program = replacing.programs["plain"]
        program.type = ProgramType.EXT
        obj.load()
        program.set_attach_target("answer", obj.programs["packet"])
        with pytest.raises(BpfError, match="attach target") as caught:
            program.set_attach_target("no_such_function", obj.programs["packet"])
        assert caught.value.errno in (errno.ESRCH, errno.ENOENT)


def test_a_device_that_takes_no_programs(obj: BpfObject) -> None:
    obj.programs["plain"].set_ifindex(1)  # the loopback device
    with pytest.raises(BpfError, match="settings") as caught:
        obj.load()
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.EINVAL)  # Linux 6.18, before 6.3


def test_an_objects_name_and_kernel_version(path: Path) -> None:
    with BpfObject.open(path) as obj:
        assert obj.name == "settings"
    with BpfObject.open(path, name="other") as obj:
        assert obj.name == "other"
        assert any(name.startswith("other.") for name in obj.maps)
        assert obj.kversion > 0x040000
        obj.kversion = 0x060C00
        assert obj.kversion == 0x060C00
        obj.programs["refused"].autoload = False
        obj.load()
        with pytest.raises(BpfError, match="EBUSY"):
            obj.kversion = 1


KCONFIG = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int CONFIG_OF_THE_TEST __kconfig __weak;

SEC("syscall")
int configured(void *ctx __attribute__((unused)))
{
	return CONFIG_OF_THE_TEST;
}

char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("value", [42, -1])
def test_lines_of_a_kernels_configuration(value: int, compile_bpf: Compile) -> None:
    lines = f"CONFIG_OF_THE_TEST={value}\n"
    with BpfObject.open(compile_bpf(KCONFIG), kconfig=lines) as obj:
        obj.load()
        assert obj.programs["configured"].test_run().retval == value & 0xFFFFFFFF


RELOCATED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

SEC("raw_tp/sched_switch")
int relocated(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	int pid = 0;

	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	return pid;
}

char LICENSE[] SEC("license") = "GPL";
"""


def test_btf_of_the_kernel_in_a_file(compile_bpf: Compile, tmp_path: Path) -> None:
    path = compile_bpf(RELOCATED)
    copied, damaged = tmp_path / "copied.btf", tmp_path / "damaged.btf"
    copied.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    damaged.write_bytes(copied.read_bytes()[:-1])
    with BpfObject.open(path, btf_custom_path=copied) as obj:
        obj.load()
    with BpfObject.open(path, btf_custom_path=damaged) as obj, pytest.raises(BpfError) as caught:
        obj.load()
    assert "BTF" in caught.value.log


def test_a_token_needs_a_newer_libbpf(path: Path, tmp_path: Path) -> None:
    if not has_libbpf("1.5"):
        with pytest.raises(LibraryError, match=r"needs libbpf 1\.5"):
            BpfObject.open(path, bpf_token_path="/sys/fs/bpf")
        return
    with BpfObject.open(path, bpf_token_path=tmp_path) as obj:
        obj.programs["refused"].autoload = False
        with pytest.raises(BpfError):  # that is no BPF file system
            obj.load()


@pytest.mark.parametrize("option", ["name", "kconfig", "pin_root_path", "btf_custom_path"])
def test_an_option_with_a_nul(path: Path, option: str) -> None:
    options: dict[str, Any] = {option: "a\0b"}
    with pytest.raises(BpfError, match="holds a NUL"):
        BpfObject.open(path, **options)


def test_maps_with_fields_of_a_newer_libbpf(compile_bpf: Compile) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
	__uint(not_yet_invented, 5);
} TABLE SEC(".maps");
"""
    path = compile_bpf(source)
    with pytest.raises(BpfError, match="open"):
        BpfObject.open(path).close()
    with BpfObject.open(path, relaxed_maps=True) as obj:
        obj.load()
        assert obj.maps["TABLE"].max_entries == 3
