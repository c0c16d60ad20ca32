"""Lines of rich events, in a pipe and on a terminal; columns of chosen fields; colours."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.argument import shown
from libbpf_ctypes.cli.columns import WIDTHS, Columns, wanted_arguments
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.line_options import read_line_options
from libbpf_ctypes.cli.lines import CallLines, Lines
from libbpf_ctypes.cli.style import PLAIN, Style, cut, pad, style_of, width_of
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.events import SyscallEvent

from .calls import NOTHING, OPENAT, ORIGIN, READ, an_open, call, clock, options

ALIGNED, COLOURED = Style(aligned=True), Style(aligned=True, coloured=True)


def lines(*events: object, functions: tuple[object, ...] = (OPENAT,), **given: object) -> list[str]:
    """The lines of events, as in a pipe."""
    made = CallLines(options(**given), functions, clock(), PLAIN)  # type: ignore[arg-type]
    return made.format(events).splitlines()  # type: ignore[arg-type]


def columns(fields: str, *events: object, style: Style = PLAIN, **given: object) -> str:
    """The columns of events of OPENAT, READ and NOTHING."""
    chosen = options(fields=tuple(fields.split(",")), **given)
    made = Columns(chosen, (OPENAT, READ, NOTHING), clock(), style)
    return made.start() + made.format(events)  # type: ignore[arg-type]


def test_all_arguments_with_their_names() -> None:
    assert lines(an_open(flags=0x80001)) == [
        '[10] cat: dfd=AT_FDCWD, filename="/etc/passwd", flags=O_WRONLY|O_CLOEXEC, '
        "timestamp=1000000000"
    ]


def test_what_is_not_there_is_told_from_what_is_empty() -> None:
    dfd, flags = 0xFFFFFF9C, 0x80000
    empty = call(values=(dfd, 1, flags))
    null = call(values=(dfd, 0, flags))
    unreadable = call(values=(0, 0, flags), unreadable=0b011)
    found = [re.findall(r"dfd=(.*), filename=(.*), flags", line)[0] for line in
             lines(empty, null, unreadable)]  # fmt: skip
    assert found == [("AT_FDCWD", '""'), ("AT_FDCWD", "NULL"), ("<unreadable>",) * 2]


def test_texts_are_escaped_and_cut_ones_end_in_dots() -> None:
    long, odd = lines(an_open(b"x" * 300), an_open(b'a"\\\x1b[31m\n\xff'))
    assert f'filename="{"x" * 255}"..., ' in long
    assert r'filename="a\"\\\x1b[31m\x0a\xff", ' in odd


def test_several_functions_are_named() -> None:
    several = (OPENAT, READ, NOTHING)
    found = lines(
        an_open(),
        call(values=(0xFFFF8880,), function=1),
        call(function=2),
        call(function=3),  # that of a damaged recording
        functions=several,
    )
    assert [line.partition(" cat: ")[2].partition(" ")[0] for line in found] == [
        "openat:", "ext4:ext4_read:", "sync:", "function",
    ]  # fmt: skip
    assert found[1] == "[10] cat: ext4:ext4_read: file=0xffff8880, timestamp=1000000000"
    assert found[2] == "[10] cat: sync: timestamp=1000000000"


def test_a_process_of_another_namespace_has_no_number() -> None:
    elsewhere, idle = an_open(pid=0, tid=0), an_open(pid=0, tid=0, host_pid=0, host_tid=0)
    assert [line.partition(" ")[0] for line in lines(elsewhere, idle)] == ["[?]", "[0]"]
    found = lines(elsewhere, an_open(), show_tid=True)
    assert [line.partition(" ")[0] for line in found] == ["[?/?]", "[10/11]"]
    assert columns("pid,tid,host_pid", elsewhere, idle) == "?\t?\t10\n0\t0\t0\n"


def test_raw_arguments_and_times() -> None:
    (raw,) = lines(an_open(), raw_args=True, time="boot")
    assert "dfd=4294967196, filename=" in raw
    assert raw.endswith("flags=524288, timestamp=1.000000")
    (wall,) = lines(an_open(), time="wall")
    assert wall.endswith(", timestamp=2026-09-21T14:13:21.000000+00:00"), wall


def test_a_terminal_has_the_same_tokens_aligned() -> None:
    several = (OPENAT, NOTHING)
    events = [
        an_open(pid=1), call(b"systemd-journal", pid=4194304, function=1), an_open(pid=333),
    ]  # fmt: skip
    piped = CallLines(options(), several, clock(), PLAIN).format(events).splitlines()
    terminal = CallLines(options(), several, clock(), ALIGNED).format(events).splitlines()
    assert [line.split() for line in terminal] == [line.split() for line in piped]
    places = [(line.index(" cat:"), line.index("openat:")) for line in terminal[::2]]
    assert places[0][1] == terminal[1].index("sync:") - 2, "its process id is wider"
    assert places[1][1] == terminal[1].index("sync:")
    assert terminal[2].startswith("[333]     cat:             openat: dfd=")


def test_a_name_in_wide_letters_is_aligned_by_columns() -> None:
    (line,) = (
        CallLines(options(), (OPENAT,), clock(), ALIGNED)
        .format([call("火火".encode(), values=(1, 0, 0))])
        .splitlines()
    )
    assert line.startswith("[10]    火火:            dfd=1")
    assert width_of("火e\u0301x") == 4


def test_colours_are_around_process_and_function_only() -> None:
    events = [an_open(), call(function=1)]
    for style in (Style(coloured=True), COLOURED):
        made = CallLines(options(), (OPENAT, NOTHING), clock(), style).format(events)
        assert (
            len(re.findall("\x1b\\[36m.*?cat: *\x1b\\[0m \x1b\\[32m(openat|sync)\x1b\\[0m: ", made))
            == 2
        )
        bare = CallLines(options(), (OPENAT, NOTHING), clock(), style._replace(coloured=False))
        assert re.sub("\x1b\\[[0-9]*m", "", made) == bare.format(events)


def test_the_plain_line_is_as_it_was_and_aligned_on_a_terminal() -> None:
    event = SyscallEvent(10, 11, 3, 5, "cat")
    argument = shown("fd", None, raw=False)
    plain = Lines(options(), argument, clock(), PLAIN)
    assert plain.format([event]) == "[10] cat: fd=3, timestamp=5\n"
    aligned = Lines(options(), argument, clock(), ALIGNED)
    assert aligned.format([event]) == "[10]    cat:             fd=3, timestamp=5\n"


def test_fields_in_a_pipe() -> None:
    found = columns("time,pid,comm,cpu,uid,cgroup,function,args", an_open(), call(function=2))
    assert found == (
        '1000000000\t10\tcat\t1\t1000\t77\topenat\tdfd=AT_FDCWD, filename="/etc/passwd", '
        "flags=O_CLOEXEC\n"
        "1000000000\t10\tcat\t1\t1000\t77\tsync\t\n"
    )
    every = ",".join(WIDTHS)
    (row,) = columns(every, an_open()).splitlines()
    assert len(row.split("\t")) == len(WIDTHS)


def test_an_argument_is_a_field() -> None:
    found = columns("comm,filename,file", an_open(), call(values=(16,), function=1))
    assert found == 'cat\t"/etc/passwd"\t-\ncat\t-\t0x10\n'
    assert wanted_arguments(["pid", "filename", "arg:pid", "args", "how.flags"]) == [
        "filename", "pid", "how.flags",
    ]  # fmt: skip


def test_an_argument_that_is_called_as_a_field_is() -> None:
    kill = OPENAT._replace(arguments=(OPENAT.arguments[0]._replace(name="pid"),))
    chosen = options(fields=("pid", "arg:pid"))
    assert Columns(chosen, (kill,), clock(), PLAIN).format([call(values=(5,))]) == "10\t5\n"


def test_a_field_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"'file\\x1bname': time, pid, .*filename"):
        columns("comm,file\x1bname")


def test_fields_on_a_terminal() -> None:
    events = [an_open(), an_open(b"/a/very/long/path/that/would/move/all/others"), an_open()]
    first, *rest = columns("pid,filename,flags", *events, style=ALIGNED).splitlines()
    assert first == "PID      FILENAME                  FLAGS"
    assert rest == [
        '10       "/etc/passwd"             O_CLOEXEC',
        '10       "/a/very/long/path/that/would/move/all/others"  O_CLOEXEC',
        '10       "/etc/passwd"             O_CLOEXEC',
    ]
    coloured = columns("comm,pid,function", *events, style=COLOURED)
    assert re.sub("\x1b\\[[0-9]*m", "", coloured) == columns(
        "comm,pid,function", *events, style=ALIGNED
    )
    assert coloured.count("\x1b[36mcat\x1b[0m") == 3


any_bytes = st.binary(max_size=300)


@given(any_bytes, any_bytes, st.booleans())
def test_nothing_in_an_event_can_break_a_line(comm: bytes, path: bytes, aligned: bool) -> None:
    event = an_open(path.replace(b"\0", b"1"))._replace(
        comm=comm[:15].decode("utf-8", "surrogateescape")
    )
    style = Style(aligned)
    (line,) = CallLines(options(), (OPENAT,), clock(), style).format([event]).splitlines()
    assert line.isprintable()
    row = columns("comm,filename,args,pid", event)
    assert row.count("\n") == 1
    assert len(row.split("\t")) == 4


@given(st.text(st.characters(exclude_categories=["C", "Z", "M"])), st.integers(0, 30))
def test_what_is_cut_fits(text: str, width: int) -> None:
    assert text.startswith(cut(text, width))
    assert width_of(cut(text, width)) <= width
    if width_of(text) <= width:
        assert width_of(pad(text, width)) == width


def test_when_there_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    read, write = os.pipe()
    try:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        assert style_of("auto", terminal) == Style(True, True)
        assert style_of("never", terminal) == Style(True, False)
        assert style_of("auto", write) == PLAIN
        assert style_of("always", write) == Style(False, True)
        monkeypatch.setenv("NO_COLOR", "1")
        assert style_of("auto", terminal) == Style(True, False)
        assert style_of("always", terminal) == Style(True, True)
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert style_of("auto", terminal) == Style(True, False)
    finally:
        for fd in (controller, terminal, read, write):
            os.close(fd)


WORDS: dict[str, Any] = {"--pid": [], "--show-tid": False, "--time": "ns", "--raw-args": False}


def test_the_options_choose() -> None:
    words = WORDS
    assert read_line_options(words) == options()
    fields = read_line_options({**words, "--fields": "time,args", "--color": "never"})
    assert fields == options(fields=("time", "args"), color="never")
    kinds = {
        type(call_formatter(chosen, (OPENAT,), clock(), PLAIN, ORIGIN)).__name__
        for chosen in (options(), fields, read_line_options({**words, "--json": True}))
    }
    assert kinds == {"CallLines", "Columns", "JsonLines"}
    for wrong in (
        {"--fields": ""}, {"--fields": "a,,b"}, {"--color": "blue"},
        {"--fields": "pid", "--json": True},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            read_line_options({**words, **wrong})
    for same in ({"--format": "json"}, {"--format": "json", "--json": True}):
        assert read_line_options({**words, **same}) == options(format="json")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"--format": "xml"}, "--format takes lines"),
        ({"--format": "lines", "--json": True}, "--json is --format json"),
        ({"--format": "json", "--fields": "pid"}, "--format json has no use for --fields"),
        ({"--json": True, "--fields": "pid"}, "--json has no use for --fields"),
        ({"--json": True, "--dry-run": True}, "--json has no use for --dry-run"),
        ({"--format": "json", "--dry-run": True}, "--format json has no use for --dry-run"),
        ({"--format": "folded", "FUNCTION": ["f"]}, "ask for them with -k or -u"),
        ({"--format": "folded", "--raw-args": True}, "no use for --raw-args"),
        ({"--format": "folded", "--line-buffered": True}, "no use for --line-buffered"),
        ({"--format": "folded", "--show-tid": True}, "no use for --show-tid"),
        ({"--format": "folded", "--time": "wall"}, "no use for --time"),
        ({"--format": "otlp", "--output": "x"}, "no use for --output"),
        ({"--format": "parquet"}, "name it with -o"),
        ({"--endpoint": "http://here:4318"}, "--format otlp"),
        ({"--endpoint": "ftp://here", "--format": "otlp"}, "--endpoint takes a URL"),
        ({"--endpoint": "http://he re", "--format": "otlp"}, "--endpoint takes a URL"),
    ],
)
def test_what_a_format_has_no_use_for_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_line_options({**WORDS, **wrong})
