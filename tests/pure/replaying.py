"""Recordings of made-up calls, replayed by the command itself."""

from __future__ import annotations

from pathlib import Path

from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.cli.recorded import function_record
from libbpf_ctypes.cli.recorder import make_header
from libbpf_ctypes.events import call_event_schema
from libbpf_ctypes.recording_format import Clock, Samples
from libbpf_ctypes.recording_writer import RecordingWriter

from .calls import OFFSET
from .helpers import run_tool
from .recordings import end_of


def record(
    path: Path, functions: tuple[Traced, ...], samples: list[bytes], clock: Clock | None = None
) -> None:
    """Writes a recording of samples, each with one text. Args: clock: set before the functions."""
    layout = call_event_schema(1).declaration
    header = make_header("calls", 0, None, Clock(OFFSET, 0), "call_event", layout)
    items = [(0, data) for data in samples]
    with path.open("wb") as file:
        writer = RecordingWriter(file.fileno(), header)
        if clock is not None:
            writer.set_clock(clock)
        writer.add_functions([function_record(function) for function in functions])
        writer.add_samples(items)
        writer.end(end_of([Samples(items)]))


def replay(recording: Path, *options: str, status: int = 0) -> tuple[str, str]:
    """What ``ebpf-tool replay`` of a recording prints, and tells."""
    done = run_tool("replay", recording, *options)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr
