"""The BPF program in the kernel: how long it is, and how long a run takes."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .peers import getppid
from .process import FailedError, Load
from .session import Session
from .setup import ROOT

_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
_INSTRUCTION = 8  # bytes
_PROGBITS, _EXECUTABLE = 1, 4
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT

#: No process has it: every call is one that the program leaves out.
_NOBODY = 0x7FFFFFF0


def instructions(obj: Path) -> int:
    """Instructions in a BPF object's executable sections, before the kernel rewrites any."""
    data = obj.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    total = 0
    for number in range(count):
        kind, flags = struct.unpack_from("<IQ", data, table + number * size + 4)
        if kind == _PROGBITS and flags & _EXECUTABLE:
            (length,) = struct.unpack_from("<Q", data, table + number * size + 32)
            total += length // _INSTRUCTION
    return total


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Has the kernel take the time of every BPF program's run; as it was afterwards."""
    try:
        before = _STATISTICS.read_text(encoding="ascii")
        _STATISTICS.write_text("1", encoding="ascii")
    except OSError as error:
        raise FailedError(f"{_STATISTICS}: {error.strerror}") from None
    try:
        yield
    finally:
        _STATISTICS.write_text(before, encoding="ascii")


class Program:
    """The raw tracepoint program of a reader, by the kernel's account of its descriptor."""

    def __init__(self) -> None:
        self.runs: dict[str, tuple[int, int]] = {}

    def look(self, pid: int, when: str) -> None:
        """Notes nanoseconds and runs so far."""
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            text = info.read_text(encoding="ascii")
            fields = dict(re.findall(r"^(\w+):\s+(\w+)", text, re.MULTILINE))
            if fields.get("prog_type") == str(_RAW_TRACEPOINT) and "run_cnt" in fields:
                self.runs[when] = int(fields["run_time_ns"]), int(fields["run_cnt"])
                return
        raise FailedError("the reader has no descriptor of its BPF program")

    def figures(self) -> dict[str, int]:
        """What it ran between the two looks."""
        time = self.runs["end"][0] - self.runs["begin"][0]
        return {"run_time_ns": time, "run_cnt": self.runs["end"][1] - self.runs["begin"][1]}


class _Case(NamedTuple):
    """A way through the program: how it is compiled, and what calls it."""

    flags: tuple[str, ...]
    load: Load
    pid: int | None = None  # None: the producer is traced


def kernel(session: Session) -> None:
    """Nanoseconds per run: an event sent, none sent, a call left out; with COUNTERS and without."""
    seconds = 0.2 if session.quick else 0.5
    flat_out = getppid("seconds", seconds)
    cases = {
        # At a rate at which the buffer never fills: to refuse an event costs less.
        "sent": _Case((), getppid("rate", 500_000, seconds)),
        "no output": _Case(("-DNO_OUTPUT",), flat_out),
        "filtered": _Case((), flat_out, _NOBODY),
    }
    counters = {"with COUNTERS": (), "without COUNTERS": ("-DNO_COUNTERS",)}
    objects = {
        f"{case} {name}": session.peers.setup.load_object(
            *cases[case].flags, *flags, name=f"{case} {name}.bpf.o".replace(" ", "-")
        )
        for case in cases
        for name, flags in counters.items()
    }
    shipped = sorted((ROOT / "libbpf_ctypes" / "data").glob("*/kprobe.bpf.o"))
    for name, obj in {
        "the load": objects["sent with COUNTERS"],
        "the load without COUNTERS": objects["sent without COUNTERS"],
        **{f"{obj.parent.name}/{obj.name}": obj for obj in shipped},
    }.items():
        session.keep("kernel", 0, name, {"instructions": instructions(obj)})
    with statistics():
        for number, name in (*session.each_round(objects), *session.each_round(objects)):
            case = next(case for key, case in cases.items() if name.startswith(key))
            program = Program()
            reader = session.peers.c_reader(name, objects[name], "512")
            record = session.run(
                "kernel",
                number,
                name,
                case.load,
                reader,
                pid=case.pid,
                watch=program.look,
                delivers=not (case.flags or case.pid),
            )
            if record is not None:
                record.update(program.figures())
