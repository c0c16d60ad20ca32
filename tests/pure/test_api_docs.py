"""docs/api.md and docs/c-to-python.md are what the docstrings say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import libbpf_ctypes
from libbpf_ctypes._libbpf import FUNCTIONS

from .helpers import ROOT, script

SCRIPT = ROOT / "docs" / "make-api"


@pytest.fixture(scope="module")
def make_api() -> ModuleType:
    """The script as a module."""
    return script(SCRIPT)


def test_the_pages_are_up_to_date(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for page in ("api.md", "c-to-python.md"):
        made = (tmp_path / page).read_text(encoding="utf-8")
        there = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert made == there, f"docs/{page} is older than the docstrings: run docs/make-api"


def test_every_public_name_and_every_c_function_is_there() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in libbpf_ctypes.__all__:
        assert re.search(rf"^## `{name}\b", api, re.M), name
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| (.+) \|$",
        (ROOT / "docs" / "c-to-python.md").read_text(encoding="utf-8"),
        re.M,
    )
    assert {name: since for name, since, _ in rows} == {n: f[0] for n, f in FUNCTIONS.items()}


def test_what_is_of_libbpf_says_since_when() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`([\w.]+)`\]\(\S+\) \| ([\d.]*) \| ([\d.]*) \| \S", api, re.M)
    assert len(rows) > 300
    libbpf = {name: version for name, version, _ in rows}
    for name in ("BpfObject", "Btf", "Link", "LoadedProgram", "Map", "OpenMap", "Program"):
        assert libbpf[name] == "1.0", name
    without = [name for name, version in libbpf.items() if not version]
    assert not [n for n in without if n.startswith(("Program.", "Map.", "ObjectMap", "OpenMap."))]


def test_what_sets_a_property_leads_to_it() -> None:
    page = (ROOT / "docs" / "c-to-python.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(bpf_(?:map|program)__set_\w+)` \| .* \| (.+) \|$", page, re.M))
    assert rows["bpf_map__set_max_entries"] == "`ObjectMap.max_entries`"
    assert not [name for name, python in rows.items() if "raw." in python]


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("Source: ``bpf_map__fd`` (libbpf 0.3).", "bpf_map__fd is of libbpf 0.0.1, not 0.3"),
        ("Source: ``bpf_map__get_nothing`` (libbpf 1.0).", "no function bpf_map__get_nothing"),
        ("", "names no source"),
    ],
)
def test_a_wrong_or_missing_version_is_found(make_api: ModuleType, source: str, wrong: str) -> None:
    entry = make_api.Entry("x", "x()", f"Does it. {source}", frozenset({"bpf_map__fd"}))
    assert wrong in " ".join(make_api.errors([entry]))
    right = entry._replace(doc="Does it. Source: ``bpf_map__fd`` (libbpf 0.0.1).")
    assert list(make_api.errors([right])) == []
