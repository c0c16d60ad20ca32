"""The fuzz target of the recording reader, and of what replay makes of a recording."""

from __future__ import annotations

import io
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.cli.lines import LineOptions, line_formatter
from libbpf_ctypes.cli.recorded import sample_decoder
from libbpf_ctypes.cli.replay import recorded_argument
from libbpf_ctypes.cli.text import WallClock
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.recording import RecordingReader
from libbpf_ctypes.recording_format import Clock, Samples

_PREAMBLE = form.PREAMBLE.build({"version": form.VERSION})


def fuzz_recording(data: bytes) -> None:
    """Reads DATA as a recording, and as the chunks of one; raises only for a bug.

    The second reading mends the checksums, which no fuzzer would guess.
    """
    _replay(data)
    _replay(_mended(data))


def _replay(data: bytes) -> None:
    try:
        reader = RecordingReader(io.BytesIO(data), "fuzz")
        clock = WallClock()
        clock.set(*reader.header.clock)
        argument = recorded_argument(reader.header.argument, raw=len(data) % 2 == 1)
        options = LineOptions(pid=0, show_tid=True, time="wall", raw_args=False)
        format_events = line_formatter(options, argument, clock)
        decode = sample_decoder(reader.header)
        for item in reader:
            if isinstance(item, Samples):
                text = format_events(decode(item.samples))
                assert all(line.isprintable() for line in text.split("\n")), "not escaped"
            elif isinstance(item, Clock):
                clock.set(*item)
    except BpfError:
        pass


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
