"""A program of every type on real kernels: each loaded, or refused for a known reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .. import program_types
from ..conftest import Compile
from .conftest import ROOT, Guest


@pytest.fixture(scope="session")
def folder(compile_bpf: Compile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of every type, compiled."""
    return program_types.compile_all(compile_bpf, tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="session")
def outcomes(guest: Guest, folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each program in the guest, all by one process there."""
    done = guest.run(sys.executable, str(ROOT / "tests" / "program_types.py"), str(folder))
    assert done.returncode == 0, done.stderr
    answer: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("section", program_types.CASES)
def test_a_program_of_every_type(
    section: str, guest: Guest, outcomes: dict[str, dict[str, Any]]
) -> None:
    program_types.check(program_types.CASES[section], guest.kernel, outcomes[section])
