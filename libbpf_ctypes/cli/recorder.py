"""``--record``: the trace as it comes, written to a file beside the lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

from .. import __version__, recording_format
from ..errors import BpfError
from ..events import SYSCALL_EVENT, SyscallEvent
from ..recording import RecordingWriter
from ..recording_format import Argument as RecordedArgument
from ..recording_format import Clock, End, Header, layout_of, schema_of
from ..schema import Schema
from .account import Account
from .argument import Argument
from .console import Console
from .text import WallClock, escape


class Recorder:
    """Writes a recording; what cannot be written is told, once, and does not end the trace.

    Args:
        path: the file; what was in it is lost.
        function, pid, argument: of the trace.
        clock: the trace's; it goes by the recording's readings from here on,
            so that a replay prints the same dates.

    Attributes:
        failed: whether something could not be written.
        decode: of the samples, by the recording's header, as a replay decodes them.
    Raises: BpfError: the file cannot be opened, or takes not even the header.
    """

    def __init__(
        self,
        path: str,
        function: str,
        pid: int,
        argument: Argument,
        clock: WallClock,
        console: Console,
    ) -> None:
        self._path, self._clock, self._console = path, clock, console
        self._lost: list[tuple[int, int]] = []
        self._reading = Clock(*clock.reading())
        clock.set(*self._reading)
        header = make_header(function, pid, argument, self._reading)
        self.decode = sample_decoder(header)
        self.failed = False
        # Non-blocking: a FIFO that nobody reads must not keep us from a Ctrl-C.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = -1
        try:
            self._fd = os.open(path, flags, 0o666)
            os.set_blocking(self._fd, True)
            self._writer = RecordingWriter(self._fd, header)
        except OSError as error:
            self.close()
            reason = error.strerror or str(error)
            hint = "Name a file that can be written with --record."
            raise BpfError(f"record to {path}", error.errno, reason, hint=hint) from None

    def lost(self, cpu: int, events: int) -> None:
        """Takes a report of losses; it is written before the next samples."""
        self._lost.append((cpu, events))

    def add(self, samples: list[tuple[int, bytes]]) -> None:
        """Writes samples, and what changed before them."""
        if self.failed:
            return
        try:
            reading = Clock(*self._clock.reading())
            if reading != self._reading:
                self._writer.set_clock(reading)
                self._reading = reading
                self._clock.set(*reading)
            self._write_lost()
            self._writer.add_samples(samples)
        except OSError as error:
            self._fail(error)

    def end(self, account: Account) -> None:
        """Writes the end, and closes the file: some file systems tell only then what is lost."""
        if self.failed:
            return
        try:
            self._write_lost()
            counters, delivered, reported, duration, reader_left, drained = account
            account_of = (counters.seen, counters.filtered, counters.sent, counters.refused)
            self._writer.end(End(delivered, reported, *account_of, duration, reader_left, drained))
            self.close()
        except OSError as error:
            self._fail(error)

    def _write_lost(self) -> None:
        for cpu, events in self._lost:
            self._writer.add_lost(cpu, events)
        self._lost.clear()

    def _fail(self, error: OSError) -> None:
        self.failed = True
        self._console.error(
            f"record to {escape(self._path)}: {error.strerror}. The recording ends after "
            f"{self._writer.samples} events; what comes from here on is only printed."
        )

    def close(self) -> None:
        """Closes the file. Twice does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def make_header(function: str, pid: int, argument: Argument, clock: Clock) -> Header:
    """The header of a recording made here and now."""
    byte_order, size, fields = layout_of(SYSCALL_EVENT)
    machine = os.uname()
    kind = argument.type
    recorded = RecordedArgument(argument.name)
    if kind is not None:
        recorded = RecordedArgument(
            argument.name, True, kind.kind, kind.name, kind.size, kind.signed, kind.is_bool
        )
    return Header(
        tool_version=__version__,
        function=function,
        pid=pid,
        machine=machine.machine,
        byte_order=byte_order,
        kernel_release=machine.release,
        host_name=machine.nodename,
        boot_id=_boot_id(),
        clock=clock,
        argument=recorded,
        event="syscall_event",
        size=size,
        fields=fields,
    )


def _boot_id() -> str:
    """The number of this boot: timestamps of one boot can be compared. "" where it is unknown."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return text.strip()


#: The kinds of fields that a line is made of.
_KINDS = {
    **dict.fromkeys(("pid", "tid", "syscall_nr", "timestamp_ns"), recording_format.INTEGER),
    "comm": recording_format.TEXT,
}


def sample_decoder(header: Header) -> Callable[[list[tuple[int, bytes]]], list[SyscallEvent]]:
    """A function that decodes a recording's samples.

    Args: header: of the recording; its events have SyscallEvent's fields, in
        any order, and may have more.

    Raises: BpfError: they have not. The function raises DecodeError for a
        sample of another size.
    """
    kinds = {field.name: field.kind for field in header.fields}
    missing = [name for name, kind in _KINDS.items() if kinds.get(name) != kind]
    if missing:
        reason = f"its events have no {', '.join(missing)}, or of another kind"
        hint = "It is a recording of another tool's events: docs/recording-format.md reads any."
        raise BpfError("replay the recording", None, reason, hint=hint)
    schema: Schema[Any] = schema_of(header)
    decode = schema.decode
    if schema.record._fields == SyscallEvent._fields:
        return lambda samples: [decode(data) for _cpu, data in samples]

    def pick(data: bytes) -> SyscallEvent:
        event = decode(data)
        return SyscallEvent(*(getattr(event, name) for name in SyscallEvent._fields))

    return lambda samples: [pick(data) for _cpu, data in samples]
