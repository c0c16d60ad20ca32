"""Return values of the running kernel's functions and of system calls: by type, errors by name."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from libbpf_ctypes import Btf
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes.cli.arguments import Arguments, arguments_of, arguments_of_all
from libbpf_ctypes.cli.fetches import RETURN_VALUE
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.scope import KernelTypes, scope_of
from libbpf_ctypes.cli.specs import ERROR_NUMBER, FAILED_POINTER, NEGATIVE
from libbpf_ctypes.cli.usage import UsageError

from .test_arguments import function, needs_btf, syscall

pytestmark = needs_btf
ENOENT = 2**64 - 2


@pytest.fixture(scope="module")
def kernel() -> Iterator[Shapes]:
    with Btf.kernel() as btf:
        yield Shapes(btf)


def returned(kernel: Shapes, traced: Function, *specs: str, ret: str = "") -> Arguments:
    return arguments_of(traced, kernel, specs=specs, returns=True, ret=ret)


@pytest.mark.parametrize(
    ("name", "kind", "failed", "shift", "words"),
    [
        ("schedule_timeout", "long", NEGATIVE, 0, "-ENOENT"),
        ("vfs_read", "ssize_t", NEGATIVE, 0, "-ENOENT"),
        ("vfs_open", "int", NEGATIVE, 32, "-ENOENT"),
        ("do_filp_open", "struct file *", FAILED_POINTER, 0, "-ENOENT"),
        ("vm_mmap_pgoff", "unsigned long", ERROR_NUMBER, 0, "-ENOENT"),
        ("capable", "bool", 0, 0, "true"),
        ("jiffies_to_msecs", "unsigned int", 0, 0, str(2**32 - 2)),
    ],
)
def test_by_type(kernel: Shapes, name: str, kind: str, failed: int, shift: int, words: str) -> None:
    found = returned(kernel, function(name))
    result, first = found.shown
    assert (result.name, result.type, result.value) == ("ret", kind, 0)
    assert (found.failed, found.failed_shift) == (failed, shift)
    assert result.words(ENOENT) == words
    assert found.fetches[0].source == RETURN_VALUE
    assert found.fetches[0].pack()[7] & 2, "FETCH_AT_RETURN"
    assert first.value == 1
    assert not found.fetches[1].pack()[7] & 2


def test_a_function_that_returns_nothing(kernel: Shapes) -> None:
    found = returned(kernel, function("kfree"))
    assert [one.name for one in found.shown] == ["object"]
    assert found.failed == 0
    assert scope_of(function("kfree"), kernel).returned is None


def test_of_system_calls_and_of_what_is_not_known(kernel: Shapes) -> None:
    without = Shapes(None)
    for shapes in (kernel, without):
        openat = returned(shapes, syscall("openat")).shown[0]
        assert (openat.type, openat.words(ENOENT), openat.words(3)) == ("long", "-ENOENT", "3")
        mmap = returned(shapes, syscall("mmap"))
        assert mmap.shown[0].words(0x7F0000001000) == "0x7f0000001000"
        assert (mmap.shown[0].words(2**64 - 12), mmap.failed) == ("-ENOMEM", FAILED_POINTER)
    unknown = returned(without, function("vfs_open"))
    assert (unknown.shown[0].type, unknown.failed) == ("long", NEGATIVE)


def test_formats_and_what_it_leads_to(kernel: Shapes) -> None:
    opened = function("do_filp_open")
    for ret, words in (("hex", hex(ENOENT)), ("dec", str(ENOENT)), ("pointer", hex(ENOENT))):
        assert returned(kernel, opened, ret=ret).shown[0].words(ENOENT) == words
    number = returned(kernel, function("vfs_open"), ret="dec").shown[0]
    assert number.words(2**32 - 2) == "-2"
    inode = returned(kernel, opened, "ret->f_inode->i_ino", "dfd")
    assert [one.name for one in inode.shown] == ["ret", "ret->f_inode->i_ino", "dfd"]
    assert inode.fetches[1].source == RETURN_VALUE
    assert len(inode.fetches[1].offsets) == 2
    moved = returned(kernel, opened, "dfd", "ret:hex")
    assert [one.name for one in moved.shown] == ["dfd", "ret"], "in the place that was asked for"


def test_what_cannot_be(kernel: Shapes) -> None:
    with pytest.raises(UsageError, match=r"there is no argument ret"):
        arguments_of(function("vfs_open"), kernel, specs=["ret"])
    with pytest.raises(UsageError, match=r"--ret str: vfs_open: int is no text"):
        returned(kernel, function("vfs_open"), ret="str")
    with KernelTypes() as types:
        both = [function("vfs_open"), function("kfree")]
        opened, freed = arguments_of_all(both, types, specs=["path"], returns=True)
        arguments_of_all(both, types, returns=True, ret="hex")
        with pytest.raises(UsageError, match="--ret: kfree returns nothing"):
            arguments_of_all(both[1:], types, returns=True, ret="hex")
    assert [one.name for one in opened.shown] == ["ret", "path"]
    assert freed.shown == (), "it has none of what was asked for"


def test_values_and_texts_have_room_beside_it(kernel: Shapes) -> None:
    found = arguments_of(function("do_sys_openat2"), kernel, all_of=True, returns=True)
    assert [one.name for one in found.shown] == ["ret", "dfd", "filename", "how"]
    assert [one.text for one in found.shown] == [-1, -1, 0, -1]
    assert found.shown[1].words(os.O_RDONLY) == "0"
