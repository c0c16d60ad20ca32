"""The tables that benchmarks/run prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .report import Figure, Medians, figures, medians
from .session import Record

NOTES = """
ours: PerfBuffer as it comes, named records; batches: NumPy columns, a sum and a maximum
of them, as C has; command: ebpf-tool, its lines to a file, as bpftrace's. C, BCC,
bpftrace and pylibbpf as they come are woken for every event. C, batched: as ours, by
4096 events, 4 MiB for each CPU. BCC, best: by 512 events, 1 MiB. bpftrace, best: 4 MiB,
its output buffered; it knows no other wake-up.

Tax: ns per call less the same round's untraced call; an event that finds the
buffer full costs less than one that is sent, so a reader that loses many looks
better there than it is. CPU: user and system time of all the reader's threads from
attached to idle, by the events it got. Lost: the share of calls that the reader got
no event of. After 256 events that are not measured.

bpftrace 0.17 has no raw tracepoint: it sits on tracepoint:raw_syscalls:sys_enter,
which costs the traced process more by itself. opensnoop also reads the path and the
result of the call. Count: by that tracepoint, ebpf-tool's and bpftrace's count();
latency: by uprobe and uretprobe of libc's syscall(), most of which is the kernel's
own cost, into a histogram by powers of two. Peak memory is each one's in its own
run: only ours is traced for long.
"""


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a table; the first column to the left, the others to the right."""
    rows = list(rows)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths))
        ]
        yield "  " + "  ".join(cells).rstrip()


def _goal_row(figure: Figure) -> tuple[str, ...]:
    sign = "<=" if figure.at_most else ">="
    ours, other = figure.parts if figure.parts else (None, None)
    digits = 1 if figure.unit == "ms" or figure.key.startswith("counters_ns") else 0
    value = figure.value
    decimals = 0 if value is None or value >= 1000 or value == int(value) else 2
    return (
        figure.text,
        f"{_number(ours, digits)} {figure.unit}" if figure.parts else "",
        f"{_number(other, digits)} {figure.unit}" if figure.parts else "",
        _number(value, 3 if value is not None and value < 1 and decimals else decimals),
        f"{sign} {figure.goal:,g}" if figure.goal < 1e6 else f"{sign} {figure.goal:,.0f}",
        figure.verdict,
    )


def _goals(records: list[Record], rows: list[str]) -> Iterator[str]:
    found = [f for f in figures(records) if f.value is not None or ROW_OF.get(f.key, "tax") in rows]
    if found:
        yield "Against the goals (medians)"
        header = ("figure", "ours", "other", "value", "goal", "")
        yield from _columns([header, *map(_goal_row, found)])


#: The row that a figure comes from; the others come from "tax".
ROW_OF = {
    "rate_per_s": "rate",
    "lost": "rate",
    "start_vs_bpftrace": "start",
    "start_vs_bcc": "start",
    "peak_mib": "memory",
    "memory_growth_mib": "memory",
    "cpu_slow_vs_flat_out": "curve",
    "record_rate_per_s": "rate",
    "busy_thread": "threads",
    "busy_thread_batches": "threads",
    "busy_thread_flat_out": "threads",
    "batch_peak_mib": "memory",
    "line_cpu_slow_vs_bpftrace": "merge",
    "count_vs_bpftrace": "sums",
    "latency_vs_bpftrace": "sums",
    "counters_ns_no_output": "kernel",
    "counters_ns_filtered": "kernel",
}

_READER_COLUMNS = (
    ("tax, ns/call", "tax_ns", 0),
    ("calls/s", "calls_per_s", 0),
    ("CPU, ns/event", "cpu_ns_per_event", 0),
    ("lost, %", "missing_share", 2),
    ("peak, MiB", "hwm_kib", 1),
)
_SCALE = {"missing_share": 100, "hwm_kib": 1 / 1024}

_TITLES = {
    "tax": "The producer flat out (ns per call untraced: {untraced})",
    "rate": "A fixed number of events, flat out",
    "rate, paced": "The same, slower, where events were lost",
    "memory": "Many events, flat out",
    "curve": "From a slow producer to one flat out",
    "threads": "A second Python thread in the reader's process",
    "merge": "The command, events sorted by time and not",
    "sums": "Added up in the kernel (ns per call untraced: {untraced})",
    "opensnoop": "Opens of a file that is not there (ns per call untraced: {untraced})",
}


def _readers(row: str, readers: dict[str, dict[str, float]]) -> Iterator[str]:
    untraced = readers.get("untraced", {}).get("ns_per_call")
    yield _TITLES[row].format(untraced=_number(untraced))
    used = [
        column
        for column in _READER_COLUMNS
        if any(
            column[1] in found for name, found in readers.items() if not name.startswith("untraced")
        )
    ]
    lines = [("reader", *(title for title, _, _ in used))]
    for name, found in readers.items():
        if name.startswith("untraced"):
            continue
        cells = []
        for _, key, digits in used:
            value = found.get(key)
            scale = _SCALE.get(key, 1)
            cells.append(_number(None if value is None else value * scale, digits))
        lines.append((name, *cells))
    yield from _columns(lines)


def _memory(records: list[Record]) -> Iterator[str]:
    for record in records:
        if record["row"] == "memory":
            yield f"  {record['calls']:,} calls, {record['events']:,} events"
            for events, kib in sorted((int(n), k) for n, k in record["memory"].items()):
                yield f"  resident after {events:,} events: {kib / 1024:.1f} MiB"


def _start(found: Medians) -> Iterator[str]:
    yield "From the process's start to its uprobe in place"
    lines: list[tuple[str, ...]] = [("command", "ms", "peak, MiB")]
    for name, readers in found["start"].items():
        peak = _number(readers["hwm_kib"] / 1024, 1)
        lines.append((name, _number(readers["start_ms"], 1), peak))
    yield from _columns(lines)


def _kernel(found: Medians) -> Iterator[str]:
    yield "The program in the kernel (its ELF sections; bpf_stats_enabled: both clock reads in)"
    lines: list[tuple[str, ...]] = [("program", "instructions", "ns per run")]
    for name, values in found["kernel"].items():
        per_run = values.get("ns_per_run")
        lines.append((name, _number(values.get("instructions")), _number(per_run, 1)))
    yield from _columns(lines)


def noise(records: list[Record]) -> str:
    """How much of the machine was not ours, in a line."""
    shares = sorted(record.get("stolen_share", 0.0) for record in records) or [0.0]
    median, worst = shares[len(shares) // 2], shares[-1]
    again = sum(record.get("repeated", 0) for record in records)
    shown = f"median {median:.1%} of a run, at worst {worst:.1%}; {again} runs were repeated for it"
    return f"CPU time stolen by the hypervisor: {shown}"


def table(
    records: list[Record], failures: dict[str, dict[str, str]], rows: list[str]
) -> Iterator[str]:
    """The lines that are printed."""
    found = medians(records)
    yield from _goals(records, rows)
    for row, readers in found.items():
        yield ""
        if row == "start":
            yield from _start(found)
        elif row == "kernel":
            yield from _kernel(found)
        else:
            yield from _readers(row, readers)
        if row == "memory":
            yield from _memory(records)
    if failures:
        yield ""
        yield "Not measured"
        for row, reasons in failures.items():
            for reader, reason in reasons.items():
                yield f"  {row}: {reader}: {reason}"
    yield NOTES.rstrip()
