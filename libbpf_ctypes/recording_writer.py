"""Writing recordings of traces; recording_format declares what is in them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable
from typing import Any

from . import recording_format as form
from .recording_format import Clock, End, Header

# By struct, for its speed: form.SAMPLE and form.CHUNK say the same.
_SAMPLE = struct.Struct("<II")
_CHUNK = struct.Struct("<III")

#: Bytes of samples in a chunk; a chunk that a full disk cuts is lost.
_PIECE = 1 << 15


class RecordingWriter:
    """Writes a recording. Each chunk is one write: what was written before a kill is readable.

    Args: fd: where to write, from its beginning; it stays the caller's.
        header: what the recording says of itself.

    Attributes:
        offset: bytes written so far, in whole chunks.
        samples: samples written so far.
        lost: the losses written so far.

    Raises: OSError: from any method that writes. The recording then ends with
        what was whole before; write no more to it.
    """

    def __init__(self, fd: int, header: Header) -> None:
        self._fd = fd
        self.offset = self.samples = self.lost = 0
        fields = [field._asdict() for field in header.fields]
        nested = {"clock": header.clock._asdict(), "argument": header.argument._asdict()}
        payload = form.HEADER_PAYLOAD.build({**header._asdict(), **nested, "fields": fields})
        preamble = form.PREAMBLE.build({"version": form.VERSION})
        self.offset = len(preamble)
        # Both in one write: a file that has a beginning has a header.
        self._write(form.HEADER, payload, before=preamble)

    def add_functions(self, functions: list[dict[str, Any]]) -> None:
        """Writes how the functions of the trace are called and shown, before their samples."""
        self._write_objects(form.FUNCTIONS, functions)

    def add_stacks(self, stacks: list[dict[str, Any]]) -> None:
        """Writes stacks, before the samples that have their keys."""
        self._write_objects(form.STACKS, stacks)

    def _write_objects(self, kind: int, objects: list[dict[str, Any]]) -> None:
        parts: list[str] = []
        size = 0
        for found in objects:
            text = json.dumps(found, separators=(",", ":"))
            if parts and size + len(text) > _PIECE:
                self._write(kind, f"[{','.join(parts)}]".encode())
                parts, size = [], 0
            parts.append(text)
            size += len(text)
        self._write(kind, f"[{','.join(parts)}]".encode())

    def add_samples(self, samples: Iterable[tuple[int, bytes]]) -> None:
        """Writes samples: pairs of a CPU's number and the bytes as the kernel handed them out."""
        parts: list[bytes] = []
        size = count = 0
        for cpu, data in samples:
            if size and size + _SAMPLE.size + len(data) > _PIECE:
                self._write_samples(parts, count)
                parts, size, count = [], 0, 0
            parts += _SAMPLE.pack(cpu, len(data)), data
            size += _SAMPLE.size + len(data)
            count += 1
        if count:
            self._write_samples(parts, count)

    def _write_samples(self, parts: list[bytes], count: int) -> None:
        self._write(form.SAMPLES, b"".join(parts))
        self.samples += count

    def add_lost(self, cpu: int, events: int) -> None:
        """Writes that this CPU's buffer had no room for so many events."""
        self._write(form.LOST, form.LOST_PAYLOAD.build({"cpu": cpu, "events": events}))
        self.lost += events

    def set_clock(self, clock: Clock) -> None:
        """Writes how the events' clock becomes a date from here on."""
        self._write(form.CLOCK, form.CLOCK_PAYLOAD.build(clock._asdict()))

    def end(self, end: End) -> None:
        """Writes the end, with the account of the trace."""
        cpus = [{"cpu": cpu, "events": events} for cpu, events in end.refused_cpus]
        more = form.END_MORE.build({**end._asdict(), "refused_cpus": cpus})
        more += form.END_RETURNS.build(end._asdict())
        self._write(form.END, form.END_PAYLOAD.build(end._asdict()) + more)

    def _write(self, kind: int, payload: bytes, before: bytes = b"") -> None:
        checksum = form.checksum(self.offset, kind, payload)
        rest = memoryview(before + _CHUNK.pack(kind, len(payload), checksum) + payload)
        size = _CHUNK.size + len(payload)
        while rest:  # a disk that fills takes a part, and refuses the rest
            rest = rest[os.write(self._fd, rest) :]
        self.offset += size
