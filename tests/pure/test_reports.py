"""latency and count: their options, what they print, and the account at their end."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from libbpf_ctypes.cli import usage
from libbpf_ctypes.cli.aggregate_options import Aggregate, read_aggregate
from libbpf_ctypes.cli.by import ARGUMENT, By
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.histogram import Scale, read_scale
from libbpf_ctypes.cli.json_lines import JsonLines
from libbpf_ctypes.cli.report import JsonReport, Section
from libbpf_ctypes.cli.rows import Row
from libbpf_ctypes.cli.style import PLAIN, Style
from libbpf_ctypes.cli.sums import Sums, exit_status, tell
from libbpf_ctypes.cli.tables import CountTable, FoldedCounts, Histograms
from libbpf_ctypes.cli.tally import Tally
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.events import Counters

from .calls import OPENAT, ORIGIN, clock, options
from .helpers import usage_text
from .test_json_lines import records

TERMINAL = Style(aligned=True)
AT = "2026-09-21T14:13:21.500000+00:00"


def read(line: str) -> Aggregate:
    """The options of a command line."""
    words = usage.parse(usage_text(), shlex.split(line))
    return read_aggregate(words, times=words["latency"])


def row(*cells: str, tally: Tally, kernel: Any = (), user: Any = (), **json: Any) -> Row:
    return Row(cells, kernel, user, json, tally)


def times(calls: int, total_ns: int, max_ns: int | None, **slots: int) -> Tally:
    """A tally with so many calls in these slots."""
    counted = tuple(slots.get(f"s{slot}", 0) for slot in range(64))
    assert sum(counted) == calls
    return Tally(calls, total_ns, max_ns, counted)


def section(*rows: Row, groups: int = 0, calls: int = 0, number: int = 1) -> Section:
    """A section with these rows, and so many groups and calls that are left out."""
    shown = sum(each.tally.calls for each in rows)
    times_ns = (5 * 10**8, 10**9 + 5 * 10**8)
    return Section(number, *times_ns, list(rows), len(rows) + groups, shown + calls)


# --- options


def test_without_options_calls_are_by_their_function() -> None:
    found = read("count 'vfs_*'")
    assert found[1:] == (False, By(("function",)), 0.0, 0, Scale(), "", False)
    assert not found.options.lines.json
    assert read("latency vfs_read").times


def test_the_options_are_read() -> None:
    found = read("count openat --by comm,dfd:hex -i 0.5 --top 3 --json -d 5 -p 7 --strict")
    assert found.by == By(("comm", ARGUMENT), "dfd:hex")
    assert (found.interval, found.top) == (0.5, 3)
    assert found.options.args == ("dfd:hex",)
    assert found.options.lines.json
    assert (found.options.seconds, found.options.choice.pids, found.options.strict) == (
        5,
        (7,),
        True,
    )
    found = read("latency fsync --linear 0:10ms:500us --plot f.svg --by stack")
    assert found.scale == read_scale("0:10ms:500us")
    assert found.plot == "f.svg"
    assert (found.options.kernel_stack, found.options.user_stack) == (True, True)


def test_folded_stacks_are_by_process_unless_asked_otherwise() -> None:
    assert read("count vfs_read --format folded").by == By(("comm", "stack"))
    assert read("count vfs_read --format folded --by kernel-stack").by == By(("kernel-stack",))
    assert read("count vfs_read --format folded").folded
    assert read("count vfs_read --format json").options.lines.json


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("count f --format folded --by comm", "ask for them with --by stack"),
        ("count f --format folded --json", "--json is --format json"),
        ("count f --format parquet", "--format takes lines, json or folded"),
        ("count f --format folded --dry-run", "folded has no use for --dry-run"),
        ("count f --json --dry-run", "--json has no use for --dry-run"),
        ("count f --by comm,", "with commas between"),
        ("count f -i 0", "--interval takes more than 0"),
        ("count f -i x", "--interval takes a number"),
        ("count f --top 0", "--top takes a whole number"),
        ("count f --linear 0:1s:1ms", "takes no option --linear"),
        ("latency f --linear 0:1s:1ms", "that is 1000 steps"),
        ("latency f --by dfd", "latency is not by arguments, as 'dfd'; count is"),
        ("latency f --by fucntion", r"as 'fucntion' \(did you mean function\?\)"),
        ("latency f --arg dfd", "takes no option --arg"),
        ("latency f --plot f.png", "name the file as FILE.svg"),
        ("latency f --plot x.svg -o ./x.svg", "name the same file"),
        ("latency f --format folded", "takes no option --format"),
        ("count uprobe:libc:read --by comm,kernel-stack", "does not call a program's functions"),
        ("count uprobe:libc:read --address 0x10", "--address is of the kernel's functions"),
        ("count tracepoint:a:b --all", "--all is of functions"),
        ("latency f --sample 1/10", "takes no option --sample"),
        ("latency tracepoint:sched:sched_switch", "a tracepoint does not return"),
        ("count vfs_read tracepoint:sched:sched_switch", "go not together"),
        ("count uprobe:", "'' is not the name of a binary's function"),
        ("count 5", "'5' is not the name of a kernel function"),
    ],
)
def test_what_makes_no_sense_is_refused(line: str, wrong: str) -> None:
    with pytest.raises(usage.UsageError, match=wrong):
        read(line)


@pytest.mark.parametrize(
    ("line", "kind", "names", "probe"),
    [
        (
            "latency vfs_read ext4:ext4_sync_fs",
            "kprobe",
            ("vfs_read", "ext4:ext4_sync_fs"),
            "kretprobe",
        ),
        ("count 'vfs_*'", "kprobe", ("vfs_*",), "kprobe"),
        ("latency uprobe:libc:getaddrinfo", "uprobe", ("libc:getaddrinfo",), "uretprobe"),
        ("count uprobe::main uprobe:/bin/a:b", "uprobe", (":main", "/bin/a:b"), "uprobe"),
        ("count tracepoint:sched:*", "tracepoint", ("sched:*",), "tracepoint"),
    ],
)
def test_what_is_probed_is_written_before_its_name(
    line: str, kind: str, names: tuple[str, ...], probe: str
) -> None:
    found = read(line).options
    assert (found.kind, found.words, found.probe) == (kind, names, probe)


# --- count's text


ROWS = (
    row("cat", '"/etc/a b"', tally=Tally(1200)),
    row("sh", "NULL", tally=Tally(7), kernel=("vfs_read+0x1",), user=("read+0x10 (libc.so.6)",)),
)


def test_counts_in_a_pipe_have_tabs_between() -> None:
    table = CountTable(("comm", "filename"), clock(), PLAIN, timed=False)
    lines = '1200\tcat\t"/etc/a b"\n7\tsh\tNULL\n    vfs_read+0x1\n    read+0x10 (libc.so.6)\n'
    assert table.section(section(*ROWS, groups=3, calls=5)) == lines
    assert table.section(section()) == ""


def test_counts_of_intervals_have_their_ends_in_front() -> None:
    table = CountTable(("comm",), clock(), PLAIN, timed=True)
    assert table.section(section(row("cat", tally=Tally(2)))) == f"{AT}\t2\tcat\n"


def test_counts_on_a_terminal_are_aligned_under_a_heading() -> None:
    table = CountTable(("comm", "filename"), clock(), TERMINAL, timed=False)
    assert table.section(section(*ROWS, groups=3, calls=5)).splitlines() == [
        "CALLS  COMM  FILENAME",
        ' 1200  cat   "/etc/a b"',
        "    7  sh    NULL",
        "    vfs_read+0x1",
        "    read+0x10 (libc.so.6)",
        "and 3 more with 5 calls",
    ]
    timed = CountTable(("comm",), clock(), TERMINAL, timed=True)
    assert timed.section(section()) == f"{AT}: no calls\n"
    assert timed.section(section(row("cat", tally=Tally(2)))).splitlines()[0] == AT


def test_folded_stacks_begin_at_the_outermost_function() -> None:
    folded = FoldedCounts().section(
        section(
            row(
                "a;b",
                tally=Tally(3),
                kernel=("vfs_read+0x1a", "ext4_file_read+0x2 [ext4]"),
                user=("read+0x10 (libc.so.6)", "main+0x7 (/tmp/a b)", "0x1234"),
            )
        )
    )
    assert folded == "a:b;[unknown];main;read;ext4_file_read;vfs_read 3\n"


# --- latency's text


def test_a_histogram_is_below_what_is_to_be_said_of_it() -> None:
    cat = row("vfs_read", "cat", tally=times(100, 250_000, 9000, s10=90, s11=9, s13=1))
    made = Histograms(("function", "comm"), Scale(), clock(), PLAIN, width=60, timed=False)
    assert made.section(section(cat, groups=2, calls=9)).splitlines() == [
        "vfs_read, comm=cat: 100 calls, 250us in all, mean 2.5us, longest 9us; "
        "half < 2.05us, 99% < 4.1us",
        "  1.02us - 2.05us         90  |@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
        "  2.05us - 4.1us           9  |@@@                         |",
        "   4.1us - 8.19us          0  |                            |",
        "  8.19us - 16.4us          1  |@                           |",
        "",
        "and 2 more groups with 9 calls",
        "",
    ]


def test_a_longest_that_is_not_known_is_not_told() -> None:
    made = Histograms(("cpu",), read_scale("0:10us:1us"), clock(), PLAIN, width=40, timed=True)
    text = made.section(section(row("1", tally=times(1, 5500, None, s6=1))))
    assert text.splitlines()[:2] == [
        AT, "cpu=1: 1 call, 5.5us in all, mean 5.5us; half < 6us, 99% < 6us",
    ]  # fmt: skip
    assert made.section(section()) == f"{AT}: no calls\n"


# --- JSON


def report(kind: str, scale: Scale | None) -> JsonReport:
    header = JsonLines(options(format="json"), (OPENAT,), clock(), ORIGIN)
    return JsonReport(kind, scale, header, clock())


def test_counts_are_objects() -> None:
    made = report("count", None)
    shown = row("cat", tally=Tally(3), by={"comm": "cat", "dfd": -100}, words={"dfd": "AT_FDCWD"})
    header, count, interval = records(
        made.start() + made.section(section(shown, groups=1, calls=4, number=2))
    )
    assert header["type"] == "header"
    assert count == {
        "type": "count",
        "interval": 2,
        "by": {"comm": "cat", "dfd": -100},
        "words": {"dfd": "AT_FDCWD"},
        "calls": 3,
    }
    assert interval == {
        "type": "interval",
        "interval": 2,
        "start_ns": 5 * 10**8,
        "end_ns": 15 * 10**8,
        "time": AT,
        "groups": 2,
        "calls": 7,
        "groups_left_out": 1,
        "calls_left_out": 4,
    }


def test_histograms_are_objects_with_exact_bounds() -> None:
    stacks = {"kernel_stack": ["vfs_read+0x1a"], "user_stack": []}
    shown = row(tally=times(3, 9000, None, s10=2, s12=1), by=stacks)
    latency, _interval = records(report("latency", Scale()).section(section(shown)))
    assert latency == {
        "type": "latency",
        "interval": 1,
        "by": stacks,
        "calls": 3,
        "total_ns": 9000,
        "max_ns": None,
        "buckets": [
            {"from_ns": 1024, "to_ns": 2048, "calls": 2},
            {"from_ns": 2048, "to_ns": 4096, "calls": 0},
            {"from_ns": 4096, "to_ns": 8192, "calls": 1},
        ],
    }
    above = row(tally=times(1, 10**9, 10**9, s40=1), by={})
    (latency, _) = records(report("latency", read_scale("0:1ms:1ms")).section(section(above)))
    assert latency["buckets"] == [{"from_ns": 10**6, "to_ns": None, "calls": 1}]


def test_errors_are_objects_among_the_others() -> None:
    (error,) = records(report("count", None).error(BpfError("load", 1, "no")))
    assert error["errno"] == 1


# --- the account


#: 20 calls: 3 filtered, 10 counted, 1 unreadable, 2 without room, 4 not returned.
COUNTERS = Counters(3, 10, 0, 1, begun=15, ended=11, no_room=2, unmatched=9, no_stack=1)
SUMS = Sums(COUNTERS, 10, 2, 2 * 10**9, 5, True)
CLEAN = Sums(Counters(3, 10, 0), 10, 1, 2 * 10**9, None, False)


def told(sums: Sums, capsys: pytest.CaptureFixture[str]) -> list[str]:
    tell(sums, "vfs_read", 1024, Console(quiet=False, verbose=False))
    return capsys.readouterr().err.splitlines()


def test_all_calls_are_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(CLEAN, capsys)
    assert line == (
        "[INFO] 13 calls in 2.0 seconds: 3 filtered, 10 counted in 1 group; "
        "missed: not known before Linux 6.7"
    )
    *errors, line = told(SUMS, capsys)
    assert line == (
        "[INFO] 20 calls in 2.0 seconds: 3 filtered, 1 unreadable, 2 without room, "
        "4 not returned, 10 counted in 2 groups; at least 4 returned whose calls were not seen; "
        "5 missed"
    )
    for error, words in zip(
        errors, ("2 calls were left out: there is room for 1024 groups", "1 stacks", "1 calls", "5")
    ):
        assert error.startswith(f"[ERROR] {words}")
    assert len(errors) == 4


def test_numbers_that_do_not_add_up_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = CLEAN._replace(calls=9)
    assert "The accounts do not add up" in told(wrong, capsys)[0]
    assert [exit_status(sums, strict=False) for sums in (CLEAN, SUMS, wrong)] == [0, 0, 1]
    assert [exit_status(sums, strict=True) for sums in (CLEAN, SUMS, wrong)] == [0, 3, 1]


@pytest.mark.parametrize("what", ["no_room", "no_stack", "unreadable"])
def test_under_strict_nothing_may_be_left_out(what: str) -> None:
    left_out = CLEAN._replace(counters=CLEAN.counters._replace(**{what: 1}))
    assert exit_status(left_out, strict=True) == 3
    assert exit_status(CLEAN._replace(missed=1), strict=True) == 3


def test_nothing_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    why, _line = told(Sums(Counters(0, 0, 0), 0, 0, 10**9, 0, False), capsys)
    assert "vfs_read was not called" in why
    why, _line = told(Sums(Counters(7, 0, 0), 0, 0, 10**9, 0, False), capsys)
    assert "vfs_read was called 7 times, and each call is left out" in why
    in_flight = Counters(0, 0, 0, begun=1)
    why, _line = told(Sums(in_flight, 0, 0, 10**9, 0, True), capsys)
    assert "no wanted call of vfs_read both began and returned" in why


def test_the_account_is_an_object() -> None:
    (total,) = records(report("latency", Scale()).end(SUMS))
    assert total["adds_up"]
    parts = ("filtered", "unreadable", "counted", "no_room", "not_returned")
    assert total["seen"] == sum(total[name] for name in parts)
    (total,) = records(report("count", None).end(CLEAN))
    assert {"unmatched", "not_returned"}.isdisjoint(total)
