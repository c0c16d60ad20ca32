"""Arguments of the running kernel's functions and of system calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes import Btf
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes._syscalls import OTHERS, SYSCALLS, TYPES
from libbpf_ctypes.cli.arguments import Arguments, arguments_of, arguments_of_all
from libbpf_ctypes.cli.fetches import Fetch
from libbpf_ctypes.cli.formats import TEXT
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.scope import KernelTypes, MissingArgument, scope_of
from libbpf_ctypes.cli.usage import UsageError

needs_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF"
)


def function(name: str, *, offset: int = 0, module: str = "") -> Function:
    return Function(name, module, 0, offset, "", name, False, False)


def syscall(name: str) -> Function:
    return Function(f"__x64_sys_{name}", "", 0, 0, name, name, False, False)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Shapes]:
    with Btf.kernel() as btf:
        yield Shapes(btf)


def names(arguments: Arguments) -> list[tuple[str, str]]:
    return [(one.name, one.type) for one in arguments.shown]


@needs_btf
def test_all_arguments_with_names_and_types(kernel: Shapes) -> None:
    found = arguments_of(function("do_sys_openat2"), kernel, all_of=True)
    types = [("dfd", "int"), ("filename", "const char *"), ("how", "struct open_how *")]
    assert names(found) == types
    dfd, filename, how = found.shown
    assert (dfd.words(2**32 - 100), dfd.words(3)) == ("AT_FDCWD", "3")
    assert (filename.text, filename.format.base) == (0, TEXT)
    assert how.number(0xFFFF888100000000) == "0xffff888100000000"
    assert found.fetches[1] == Fetch(1, 0, 8, 1, offsets=(0,))
    written = arguments_of(function("vfs_write"), kernel, all_of=True)
    assert written.shown[1].text == -1, "data of a given length is no text"


@needs_btf
def test_only_the_first_argument_where_none_is_asked_for(kernel: Shapes) -> None:
    (dfd,) = arguments_of(function("do_sys_openat2"), kernel).shown
    assert (dfd.name, dfd.words(2**32 - 100)) == ("dfd", "-100"), "a plain number"
    (unknown,) = arguments_of(function("no_such_function"), kernel).shown
    assert (unknown.name, unknown.words(2**64 - 1)) == ("arg0", str(2**64 - 1))


@needs_btf
def test_members_on_demand(kernel: Shapes) -> None:
    specs = ("how.flags:open_flags", "how->resolve", "filename:hex", "dfd:dec", "how.mode")
    flags, resolve, filename, dfd, mode = arguments_of(
        function("do_sys_openat2"), kernel, specs=specs
    ).shown
    assert flags.words(os.O_WRONLY | os.O_CLOEXEC) == "O_WRONLY|O_CLOEXEC"
    assert (resolve.name, resolve.words(8)) == ("how->resolve", "RESOLVE_BENEATH")
    assert (filename.text, filename.words(4096)) == (-1, "0x1000")
    assert dfd.words(2**32 - 100) == "-100"
    assert mode.words(0o600) == "0600"
    read = arguments_of(
        function("vfs_read"),
        kernel,
        specs=("file->f_path.dentry->d_name.name", "current->comm", "*pos", "count:bpf_map_type"),
    )
    name, comm, pos, count = read.shown
    assert (name.text, comm.text, comm.format.limit) == (0, 1, 16)
    assert pos.words(2**64 - 5) == "-5"
    assert count.words(1) == "BPF_MAP_TYPE_HASH"
    others = ["current->cred->uid.val", "arg0"]  # the first is of a struct without a name
    uid, unknown = arguments_of(function("no_such_function"), kernel, specs=others).shown
    assert (uid.words(0), unknown.words(0)) == ("0", "NULL")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("fil", r"vfs_read: there is no argument fil \(did you mean file\?\); there is: file, buf"),
        ("file.f_pat", r"struct file has no member f_pat \(did you mean f_path\?\)"),
        ("file->f_path", r"it is a .*struct path: name a member of it \(mnt, dentry\)"),
        ("count:str", "size_t is no text"),
        ("count:opn_flags", r"there is no format 'opn_flags' \(did you mean open_flags\?\)"),
        ("file->f_path:hex", "name a member"),
        ("count:", "there is no format ''"),
        ("current->comm:hex", r"it is an array \(char\[16\]\): name an element"),
        ("a\x1bb", r"--arg a\\x1bb: vfs_read: this is no argument"),
    ],
)
@needs_btf
def test_specs_that_cannot_be_met(kernel: Shapes, spec: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        arguments_of(function("vfs_read"), kernel, specs=[spec])
    assert isinstance(caught.value, MissingArgument) == (
        "no argument" in str(caught.value) or "no member" in str(caught.value)
    )


@needs_btf
def test_all_arguments_and_more(kernel: Shapes) -> None:
    specs = ["filename:hex", "how.flags", "dfd:hex"]
    found = arguments_of(function("do_sys_openat2"), kernel, all_of=True, specs=specs)
    assert [one.name for one in found.shown] == ["dfd", "filename", "how", "how.flags"]
    assert [one.words(2**32 - 100) for one in found.shown[:2]] == ["0xffffff9c"] * 2
    assert [one.value for one in found.shown] == [0, 1, 2, 3]


@needs_btf
def test_registers_as_they_are(kernel: Shapes) -> None:
    for all_of in (False, True):
        found = arguments_of(function("do_sys_openat2"), kernel, raw=True, all_of=all_of)
        assert found.shown[0].name == "dfd"
        assert found.shown[0].words(2**64 - 100) == str(2**64 - 100)
        assert [one.text for one in found.shown] == [-1] * len(found.shown)
        assert found.fetches == tuple(Fetch(number) for number in range(len(found.shown)))


def test_registers_of_unknown_type_may_be_asked_for_as_texts() -> None:
    (text,) = arguments_of(function("vfs_read"), None, specs=["arg1:str"]).shown
    assert (text.name, text.type, text.text) == ("arg1", "void *", 0)
    shown = arguments_of(
        function("vfs_read"), None, specs=["arg1", "arg2:dec", "arg5:signal"]
    ).shown
    assert [one.words(9) for one in shown] == ["0x9", "9", "SIGKILL"]
    with pytest.raises(UsageError, match=r"what a void \* points to is not known: this"):
        arguments_of(function("vfs_read"), None, specs=["arg1->x"])


@needs_btf
def test_a_function_shows_what_it_has_of_what_is_asked_for() -> None:
    functions = [function("vfs_read"), function("do_sys_openat2"), function("vfs_fsync")]
    with KernelTypes(many=True) as types:
        read, opened, synced = arguments_of_all(functions, types, specs=["count", "how.flags"])
        assert [one.name for one in read.shown] == ["count"]
        assert [one.name for one in opened.shown] == ["how.flags"]
        assert synced == Arguments((), ())
        with pytest.raises(
            MissingArgument, match="--arg nope: vfs_read: there is no argument nope"
        ):
            arguments_of_all(functions, types, specs=["count", "nope"])
        found = arguments_of_all(functions, types, all_of=True, specs=["how.flags"])
        assert [len(one.shown) for one in found] == [4, 4, 2]


@needs_btf
def test_what_finds_no_room(kernel: Shapes) -> None:
    with pytest.raises(UsageError, match="there is room for 8 values"):
        arguments_of(function("vfs_read"), kernel, specs=["count"] * 9)
    with pytest.raises(UsageError, match="there is room for 4 texts"):
        arguments_of(function("vfs_read"), kernel, specs=["buf:str"] * 5)
    specs = ["count:hex", *["*pos"] * 5, "buf[0]", "file->f_flags"]
    found = arguments_of(function("vfs_read"), kernel, all_of=True, specs=specs[:7])
    assert [one.name for one in found.shown] == ["file", "buf", *specs[1:7]]
    assert found.left_out == ("count", "pos"), "what is asked for has its room"
    with pytest.raises(UsageError, match="--arg file->f_flags: vfs_read: there is room for 8"):
        arguments_of(function("vfs_read"), kernel, specs=[*specs, "file->f_flags"])
    texts = arguments_of(syscall("fsconfig"), kernel, all_of=True, texts=0)
    assert texts.shown[2].text == -1 and texts.shown[2].words(16) == "0x10"


def test_system_calls_need_no_btf() -> None:
    found = arguments_of(syscall("openat"), None, all_of=True)
    assert names(found) == [
        ("dfd", "int"), ("filename", "const char *"), ("flags", "int"), ("mode", "umode_t"),
    ]  # fmt: skip
    dfd, _filename, flags, mode = found.shown
    assert dfd.words(2**32 - 100) == "AT_FDCWD"
    assert flags.words(os.O_CREAT | os.O_RDWR) == "O_RDWR|O_CREAT"
    folder = arguments_of(syscall("execveat"), None, specs=["fd"]).shown[0]
    assert folder.words(2**32 - 100) == "AT_FDCWD"
    assert mode.words(0xFFFF0000000001A4) == "0644", "what lies above the type's width"
    assert [fetch.source for fetch in found.fetches] == [0, 1, 2, 3]
    mapped = arguments_of(syscall("mmap"), None, all_of=True).shown
    words = [one.words(number) for one, number in zip(mapped, (0, 4096, 3, 0x22, 2**64 - 1, 0))]
    assert words == [
        "NULL", "4096", "PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1", "0x0",
    ]  # fmt: skip
    executed = arguments_of(syscall("execve"), None, specs=["argv[1]", "*argv"])
    assert [fetch.offsets for fetch in executed.fetches] == [(8, 0), (0, 0)]
    assert arguments_of(syscall("getpid"), None, all_of=True) == Arguments((), ())
    option = arguments_of(syscall("prctl"), None, specs=["arg2"])
    assert option.fetches[0].source == 1, "a name comes before a number"
    with pytest.raises(UsageError, match="this kernel has no BTF"):
        arguments_of(syscall("openat2"), None, specs=["how->flags"])


def test_every_system_call_can_be_shown() -> None:
    for name, text in SYSCALLS.items():
        found = arguments_of(syscall(name), None, all_of=True)
        assert not found.left_out, name
        assert len(found.shown) == (text.count(",") + 1 if text else 0)
        assert all(one.type.replace("*", " *").split("*")[0].split() for one in found.shown)
    widths = {int(kind[1:]) for kind in TYPES.values() if kind != "pointer"}
    assert widths <= {8, 16, 32, 64}
    assert {name for others in OTHERS.values() for name in others} <= SYSCALLS.keys()


def test_a_machine_with_other_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(machine: str) -> list[str]:
        monkeypatch.setattr("libbpf_ctypes.cli.scope.machine", lambda: machine)
        return [p.name for p in scope_of(syscall("clone"), None).parameters][2:]

    assert clone("x86_64") == ["parent_tidptr", "child_tidptr", "tls"]
    assert clone("aarch64") == ["parent_tidptr", "tls", "child_tidptr"]


def test_within_a_function_registers_have_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def registers(machine: str) -> list[str]:
        monkeypatch.setattr("libbpf_ctypes.cli.scope.machine", lambda: machine)
        return [p.name for p in scope_of(function("vfs_read", offset=16), None).parameters]

    assert registers("x86_64") == ["di", "si", "dx", "cx", "r8", "r9"]
    assert registers("aarch64") == [f"x{number}" for number in range(8)]


@needs_btf
def test_many_functions_share_the_kernels_types() -> None:
    with KernelTypes(many=True) as types:
        found = types.of(function("vfs_read"))
        assert types.of(function("vfs_write")) is found
        assert names(arguments_of(function("vfs_read"), found, all_of=True))[0] == (
            "file", "struct file *",
        )  # fmt: skip
        assert not scope_of(function("no_such_function"), found).typed
        unknown = function("f", module="no_such_module")
        assert not scope_of(unknown, types.of(unknown)).typed
