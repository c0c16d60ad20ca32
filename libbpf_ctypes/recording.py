"""Reading recordings of traces; recording_format declares what is in them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeVar, Union

import construct

from . import recording_format as form
from .errors import BpfError, RecordingError
from .recording_format import (
    Argument,
    Clock,
    End,
    Field,
    Functions,
    Header,
    Lost,
    Samples,
    Stacks,
)
from .recording_layout import schema_of

_T = TypeVar("_T")

#: What a recording holds.
Item = Union[Samples, Functions, Stacks, Lost, Clock, End]

# Samples are read by struct, for its speed: form.SAMPLE and form.CHUNK say the same.
_SAMPLE = struct.Struct("<II")
_CHUNK = struct.Struct("<III")

_DAY = 86400


class RecordingReader:
    """Reads a recording, one chunk at a time: at most form.MAX_PAYLOAD bytes of it are held.

    Iterate over it, once, for its items: Functions, Stacks, Samples, Lost and Clock,
    each as it was recorded, and End, the last. Chunks of unknown types are skipped.

    Args: file: opened for reading bytes; it need not be seekable, and stays the
        caller's. name: for messages.

    Attributes:
        header: what the recording says of itself.
        schema: the decoder of its samples.
        offset: bytes from the file's beginning to the next chunk.

    Raises: RecordingError, here and from the iteration: the file is none, or
        is damaged at ``offset``; what was handed out before is as it was
        recorded. That the file stops without an End, as a killed recorder
        leaves it, raises it too. BpfError: the file cannot be read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._operation = f"read recording {name}"
        self._samples = self._lost = 0
        self.offset = 0
        self._read_preamble()
        chunk = self._read_chunk()
        if chunk is None:
            raise self._damage("the file ends before its header")
        kind, payload, size = chunk
        if kind != form.HEADER:
            raise self._damage(f"it has a chunk of type {kind} where its header must be")
        self.header = self._header(payload)
        try:
            self.schema = schema_of(self.header)
        except ValueError as error:
            raise self._damage(f"its header makes no sense: {error}") from None
        self.offset += size

    def __iter__(self) -> Iterator[Item]:
        while True:
            chunk = self._read_chunk()
            if chunk is None:
                raise self._damage(
                    f"the file ends at byte {self.offset}, without the end of the trace",
                    hint="The recorder was killed, or its disk full, or the file is cut: "
                    "what came before is as it was recorded.",
                )
            kind, payload, size = chunk
            item = self._item(kind, payload)
            if item is not None:
                yield item
            self.offset += size
            if isinstance(item, End):
                break
        if self._read(1):
            raise self._damage("more follows the end of the trace")

    def _damage(self, reason: str, *, hint: str = "") -> RecordingError:
        """The error: its offset is where the chunk begins that is being read."""
        if f"byte {self.offset}" not in reason:
            reason += f", at byte {self.offset}"
        hint = hint or "The file is damaged there: what came before is as it was recorded."
        error = RecordingError(self._operation, None, reason, hint=hint)
        error.offset = self.offset
        return error

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise BpfError(self._operation, error.errno, error.strerror or str(error)) from None

    def _read_preamble(self) -> None:
        size = form.PREAMBLE.sizeof()
        start = self._read(size)
        if len(start) == size and start.startswith(form.MAGIC):
            version = form.PREAMBLE.parse(start).version
            if version > form.VERSION:
                reason = f"its format has version {version}, and this ebpf-tool reads 1"
                raise self._damage(reason, hint="Read it with a newer ebpf-tool.")
            if version == form.VERSION:
                self.offset = size
                return
        hint = "'ebpf-tool kprobe FUNCTION --record=FILE' makes recordings."
        if not start:
            raise self._damage("it is empty", hint=hint)
        if form.MAGIC.startswith(start[: len(form.MAGIC)]):
            raise self._damage("the file ends before its header, or its version is damaged")
        raise self._damage("it is no recording", hint=hint)

    def _read_chunk(self) -> tuple[int, bytes, int] | None:
        """The next chunk's type and payload, and the bytes it takes; None at the file's end."""
        head = self._read(_CHUNK.size)
        if not head:
            return None
        if len(head) < _CHUNK.size:
            raise self._damage("the file ends within a chunk")
        kind, length, checksum = _CHUNK.unpack(head)
        if length > form.MAX_PAYLOAD:
            raise self._damage(f"a chunk claims {length} bytes, more than any has")
        payload = self._read(length)
        if len(payload) < length:
            raise self._damage("the file ends within a chunk")
        if form.checksum(self.offset, kind, payload) != checksum:
            raise self._damage("a chunk's checksum is wrong")
        return kind, payload, _CHUNK.size + length

    def _parse(self, declaration: Any, payload: bytes | io.BytesIO) -> dict[str, Any]:
        """The fields; more may follow those that this version knows."""
        stream = io.BytesIO(payload) if isinstance(payload, bytes) else payload
        try:
            return dict(declaration.parse_stream(stream))
        except (construct.ConstructError, ValueError) as error:
            raise self._damage(f"a chunk's content is not of its type ({error!r})") from None

    def _header(self, payload: bytes) -> Header:
        found = self._parse(form.HEADER_PAYLOAD, payload)
        for name in ("clock", "argument"):
            found[name] = dict(found[name])
        found["clock"] = self._clock(found["clock"])
        found["argument"] = _make(Argument, found["argument"])
        found["fields"] = tuple(_make(Field, dict(field)) for field in found["fields"])
        if found["byte_order"] not in (form.LITTLE, form.BIG):
            raise self._damage(f"its byte order is {found['byte_order']}, neither 0 nor 1")
        return _make(Header, found)

    def _clock(self, found: dict[str, Any]) -> Clock:
        clock = _make(Clock, found)
        if not -_DAY < clock.zone < _DAY:
            raise self._damage(f"its time zone is {clock.zone} seconds from UTC, over a day")
        return clock

    def _item(self, kind: int, payload: bytes) -> Item | None:
        if kind == form.SAMPLES:
            samples = self._split(payload)
            self._samples += len(samples)
            return Samples(samples)
        if kind == form.LOST:
            lost = _make(Lost, self._parse(form.LOST_PAYLOAD, payload))
            self._lost += lost.events
            return lost
        if kind == form.CLOCK:
            return self._clock(self._parse(form.CLOCK_PAYLOAD, payload))
        if kind == form.END:
            end = self._end(payload)
            if (end.samples, end.reported_lost) != (self._samples, self._lost):
                raise self._damage(
                    f"its end tells of {end.samples} samples and {end.reported_lost} losses, "
                    f"and {self._samples} and {self._lost} are in it"
                )
            if end.seen != end.filtered + end.sent + end.refused:
                raise self._damage(f"the counters of its end do not add up ({end})")
            return end
        if kind == form.FUNCTIONS:
            return Functions(self._objects(payload, "functions"))
        if kind == form.STACKS:
            return Stacks(self._objects(payload, "stacks"))
        if kind == form.HEADER:
            raise self._damage("it has a second header")
        return None

    def _objects(self, payload: bytes, what: str) -> list[dict[str, Any]]:
        try:
            found = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise self._damage(f"a chunk of {what} is no JSON ({error})") from None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self._damage(f"a chunk of {what} is no list of objects")
        return found

    def _end(self, payload: bytes) -> End:
        stream = io.BytesIO(payload)
        found: dict[str, Any] = {}
        for declaration in (form.END_PAYLOAD, form.END_MORE, form.END_RETURNS):
            found.update(self._parse(declaration, stream))
            if stream.tell() == len(payload):  # an older recorder knew no more
                break
        cpus = found.get("refused_cpus", ())
        found["refused_cpus"] = tuple((row.cpu, row.events) for row in cpus)
        return End(**{name: found[name] for name in End._fields if name in found})

    def _split(self, payload: bytes) -> list[tuple[int, bytes]]:
        """The samples in a payload, as form.SAMPLES_PAYLOAD declares it."""
        samples: list[tuple[int, bytes]] = []
        at = 0
        while at < len(payload):
            begin = at + _SAMPLE.size
            if begin > len(payload):
                raise self._damage("a chunk ends within a sample")
            cpu, size = _SAMPLE.unpack_from(payload, at)
            at = begin + size
            if size > form.MAX_SAMPLE or at > len(payload):
                raise self._damage(f"a sample claims {size} bytes, more than its chunk has")
            samples.append((cpu, payload[begin:at]))
        return samples


def _make(record: type[_T], found: dict[str, Any]) -> _T:
    """The named tuple of these fields; construct adds its own "_io"."""
    names = record._fields  # type: ignore[attr-defined]
    return record(**{name: found[name] for name in names})
