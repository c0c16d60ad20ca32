"""Completion of what only root can see: tracepoints, and the symbols of programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import need
from ..pure.test_share import FISH, SHELLS, Shell

pytestmark = pytest.mark.usefixtures("tracefs")

# A line, and what it is after Tab.
COMPLETED = [
    ("ebpf-tool tracepoint sched:sched_swi", "tracepoint sched:sched_switch"),
    ("ebpf-tool tracepoint -d 5 sched:sched_swi", "tracepoint -d 5 sched:sched_switch"),
    ("ebpf-tool count tracepoint:sched:sched_swi", "count tracepoint:sched:sched_switch"),
    ("ebpf-tool uprobe libc:getpagesi", "uprobe libc:getpagesize"),
    ("ebpf-tool latency uprobe:libc:getpagesi", "latency uprobe:libc:getpagesize"),
]


@pytest.fixture(scope="module", params=list(SHELLS))
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    shell = Shell(request.param, tmp_path_factory.mktemp("completed"))
    yield shell
    shell.close()


@pytest.mark.parametrize(("line", "result"), COMPLETED)
def test_tab(shell: Shell, line: str, result: str) -> None:
    need("nm")
    assert " ".join(shell.words_after_tab(line)) == result


def test_a_programs_own_functions(shell: Shell, tmp_path: Path) -> None:
    need("nm")
    program = tmp_path / "program"
    source = (
        "static __attribute__((noinline)) void its_own(void) {}\nint main(void) { its_own(); }\n"
    )
    command = [need("cc"), "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=source, text=True, check=True)
    assert shell.words_after_tab(f"ebpf-tool uprobe {program}:its_o") == [
        "uprobe", f"{program}:its_own",
    ]  # fmt: skip


@pytest.mark.parametrize(("line", "result"), COMPLETED)
def test_tab_in_fish(line: str, result: str) -> None:
    need("nm")
    code = f"source {FISH}; complete -C $argv[1]"
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", code, line], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [result.split()[-1]]
