"""``--format parquet``: what is in the file, and that it is whole whenever the writing stops."""

from __future__ import annotations

import datetime
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes.cli import parquet
from libbpf_ctypes.cli.formats import (
    BOOLEAN,
    DECIMAL,
    ERROR,
    ERROR_POINTER,
    POINTER,
    TEXT,
    Format,
    ShownArgument,
)
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.cli.parquet_columns import argument_columns
from libbpf_ctypes.cli.parquet_footer import Footer
from libbpf_ctypes.cli.style import PLAIN
from libbpf_ctypes.errors import BpfError

from ..conftest import lacking
from .calls import OFFSET, OPENAT, ORIGIN, READ, an_open, call, clock, options, sample
from .helpers import ROOT, run_python
from .replaying import record, replay
from .test_account import GOOD

try:
    import duckdb
    import pyarrow
    import pyarrow.parquet as pq
except ImportError as missing:
    lacking_package = str(missing)
else:
    lacking_package = ""


@pytest.fixture(autouse=True)
def _packages() -> None:
    if lacking_package:
        lacking(f"{lacking_package}: pip install pyarrow duckdb")


def number(name: str, form: Format, value: int = 0) -> ShownArgument:
    return ShownArgument(name, "any", value, -1, form)


def text(name: str, value: int = 0) -> ShownArgument:
    return ShownArgument(name, "char *", value, 0, Format(TEXT))


RETURN = Traced(
    "vfs_read", "vfs_read", "", (number("ret", Format(ERROR, 8, True)), text("file", 1)), True
)


def writer(path: Path, *functions: Traced, stacks: Any = None, **given: Any) -> Any:
    wanted = options(format="parquet", output=str(path), **given)
    return parquet.ParquetWriter(wanted, functions, clock(), ORIGIN, stacks)


def written(path: Path, functions: tuple[Traced, ...], events: list[Any], **given: Any) -> Any:
    """The table that a trace of these events left."""
    made = writer(path, *functions, **given)
    assert made.start() + made.format(events) + made.end(None) == ""
    return pq.read_table(path)


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows, their times as microseconds since 1970."""
    place = table.column_names.index("time")
    rows: list[dict[str, Any]]
    rows = table.set_column(place, "time", table["time"].cast("int64")).to_pylist()
    return rows


def rows_read(path: Path) -> int:
    """How many rows both readers find."""
    rows: int = pq.read_table(path).num_rows
    count = duckdb.connect().execute("select count(*) from read_parquet(?)", [str(path)])
    assert count.fetchall() == [(rows,)]
    return rows


def test_each_field_of_an_event_is_a_column_of_its_type(tmp_path: Path) -> None:
    table = written(tmp_path / "t.parquet", (OPENAT,), [an_open(timestamp_ns=1_234_567_891)])
    (row,) = rows_of(table)
    assert row == {
        "time": (OFFSET + 1_234_567_891) // 1000,
        "host": "host", "boot_id": ORIGIN.boot_id, "clock_offset_ns": OFFSET,
        "timestamp_ns": 1_234_567_891, "function": "openat", "cpu": 1, "pid": 10, "tid": 11,
        "comm": "cat", "uid": 1000, "gid": 100, "host_pid": 10, "host_tid": 11, "ns_pid": 1,
        "ns_tid": 2, "cgroup": 77, "duration_ns": None, "kernel_stack": None, "user_stack": None,
        "unreadable": None, "cut": None, "arg_dfd": -100, "words_dfd": "AT_FDCWD",
        "arg_filename": "/etc/passwd", "arg_flags": 0x80000, "words_flags": "O_CLOEXEC",
    }  # fmt: skip
    types = {field.name: str(field.type) for field in table.schema}
    assert types["time"] == "timestamp[us, tz=UTC]"  # Spark reads no nanoseconds
    assert types["arg_dfd"] == "int32"
    assert types["arg_flags"] == "uint32"
    assert types["cgroup"] == "uint64"
    assert types["duration_ns"] == types["timestamp_ns"] == types["clock_offset_ns"] == "int64"
    assert types["kernel_stack"].startswith("list<")


def test_the_time_is_the_events_own_by_the_clock_of_its_host(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    written(path, (OPENAT,), [an_open(timestamp_ns=1_234_567_891)])
    question = "select epoch_us(time), clock_offset_ns + timestamp_ns from read_parquet(?)"
    (found,) = duckdb.connect().execute(question, [str(path)]).fetchall()
    assert found == ((OFFSET + 1_234_567_891) // 1000, OFFSET + 1_234_567_891)
    second = datetime.datetime.fromtimestamp(found[1] // 10**9, datetime.timezone.utc)
    assert second.isoformat() == "2026-09-21T14:13:21+00:00"


def test_returns_have_a_duration_and_the_names_of_errors(tmp_path: Path) -> None:
    events = [
        call(b"a", (2**64 - 2, 5), (b"/a\\\xff\n",), function=1, duration_ns=12_345),
        call(b"b", (17, 0), (b"",), function=1, duration_ns=0),
        an_open(duration_ns=0),
    ]
    rows = rows_of(written(tmp_path / "t", (OPENAT, RETURN), events))
    assert [row["duration_ns"] for row in rows] == [12_345, 0, None]
    assert [row["arg_ret"] for row in rows] == [-2, 17, None]
    assert [row["words_ret"] for row in rows] == ["-ENOENT", None, None]
    assert [row["arg_file"] for row in rows] == ["/a\\\\\\xff\\x0a", None, None]


@pytest.mark.parametrize(
    ("forms", "kind"),
    [
        ([Format(DECIMAL, 4, True)], "int32"),
        ([Format(DECIMAL, 3)], "uint32"),
        ([Format(BOOLEAN, 1)], "bool"),
        ([Format(POINTER, 8)], "uint64"),
        ([Format(ERROR_POINTER, 8)], "uint64"),
        ([Format(DECIMAL, 4, True), Format(DECIMAL, 8, True)], "int64"),
        ([Format(DECIMAL, 1), Format(DECIMAL, 4)], "uint32"),
        ([Format(DECIMAL, 4), Format(DECIMAL, 4, True)], "int64"),
        ([Format(DECIMAL, 2), Format(BOOLEAN, 1), Format(DECIMAL, 1, True)], "int32"),
        ([Format(DECIMAL, 8), Format(DECIMAL, 4, True)], "decimal"),
    ],
)
def test_an_argument_of_several_functions_has_a_type_that_holds_all(
    forms: list[Format], kind: str, tmp_path: Path
) -> None:
    functions = tuple(
        Traced(f"f{n}", "f", "", (number("n", form),)) for n, form in enumerate(forms)
    )
    column = argument_columns(functions, raw=False)[0]
    assert (column.name, column.kind) == ("arg_n", kind)
    values = [2**64 - 1, 0, 1, 2**63]
    events = [
        call(b"x", (value,), function=index) for index in range(len(forms)) for value in values
    ]
    found = written(tmp_path / "t", functions, events)["arg_n"].to_pylist()
    wanted = [
        bool(form.signed_value(value)) if kind == "bool" else form.signed_value(value)
        for form in forms
        for value in values
    ]
    assert found == wanted


def test_a_text_and_a_number_of_one_name_are_texts(tmp_path: Path) -> None:
    functions = (
        Traced("f", "f", "", (text("path"),)),
        Traced("g", "g", "", (number("PATH", Format(DECIMAL, 4, True)),)),
    )
    events = [
        call(b"x", (3,), (b"/a",)), call(b"x", (2**64 - 7,), function=1), call(b"x", (0,)),
    ]  # fmt: skip
    table = written(tmp_path / "t", functions, events)
    assert table["arg_path"].to_pylist() == ["/a", "-7", None]
    assert "arg_PATH" not in table.column_names  # most readers know no capitals in names


def test_an_argument_shown_twice_is_two_columns(tmp_path: Path) -> None:
    twice = Traced("f", "f", "", (number("n", Format()), number("N", Format(), 1)))
    row, other = rows_of(
        written(tmp_path / "t", (twice,), [call(b"x", (5, 6)), call(b"x", (5, 6), unreadable=2)])
    )
    assert (row["arg_n"], row["arg_N:2"]) == (5, 6)
    assert (other["arg_N:2"], other["unreadable"]) == (None, ["N:2"])


def test_what_could_not_be_read_or_was_cut_is_said(tmp_path: Path) -> None:
    events = [an_open(unreadable=2), an_open(b"x" * 300), call(b"dd", (1,), function=1)]
    rows = rows_of(written(tmp_path / "t", (OPENAT, READ), events))
    assert [row["arg_filename"] for row in rows] == [None, "x" * 255, None]
    assert [row["unreadable"] for row in rows] == [["filename"], None, None]
    assert [row["cut"] for row in rows] == [None, ["filename"], None]


def test_raw_arguments_are_unsigned_numbers(tmp_path: Path) -> None:
    table = written(tmp_path / "t", (OPENAT,), [an_open()], raw_args=True)
    assert table["arg_dfd"].to_pylist() == [0xFFFFFF9C]
    assert "words_dfd" not in table.column_names


def test_processes_of_another_namespace_and_plain_recordings_have_nulls(tmp_path: Path) -> None:
    unknown: Any = dict.fromkeys(("uid", "gid", "cgroup", "duration_ns"))
    events = [
        an_open(pid=0, tid=0, host_pid=5, host_tid=6, ns_pid=0, ns_tid=0),
        an_open()._replace(**unknown),
        an_open(function=9),
    ]
    rows = rows_of(written(tmp_path / "t", (OPENAT,), events))
    assert [row["pid"] for row in rows] == [None, 10, 10]
    assert [row["host_tid"] for row in rows] == [6, 11, 11]
    assert [row["ns_pid"] for row in rows] == [None, 1, 1]
    assert [row["uid"] for row in rows] == [1000, None, 1000]
    assert [row["function"] for row in rows] == ["openat", "openat", "function 9"]


class _Stacks:
    def kernel(self, key: int) -> tuple[str, ...]:
        return {1: ("vfs_read+0x1a", "ksys_read+0x5f")}[key]

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        return {2: (f"read+0x10 of {pid}",)}[key]


def test_stacks_are_lists_of_frames(tmp_path: Path) -> None:
    events = [an_open(kernel_stack=1, user_stack=2, pid=7, host_pid=1007), an_open()]
    rows = rows_of(written(tmp_path / "t", (OPENAT,), events, stacks=_Stacks()))
    assert [row["kernel_stack"] for row in rows] == [["vfs_read+0x1a", "ksys_read+0x5f"], None]
    assert [row["user_stack"] for row in rows] == [["read+0x10 of 7"], None]


def metadata(path: Path) -> dict[str, str]:
    found = pq.read_metadata(path).metadata
    return {name.decode(): value.decode() for name, value in found.items()}


def test_the_file_says_where_it_is_from_and_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    made = writer(path, OPENAT)
    made.format([an_open()])
    made.lost(0, 3)
    made.lost(1, 2)
    made.end(GOOD)
    found = metadata(path)
    assert (found["host"], found["boot_id"]) == ("host", ORIGIN.boot_id)
    assert int(found["clock_offset_ns"]) == OFFSET
    assert found["lost"] == "5"
    header, summary = json.loads(found["header"]), json.loads(found["summary"])
    assert (header["kernel"], header["functions"][0]["name"]) == ("6.1.0-test", "openat")
    assert (summary["lost"], summary["adds_up"]) == (GOOD.lost, True)


def test_a_file_without_the_end_of_its_trace_has_no_summary(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    made = writer(path, OPENAT)
    assert rows_read(path) == 0  # from its beginning on, it can be read
    made.format([an_open()])
    made.end(None)
    assert rows_read(path) == 1
    assert "summary" not in metadata(path)


def test_each_clock_has_its_events(tmp_path: Path) -> None:
    ticking = clock()
    wanted = options(format="parquet", output=str(tmp_path / "t"))
    made = parquet.ParquetWriter(wanted, (OPENAT,), ticking, ORIGIN)
    made.format([an_open(timestamp_ns=1)])
    ticking.set(OFFSET + 5, 0)
    made.format([an_open(timestamp_ns=2), an_open(timestamp_ns=3)])
    made.end(None)
    table = pq.read_table(tmp_path / "t")
    assert table["clock_offset_ns"].to_pylist() == [OFFSET, OFFSET + 5, OFFSET + 5]
    stamps = [row["clock_offset_ns"] + row["timestamp_ns"] for row in rows_of(table)]
    assert stamps == [OFFSET + n for n in (1, 7, 8)]
    assert [row["time"] for row in rows_of(table)] == [stamp // 1000 for stamp in stamps]


def test_row_groups_are_written_by_rows_bytes_and_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "t.parquet", [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made = writer(path, OPENAT)
    assert made.turn() is None  # there is nothing to write
    made.format([an_open()] * (parquet._MOST_ROWS - 1))
    assert rows_read(path) == 0
    left = made.turn()
    assert left is not None
    made.format([an_open()])
    assert rows_read(path) == parquet._MOST_ROWS
    made.format([an_open()])
    now[0] += made.turn()
    assert rows_read(path) == parquet._MOST_ROWS
    assert made.turn() is None
    assert rows_read(path) == parquet._MOST_ROWS + 1
    monkeypatch.setattr(parquet, "_MOST_BYTES", 1 << 20)
    made.format([an_open(b"/%0250d" % n) for n in range(8192)])
    assert pq.read_metadata(path).num_row_groups == 4  # with 4096 rows each
    made.end(None)
    assert rows_read(path) == parquet._MOST_ROWS + 1 + 8192


class _Torn(Exception):
    """Stands for a kill."""


def test_the_file_is_whole_after_every_step_and_in_the_midst_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every system call that changes the file is stopped: before, in its midst, behind it."""
    path = tmp_path / "t.parquet"
    made = writer(path, OPENAT)
    pwrite, ftruncate = os.pwrite, os.ftruncate
    looked: list[int] = []

    def look() -> None:
        looked.append(rows_read(path))

    def torn_pwrite(fd: int, data: Any, at: int) -> int:
        look()
        if len(data) > 8:  # a signal can come in the midst of it
            for part in (1, len(data) // 2, len(data) - 1):
                pwrite(fd, data[:part], at)
                look()
        else:
            assert at // 4096 == (at + len(data) - 1) // 4096  # within a page: at once
        done = pwrite(fd, data, at)
        look()
        return done

    def looked_at_ftruncate(fd: int, size: int) -> None:
        ftruncate(fd, size)
        look()

    monkeypatch.setattr(os, "pwrite", torn_pwrite)
    monkeypatch.setattr(os, "ftruncate", looked_at_ftruncate)
    for group in range(4):
        before = len(looked)
        made.format([an_open(b"/%d" % n) for n in range(10 + 990 * (group == 1))])
        made._write()
        steps = looked[before:]
        assert set(steps) == {steps[0], steps[-1]}  # all of before, or all of now
        assert steps == sorted(steps)
    assert steps[-1] == 1030
    made.end(None)
    size = path.stat().st_size
    assert path.read_bytes()[-4:] == b"PAR1"
    last = pq.read_metadata(path)
    end = max(
        last.row_group(3).column(n).data_page_offset
        + last.row_group(3).column(n).total_compressed_size
        for n in range(last.num_columns)
    )
    assert size < end + 2 * last.serialized_size  # nothing is left of what was written on the way


_FLAT_OUT = """
import sys
from pathlib import Path
from tests.pure.calls import OPENAT, an_open
from tests.pure.test_parquet import writer
from libbpf_ctypes.cli import parquet
parquet._MOST_ROWS = 4096
made = writer(Path(sys.argv[1]), OPENAT)
events = [an_open(b"/%d" % n) for n in range(4096)]
at = 0
while True:
    made.format([event._replace(timestamp_ns=at + n) for n, event in enumerate(events)])
    if not at:
        print("ready", flush=True)
    at += len(events)
"""


def test_a_kill_at_any_time_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    chance = random.Random()
    for number_of_kill in range(3):
        path = tmp_path / f"{number_of_kill}.parquet"
        command = [sys.executable, "-c", _FLAT_OUT, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
        rows = rows_read(path)
        assert rows >= 4096
        assert rows % 4096 == 0
        stamps = pq.read_table(path, columns=["timestamp_ns"])["timestamp_ns"].to_pylist()
        assert stamps == list(range(rows))


def test_a_file_that_cannot_grow_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    code = """
import resource, signal, sys
from pathlib import Path
from tests.pure.calls import OPENAT, an_open
from tests.pure.test_parquet import writer
made = writer(Path(sys.argv[1]), OPENAT)
made.format([an_open()] * 100)
made._write()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
memory = made._file._memory
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
import os
from libbpf_ctypes.errors import BpfError
try:
    for _ in range(100):
        made.format([an_open(os.urandom(120).hex().encode()) for _ in range(4096)])
        made._write()
except BpfError as error:
    print(error)
"""
    done = run_python(code, path)
    assert f"write to {path}: " in done.stdout, done.stderr
    assert "What was written before can be read." in done.stdout
    assert rows_read(path) >= 100


@pytest.mark.parametrize("step", range(5))
def test_nothing_is_written_behind_what_could_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path = tmp_path / "t.parquet"
    made = writer(path, OPENAT)
    made.format([an_open()] * 100)
    made._write()
    pwrite, room = os.pwrite, [step]

    def full_disk(fd: int, data: Any, at: int) -> int:
        room[0] -= 1
        if room[0] == -1:
            if len(data) > 8:  # within a page
                pwrite(fd, data[: len(data) // 2], at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full_disk)
    made.format([an_open()] * 50)
    with pytest.raises(BpfError, match=f"write to {path}: No space left"):
        made._write()
    assert made.format([an_open()] * 5) == ""
    assert made.turn() is None
    assert made.end(None) == ""  # as at the end of a trace that an error ended
    assert rows_read(path) == 100


@pytest.mark.parametrize("groups", [0, 1, 14, 15, 300])
def test_the_footer_is_the_one_that_pyarrow_would_write(groups: int) -> None:
    ours = Footer()
    theirs: list[Any] = []

    def written_by_pyarrow(rows: int, told: dict[str, str]) -> bytes:
        schema = pyarrow.schema({"n": "int64", "text": "string"})
        table = pyarrow.table([list(range(rows)), ["x"] * rows], schema=schema)
        sink = pyarrow.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, metadata_collector=theirs) as made:
            if rows:
                made.write_table(table)
            made.add_key_value_metadata(told)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    empty = written_by_pyarrow(0, {"host": "a"})
    (whole,) = theirs
    for rows in range(1, groups + 1):
        ours.add(written_by_pyarrow(rows, {}))
        whole.append_row_groups(theirs.pop())
    sink = pyarrow.BufferOutputStream()
    whole.write_metadata_file(sink)
    assert ours.make(empty) == sink.getvalue().to_pybytes()[len(b"PAR1") :]


def test_memory_is_bounded(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from tests.pure.calls import OPENAT, an_open
from tests.pure.test_parquet import writer
from libbpf_ctypes.cli import parquet
parquet._MOST_ROWS = 8192
made = writer(Path(sys.argv[1]), OPENAT)
events = [an_open(b"/%0200d" % n) for n in range(4096)]
for rounds in (10, 40):
    for n in range(rounds):
        made.format([event._replace(timestamp_ns=n) for event in events])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = run_python(code, tmp_path / "t.parquet")
    first, last = map(int, done.stdout.split())
    assert last - first < 24 << 10, done.stdout  # KiB; 160,000 rows have twice that and more


def test_without_pyarrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    wanted = options(format="parquet", output=str(tmp_path / "t"))
    with pytest.raises(BpfError, match=r"pip install 'libbpf-ctypes\[parquet\]'"):
        call_formatter(wanted, (OPENAT,), clock(), PLAIN, ORIGIN)
    assert not (tmp_path / "t").exists()


def test_an_old_pyarrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyarrow.__version__", "16.1.0")
    with pytest.raises(BpfError, match=r"pyarrow 16.1.0 is older than 17. .*pip install"):
        writer(tmp_path / "t", OPENAT)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/dev/null", "any place"), ("/nowhere/t", "No such file"), ("/", "Is a directory")],
)
def test_what_is_no_file_is_refused(path: str, reason: str) -> None:
    with pytest.raises(BpfError, match=reason):
        writer(Path(path), OPENAT)


def test_a_replay_has_the_rows_that_json_has(tmp_path: Path) -> None:
    recording, path = tmp_path / "calls.rec", tmp_path / "calls.parquet"
    samples = [
        sample(b"cat", (0xFFFFFF9C, 5, n), (b"/%d" % n,), timestamp_ns=10**9 + n, tid=10 + n % 3)
        for n in range(50)
    ]
    samples.append(sample(b"cat", (2**64 - 13, 3, 0), (b"/b",), function=1, duration_ns=99))
    record(recording, (OPENAT, RETURN), samples)
    lines = replay(recording, "--json")[0].splitlines()
    wanted = [each for each in map(json.loads, lines) if each["type"] == "event"]
    printed, told = replay(recording, "--format", "parquet", "-o", str(path))
    assert printed == ""
    assert "51 events" in told
    rows = rows_of(pq.read_table(path))
    assert len(rows) == len(wanted) == 51
    for row, event in zip(rows, wanted):
        same = ("function", "cpu", "timestamp_ns", "pid", "tid", "comm", "uid", "cgroup")
        assert [row[name] for name in same] == [event[name] for name in same]
        assert {name: row[f"arg_{name}"] for name in event["args"]} == event["args"]
        assert row["duration_ns"] == event.get("duration_ns")
        words = {name: row[f"words_{name}"] for name in event.get("words", {})}
        assert words == event.get("words", {})
    assert json.loads(metadata(path)["summary"])["delivered"] == 51


@pytest.mark.parametrize("name", ["6.1-calls", "6.12-returns"])
def test_recordings_of_real_kernels_are_tables(name: str, tmp_path: Path) -> None:
    recording = ROOT / "fixtures" / "recordings" / f"x86_64-{name}.rec"
    path = tmp_path / "calls.parquet"
    lines = replay(recording, "--json")[0].splitlines()
    wanted = [each for each in map(json.loads, lines) if each["type"] == "event"]
    replay(recording, "--format", "parquet", "-o", str(path))
    rows = rows_of(pq.read_table(path))
    assert len(rows) == len(wanted) > 3
    for row, event in zip(rows, wanted):
        assert row["timestamp_ns"] == event["timestamp_ns"]
        for key in ("duration_ns", "kernel_stack", "user_stack"):
            assert (row[key] or None) == (event.get(key) or None)
        words = {name: row[f"words_{name}"] for name in event.get("words", {})}
        assert words == event.get("words", {})


def test_a_value_that_does_not_fit_its_column_costs_nothing_else(tmp_path: Path) -> None:
    recording, path = tmp_path / "calls.rec", tmp_path / "calls.parquet"
    stamps = [1, 2**64 - 1, 3]
    samples = [sample(b"cat", (3, 3, 0), (b"/a",), timestamp_ns=stamp) for stamp in stamps]
    record(recording, (OPENAT,), samples)
    _, told = replay(recording, "--format", "parquet", "-o", str(path), status=1)
    assert "1 values do not fit their columns: timestamp_ns 18446744073709551615" in told
    table = pq.read_table(path)
    assert table["timestamp_ns"].to_pylist() == [1, None, 3]
    assert table["arg_filename"].to_pylist() == ["/a"] * 3
    assert "summary" in metadata(path)


def test_a_recording_that_is_cut_leaves_what_came_before(tmp_path: Path) -> None:
    recording, path = tmp_path / "calls.rec", tmp_path / "calls.parquet"
    record(recording, (OPENAT,), [sample(b"cat", (3, 3, 0), (b"/a",))] * 20)
    recording.write_bytes(recording.read_bytes()[:-10])
    replay(recording, "--format", "parquet", "-o", str(path), status=1)
    assert rows_read(path) == 20
    assert "summary" not in metadata(path)


def test_it_needs_a_file(tmp_path: Path) -> None:
    recording = tmp_path / "calls.rec"
    record(recording, (OPENAT,), [])
    told = replay(recording, "--format", "parquet", status=2)[1]
    assert "name it with -o" in told


def test_the_formats_are_measured_and_agree() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "formats"), "3000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    sizes = {row[0].strip(): row[2].strip() for row in rows}
    assert list(sizes) == ["format", "lines", "json", "chrome-trace", "parquet"]
    assert 0 < float(sizes["parquet"]) < float(sizes["json"])
