"""Returns and stacks as lines, columns, JSON and folded; what an account says of them."""

from __future__ import annotations

import json

import pytest

from libbpf_ctypes.cli.account import Account, begun_before, exit_status, tell
from libbpf_ctypes.cli.columns import Columns
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.folded import Folded, fold
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.json_lines import JsonLines
from libbpf_ctypes.cli.lines import CallLines, format_took
from libbpf_ctypes.cli.recorded import account_of, end_of
from libbpf_ctypes.cli.style import PLAIN, Style
from libbpf_ctypes.events import Counters

from .calls import OPENAT, ORIGIN, RETURNED, KnownStacks, a_return, an_open, call, clock, options
from .json_schema import violations
from .test_json_lines import SCHEMA

FRAMES = """\
    vfs_open+0x1a
    ext4_open+0x2 [ext4]
    open64+0x10 (libc.so.6)
    std::map<a;b, c>::get()+0x5 (p)
    [10]+0x1
"""


def test_a_line_of_a_return() -> None:
    made = CallLines(options(), (RETURNED,), clock(), PLAIN)
    assert made.format([a_return(-2), a_return(7, 5)]) == (
        '[10] cat: ret=-ENOENT, took=12.345us, dfd=AT_FDCWD, filename="/etc/passwd", flags=0, '
        "timestamp=1000000000\n"
        '[10] cat: ret=7, took=0.005us, dfd=AT_FDCWD, filename="/etc/passwd", flags=0, '
        "timestamp=1000000000\n"
    )


def test_what_returns_nothing_took_its_time() -> None:
    void = OPENAT._replace(arguments=OPENAT.arguments[:1], returns=True)
    made = CallLines(options(), (void, OPENAT), clock(), PLAIN)
    first, second = made.format([a_return(), call(values=(1,), function=1)]).splitlines()
    assert first == "[10] cat: openat: took=12.345us, dfd=AT_FDCWD, timestamp=1000000000"
    assert "took" not in second


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0.000us"), (1, "0.001us"), (999_999, "999.999us"), (10**9, "1000000.000us")],
)
def test_how_long_it_took(duration_ns: int, text: str) -> None:
    assert format_took(duration_ns) == text


def test_stacks_follow_the_line() -> None:
    made = CallLines(options(), (OPENAT,), clock(), PLAIN, KnownStacks())
    both, kernel, none = an_open(kernel_stack=7, user_stack=8), an_open(kernel_stack=7), an_open()
    lines = made.format([both, kernel, none]).splitlines(keepends=True)
    assert "".join(lines[1:6]) == FRAMES
    assert "".join(lines[7:9]) == "".join(FRAMES.splitlines(keepends=True)[:2])
    assert [line[:5] for line in (lines[0], lines[6], *lines[9:])] == ["[10] "] * 3


@pytest.mark.parametrize("style", [PLAIN, Style(aligned=True), Style(coloured=True)])
def test_columns_of_returns_and_their_stacks(style: Style) -> None:
    chosen = options(fields=("ret", "took", "args", "dfd"))
    made = Columns(chosen, (RETURNED, OPENAT), clock(), style, KnownStacks())
    events = [a_return(-2, kernel_stack=7, user_stack=8), an_open(function=1)]
    text = made.format(events)
    first, *frames, second = text.splitlines(keepends=True)
    assert "".join(frames) == FRAMES
    arguments = 'dfd=AT_FDCWD, filename="/etc/passwd", flags='
    assert first.split() == f"-ENOENT 12.345us ret=-ENOENT, {arguments}0 AT_FDCWD".split()
    assert second.split() == f"- - {arguments}O_CLOEXEC AT_FDCWD".split()


def test_json_of_returns_and_their_stacks() -> None:
    made = JsonLines(options(), (RETURNED, OPENAT), clock(), ORIGIN, KnownStacks())
    text = made.format([a_return(-2, kernel_stack=7, user_stack=8), an_open(function=1)])
    returned, called = map(json.loads, text.splitlines())
    assert violations(returned, SCHEMA, SCHEMA) == violations(called, SCHEMA, SCHEMA) == []
    assert returned["duration_ns"] == 12345
    assert returned["args"]["ret"] == -2
    assert returned["words"]["ret"] == "-ENOENT"
    frames = [line.strip() for line in FRAMES.splitlines()]
    assert (returned["kernel_stack"], returned["user_stack"]) == (frames[:2], frames[2:])
    assert not {"duration_ns", "kernel_stack", "user_stack"} & set(called)


def test_a_stack_is_folded_into_a_line() -> None:
    user, kernel = KnownStacks().user(8, 5), KnownStacks().kernel(7)
    assert fold((r"a;b\x1b",), user, kernel) == (
        r"a:b\x1b;[5];std::map<a:b, c>::get();open64;ext4_open;vfs_open"
    )
    assert (
        fold(("x",), ("0x7f00", "operator+(int)+0x3 (a (b).so)"), ())
        == "x;operator+(int);[unknown]"
    )


def test_folded_stacks_are_counted() -> None:
    made = call_formatter(
        options(format="folded"), (OPENAT,), clock(), PLAIN, ORIGIN, KnownStacks()
    )
    assert isinstance(made, Folded)
    known = [an_open(kernel_stack=7, pid=pid) for pid in (5, 6, 7)]
    assert made.start() + made.format(known) + made.format([an_open()]) == ""
    assert made.end(None) == "cat;ext4_open;vfs_open 3\ncat 1\n"
    assert made.end(None) == ""
    without = Folded(None)
    without.format([an_open(kernel_stack=7)])
    assert without.end(None) == "cat 1\n"


#: 9 began and 7 returned: 3 were sent, 1 found the buffer full, 3 were quick. 2 were left out
#: when they began, and 1 had no room.
COUNTERS = Counters(5, 3, 1, 0, begun=9, ended=7, no_room=1, unmatched=8, no_stack=0)
ACCOUNT = Account(COUNTERS, 3, 1, 10**9, False, True, missed=0)


def test_the_counters_of_returns() -> None:
    assert COUNTERS.in_flight == 2
    assert COUNTERS.seen == 5 + 3 + 1 + 1 + 2
    assert begun_before(COUNTERS) == 8 - 2 - 1
    assert begun_before(COUNTERS._replace(unmatched=2)) == 0, "those that were left out"
    assert ACCOUNT.adds_up
    assert not ACCOUNT._replace(counters=COUNTERS._replace(ended=10)).adds_up
    again = account_of(end_of(ACCOUNT), ACCOUNT.delivered, ACCOUNT.reported)
    assert again == ACCOUNT


@pytest.mark.parametrize("what", ["no_room", "no_stack"])
def test_strict_fails_for_want_of_room(what: str) -> None:
    clean = Account(Counters(0, 3, 0), 3, 0, 10**9, False, True, missed=0)
    assert exit_status(clean, strict=True) == 0
    short = clean._replace(counters=clean.counters._replace(**{what: 1}))
    assert exit_status(short, strict=True) == 3
    assert exit_status(short, strict=False) == 0


@pytest.mark.parametrize(
    ("counters", "told"),
    [
        (Counters(0, 0, 0, begun=1), "no wanted call of f both began and returned within"),
        (Counters(0, 0, 0, unmatched=1), "no wanted call of f both began and returned within"),
        (Counters(1, 0, 0, unmatched=1), "f was called 1 times, and each call is left out"),
    ],
)
def test_why_no_return_came(
    counters: Counters, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(counters, 0, 0, 10**9, reader_left=False, drained=True)
    assert tell(account, "f", Console(quiet=False, verbose=False))
    assert told in capsys.readouterr().err
