"""The rounds of a benchmark: readers take turns, failures are kept with their reasons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from .peers import Peers
from .process import FailedError, Load, Machine, Reader, Watch, say

_T = TypeVar("_T")

#: One run, or one figure of a row: what went in, and what was measured.
Record = dict[str, Any]

UNTRACED = "untraced"

#: A run of which the hypervisor took more than this share for others is tried again, so
#: often; the one it took least of counts.
_STOLEN, _TRIES = 0.03, 3


class Session:
    """What is measured, and with what; ``records`` grows run by run."""

    def __init__(self, machine: Machine, peers: Peers, rounds: int, *, quick: bool) -> None:
        self.machine = machine
        self.peers = peers
        self.rounds = rounds
        self.quick = quick
        self.records: list[Record] = []
        self.failures: dict[str, dict[str, str]] = {}  # row: reader: why

    def each_round(self, names: Iterable[_T]) -> Iterable[tuple[int, _T]]:
        """Rounds and names; each round begins with another name."""
        order = list(names)
        for number in range(self.rounds):
            for at in range(len(order)):
                yield number, order[(at + number) % len(order)]

    def failed(self, row: str, name: str) -> bool:
        """Whether this reader has failed in this row: it is not tried again."""
        return name in self.failures.get(row, {})

    def fail(self, row: str, name: str, reason: object) -> None:
        """Notes why there is no figure."""
        self.failures.setdefault(row, {})[name] = str(reason)
        say(f"{row}: {name}: {reason}")

    def keep(self, row: str, number: int, name: str, figures: Record) -> Record:
        """Adds one run's figures to the records."""
        record = {"row": row, "round": number, "reader": name, **figures}
        self.records.append(record)
        return record

    def run(
        self,
        row: str,
        number: int,
        name: str,
        load: Load,
        reader: Reader | None = None,
        *,
        pid: int | None = None,
        watch: Watch | None = None,
        delivers: bool = True,
        **more: Any,
    ) -> Record | None:
        """One run of a reader by name, kept with MORE; None: it failed, now or before."""
        if self.failed(row, name):
            return None
        try:
            if reader is None and name != UNTRACED:
                reader = self.peers.get(name)
            figures: Record = {}
            for again in range(1 if watch else _TRIES):
                new = self.machine.run(load, reader, pid=pid, watch=watch, delivers=delivers)
                if not figures or new["stolen_share"] < figures["stolen_share"]:
                    figures = new
                figures["repeated"] = again
                if figures["stolen_share"] <= _STOLEN:
                    break
        except FailedError as error:
            self.fail(row, name, error)
            return None
        return self.keep(row, number, name, {**more, **figures})
