"""A program of every type, loaded into the running kernel or refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, BpfObject, ProgramType
from libbpf_ctypes.kernel import has_kprobes

from .. import program_types
from ..conftest import Compile

#: What is known of the running kernel: with kprobes it is taken for one of Debian's.
RELEASE = tuple(int(number) for number in os.uname().release.split(".")[:2])
KERNEL = "bare" if not has_kprobes() else "6.1" if RELEASE < (6, 4) else "6.12"


@pytest.fixture(scope="session")
def folder(compile_bpf: Compile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of every type, compiled."""
    return program_types.compile_all(compile_bpf, tmp_path_factory.mktemp("types"))


def test_there_is_a_program_of_every_type() -> None:
    listed = {case.type for case in program_types.CASES.values()}
    assert listed == set(ProgramType) - {ProgramType.UNSPEC}


@pytest.mark.parametrize("section", program_types.CASES)
def test_a_program_of_every_type(section: str, folder: Path) -> None:
    case = program_types.CASES[section]
    program_types.check(case, KERNEL, program_types.load(case, folder))


@pytest.mark.parametrize(
    ("type", "words"),
    [
        (0, "program's section xdp tells no type"),
        (20, "This kernel has no programs of type LIRC_MODE2, as program is"),
        (77, "does not know the type UNKNOWN_77"),
    ],
)
def test_a_type_that_the_kernel_lacks_is_named(type: int, words: str, folder: Path) -> None:
    with BpfObject.open(folder / "xdp.bpf.o") as obj:
        program = obj.programs["program"]
        program.type = type
        assert program.type == type
        assert program.type.name == ProgramType(type).name
        with pytest.raises(BpfError, match=words) as caught:
            obj.load()
    assert caught.value.errno == 22
    assert "Invalid argument" in str(caught.value)


def test_an_unknown_attach_type_is_passed_on(folder: Path) -> None:
    with BpfObject.open(folder / "cgroup_connect4.bpf.o") as obj:
        program = obj.programs["program"]
        program.expected_attach_type = 999
        assert program.expected_attach_type.name == "UNKNOWN_999"
        with pytest.raises(BpfError, match="EINVAL"):
            obj.load()
