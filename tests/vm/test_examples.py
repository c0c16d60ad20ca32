"""The examples on each kernel: what they print of a known load."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ..root.example_checks import CHECKS, RUNS, build, check
from .conftest import Guest


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def ran(guest: Guest, examples: Path) -> Any:
    done = guest.run(sys.executable, str(RUNS), "--fork", str(examples), *CHECKS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_prints_what_was_done(name: str, ran: dict[str, Any]) -> None:
    check(name, ran)
