"""Three hosts that were never there: their recordings, put where the example's queries look."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from libbpf_ctypes.cli.recorded import function_record
from libbpf_ctypes.cli.recorder import make_header
from libbpf_ctypes.events import call_event_schema
from libbpf_ctypes.recording_format import Clock, Samples
from libbpf_ctypes.recording_writer import RecordingWriter

from ..conftest import lacking
from ..pure.calls import RETURNED, sample
from ..pure.recordings import end_of

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "fleet"
MS, HOUR = 10**6, 3600 * 10**9

#: 2026-11-23T23:59:59 UTC: the traces begin, and a second later the next day does.
START = 1_795_478_399 * 10**9


class Host(NamedTuple):
    """Attributes: offset_ns: from its clock to the time of day."""

    name: str
    boot_id: str
    offset_ns: int


#: The longer a host is up, the more its clock shows: by their own clocks, db1 is the last.
HOSTS = (
    Host("web1", "11111111-0000-4000-8000-000000000000", START - 1 * HOUR),
    Host("web2", "22222222-0000-4000-8000-000000000000", START - 50 * HOUR),
    Host("db1", "33333333-0000-4000-8000-000000000000", START - 900 * HOUR),
)

#: What failed where, and when: host, milliseconds after START, file, duration in ns.
FAILURES = (
    ("db1", 5, b"/etc/shared.conf", 700),
    ("web2", 9, b"/etc/shared.conf", 900),
    ("web1", 30, b"/etc/shared.conf", 800),
    ("web1", 31, b"/etc/shared.conf", 850),
    ("web1", 7, b"/srv/www", 100),
    ("web2", 2507, b"/srv/www", 90),
    ("web1", 1, b"/only/on/web1", 10),
)

#: What question.sql answers, by hand.
ANSWER = [
    ["file", "failures", "hosts", "first_host", "first_ns", "spread_ns", "slowest_ns"],
    ["/etc/shared.conf", "4", "3", "db1", str(START + 5 * MS), str(26 * MS), "900"],
    ["/srv/www", "2", "2", "web1", str(START + 7 * MS), str(2500 * MS), "100"],
]

#: Recordings of each host; the failures are in the last.
RECORDINGS = 3


def _samples(host: Host, number: int) -> list[bytes]:
    """The host's returns of openat: 300 that went well, and at the end those that did not."""
    first = START + number * 800 * MS - host.offset_ns
    made = [_sample(first + at, b"/etc/passwd", 3, 50) for at in range(300)]
    if number == RECORDINGS - 1:
        for name, after, file, took in FAILURES:
            if name == host.name:
                made.append(_sample(START + after * MS - host.offset_ns, file, -2, took))
    return made


def _sample(ns: int, file: bytes, value: int, took: int) -> bytes:
    values = (0xFFFFFF9C, len(file) + 1, 0, value % 2**64)
    return sample(b"nginx", values, (file,), timestamp_ns=ns, duration_ns=took)


def record(path: Path, host: Host, number: int) -> None:
    """Writes a recording of the host."""
    layout = call_event_schema(1).declaration
    header = make_header("openat", 0, None, Clock(host.offset_ns, 0), "call_event", layout)
    header = header._replace(host_name=host.name, boot_id=host.boot_id)
    items = [(0, data) for data in _samples(host, number)]
    with path.open("wb") as file:
        writer = RecordingWriter(file.fileno(), header)
        writer.add_functions([function_record(RETURNED)])
        writer.add_samples(items)
        writer.end(end_of([Samples(items)]))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Some recordings of each host."""
    folder = tmp_path_factory.mktemp("recordings")
    made = []
    for host in HOSTS:
        for number in range(RECORDINGS):
            made.append(folder / f"{host.name}-{number}.rec")
            record(made[-1], host, number)
    return made


class Ran(NamedTuple):
    """What a command of the example did."""

    status: int
    out: str
    err: str


def partition(directory: Path, *traces: Path) -> Ran:
    """Runs partition.py, which finds ebpf-tool as it is installed."""
    folder = directory.parent / "bin"
    folder.mkdir(exist_ok=True)
    tool = folder / "ebpf-tool"
    command = shlex.join([sys.executable, str(ROOT / "bin" / "ebpf-tool")])
    tool.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    words = [sys.executable, str(EXAMPLE / "partition.py"), str(directory), *map(str, traces)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=600)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, recordings: list[Path]) -> Path:
    """The directory with the traces of all hosts."""
    directory = tmp_path_factory.mktemp("fleet") / "calls"
    ran = partition(directory, *recordings)
    assert ran.status == 0, ran.err
    return directory


@pytest.fixture(scope="session")
def python() -> str:
    """A Python that has the engines: they are too large for the other tests' environment."""
    path = Path(os.environ.get("FLEET_PYTHON") or ROOT / ".venv-fleet" / "bin" / "python")
    return str(path) if path.exists() else lacking("needs .venv-fleet: bin/test makes it")


def answer(out: str) -> list[list[str]]:
    """What ask.py printed: the columns' names, and the rows."""
    return [line.split("\t") for line in out.splitlines()]
