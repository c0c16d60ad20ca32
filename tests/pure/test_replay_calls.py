"""Recordings of rich events: a replay prints, byte for byte, what was printed live."""

from __future__ import annotations

import io
import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.cli import replay
from libbpf_ctypes.cli.account import Account, tell
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.formats import Format
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.line_options import read_line_options
from libbpf_ctypes.cli.origin import Traced, here
from libbpf_ctypes.cli.recorded import (
    as_calls,
    call_decoder,
    format_of,
    function_record,
    is_of_calls,
    plain_function,
    sample_decoder,
    stack_record,
    take_stacks,
    traced_functions,
)
from libbpf_ctypes.cli.recorder import Recorder
from libbpf_ctypes.cli.replay import recorded_argument
from libbpf_ctypes.cli.stacks import RecordedStacks, Stacks
from libbpf_ctypes.cli.style import PLAIN
from libbpf_ctypes.cli.text import WallClock
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.events import Counters, call_event_schema
from libbpf_ctypes.recording import RecordingReader
from libbpf_ctypes.recording_format import Clock, Functions, Samples
from libbpf_ctypes.recording_layout import layout_of

from ..fuzz.fuzz_recording import fuzz_recording
from .calls import NOTHING, OPENAT, READ, RETURNED, KnownStacks, sample
from .json_schema import violations
from .recordings import chunk, event, header, write
from .replaying import record
from .replaying import replay as replay_of
from .test_json_lines import SCHEMA


@pytest.fixture(autouse=True)
def _process_of_its_own() -> Iterator[None]:
    """What the command changes in its process is as it was for the next test."""
    logger = logging.getLogger("libbpf_ctypes")
    handler, handlers = signal.getsignal(signal.SIGINT), list(logger.handlers)
    yield
    signal.signal(signal.SIGINT, handler)
    logger.handlers[:] = handlers


FUNCTIONS = (OPENAT, READ, NOTHING)
WORDS: dict[str, Any] = {
    "--pid": [], "--show-tid": False, "--time": "ns", "--raw-args": False, "--quiet": False,
}  # fmt: skip

#: Batches of what was read at once, and what was reported lost before each.
Batches = list[tuple[list[bytes], list[tuple[int, int]]]]
BATCHES: Batches = [
    (
        [
            sample(b"cat", (0xFFFFFF9C, 12, 0x80001), (b"/etc/passwd",)),
            sample(b"\x1b[31m\xff", (3, 0, 0), pid=0, tid=0, host_pid=5, timestamp_ns=2 * 10**9),
        ],
        [],
    ),
    ([sample(b"dd", (2**63,), function=1, timestamp_ns=3 * 10**9)], [(1, 4), (0, 2)]),
    (
        [
            sample(b"sync", function=2, timestamp_ns=31 * 10**8),
            sample(b"cat", (1, 256, 0), (b"x" * 255,), timestamp_ns=5 * 10**9, unreadable=1),
        ],
        [(1, 1)],
    ),
]
ACCOUNT = Account(
    Counters(4, 5, 9, 2), 5, 7, 3 * 10**9, False, True, refused_cpus=((0, 2), (1, 7)), missed=0
)


def live(
    path: Path,
    words: dict[str, Any],
    functions: tuple[Traced, ...] = FUNCTIONS,
    batches: Batches = BATCHES,
    account: Account = ACCOUNT,
    stacks: Stacks | None = None,
) -> tuple[str, str]:
    """What the command prints while it records: the events, and the account."""
    console = Console(quiet=False, verbose=False)
    options, clock = read_line_options(words), WallClock()
    calls = ([function_record(function) for function in functions], call_event_schema(1))
    recorder = Recorder(str(path), "openat ext4:*", 0, None, clock, console, calls, stacks)
    formatter = call_formatter(options, functions, clock, PLAIN, here(), stacks)
    text = formatter.start()
    errors: list[str] = []
    console.also = lambda error: errors.append(formatter.error(error))
    for number, (samples, losses) in enumerate(batches):
        for cpu, count in losses:
            recorder.lost(cpu, count)
            formatter.lost(cpu, count)
        pairs = [(number, data) for data in samples]
        events = recorder.decode(pairs)
        recorder.add(pairs)
        text += formatter.format(events)
    tell(account, "openat", console)
    recorder.end(account)
    return text + "".join(errors) + formatter.end(account), "".join(errors)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"--show-tid": True, "--time": "wall"},
        {"--raw-args": True, "--time": "boot"},
        {"--json": True},
        {"--json": True, "--raw-args": True},
        {"--fields": "time,pid,host_pid,comm,function,cpu,args"},
        {"--fields": "filename,file,ns_tid,uid,cgroup", "--time": "wall"},
    ],
)
def test_a_replay_prints_what_was_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    words = {**WORDS, **change, "FILE": str(tmp_path / "trace.rec")}
    text, _errors = live(tmp_path / "trace.rec", words)
    told = capfd.readouterr().err
    assert replay.run(words) == 0
    again = capfd.readouterr()
    assert again.out == text
    assert text.count("\n") >= 5
    introduction, *rest = again.err.splitlines()
    assert rest == told.splitlines()
    assert introduction.startswith("[INFO] Replaying ")
    assert ": openat ext4:*, recorded by" in introduction
    if "--json" in change:
        records = [json.loads(line) for line in text.splitlines()]
        assert all(violations(record, SCHEMA, SCHEMA) == [] for record in records)
        kinds = [record["type"] for record in records]
        assert kinds == [
            "header", "event", "event", "lost", "event", "event", "lost", "event",
            "error", "error", "summary",
        ]  # fmt: skip


RETURNS: Batches = [
    (
        [
            sample(values=(1, 12, 0, 2**64 - 2), duration_ns=999, kernel_stack=7),
            sample(values=(1, 12, 0, 5), duration_ns=10**9, kernel_stack=7, user_stack=8),
        ],
        [],
    ),
    ([sample(values=(1, 12, 0, 5), pid=77, user_stack=8)], []),
]
#: 2 had not returned, 1 found no room, 3 returned that had begun before; 4 were quick.
RETURNS_ACCOUNT = Account(
    Counters(4, 3, 0, 0, 9, 7, 1, 4, 6), 3, 0, 10**9, False, True, missed=None
)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"--json": True},
        {"--fields": "took,ret,args"},
        {"--format": "folded", "FUNCTION": ["f"], "--user-stack": True},
    ],
)
def test_a_replay_of_returns_and_stacks_prints_what_was_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    words = {**WORDS, **change}
    path = tmp_path / "trace.rec"
    trace = ((RETURNED,), RETURNS, RETURNS_ACCOUNT, KnownStacks())
    text, _errors = live(path, words, *trace)
    told = capfd.readouterr().err
    assert replay.run({**words, "FILE": str(path), "FUNCTION": []}) == 0
    again = capfd.readouterr()
    assert again.out == text
    recorded = told.replace("missed: not known before Linux 6.7", "missed: not recorded")
    assert again.err.splitlines()[1:] == recorded.splitlines()
    assert "vfs_open" in text
    assert "[77]" in text
    assert "1 calls were left out: too many others were under way" in told
    assert "10 calls seen: 4 filtered, 3 delivered, 1 found no room, 2 not returned, 0 lost" in told
    assert "3 more returned whose calls were not seen" in told
    assert "6 stacks are not shown" in told
    if "--json" in change:
        records = [json.loads(line) for line in text.splitlines()]
        assert all(violations(record, SCHEMA, SCHEMA) == [] for record in records)
        assert records[0]["functions"][0]["returns"] is True
        assert (records[-1]["in_flight"], records[-1]["unmatched"]) == (2, 4)


def test_a_recording_without_stacks_says_so_to_who_folds_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = {**WORDS, "FILE": str(tmp_path / "trace.rec")}
    live(tmp_path / "trace.rec", words)
    capfd.readouterr()
    assert replay.run({**words, "--format": "folded"}) == 0
    told = capfd.readouterr()
    assert told.out == "cat 2\n\\x1b[31m\\xff 1\ndd 1\nsync 1\n"
    assert "[WARNING] There are no stacks in it: it was recorded without -k and -u." in told.err


def test_a_recording_that_was_cut_is_folded_as_far_as_it_goes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.rec"
    live(path, WORDS, (RETURNED,), RETURNS, RETURNS_ACCOUNT, KnownStacks())
    path.write_bytes(path.read_bytes()[:-9])
    assert replay.run({**WORDS, "FILE": str(path), "--format": "folded"}) == 1
    told = capfd.readouterr()
    assert sum(int(line.rpartition(" ")[2]) for line in told.out.splitlines()) == 3
    assert "the file ends within a chunk" in told.err


@pytest.mark.parametrize(
    "stack", [{}, {"key": 1}, {"key": "x", "frames": []}, {"key": 1, "pid": [], "frames": []}]
)
def test_stacks_that_make_no_sense(stack: dict[str, Any]) -> None:
    with pytest.raises(BpfError, match="its stacks make no sense"):
        take_stacks([stack], RecordedStacks())


def test_recorded_stacks_are_escaped_and_told_apart() -> None:
    stacks = RecordedStacks()
    records = [
        stack_record(7, None, ("a\x1b",)),
        stack_record(7, 5, ("b",)),
        stack_record(7, 0, ()),
    ]
    take_stacks(json.loads(json.dumps(records)), stacks)
    assert (stacks.kernel(7), stacks.user(7, 5)) == ((r"a\x1b",), ("b",))
    assert (stacks.kernel(8), stacks.user(7, 6), stacks.user(7, 0)) == ((), (), ())


@pytest.mark.parametrize("letter", ["x", '"', "\U0001f600"])
def test_however_long_names_are_the_recording_can_be_read(tmp_path: Path, letter: str) -> None:
    class Long(KnownStacks):
        def user(self, key: int, pid: int) -> tuple[str, ...]:
            return (letter * 4096,) * 127

    path = tmp_path / "trace.rec"
    batches: Batches = [([sample(kernel_stack=7, user_stack=8)], [])]
    live(path, WORDS, (RETURNED,), batches, RETURNS_ACCOUNT._replace(delivered=1), Long())
    with path.open("rb") as file:
        stacks = RecordedStacks()
        for item in RecordingReader(file, "test"):
            if isinstance(item, form.Stacks):
                take_stacks(item.stacks, stacks)
    found = stacks.user(8, 10)
    assert len(found) == 127
    assert set("".join(found)) == {letter}
    if letter == "x":  # there is room for all of it
        assert found == Long().user(8, 10)


@pytest.mark.parametrize("payload", [b"[", b"{}", b"[1]", b"[" * 9999])
def test_a_chunk_of_stacks_that_is_none(payload: bytes) -> None:
    whole = write(header(), [])
    data = whole + chunk(len(whole), form.STACKS, payload)
    with pytest.raises(BpfError, match="a chunk of stacks is no"):
        list(RecordingReader(io.BytesIO(data), "test"))


def test_recordings_of_before_there_were_returns(tmp_path: Path) -> None:
    """They have none of the fields, and their end stops before these counters."""
    old = ("duration_ns", "kernel_stack", "user_stack")
    fields = tuple(field for field in CALL_HEADER.fields if field.name not in old)
    head = CALL_HEADER._replace(fields=fields)
    assert is_of_calls(head)
    (made,) = call_decoder(head)([(0, SAMPLE)])
    assert made == call_event_schema(1).decode(SAMPLE)
    whole = write(header(), [])
    end = form.END_PAYLOAD.build({**form.End(0, 0, 9, 9, 0, 0, 5, False, True)._asdict()})
    more = form.END_MORE.build({"unreadable": 1, "missed": 2, "refused_cpus": [], "beyond": 3})
    for behind, found in (
        (b"", form.End(0, 0, 9, 9, 0, 0, 5, False, True)),
        (more, form.End(0, 0, 9, 9, 0, 0, 5, False, True, 1, 2, (), 3)),
    ):
        data = whole + chunk(len(whole), form.END, end + behind)
        assert list(RecordingReader(io.BytesIO(data), "test")) == [found]


def test_newer_fields_of_another_kind_are_not_taken() -> None:
    odd = tuple(
        field._replace(kind=form.BYTES) if field.name == "duration_ns" else field
        for field in CALL_HEADER.fields
    )
    (made,) = call_decoder(CALL_HEADER._replace(fields=odd))([(0, SAMPLE)])
    assert made.duration_ns == 0


def test_a_file_takes_the_lines_and_strict_tells_of_losses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "trace.rec", tmp_path / "out"
    words = {**WORDS, "FILE": str(path)}
    text, _errors = live(path, words)
    assert replay.run({**words, "--output": str(out), "--strict": True}) == 3
    assert capfd.readouterr().out == ""
    assert out.read_text(encoding="utf-8") == text
    assert replay.run({**words, "--output": "/nonexistent/x"}) == 1
    assert "[ERROR] write to /nonexistent/x: No such file" in capfd.readouterr().err


def test_the_recording_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    path.write_bytes(write(header(), []))
    before = path.read_bytes()
    other = tmp_path / "other"
    other.symlink_to(path)
    with pytest.raises(UsageError, match="is the recording itself"):
        replay.run({**WORDS, "FILE": str(path), "--output": str(other)})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"no recording"])
def test_an_error_before_the_first_line_is_an_object_too(
    content: bytes | None, tmp_path: Path
) -> None:
    path, lines = tmp_path / "trace.rec", tmp_path / "lines"
    if content is not None:
        path.write_bytes(content)
    words = {**WORDS, "FILE": str(path), "--output": str(lines), "--json": True}
    assert replay.run(words) == 1
    (record,) = [json.loads(line) for line in lines.read_text().splitlines()]
    assert violations(record, SCHEMA, SCHEMA) == []
    assert record["type"] == "error"
    assert str(path) in record["operation"]


def test_older_readers_print_the_first_fields(tmp_path: Path) -> None:
    """The version is the same: they skip the chunk of functions, and what they do not know."""
    live(tmp_path / "trace.rec", WORDS)
    with (tmp_path / "trace.rec").open("rb") as file:
        reader = RecordingReader(file, "trace")
        decode = sample_decoder(reader.header)
        events = [e for item in reader if isinstance(item, Samples) for e in decode(item.samples)]
    assert [(e.pid, e.tid, e.timestamp_ns) for e in events[:2]] == [
        (10, 11, 10**9), (0, 0, 2 * 10**9),
    ]  # fmt: skip
    assert form.VERSION == 1


def test_functions_take_as_many_chunks_as_they_need(tmp_path: Path) -> None:
    names = tuple((1, number, f"NAME_{number}") for number in range(500))
    wide = OPENAT.arguments[0]._replace(format=Format(names=names))
    functions = [READ._replace(label=f"f{n}", arguments=(wide,)) for n in range(100)]
    records = [function_record(function) for function in functions]
    console, calls = Console(quiet=True, verbose=False), (records, call_event_schema(4))
    path = tmp_path / "trace.rec"
    recorder = Recorder(str(path), "f*", 0, None, WallClock(), console, calls)
    recorder.end(ACCOUNT._replace(delivered=0, reported=0))
    with path.open("rb") as file:
        reader = RecordingReader(file, "trace")
        chunks = [item for item in reader if isinstance(item, Functions)]
    assert len(chunks) > 10
    found = traced_functions([f for chunk in chunks for f in chunk.functions], reader.header)
    assert list(found) == functions


def test_plain_recordings_have_json_and_fields_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = [(3, event(10, 11, 0xFFFFFF9C, 5, b"cat"))]
    end = form.End(1, 0, 1, 0, 1, 0, 10**9, False, True)
    path = tmp_path / "trace.rec"
    path.write_bytes(write(header(), [Samples(samples), end]))
    words = {**WORDS, "FILE": str(path)}
    assert replay.run({**words, "--fields": "pid,comm,cpu,uid,function,dfd,args"}) == 0
    assert capfd.readouterr().out == "10\tcat\t3\t-\tdo_sys_openat2\t-100\tdfd=-100\n"
    assert replay.run({**words, "--json": True}) == 0
    head, record, summary = map(json.loads, capfd.readouterr().out.splitlines())
    for made in (head, record, summary):
        assert violations(made, SCHEMA, SCHEMA) == []
    assert head["functions"][0]["args"] == [{"name": "dfd", "type": "int"}]
    assert (record["cpu"], record["host_pid"], record["uid"]) == (3, 10, None)
    assert record["args"] == {"dfd": -100}
    with pytest.raises(UsageError, match="--fields: no field or argument is called 'nothing'"):
        replay.run({**words, "--fields": "nothing"})


def test_plain_arguments_of_each_type_are_shown_as_in_lines() -> None:
    for kind, name, size, signed, is_bool in (
        (1, "int", 4, True, False), (1, "u8", 1, False, False), (1, "_Bool", 1, False, True),
        (2, "", 8, False, False), (6, "e", 4, False, False), (200, "new", 8, False, False),
    ):  # fmt: skip
        recorded = form.Argument("a", True, kind, name, size, signed, is_bool)
        argument = recorded_argument(recorded, raw=False)
        (shown,) = plain_function("m:f", argument).arguments
        for register in (1, 0xFFFFFF9C, 2**64 - 1, 2**63):
            assert shown.words(register) == argument.format(register)
    untyped = plain_function("f", recorded_argument(form.Argument(), raw=False))
    assert untyped.arguments[0].words(2**64 - 1) == str(2**64 - 1)
    assert as_calls(header())([(3, event(1, 2, 3, 4, b"x"))])[0].values == [3]


RECORD = function_record(OPENAT)
ARGUMENT = RECORD["arguments"][0]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {**RECORD, "arguments": 5},
        {**RECORD, "arguments": [{**ARGUMENT, "value": 8}]},
        {**RECORD, "arguments": [{**ARGUMENT, "value": -1}]},
        {**RECORD, "arguments": [{**ARGUMENT, "text": 1}]},
        {**RECORD, "arguments": [{**ARGUMENT, "value": "x"}]},
        {**RECORD, "arguments": [{**ARGUMENT, "format": []}]},
        {**RECORD, "arguments": [{**ARGUMENT, "format": [0, 0, False, [], 0]}]},
        {**RECORD, "arguments": [{**ARGUMENT, "format": [0, 8, False, [[1]], 0]}]},
        {**RECORD, "arguments": [{**ARGUMENT, "format": [0, None, False, [], 0]}]},
    ],
)
def test_functions_that_make_no_sense(record: dict[str, Any], tmp_path: Path) -> None:
    live(tmp_path / "trace.rec", WORDS)
    with (tmp_path / "trace.rec").open("rb") as file:
        head = RecordingReader(file, "trace").header
    with pytest.raises(BpfError, match="its functions make no sense"):
        traced_functions([record], head)


def test_names_that_were_not_escaped_are_escaped(tmp_path: Path) -> None:
    odd = {**ARGUMENT, "name": "a\x1b", "format": [0, 4, True, [[1, 1, "\x1b[31m"]], 0]}
    live(tmp_path / "trace.rec", WORDS)
    with (tmp_path / "trace.rec").open("rb") as file:
        head = RecordingReader(file, "trace").header
    ((made, *_more),) = [
        f.arguments for f in traced_functions([{**RECORD, "arguments": [odd]}], head)
    ]
    assert (made.name, made.words(1)) == (r"a\x1b", r"\x1b[31m")


formats = st.builds(
    Format,
    st.integers(0, 4),
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.just("NAME"))).map(
        tuple
    ),
)


@given(formats, st.integers(0, 2**64 - 1))
def test_a_format_comes_back(form_of_it: Format, value: int) -> None:
    again = format_of(json.loads(json.dumps(form_of_it)))
    assert again == form_of_it
    assert again.words(value) == form_of_it.words(value)
    assert again.number(value) == form_of_it.number(value)


def test_damaged_recordings_of_calls_do_no_harm(tmp_path: Path) -> None:
    live(tmp_path / "trace.rec", WORDS)
    whole = (tmp_path / "trace.rec").read_bytes()
    fuzz_recording(whole)
    at = whole.index(b'label":"openat"')
    for change in (b"[", b'"', b"9", b"\xff", b"\\"):
        damaged = whole[:at] + change + whole[at + 1 :]
        with pytest.raises(BpfError, match="a chunk's checksum is wrong"):
            list(RecordingReader(io.BytesIO(damaged), "test"))


STARTS = [b"[", b"[{", b'[{"arguments":[', b'[{"key":1,"frames":[', b""]


@given(st.binary(max_size=200), st.sampled_from(STARTS), st.sampled_from([b"\6", b"\7"]))
def test_any_bytes_as_functions_or_stacks_do_no_harm(
    data: bytes, start: bytes, kind: bytes
) -> None:
    head = write(CALL_HEADER, [])[24:]
    payload = start + data
    made = kind + len(payload).to_bytes(2, "little") + payload
    row = (4).to_bytes(4, "little") + (len(SAMPLE)).to_bytes(4, "little") + SAMPLE
    samples = b"\2" + len(row).to_bytes(2, "little") + row
    fuzz_recording(b"\1" + len(head).to_bytes(2, "little") + head + made + samples)


SAMPLE = sample(b"cat", (1, 2, 3), (b"x",))
_order, _size, _fields = layout_of(call_event_schema(1).declaration)
CALL_HEADER = header()._replace(event="call_event", size=_size, fields=_fields)


def test_the_decoder_takes_any_order_of_fields() -> None:
    decode = call_decoder(CALL_HEADER)
    shuffled = CALL_HEADER._replace(fields=tuple(reversed(CALL_HEADER.fields)))
    assert call_decoder(shuffled)([(0, SAMPLE)]) == decode([(0, SAMPLE)])
    (made,) = decode([(0, SAMPLE)])
    assert made == call_event_schema(1).decode(SAMPLE)
    assert made.texts == ["x"]


def test_a_clock_before_the_functions_is_a_clock(tmp_path: Path) -> None:
    recording = tmp_path / "calls.rec"
    opened = sample(b"cat", (0xFFFFFF9C, 3, 0), (b"/a",), timestamp_ns=10**9)
    record(recording, (OPENAT,), [opened], Clock(0, 3600))
    printed, _told = replay_of(recording, "--time=wall")
    assert 'filename="/a"' in printed
    assert "timestamp=1970-01-01T01:00:01.000000+01:00" in printed
