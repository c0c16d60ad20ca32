"""What the observers of truth_guest.py printed, taken apart, and the calls that were made."""

from __future__ import annotations

import ast
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Call = dict[str, Any]
Event = dict[str, Any]

_STRACE = re.compile(r"^(\d+) +(open\w*)\((.*?)(?: <unfinished \.\.\.>|\) += .*)$", re.M)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?|\{[^}]*\}|[^,\s]+')
_OPENSNOOP = re.compile(r"(\d+) +(\d+) +(\S+) +(-?\d+) +(\d+) (.*)")
_MASK = 2**64 - 1


class Result(NamedTuple):
    """What came of one observer."""

    status: int
    out: str
    err: str
    act: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """The objects of --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def events(self) -> list[Event]:
        """The events of --json by the cast, in the order they were printed."""
        return [
            record
            for record in self.records
            if record["type"] == "event" and record["comm"].startswith("gt-")
        ]

    @property
    def summary(self) -> dict[str, Any]:
        """The last object of --json."""
        last = self.records[-1]
        assert last["type"] == "summary", last
        return last


class Truth:
    """All of it, of one kernel."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.calls: list[Call] = answer["calls"]
        self.floods: int = answer["floods"]
        self.cast: dict[str, list[dict[str, Any]]] = answer["cast"]
        self.runs = {name: Result(**run) for name, run in answer["runs"].items()}
        self._by_thread: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            self._by_thread[call["tids"][0]].append(call)

    def made(
        self, names: Iterable[str], which: Callable[[Call], object] = bool, run: str = "all"
    ) -> list[Call]:
        """The calls of these system calls that fit, as far as they were made during a run."""
        act, wanted = self.runs[run].act, set(names)
        return [
            call
            for call in self.calls
            if call["act"] == act and call["call"] in wanted and which(call)
        ]

    def pairs(self, name: str, calls: Iterable[str] = ()) -> list[tuple[Event, Call]]:
        """The events of a run, each with the call in which it happened: of its thread, and then.

        Each must have one, of its own. CALLS: these alone, where a thread may make others.
        """
        pairs = []
        for event in self.runs[name].events:
            of_thread = self._by_thread[event["host_tid"]]
            time = event["timestamp_ns"]
            found = [call for call in of_thread if call["before"] <= time <= call["after"]]
            if not found and calls:
                continue
            assert len(found) == 1, f"{name}: no call of the cast's: {event}"
            pairs.append((event, found[0]))
        assert len({id(call) for _, call in pairs}) == len(pairs), f"{name}: a call told twice"
        return pairs

    def took(self, event: Event) -> float:
        """The longest time, in ns, that an event may have taken to its buffer: to its call's end.

        That of a process which is not of the cast is not known; the flood's are all of one thread.
        """
        time = event["timestamp_ns"]
        of_thread = self._by_thread[event["host_tid"]]
        ends = [call["after"] for call in of_thread if call["before"] <= time <= call["after"]]
        flood = event["comm"] == "gt-flood"
        return ends[0] - time if ends else 0.0 if flood else float("inf")

    def groups(self, name: str) -> list[dict[str, Any]]:
        """The groups of a count or latency, whose account adds up."""
        run = self.runs[name]
        assert run.status == 0, run.err
        *records, total = run.records
        assert (total["type"], total["adds_up"]) == ("total", True)
        groups = [record for record in records if record["type"] in ("count", "latency")]
        assert total["counted"] == sum(group["calls"] for group in groups)
        parts = ("filtered", "unreadable", "counted", "no_room")
        in_flight = total.get("not_returned", 0)
        assert total["seen"] == sum(total[part] for part in parts) + in_flight
        return groups

    def strace(self) -> dict[int, list[tuple[str, list[str]]]]:
        """By thread, in order: (system call, its arguments as strace writes them)."""
        found = defaultdict(list)
        for tid, call, arguments in _STRACE.findall(self.runs["strace"].out):
            found[int(tid)].append((call, _TOKEN.findall(arguments)))
        return found

    def opensnoop(self) -> list[tuple[int, int, str, int, str]]:
        """(uid, pid, comm, errno, path) of each line; a path may go on in the next one."""
        lines: list[list[Any]] = []
        for line in self.runs["opensnoop"].out.split("\n")[1:]:
            match = _OPENSNOOP.fullmatch(line)
            if match:
                uid, pid, comm, _fd, errno, path = match.groups()
                lines.append([int(uid), int(pid), comm, int(errno), path])
            elif lines:
                lines[-1][-1] += "\n" + line
        lines[-1][-1] = lines[-1][-1].rstrip("\n")
        return [(line[0], line[1], line[2], line[3], line[4]) for line in lines]

    def bpftrace(self, kind: str) -> list[list[str]]:
        """The words of each line of a KIND; the last one is the text behind the bar."""
        found = []
        for line in self.runs["bpftrace"].out.splitlines():
            # It escapes a byte that is not ASCII as the number that C makes of it: negative.
            record = json.loads(re.sub(r"\\uffffff(..)", r"\\u00\1", line)) if line else {}
            if record.get("type") == "printf" and record["data"].startswith(f"{kind} "):
                head, _, text = record["data"].partition("|")
                text = text.encode("latin-1").decode(errors="backslashreplace")
                found.append([*head.split()[1:], text])
        return found


def is_register(value: Any, register: int) -> bool:
    """Whether an argument of --json is this register's."""
    if isinstance(value, str):
        value = int(value, 16)
    return isinstance(value, int) and (value - register) & _MASK == 0


def c_string(token: str) -> bytes:
    """The bytes of a string as C, and strace, write it."""
    value = ast.literal_eval("b" + token)
    assert isinstance(value, bytes)
    return value


def shown(path: str) -> str:
    """A path as the guest's reading of a reference's output shows it."""
    return os.fsencode(path).decode(errors="backslashreplace")


def bytes_of(event: Event, name: str) -> bytes | None:
    """The bytes of a text argument of --json."""
    raw = event.get("args_bytes", {}).get(name)
    if raw is not None:
        return bytes.fromhex(raw)
    text = event["args"][name]
    return None if text is None else text.encode()
