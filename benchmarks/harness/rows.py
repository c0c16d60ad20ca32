"""What is measured, row by row; each function adds its runs to the session's records."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Callable

from . import kernel_side, start
from .peers import OUR_SUMS, THEIR_SUMS, by_uprobe, getppid, openat
from .process import FailedError, say
from .report import THREADS
from .session import UNTRACED, Record, Session
from .setup import ROOT

#: Readers in the row that most figures come from.
FLAT_OUT = (
    UNTRACED,
    "ours",
    "ours, batches",
    "ours, looped over",
    "ours, max_latency=0",
    "command",
    "C",
    "C, batched",
    "BCC",
    "BCC, best",
    "bpftrace",
    "bpftrace, best",
    "pylibbpf",
)

#: Events a second, of a producer that could do more; then flat out.
CURVE_RATES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
CURVE = (UNTRACED, "ours", "ours, batches", "C, batched", "BCC")

#: Where events are lost flat out, these are tried: events a second.
_PACED_RATES = (3e6, 2.5e6, 2e6, 1.75e6, 1.5e6, 1.35e6, 1.25e6, 1e6, 800e3, 500e3, 200e3)


def tax(session: Session) -> None:
    """The producer flat out, untraced and under every reader."""
    seconds = 0.25 if session.quick else 0.5
    for number, name in session.each_round(FLAT_OUT):
        session.run("tax", number, name, getppid("seconds", seconds))


def rate(session: Session) -> None:
    """So many events flat out; where ours loses some, slower, until it loses none."""
    calls = 500_000 if session.quick else 5_000_000
    for number, name in session.each_round(("ours", "ours, batches", "C, batched", "BCC, best")):
        session.run("rate", number, name, getppid("calls", calls))
    for name in ("ours", "ours, batches"):
        runs = [r for r in session.records if r["row"] == "rate" and r["reader"] == name]
        if any(run["missing"] > 0 for run in runs):
            _look_for_a_rate(session, name, calls, max(_calls_per_s(run) for run in runs))


def _look_for_a_rate(session: Session, name: str, calls: int, flat_out: float) -> None:
    """Ever slower, until every round of a rate comes without a loss."""
    for rate in _PACED_RATES:
        if rate >= flat_out:
            continue
        load, lost = getppid("rate", int(rate), calls / rate), False
        for number in range(1 if session.quick else 2):
            record = session.run("rate, paced", number, name, load, asked_per_s=int(rate))
            lost = lost or record is None or record["missing"] > 0
            if lost:
                break
        if not lost:
            return


def _calls_per_s(record: Record) -> float:
    return float(record["calls"] * 1e9 / record["elapsed_ns"])


def memory(session: Session) -> None:
    """Flat out for long: peak memory, and what is resident at some counts of events.

    Of the records' some two thirds find the buffer full: 50 million are read of these.
    """
    for name, calls in (("ours, memory", 150_000_000), ("ours, batches, memory", 50_000_000)):
        few = calls // 25
        session.run("memory", 0, name, getppid("calls", few if session.quick else calls))


def curve(session: Session) -> None:
    """CPU per event from a slow producer to one flat out."""
    seconds = 0.3 if session.quick else 0.6
    for number in range(session.rounds):
        at = number % len(CURVE)
        too_slow = set()
        for rate in (*CURVE_RATES, 0):
            paced = getppid("rate", rate, seconds) if rate else getppid("seconds", seconds / 2)
            for name in CURVE[at:] + CURVE[:at]:
                if rate and name in too_slow:
                    continue
                record = session.run("curve", number, name, paced, asked_per_s=rate)
                if record is not None and _calls_per_s(record) < 0.9 * rate:
                    too_slow.add(name)  # the traced process does not get to that rate under it
                    record["too_slow"] = True


def threads(session: Session) -> None:
    """With a second thread of pure Python in the reader's process, and without: what arrives."""
    seconds = 0.5 if session.quick else 1.0
    for number, (name, rate) in session.each_round(THREADS):
        load = getppid("rate", rate, seconds) if rate else getppid("seconds", seconds)
        session.run("threads", number, name, load, asked_per_s=rate)


def merge(session: Session) -> None:
    """The command with events of one CPU and of two, sorted by time and not."""
    help_text = subprocess.run(
        [session.peers.setup.python, str(ROOT / "bin" / "ebpf-tool"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    ways = {"sorted": (), "--unsorted": ("--unsorted",)}
    if "--unsorted" not in help_text:
        del ways["--unsorted"]
        session.fail("merge", "--unsorted", "this ebpf-tool has no such option")
    both = (session.machine.producer_cpu, session.machine.reader_cpu)
    loads = {
        "1 CPU": getppid("rate", 200_000, 0.5),
        "2 CPUs": getppid("rate", 100_000, 0.5, cpus=both),
    }
    names = [f"command, {cpus}, {way}" for cpus in loads for way in ways]
    for number, name in session.each_round(names):
        _, cpus, way = name.split(", ")
        reader = session.peers.command(name, *ways[way])
        session.run("merge", number, name, loads[cpus], reader)


def opensnoop(session: Session) -> None:
    """Opens of a file that is not there: opensnoop, and our command on the same calls."""
    seconds = 0.25 if session.quick else 0.5
    ours = session.peers.command("command", openat=True)
    for number, name in session.each_round((UNTRACED, "opensnoop", "command")):
        reader = ours if name == "command" else None
        session.run("opensnoop", number, name, openat("seconds", seconds), reader)


def sums(session: Session) -> None:
    """Counts and histograms that the kernel makes: what a call pays for them, here and there."""
    seconds = 0.25 if session.quick else 0.5
    for number, name in session.each_round((UNTRACED, *OUR_SUMS, *THEIR_SUMS)):
        load = by_uprobe if name.endswith("latency") else getppid
        session.run("sums", number, name, load("seconds", seconds))


ROWS: dict[str, Callable[[Session], None]] = {
    "tax": tax,
    "rate": rate,
    "start": start.start,
    "memory": memory,
    "curve": curve,
    "threads": threads,
    "merge": merge,
    "opensnoop": opensnoop,
    "sums": sums,
    "kernel": kernel_side.kernel,
}


def measure(session: Session, names: list[str]) -> None:
    """Measures these rows."""
    for name in names:
        say(f"measuring: {name}")
        begun = time.monotonic()
        try:
            ROWS[name](session)
        except FailedError as error:
            session.fail(name, "all", error)
        except OSError as error:  # a process that ended between two looks at /proc
            session.fail(name, "all", f"{error.filename or ''}: {error.strerror}")
        print(f"[benchmark] {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
