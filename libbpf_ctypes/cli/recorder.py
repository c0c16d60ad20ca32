"""``--record``: the trace as it comes, written to a file beside the lines."""

from __future__ import annotations

import os
from typing import Any, Callable

from ..errors import BpfError
from ..events import SYSCALL_EVENT, CallEvent
from ..recording_format import Argument as RecordedArgument
from ..recording_format import Clock, Header
from ..recording_layout import layout_of
from ..recording_writer import RecordingWriter
from ..schema import Schema
from .account import Account
from .argument import Argument
from .console import Console
from .origin import here
from .recorded import call_decoder, end_of, sample_decoder, stack_record
from .stacks import Stacks
from .stream import Decode
from .text import WallClock, escape

#: Stacks of which it is known that they are recorded; beyond, some are recorded again.
_MOST_STACKS = 1 << 16


class Recorder:
    """Writes a recording; what cannot be written is told, once, and does not end the trace.

    Args:
        path: the file; what was in it is lost.
        function, pid: of the trace: what was asked for; 0: not just one process.
        argument: of a trace of struct syscall_events.
        clock: the trace's; it goes by the recording's readings from here on,
            so that a replay prints the same dates.
        calls: of a trace of struct call_events: its functions' records, and these events' schema.
        stacks: that the events have keys of.

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
        argument: Argument | None,
        clock: WallClock,
        console: Console,
        calls: tuple[list[dict[str, Any]], Schema[CallEvent]] | None = None,
        stacks: Stacks | None = None,
    ) -> None:
        self._path, self._clock, self._console = path, clock, console
        self._lost: list[tuple[int, int]] = []
        self._reading = Clock(*clock.reading())
        clock.set(*self._reading)
        event = ("syscall_event", SYSCALL_EVENT)
        if calls is not None:
            event = ("call_event", calls[1].declaration)
        header = make_header(function, pid, argument, self._reading, *event)
        self.decode: Callable[[list[tuple[int, bytes]]], list[Any]]
        self.decode = sample_decoder(header) if calls is None else call_decoder(header)
        self._new_stacks: list[dict[str, Any]] = []
        if stacks is not None:
            self.decode = self._with_stacks(self.decode, stacks)
        self.failed = False
        # Non-blocking: a FIFO that nobody reads must not keep us from a Ctrl-C.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = -1
        try:
            self._fd = os.open(path, flags, 0o666)
            os.set_blocking(self._fd, True)
            self._writer = RecordingWriter(self._fd, header)
            if calls is not None:
                self._writer.add_functions(calls[0])
        except OSError as error:
            self.close()
            reason = error.strerror or str(error)
            hint = "Name a file that can be written with --record."
            raise BpfError(f"record to {path}", error.errno, reason, hint=hint) from None

    def _with_stacks(self, decode: Decode, stacks: Stacks) -> Decode:
        """DECODE, which also takes down the stacks of the events: at once, since a process ends."""
        known: set[tuple[int, int | None]] = set()

        def take(key: int, pid: int | None) -> None:
            if key and (key, pid) not in known and not self.failed:
                if len(known) >= _MOST_STACKS:
                    known.clear()
                known.add((key, pid))
                frames = stacks.kernel(key) if pid is None else stacks.user(key, pid)
                self._new_stacks.append(stack_record(key, pid, frames))

        def decode_all(samples: list[tuple[int, bytes]]) -> list[Any]:
            events = decode(samples)
            for event in events:
                take(event.kernel_stack, None)
                take(event.user_stack, event.pid)
            return events

        return decode_all

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
            if self._new_stacks:
                self._writer.add_stacks(self._new_stacks)
                self._new_stacks = []
            self._writer.add_samples(samples)
        except OSError as error:
            self._fail(error)

    def end(self, account: Account) -> None:
        """Writes the end, and closes the file: some file systems tell only then what is lost."""
        if self.failed:
            return
        try:
            self._write_lost()
            self._writer.end(end_of(account))
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


def make_header(
    function: str, pid: int, argument: Argument | None, clock: Clock, event: str, layout: Any
) -> Header:
    """The header of a recording made here and now. Args: event, layout: of the samples."""
    byte_order, size, fields = layout_of(layout)
    origin = here()
    recorded = RecordedArgument()
    if argument is not None:
        recorded = RecordedArgument(argument.name)
        kind = argument.type
        if kind is not None:
            recorded = RecordedArgument(
                argument.name, True, kind.kind, kind.name, kind.size, kind.signed, kind.is_bool
            )
    return Header(
        tool_version=origin.tool_version,
        function=function,
        pid=pid,
        machine=origin.machine,
        byte_order=byte_order,
        kernel_release=origin.kernel_release,
        host_name=origin.host_name,
        boot_id=origin.boot_id,
        clock=clock,
        argument=recorded,
        event=event,
        size=size,
        fields=fields,
    )
