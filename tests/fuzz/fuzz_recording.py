"""The fuzz target of the recording reader, and of what replay makes of a recording."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.cli.argument import Argument
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.line_options import LineOptions
from libbpf_ctypes.cli.lines import Formatter, Lines
from libbpf_ctypes.cli.origin import here
from libbpf_ctypes.cli.recorded import (
    as_calls,
    call_decoder,
    is_of_calls,
    plain_function,
    sample_decoder,
    take_stacks,
    traced_functions,
)
from libbpf_ctypes.cli.replay import recorded_argument
from libbpf_ctypes.cli.stacks import RecordedStacks
from libbpf_ctypes.cli.stream import Decode
from libbpf_ctypes.cli.style import PLAIN
from libbpf_ctypes.cli.text import WallClock
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.recording import RecordingReader
from libbpf_ctypes.recording_format import Clock, Functions, Header, Samples, Stacks

_PREAMBLE = form.PREAMBLE.build({"version": form.VERSION})


def fuzz_recording(data: bytes) -> None:
    """Reads DATA as a recording, and as the chunks of one; raises only for a bug.

    The second reading mends the checksums, which no fuzzer would guess.
    """
    _replay(data)
    _replay(_mended(data))


def _replay(data: bytes) -> None:
    with contextlib.suppress(BpfError, UsageError):
        _print(RecordingReader(io.BytesIO(data), "fuzz"), len(data))


def _print(reader: RecordingReader, chosen: int) -> None:
    """Makes text of all that is in a recording. Args: chosen: a number that chooses the options."""
    header, clock = reader.header, WallClock()
    clock.set(*header.clock)
    fields = ("time", "pid", "comm", "function", "args") if chosen % 3 == 1 else ()
    form = ("lines", "chrome-trace", "json", "lines", "lines", "folded")[chosen % 6]
    options = LineOptions((), True, "wall", chosen % 2 == 1, fields, format=form)
    stacks = RecordedStacks()
    argument = recorded_argument(header.argument, raw=options.raw_args)
    records: list[dict[str, Any]] = []
    formatter: Formatter | None = None
    for item in reader:
        if isinstance(item, Functions):
            records += item.functions
        elif isinstance(item, Stacks):
            take_stacks(item.stacks, stacks)
        elif isinstance(item, Clock):
            clock.set(*item)
        elif isinstance(item, Samples):
            if formatter is None:
                formatter, decode = _formatter(header, records, argument, options, clock, stacks)
            _check(formatter.format(decode(item.samples)))
    if formatter is not None:
        _check(formatter.end(None))


def _check(text: str) -> None:
    lines = text.replace("\t", " ").split("\n")
    assert all(line.isprintable() for line in lines), "not escaped"


def _formatter(
    header: Header,
    records: list[dict[str, Any]],
    argument: Argument,
    options: LineOptions,
    clock: WallClock,
    stacks: RecordedStacks,
) -> tuple[Formatter, Decode]:
    if is_of_calls(header):
        functions, decode = traced_functions(records, header), call_decoder(header)
    elif options.format != "lines" or options.fields:
        functions, decode = (plain_function(header.function, argument),), as_calls(header)
    else:
        return Lines(options, argument, clock, PLAIN), sample_decoder(header)
    return call_formatter(options, functions, clock, PLAIN, here(), stacks), decode


def _mended(data: bytes) -> bytes:
    """A recording of DATA's chunks: each a byte for its type, two for its length, and so many."""
    whole = bytearray(_PREAMBLE)
    at = 0
    while at + 3 <= len(data):
        kind, length = data[at], int.from_bytes(data[at + 1 : at + 3], "little")
        payload = data[at + 3 : at + 3 + length]
        at += 3 + length
        checksum = form.checksum(len(whole), kind, payload)
        fields = {"type": kind, "length": len(payload), "checksum": checksum}
        whole += form.CHUNK.build(fields) + payload
    return bytes(whole)


if __name__ == "__main__":
    fuzz_recording(sys.stdin.buffer.read())
