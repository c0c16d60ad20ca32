"""What benchmarks/run makes of its rounds: medians, ratios, goals, tables. Rounds are invented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.harness import report, table
from benchmarks.harness.kernel_side import instructions
from benchmarks.harness.rows import FLAT_OUT, ROWS
from benchmarks.harness.session import Session
from libbpf_ctypes.paths import KPROBE_OBJECT

Record = dict[str, Any]

RUN = Path(__file__).parent.parent.parent / "benchmarks" / "run"

#: The keys that others read.
RATIOS = {
    "tax_vs_bcc",
    "tax_vs_bpftrace",
    "tax_vs_c_batched",
    "reader_cpu_vs_bcc",
    "reader_cpu_vs_bcc_best",
    "batch_cpu_vs_bcc",
    "batch_cpu_vs_c",
    "line_cpu_vs_bpftrace",
    "count_vs_bpftrace",
    "latency_vs_bpftrace",
    "start_vs_bpftrace",
    "start_vs_bcc",
}


def run(
    row: str,
    number: int,
    reader: str,
    ns_per_call: float,
    cpu: float = 0,
    missing: int = 0,
    **more: Any,
) -> Record:
    """A run of 1000 calls."""
    record = {"row": row, "round": number, "reader": reader, "calls": 1000}
    record["elapsed_ns"] = record["busy_ns"] = int(ns_per_call * 1000)
    if reader != "untraced":
        events = 1000 - missing
        record.update(events=events, missing=missing, cpu_ns=cpu * events, hwm_kib=10240)
    return {**record, **more}


def flat_out() -> list[Record]:
    """Three rounds; untraced calls become slower, and so do the traced ones."""
    records = []
    for number, untraced in enumerate((100, 200, 400)):
        records += [
            run("tax", number, "untraced", untraced),
            run("tax", number, "ours", untraced + 500, cpu=400 + number),
            run("tax", number, "ours, batches", untraced + 500, cpu=50),
            run("tax", number, "command", untraced + 500, cpu=900),
            run("tax", number, "C, batched", untraced + 400, cpu=25),
            run("tax", number, "BCC", untraced + 8000, cpu=4000),
            run("tax", number, "BCC, best", untraced + 500, cpu=800, missing=250),
            run("tax", number, "bpftrace", untraced + 10000, cpu=4500),
        ]
    return records


def found(records: list[Record]) -> dict[str, report.Figure]:
    return {figure.key: figure for figure in report.figures(records)}


def test_the_tax_is_over_the_same_rounds_untraced_call() -> None:
    medians = report.medians(flat_out())["tax"]
    assert medians["ours"]["tax_ns"] == 500
    assert medians["ours"]["ns_per_call"] == 700
    assert "tax_ns" not in medians["untraced"] or medians["untraced"]["tax_ns"] == 0
    assert medians["ours"]["cpu_ns_per_event"] == 401


def test_cpu_is_by_the_events_that_came() -> None:
    best = report.medians(flat_out())["tax"]["BCC, best"]
    assert best["cpu_ns_per_event"] == 800
    assert best["missing_share"] == 0.25


def test_losses_and_memory_are_the_worst_rounds() -> None:
    records = [run("rate", n, "ours", 400, missing=lost) for n, lost in enumerate((0, 7, 0))]
    records[1]["hwm_kib"] = 20480
    ours = report.medians(records)["rate"]["ours"]
    assert ours["missing"] == 7
    assert ours["hwm_kib"] == 20480


def test_ratios_and_verdicts() -> None:
    figures = found(flat_out())
    values = {key: figure.value for key, figure in figures.items() if figure.value is not None}
    assert values == pytest.approx(
        {
            "tax_vs_bcc": 500 / 8000,
            "tax_vs_bpftrace": 500 / 10000,
            "tax_vs_c_batched": 500 / 400,
            "reader_cpu_vs_bcc": 401 / 4000,
            "reader_cpu_vs_bcc_best": 401 / 800,
            "batch_cpu_vs_bcc": 50 / 4000,
            "batch_cpu_vs_c": 2,
            "line_cpu_vs_bpftrace": 0.2,
        }
    )
    assert figures["tax_vs_bcc"].verdict == "ok"
    assert figures["tax_vs_c_batched"].verdict == "missed"
    assert figures["reader_cpu_vs_bcc_best"].verdict == "missed"
    assert figures["start_vs_bcc"].verdict == "not measured"


def test_the_highest_rate_is_one_without_a_loss() -> None:
    clean = [run("rate", number, "ours", 500) for number in range(3)]
    assert report.lossless_rate(clean, "ours") == 2e6
    lossy = [*clean, run("rate", 3, "ours", 400, missing=1)]
    assert report.lossless_rate(lossy, "ours") == 0
    paced = [
        run("rate, paced", 0, "ours", 625, missing=3, asked_per_s=1600000),
        run("rate, paced", 0, "ours", 800, asked_per_s=1250000),
    ]
    assert report.lossless_rate([*lossy, *paced], "ours") == 1.25e6
    again = run("rate, paced", 1, "ours", 800, missing=1, asked_per_s=1250000)
    assert report.lossless_rate([*lossy, *paced, again], "ours") == 0
    assert report.lossless_rate(clean, "C, batched") is None
    batches = [run("rate", 0, "ours, batches", 500, missing=1)]
    batches.append(run("rate, paced", 0, "ours, batches", 800, asked_per_s=1250000))
    figures = found([*lossy, *paced, *batches])
    assert (figures["rate_per_s"].value, figures["rate_per_s"].verdict) == (1.25e6, "ok")
    assert (figures["record_rate_per_s"].value, figures["lost"].value) == (1.25e6, 1)
    assert figures["lost"].verdict == "missed"


def test_memory_is_flat_from_the_first_million() -> None:
    noted = {"20000000": 27648, "100000": 20480, "1000000": 26624, "50000000": 27648}
    records = [run("memory", 0, "ours, memory", 400, memory=noted)]
    assert report.memory_growth_mib(records) == 1
    assert found(records)["peak_mib"].value == 10
    short = [run("memory", 0, "ours, memory", 400, memory={"100000": 20480, "900000": 22528})]
    assert report.memory_growth_mib(short) == 2
    assert report.memory_growth_mib([]) is None


def test_rates_of_the_curve_are_kept_apart() -> None:
    records = [
        run("curve", 0, "ours", 100000, cpu=800, asked_per_s=10_000),
        run("curve", 0, "ours", 400, cpu=400, asked_per_s=0),
    ]
    assert found(records)["cpu_slow_vs_flat_out"].value == 2
    assert list(report.medians(records)["curve"]) == ["ours at 10000", "ours at flat out"]


def test_counters_cost_the_difference_of_two_runs() -> None:
    records = [
        run("kernel", number, f"no output {name} COUNTERS", 100, run_time_ns=time, run_cnt=10)
        for number in range(3)
        for name, time in (("with", 1060 + number), ("without", 1000 + 7 * number))
    ]
    figure = found(records)["counters_ns_no_output"]  # of the fastest rounds
    assert figure.value == pytest.approx(6)
    assert figure.verdict == "missed"


def test_the_json_has_every_key_and_the_raw_rounds() -> None:
    records = flat_out()
    made = report.as_json({"cpu": "Z80"}, records, {"start": {"BCC": "no headers"}})
    assert set(made["ratios"]) >= RATIOS
    assert {"machine", "rate_per_s", "lost", "peak_mib", "medians", "rounds"} <= set(made)
    assert made["rounds"] is records
    assert made["machine"] == {"cpu": "Z80"}
    assert made["failures"] == {"start": {"BCC": "no headers"}}
    assert made["goals"]["tax_vs_bcc"] == {"goal": 0.1, "at_most": True, "verdict": "ok"}


def test_the_table_says_what_was_missed_and_what_is_missing() -> None:
    failures = {"tax": {"pylibbpf": "pylibbpf is not available: no build"}}
    text = "\n".join(table.table(flat_out(), failures, ["tax"]))
    line = next(line for line in text.splitlines() if "batched C's" in line and "tax" in line)
    assert line.split()[-1] == "missed"
    assert "tax: pylibbpf: pylibbpf is not available: no build" in text
    assert "start to probe" not in text  # that row was not asked for
    assert "start to probe" in "\n".join(table.table([], {}, ["start"]))


def test_the_tables_hold_every_row() -> None:
    records = flat_out()
    usual = [row for row in ROWS if row not in ("tax", "memory", "start", "kernel")]
    records += [run(row, 0, "ours", 400) for row in usual]
    records.append(run("memory", 0, "ours, memory", 400, memory={"100000": 1024}))
    records.append({"row": "start", "round": 0, "reader": "command", "start_ns": 9, "hwm_kib": 1})
    records.append({"row": "kernel", "round": 0, "reader": "the load", "instructions": 55})
    text = "\n".join(table.table(records, {}, list(ROWS)))
    assert "resident after 100,000 events: 1.0 MiB" in text
    assert "the load" in text


def test_the_readers_of_the_main_row_begin_untraced() -> None:
    assert FLAT_OUT[0] == "untraced"
    assert len(set(FLAT_OUT)) == len(FLAT_OUT)


def test_instructions_are_counted_in_the_object() -> None:
    assert 500 <= instructions(KPROBE_OBJECT) <= 8000  # of all programs


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "speed"], "there is no row 'speed'"),
        (["--rounds", "4"], "fewer than 5 rounds"),
        (["--quick", "--rounds", "0"], "fewer than 5 rounds"),
        (["--only", "tax", "--plot", "a.svg"], "--plot draws the row curve"),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr


def test_the_help_names_the_rows_and_the_exit_status() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--help"], capture_output=True, text=True, check=True
    )
    assert all(row in done.stdout for row in ROWS)
    assert "Exit status" in done.stdout


def test_what_the_hypervisor_took_is_told() -> None:
    records = [run("tax", n, "ours", 400, stolen_share=share) for n, share in enumerate((0, 0.5))]
    records.append(run("tax", 2, "ours", 400, stolen_share=0.01, repeated=2))
    assert table.noise(records).endswith(
        "median 1.0% of a run, at worst 50.0%; 2 runs were repeated for it"
    )
    assert "0.0%" in table.noise([])


def test_a_run_is_repeated_while_the_hypervisor_takes_much(monkeypatch: Any) -> None:
    shares = [0.2, 0.1, 0.3, 0.01, 0.5]
    machine, peers = SimpleNamespace(), SimpleNamespace(get=lambda name: name)
    machine.run = lambda *_a, **_k: {"stolen_share": shares.pop(0)}
    session = Session(cast(Any, machine), cast(Any, peers), 1, quick=True)
    load = cast(Any, None)
    session.run("tax", 0, "ours", load)
    session.run("tax", 0, "C", load)
    session.run("memory", 0, "ours", load, watch=lambda *_: None)
    found = [(record["stolen_share"], record["repeated"]) for record in session.records]
    assert found == [(0.1, 2), (0.01, 0), (0.5, 0)]
