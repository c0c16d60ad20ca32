"""docs/questions/: every command in them, on a real kernel; what is shown is what it prints."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import HERE, ROOT, Guest

PAGES = sorted((ROOT / "docs" / "questions").glob("*.md"))
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9]+(?:\.[0-9]+)?(?:[num]?s)?\b|(?<=T)[0-9]+|[0-9]+(?=T)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_answers: dict[str, dict[str, Any]] = {}


class Shown(NamedTuple):
    """A command of a page, and the lines that the page shows of its output."""

    page: str
    command: str
    lines: tuple[str, ...]


def commands_of(page: Path) -> list[Shown]:
    """All commands of a page: a line with a prompt begins one."""
    found = []
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^# ", block, flags=re.M)[1:]:
            command, *lines = part.splitlines()
            shown = tuple(line for line in lines if line != "...")
            found.append(Shown(page.stem, command, shown))
    return found


COMMANDS = [shown for page in PAGES for shown in commands_of(page)]


def comparable(line: str) -> str:
    """A line without what another run has otherwise: numbers, the width of columns."""
    return " ".join(_NUMBER.sub("N", _COLOUR.sub("", line)).split())


@pytest.fixture
def answers(guest: Guest) -> dict[str, Any]:
    """What each command came to, of one process for each kernel."""
    if guest.kernel not in _answers:
        script = str(HERE / "pages_guest.py")
        commands = list(dict.fromkeys(shown.command for shown in COMMANDS))
        done = guest.run(sys.executable, script, json.dumps(commands))
        assert done.returncode == 0, done.stderr
        _answers[guest.kernel] = dict(zip(commands, json.loads(done.stdout)))
    return _answers[guest.kernel]


# They take a minute or two: on one kernel.
@pytest.mark.parametrize("guest", ["6.1"], indirect=True)
@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: f"{shown.page}: {shown.command}")
def test_a_command_prints_what_the_page_shows(answers: dict[str, Any], shown: Shown) -> None:
    answer = answers[shown.command]
    assert answer["status"] == 0, answer["err"]
    printed = [comparable(line) for line in answer["out"].splitlines()]
    assert printed
    for line in shown.lines:
        wanted = comparable(line)
        if wanted.endswith(("...", ",…")):
            assert any(one.startswith(wanted.rstrip(".…,")) for one in printed), (line, printed)
        else:
            assert wanted in printed, (line, answer["out"], answer["err"])


def test_every_page_has_commands_and_is_linked() -> None:
    index = (ROOT / "docs" / "questions" / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.stem != "README":
            assert commands_of(page), page
            assert f"({page.name})" in index
