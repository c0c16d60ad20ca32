"""Medians, ratios and goals of a session's records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

from .session import UNTRACED, Record

#: The readers of row threads, and events a second; 0: flat out. Two threads of Python
#: share one interpreter, and each has half of its time: that is enough for 300,000 records.
THREADS = tuple(
    (reader + thread, rate)
    for reader, rate in (
        ("ours", 300_000),
        ("ours", 0),
        ("ours, batches", 1_000_000),
        ("BCC, best", 300_000),
    )
    for thread in ("", ", busy thread")
)

#: Of several rounds the worst is told, not the median.
_WORST = ("missing", "hwm_kib")

#: And the best of these: all that disturbs a run makes it longer.
_BEST = ("ns_per_run",)

Medians = dict[str, dict[str, dict[str, float]]]


class Figure(NamedTuple):
    """One figure with a goal. ``value`` is None where it could not be measured."""

    key: str
    text: str
    value: float | None
    goal: float
    at_most: bool = True
    parts: tuple[float | None, ...] = ()  # of a ratio: ours and the other's
    unit: str = ""

    @property
    def verdict(self) -> str:
        """ok, missed, or that there is nothing to judge."""
        if self.value is None:
            return "not measured"
        good = self.value <= self.goal if self.at_most else self.value >= self.goal
        return "ok" if good else "missed"


def derive(record: Record, untraced_ns: float | None = None) -> dict[str, float]:
    """What follows from one run: figures per call and per event."""
    figures: dict[str, float] = {}
    if "elapsed_ns" in record:
        figures["ns_per_call"] = record["busy_ns"] / record["calls"]
        figures["calls_per_s"] = record["calls"] * 1e9 / record["elapsed_ns"]
        if untraced_ns is not None:
            figures["tax_ns"] = figures["ns_per_call"] - untraced_ns
        if record.get("events", 0) > 0:
            figures["events_per_s"] = record["events"] * 1e9 / record["elapsed_ns"]
            if "cpu_ns" in record:
                figures["cpu_ns_per_event"] = record["cpu_ns"] / record["events"]
    if "missing" in record:
        figures["missing"] = max(0, record["missing"])
        figures["missing_share"] = figures["missing"] / record["calls"]
    if record.get("run_cnt"):
        figures["ns_per_run"] = record["run_time_ns"] / record["run_cnt"]
    for name in ("hwm_kib", "instructions"):
        if name in record:
            figures[name] = record[name]
    if "start_ns" in record:
        figures["start_ms"] = record["start_ns"] / 1e6
    return figures


def name_of(record: Record) -> str:
    """What the rounds of a record have in common: its reader, and the rate asked for."""
    rate = record.get("asked_per_s")
    return str(record["reader"]) + ("" if rate is None else f" at {rate or 'flat out'}")


def medians(records: Iterable[Record]) -> Medians:
    """By row and reader, the median over the rounds of each figure, or the worst (losses)."""
    records = list(records)
    untraced = {
        (r["row"], r["round"], r.get("asked_per_s")): r["busy_ns"] / r["calls"]
        for r in records
        if r["reader"] == UNTRACED
    }
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
    for record in records:
        same = record["row"], record["round"], record.get("asked_per_s")
        figures = derive(record, untraced.get(same))
        rounds.setdefault(record["row"], {}).setdefault(name_of(record), []).append(figures)
    return {
        row: {
            reader: {
                key: _of_rounds(key)([figures[key] for figures in runs if key in figures])
                for key in {key: None for figures in runs for key in figures}
            }
            for reader, runs in readers.items()
        }
        for row, readers in rounds.items()
    }


def _of_rounds(key: str) -> Callable[[list[float]], float]:
    return max if key in _WORST else min if key in _BEST else statistics.median


def _ratio(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or not other else ours / other


def _difference(with_it: float | None, without: float | None) -> float | None:
    return None if with_it is None or without is None else with_it - without


def lossless_rate(records: list[Record], reader: str) -> float | None:
    """The highest rate at which this reader missed no event; 0: it missed some at every one."""
    flat_out = [r for r in records if r["row"] == "rate" and r["reader"] == reader]
    if not flat_out:
        return None
    runs: dict[object, list[Record]] = {None: flat_out}
    for record in records:
        if record["row"] == "rate, paced" and record["reader"] == reader:
            runs.setdefault(record["asked_per_s"], []).append(record)
    lossless = [same for same in runs.values() if all(r["missing"] <= 0 for r in same)]
    return max(
        (statistics.median(derive(r)["calls_per_s"] for r in same) for same in lossless),
        default=0.0,
    )


def memory_growth_mib(records: list[Record]) -> float | None:
    """How much more was resident at the end than after the first million events.

    Of a run that is too short for that: than at the first count noted.
    """
    for record in records:
        if record["row"] == "memory" and record["reader"] == "ours, memory":
            noted = sorted((int(events), kib) for events, kib in record["memory"].items())
            later = [kib for events, kib in noted if events >= 1_000_000]
            resident = later if len(later) > 1 else [kib for _, kib in noted]
            return (resident[-1] - resident[0]) / 1024 if len(resident) > 1 else None
    return None


def figures(records: list[Record]) -> list[Figure]:
    """All figures that have a goal, in the order of the table."""
    found = medians(records)

    def get(row: str, reader: str, key: str) -> float | None:
        return found.get(row, {}).get(reader, {}).get(key)

    def ratio(
        key: str, text: str, row: str, ours: str, other: str, figure: str, goal: float
    ) -> Figure:
        parts = get(row, ours, figure), get(row, other, figure)
        unit = "ms" if figure.endswith("_ms") else "ns"
        return Figure(key, text, _ratio(*parts), goal, parts=parts, unit=unit)

    tax, cpu = "tax_ns", "cpu_ns_per_event"
    hwm, batch_hwm = (
        get("memory", f"{name}, memory", "hwm_kib") for name in ("ours", "ours, batches")
    )
    missing = get("rate", "ours, batches", "missing")
    slow, fast = (get("curve", f"ours at {rate}", cpu) for rate in (10_000, "flat out"))
    threads = {
        (name, rate): get("threads", f"{name} at {rate or 'flat out'}", "events_per_s")
        for name, rate in THREADS
    }
    counters = {
        case: (
            get("kernel", f"{case} with COUNTERS", "ns_per_run"),
            get("kernel", f"{case} without COUNTERS", "ns_per_run"),
        )
        for case in ("no output", "filtered")
    }
    batches = "ours, batches"
    return [
        ratio("tax_vs_bcc", "tax per call, against BCC's", "tax", "ours", "BCC", tax, 0.10),
        ratio("tax_vs_bpftrace", "tax per call, bpftrace's", "tax", "ours", "bpftrace", tax, 0.10),
        ratio(
            "tax_vs_c_batched", "tax per call, batched C's", "tax", "ours", "C, batched", tax, 1.2
        ),
        Figure(
            "rate_per_s",
            "highest rate without a loss, batches, events/s",
            lossless_rate(records, batches),
            1.2e6,
            at_most=False,
        ),
        Figure("lost", "events missing flat out, batches, worst round", missing, 0),
        Figure(
            "record_rate_per_s",
            "highest rate without a loss, named records, events/s",
            lossless_rate(records, "ours"),
            1.2e6,
            at_most=False,
        ),
        ratio("reader_cpu_vs_bcc", "CPU per record, BCC's", "tax", "ours", "BCC", cpu, 0.5),
        ratio(
            "reader_cpu_vs_bcc_best",
            "CPU per record, BCC's best",
            "tax",
            "ours",
            "BCC, best",
            cpu,
            0.5,
        ),
        ratio(
            "batch_cpu_vs_bcc", "CPU per event of batches, BCC's", "tax", batches, "BCC", cpu, 0.1
        ),
        ratio(
            "batch_cpu_vs_c",
            "CPU per event of batches, batched C's",
            "tax",
            batches,
            "C, batched",
            cpu,
            3,
        ),
        ratio(
            "line_cpu_vs_bpftrace",
            "CPU per line, bpftrace's",
            "tax",
            "command",
            "bpftrace",
            cpu,
            0.3,
        ),
        Figure(
            "line_cpu_slow_vs_bpftrace",
            "CPU per line at 200,000/s, bpftrace's",
            _ratio(get("merge", "command, 1 CPU, sorted", cpu), get("tax", "bpftrace", cpu)),
            0.3,
            parts=(get("merge", "command, 1 CPU, sorted", cpu), get("tax", "bpftrace", cpu)),
            unit="ns",
        ),
        *(
            ratio(
                f"{sums}_vs_bpftrace",
                f"tax per call of {sums}, bpftrace's",
                "sums",
                f"command, {sums}",
                f"bpftrace, {sums}",
                tax,
                1,
            )
            for sums in ("count", "latency")
        ),
        ratio(
            "start_vs_bpftrace",
            "start to probe, bpftrace's",
            "start",
            "command",
            "bpftrace",
            "start_ms",
            0.4,
        ),
        ratio("start_vs_bcc", "start to probe, BCC's", "start", "command", "BCC", "start_ms", 0.4),
        Figure("peak_mib", "peak memory, MiB", None if hwm is None else hwm / 1024, 35),
        Figure(
            "batch_peak_mib",
            "peak memory of batches, MiB",
            None if batch_hwm is None else batch_hwm / 1024,
            35,
        ),
        Figure(
            "memory_growth_mib",
            "memory gained after the first million events, MiB",
            memory_growth_mib(records),
            1,
        ),
        Figure(
            "cpu_slow_vs_flat_out",
            "CPU per record at 10,000/s, flat out's",
            _ratio(slow, fast),
            2,
            parts=(slow, fast),
            unit="ns",
        ),
        *(
            Figure(
                key,
                f"{text} with a busy second thread, without",
                _ratio(threads[f"{reader}, busy thread", rate], threads[reader, rate]),
                0.99,
                at_most=False,
                parts=(threads[f"{reader}, busy thread", rate], threads[reader, rate]),
                unit="/s",
            )
            for key, text, reader, rate in (
                ("busy_thread", "records/s", "ours", 300_000),
                ("busy_thread_flat_out", "records/s flat out", "ours", 0),
                ("busy_thread_batches", "events/s of batches", batches, 1_000_000),
            )
        ),
        *(
            Figure(
                f"counters_ns_{case.replace(' ', '_')}",
                f"COUNTERS, ns per event, {case}",
                _difference(*pair),
                5,
                parts=pair,
                unit="ns",
            )
            for case, pair in counters.items()
        ),
    ]


#: What stands under ``ratios``; the other figures stand beside it.
def as_json(
    machine: dict[str, Any], records: list[Record], failures: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """The object that --json writes."""
    found = figures(records)
    ratios = {f.key: f.value for f in found if "_vs_" in f.key}
    return {
        "machine": machine,
        "ratios": ratios,
        **{f.key: f.value for f in found if "_vs_" not in f.key},
        "goals": {
            f.key: {"goal": f.goal, "at_most": f.at_most, "verdict": f.verdict} for f in found
        },
        "medians": medians(records),
        "failures": failures,
        "rounds": records,
    }
