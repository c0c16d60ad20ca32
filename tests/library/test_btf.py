"""The running kernel's BTF: functions' parameters and their types."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, ClosedError
from libbpf_ctypes.btf import Btf, Kind
from libbpf_ctypes.cli.argument import first_argument

pytestmark = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF"
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Btf]:
    with Btf.kernel() as btf:
        yield btf


def test_the_parameters_of_openat2(kernel: Btf) -> None:
    dfd, filename, how = kernel.parameters("do_sys_openat2")[:3]
    assert (dfd.name, dfd.type.kind, dfd.type.size) == ("dfd", Kind.INT, 4)
    assert dfd.type.signed
    assert (filename.name, filename.type.kind, filename.type.size) == ("filename", Kind.PTR, 8)
    assert (how.name, how.type.kind) == ("how", Kind.PTR)


def test_the_parameters_of_vfs_read(kernel: Btf) -> None:
    parameters = kernel.parameters("vfs_read")
    assert [parameter.name for parameter in parameters] == ["file", "buf", "count", "pos"]
    kinds = [parameter.type.kind for parameter in parameters]
    assert kinds == [Kind.PTR, Kind.PTR, Kind.INT, Kind.PTR]
    count = parameters[2].type
    assert (count.size, count.signed, count.is_bool) == (8, False, False)


@pytest.mark.parametrize("function", ["no_such_function", "vfs_rea", "", "jiffies"])
def test_an_unknown_function(function: str, kernel: Btf) -> None:
    with pytest.raises(BpfError, match="in BTF") as caught:
        kernel.parameters(function)
    assert caught.value.errno == errno.ENOENT
    assert function in caught.value.operation


def test_a_structs_name_is_no_function(kernel: Btf) -> None:
    with pytest.raises(BpfError):
        kernel.parameters("task_struct")


def test_booleans_enumerations_and_modifiers(kernel: Btf) -> None:
    found = {"bool": 0, "enum": 0}
    for identity in range(1, 20000):
        kind = kernel.type(identity)
        if kind.kind == Kind.INT and kind.is_bool:
            found["bool"] += 1
            assert (kind.name, kind.size, kind.signed) == ("_Bool", 1, False)
        if kind.kind in (Kind.ENUM, Kind.ENUM64):
            found["enum"] += 1
            assert kind.size in (1, 2, 4, 8)
        assert kind.kind not in (Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT)
    assert all(found.values()), found


def test_the_void_type_and_numbers_that_are_none(kernel: Btf) -> None:
    assert kernel.type(0).kind is Kind.VOID
    with pytest.raises(BpfError) as caught:
        kernel.type(0x7FFFFFFF)
    assert caught.value.errno == errno.EINVAL


def test_first_arguments() -> None:
    argument = first_argument("do_sys_openat2", raw=False)
    assert argument.label == "dfd"
    assert argument.format(0xFFFFFF9C) == "-100", "AT_FDCWD, in a register's lower half"
    raw = first_argument("do_sys_openat2", raw=True)
    assert raw.label == "dfd"
    assert raw.format(0xFFFFFF9C) == "4294967196"
    pointer = first_argument("vfs_read", raw=False)
    assert pointer.label == "file"
    assert pointer.format(0xFFFF888100000000) == "0xffff888100000000"
    for unknown in ("no_such_function", "no_such_module:vfs_read", "a:b:c"):
        assert first_argument(unknown, raw=False).label == "arg0"
        assert first_argument(unknown, raw=False).format(7) == "7"


def test_closed_types() -> None:
    btf = Btf.kernel()
    btf.close()
    btf.close()
    with pytest.raises(ClosedError):
        btf.parameters("vfs_read")


def test_a_module_that_is_not_there(kernel: Btf) -> None:
    with pytest.raises(BpfError, match="module no_such_module"):
        Btf.module("no_such_module", kernel)
