"""ebpf-tool replay: what it prints of a recording, whole or damaged, of any machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.recording import Item, RecordingReader
from libbpf_ctypes.recording_format import Argument, Clock, Field, Lost, Samples

from ..fuzz.fuzz_recording import fuzz_recording
from .helpers import ROOT, TOOL, run_python, run_tool
from .recordings import INT, end_of, event, header, write

FIXTURES = ROOT / "fixtures" / "recordings"

#: Two processes, a name with an escape sequence, a negative argument, and the end of summer
#: time in Berlin between the two batches.
SECOND = 10**9
CHANGE = 1_729_990_800


def items(order: int = form.LITTLE) -> list[Item]:
    found: list[Item] = [
        Samples(
            [
                (1, event(10, 11, 0xFFFFFF9C, 5 * SECOND + 1999, b"cat", order)),
                (0, event(20, 20, 3, 6 * SECOND, b"\x1b[31mx\n\xff", order)),
            ]
        ),
        Lost(1, 2),
        Clock((CHANGE - 7) * SECOND, 3600),
        Samples([(1, event(10, 12, 2**63, 7 * SECOND, b"cat\0junk", order))]),
    ]
    return [*found, end_of(found, refused=2)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    head = header()._replace(clock=Clock((CHANGE - 7) * SECOND, 7200))
    path = tmp_path / "trace.rec"
    path.write_bytes(write(head, items()))
    return path


# What each option makes of the three lines.
LINES = {
    "": [
        r"[10] cat: dfd=-100, timestamp=5000001999",
        r"[20] \x1b[31mx\x0a\xff: dfd=3, timestamp=6000000000",
        r"[10] cat: dfd=0, timestamp=7000000000",
    ],
    "--show-tid --time=boot": [
        r"[10/11] cat: dfd=-100, timestamp=5.000001",
        r"[20/20] \x1b[31mx\x0a\xff: dfd=3, timestamp=6.000000",
        r"[10/12] cat: dfd=0, timestamp=7.000000",
    ],
    "--raw-args --time=wall -p 10": [
        r"[10] cat: dfd=4294967196, timestamp=2024-10-27T02:59:58.000001+02:00",
        r"[10] cat: dfd=9223372036854775808, timestamp=2024-10-27T02:00:00.000000+01:00",
    ],
    "-p 999": [],
}


@pytest.mark.parametrize("options", LINES)
def test_lines(recording: Path, options: str) -> None:
    """The same wherever it is replayed: the recording knows the zone."""
    done = run_tool("replay", recording, *options.split(), TZ="Asia/Kolkata")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == LINES[options]


def test_another_byte_order_gives_the_same_lines(recording: Path) -> None:
    expected = run_tool("replay", recording).stdout
    recording.write_bytes(write(header(form.BIG), items(form.BIG)))
    assert run_tool("replay", recording).stdout == expected
    recording.write_bytes(write(header(form.BIG), items(form.LITTLE)))
    assert run_tool("replay", recording).stdout != expected


def test_messages_and_quiet(recording: Path) -> None:
    done = run_tool("replay", recording)
    told = done.stderr.splitlines()
    assert told[0] == (
        f"[INFO] Replaying {recording}: do_sys_openat2, recorded by ebpf-tool 0.1.0 "
        "on host, Linux 6.1.0-test, any"
    )
    assert told[1].startswith("[ERROR] 2 events were lost: 2 found the buffer full, 0 were not")
    assert told[2:] == [
        "[INFO] 5 calls seen: 0 filtered, 3 delivered, 2 lost; missed: not recorded",
        "[INFO] 3 events, 2 lost, 2.0 seconds, 1.5 events/s",
    ]
    only = run_tool("replay", recording, "-p", "10").stderr
    assert "[INFO] 2 of the 3 recorded events are of process 10" in only
    quiet = run_tool("replay", recording, "-q")
    assert quiet.stdout == done.stdout
    assert quiet.stderr.splitlines() == told[1:2]


def test_accounts_that_do_not_add_up_are_told_again(recording: Path) -> None:
    found = items()
    end = end_of(found[:-1])
    recording.write_bytes(write(header(), [*found[:-1], end._replace(seen=99)]))
    done = run_tool("replay", recording)
    assert done.returncode == 1
    assert "the counters of its end do not add up" in done.stderr
    lying = end._replace(seen=end.seen + 1, sent=end.sent + 1, drained=True)
    recording.write_bytes(write(header(), [*found[:-1], lying]))
    done = run_tool("replay", recording)
    assert done.returncode == 1
    assert "The accounts do not add up" in done.stderr


def test_it_needs_neither_libbpf_nor_root(recording: Path) -> None:
    done = run_tool("replay", recording, LIBBPF_CTYPES_LIBRARY="/nonexistent/libbpf.so")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests show it, without root")
def test_nobody_may_replay(recording: Path) -> None:
    """With all modules there: the checkout may lie where only root reads."""
    code = """
import os, sys
from libbpf_ctypes.cli import replay
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
words = {"FILE": sys.argv[1], "--pid": [], "--show-tid": False, "--time": "ns"}
sys.exit(replay.run({**words, "--raw-args": False, "--quiet": False}))
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = shutil.copy(recording, folder)
        Path(path).chmod(0o644)
        done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run_tool("replay", recording).stdout


def test_all_before_the_damage_is_printed(recording: Path) -> None:
    whole = recording.read_bytes()
    cut = run_tool("replay", recording).stdout.splitlines()[:2]
    at = whole.index(event(10, 12, 2**63, 7 * SECOND, b"cat\0junk"))
    chunk_at = at - 8 - 12
    damaged = bytearray(whole)
    damaged[at] ^= 1
    for data in (whole[:at], whole[:chunk_at], bytes(damaged)):
        recording.write_bytes(data)
        done = run_tool("replay", recording)
        assert done.returncode == 1
        assert done.stdout.splitlines() == cut
        error = done.stderr.splitlines()[-1]
        assert error.startswith("[ERROR] read recording ")
        assert f"at byte {chunk_at}" in error
        assert " events, " not in done.stderr, "there is no account without an end"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file or directory (ENOENT). 'ebpf-tool kprobe FUNCTION --record=FILE'"),
        (b"", "it is empty"),
        (b"#!/bin/sh\necho this is no recording\n", "it is no recording"),
        (form.MAGIC + b"\7\0\0\0", "its format has version 7"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "file\x1b[31m"
    if content is not None:
        path.write_bytes(content)
    done = run_tool("replay", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.strip().isprintable()


@pytest.mark.parametrize("more", [b"x", None])
def test_what_follows_the_end_is_told(recording: Path, more: bytes | None) -> None:
    whole = recording.read_bytes()
    before = run_tool("replay", recording)
    recording.write_bytes(whole + (whole if more is None else more))
    done = run_tool("replay", recording)
    assert done.returncode == 1
    assert done.stdout == before.stdout
    assert f"more follows the end of the trace, at byte {len(whole)}" in done.stderr


def test_a_folder_and_a_name_that_none_has(tmp_path: Path) -> None:
    done = run_tool("replay", tmp_path)
    assert done.returncode == 1
    assert "Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_events_of_another_tool(recording: Path) -> None:
    head = header()._replace(fields=(Field("stamp", 0, 8, 0, False),))
    recording.write_bytes(write(head, items()))
    done = run_tool("replay", recording)
    assert done.returncode == 1
    assert "its events have no pid, tid, syscall_nr, timestamp_ns, comm" in done.stderr
    for number, kind in ((3, form.FLOAT), (0, form.BYTES), (4, form.BYTES)):
        fields = list(header().fields)
        fields[number] = fields[number]._replace(kind=kind)
        recording.write_bytes(write(header()._replace(fields=tuple(fields)), items()))
        done = run_tool("replay", recording)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"its events have no {fields[number].name}, or of another kind" in done.stderr
        fuzz_recording(recording.read_bytes())
    order = [4, 0, 3, 1, 2]
    shuffled = tuple(header().fields[n] for n in order)
    more = (*shuffled, Field("more", 40, 4, 0, False))
    for head in (header()._replace(fields=shuffled), header()._replace(fields=more, size=44)):
        recording.write_bytes(write(head, items()))
        assert run_tool("replay", recording).stdout.splitlines() == LINES[""]


def test_a_reader_that_leaves_and_a_full_disk(recording: Path) -> None:
    command = f"{sys.executable} {TOOL} replay -q {recording}"
    many = [*(items()[:1] * 5000)]
    recording.write_bytes(write(header(), [*many, end_of(many)]))
    left = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (left.returncode, left.stderr) == (0, "")
    assert left.stdout.count("\n") == 1
    full = subprocess.run(
        f"{command} >/dev/full", shell=True, capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    assert full.stderr == "[ERROR] write the output: No space left on device\n"
    closed = subprocess.run(
        f"{command} >&-", shell=True, capture_output=True, text=True, check=False
    )
    assert closed.returncode == 1
    assert "stdout is closed" in closed.stderr


ARGUMENTS = [
    (INT, "dfd=-100"),
    (Argument(), "arg0=4294967196"),
    (Argument("file", True, 2, "", 8), "file=0xffffff9c"),
    (Argument("on", True, 1, "_Bool", 1, False, True), "on=true"),
    (Argument("new", True, 200, "", 8), "new=0xffffff9c"),
    (Argument("a\x1b", True, 1, "u8", 1), r"a\x1b=156"),
]


@pytest.mark.parametrize(("argument", "told"), ARGUMENTS)
def test_the_argument_is_shown_by_its_recorded_type(
    recording: Path, argument: Argument, told: str
) -> None:
    recording.write_bytes(write(header(argument=argument), items()))
    assert told in run_tool("replay", recording).stdout.splitlines()[0]


@given(st.binary(max_size=400))
def test_any_bytes_do_no_harm(data: bytes) -> None:
    fuzz_recording(data)
    head = write(header(), [])[24:]
    size = len(head).to_bytes(2, "little")
    fuzz_recording(b"\1" + size + head + data)
    fuzz_recording(b"\1" + size + head + b"\2\x38\0" + data)


#: fixtures/make-recordings made these on real kernels, with what was printed meanwhile.
KERNELS = ["6.1", "6.12"]
TRACES = {
    **{(kernel, "opens"): [] for kernel in KERNELS},
    **{(kernel, "reads"): ["--show-tid", "--time=wall"] for kernel in KERNELS},
    ("6.1", "calls"): ["--time=wall"],  # made before there were returns, and not made again
    ("6.12", "returns"): ["--time=wall"],
}


@pytest.mark.parametrize(("kernel", "name"), TRACES)
def test_recordings_of_real_kernels(kernel: str, name: str) -> None:
    path = FIXTURES / f"x86_64-{kernel}-{name}.rec"
    assert path.stat().st_size < 10_000
    with path.open("rb") as file:
        head = RecordingReader(file, path.name).header
    assert head.machine == "x86_64"
    assert head.kernel_release.startswith(f"{kernel}.")
    expected = path.with_suffix(".txt").read_bytes()
    done = run_tool("replay", path, *TRACES[kernel, name], TZ="Asia/Kolkata")
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode() == expected
    assert expected.count(b"\n") >= 8


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_traced_calls_are_in_the_recording(kernel: str) -> None:
    """What the workload did, whatever else there is: 2 processes, 2 threads each, 4 calls each."""
    path = FIXTURES / f"x86_64-{kernel}-opens.rec"
    lines = run_tool("replay", path, "--show-tid").stdout.splitlines()
    threads = Counter(line.partition("=")[0] for line in lines if "] gt-" in line)
    assert sorted(threads.values()) == [4, 4, 4, 4]
    assert len({thread.partition("/")[0] for thread in threads}) == 2


def test_the_traced_returns_and_their_stacks_are_in_the_recording() -> None:
    path = FIXTURES / "x86_64-6.12-returns.rec"
    lines = run_tool("replay", path, "--json").stdout.splitlines()
    returns = [record for record in map(json.loads, lines) if record["type"] == "event"]
    assert len(returns) == 16
    for each in returns:
        assert each["words"]["ret"] == "-ENOENT"
        assert each["duration_ns"] > 0
        names = [frame.partition("+")[0] for frame in each["kernel_stack"]]
        assert names[:3] == ["do_sys_openat2", "__x64_sys_openat", "do_syscall_64"]
    folded = run_tool("replay", path, "--format=folded").stdout.splitlines()
    assert {line.partition(";")[0] for line in folded} == {each["comm"] for each in returns}
    assert all(line.endswith(";__x64_sys_openat;do_sys_openat2 4") for line in folded)


def test_the_first_taste_in_the_readme_is_right() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"\$ bin/quickstart replay (\S+)\n((?:.*\n)+?)```", text)
    assert found
    done = run_tool("replay", ROOT / found[1])
    shown = found[2].splitlines()
    assert shown[1:3] == done.stdout.splitlines()[:2]
    assert shown[3] == "..."
    assert shown[4] == done.stderr.splitlines()[-1]


def test_there_is_no_other_recording() -> None:
    names = {f"x86_64-{kernel}-{name}" for kernel, name in TRACES}
    assert {path.stem for path in FIXTURES.iterdir()} == names
