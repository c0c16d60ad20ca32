"""The curve as SVG, with matplotlib: CPU per event against events per second.

python plot.py FILE.svg < the object that benchmarks/run --json writes
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

matplotlib.rcParams["svg.hashsalt"] = "libbpf_ctypes"  # the same figures make the same file


def points(rounds: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Of each reader: the medians of events per second and of CPU nanoseconds per event."""
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for run in rounds:
        if run["row"] == "curve" and run.get("events") and not run.get("too_slow"):
            point = run["events"] * 1e9 / run["elapsed_ns"], run["cpu_ns"] / run["events"]
            runs.setdefault(run["reader"], {}).setdefault(run["asked_per_s"], []).append(point)
    return {
        reader: sorted(
            (statistics.median(p[0] for p in found), statistics.median(p[1] for p in found))
            for found in rates.values()
        )
        for reader, rates in runs.items()
    }


def main() -> None:
    report = json.load(sys.stdin)
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for reader, found in points(report["rounds"]).items():
        axes.plot(*zip(*found), marker="o", label=reader)
    axes.set(
        xscale="log", yscale="log", xlabel="events per second", ylabel="reader CPU, ns per event"
    )
    axes.set_title(f"{report['machine']['cpu']}, Linux {report['machine']['kernel']}", fontsize=9)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(sys.argv[1], format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
