"""What `ebpf-tool doctor --json` said in the situations of situations.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("situations.py")


class Report:
    """One report, and that it holds together."""

    def __init__(self, status: int, out: str, err: str) -> None:
        assert err == ""
        self.status = status
        self.all: dict[str, Any] = json.loads(out)
        self.checks: dict[str, dict[str, Any]] = {line["name"]: line for line in self.all["checks"]}
        assert len(self.checks) == len(self.all["checks"])
        assert self.all["works"] is (status == 0)
        needed = [line["answer"] for line in self.checks.values() if line["needed"]]
        assert self.all["works"] is all(needed)

    def no(self) -> set[str]:
        """The names of what is not there."""
        return {name for name, line in self.checks.items() if line["answer"] is False}

    def unknown(self) -> set[str]:
        """The names of what could not be found out."""
        return {name for name, line in self.checks.items() if line["answer"] is None}

    def text(self, name: str) -> str:
        """Detail and advice."""
        line = self.checks[name]
        return f"{line['detail']} -> {line['advice']}"


def reports(out: str) -> dict[str, Report]:
    """The report of each situation, from what situations.py printed."""
    told: dict[str, Any] = json.loads(out)
    return {name: Report(**answer) for name, answer in told.items()}
