"""``ebpf-tool replay``: the lines of a recorded trace, on any machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..btf import Kind, Type
from ..errors import BpfError
from ..events import Counters
from ..recording import RecordingReader
from ..recording_format import Argument as RecordedArgument
from ..recording_format import Clock, End, Lost, Samples
from .account import Account, tell
from .argument import Argument, shown
from .console import Console
from .lines import LineOptions, line_formatter, read_line_options
from .recorder import sample_decoder
from .text import WallClock, escape


class Options(NamedTuple):
    """The command line, checked."""

    file: str
    lines: LineOptions
    quiet: bool


def read_options(words: dict[str, Any]) -> Options:
    """The options in docopt's words. Raises: usage.UsageError."""
    return Options(words["FILE"], read_line_options(words), words["--quiet"])


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = read_options(words)
    console = Console(quiet=options.quiet, verbose=False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to tidy up
    try:
        with _open(options.file) as file:
            return _Replay(options, console, RecordingReader(file, options.file)).run()
    except BpfError as error:
        console.failure(error)
    except BrokenPipeError:  # the reader of our lines left
        return 0
    except OSError as error:
        console.error(f"write the output: {error.strerror}")
    return 1


def _open(name: str) -> BinaryIO:
    try:
        return Path(name).open("rb")
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror or "" if isinstance(error, OSError) else str(error)
        hint = "'ebpf-tool kprobe FUNCTION --record=FILE' makes recordings."
        raise BpfError(f"replay {name}", number, reason, hint=hint) from None


class _Replay:
    def __init__(self, options: Options, console: Console, reader: RecordingReader) -> None:
        self._options = options
        self._console = console
        self._reader = reader
        self._read = self._printed = self._lost = 0

    def run(self) -> int:
        lines = self._options.lines
        if sys.stdout is None:
            raise BpfError("write the output", None, "stdout is closed", hint="Leave it open.")
        self._introduce()
        clock = WallClock()
        clock.set(*self._reader.header.clock)
        argument = recorded_argument(self._reader.header.argument, raw=lines.raw_args)
        format_events = line_formatter(lines, argument, clock)
        decode = sample_decoder(self._reader.header)
        end: End | None = None
        for item in self._reader:
            if isinstance(item, Samples):
                events = decode(item.samples)
                self._read += len(events)
                if lines.pid:
                    events = [event for event in events if event.pid == lines.pid]
                self._printed += len(events)
                _write(format_events(events))
            elif isinstance(item, Clock):
                clock.set(*item)
            elif isinstance(item, Lost):
                self._lost += item.events
            else:
                end = item  # not the end of the loop: the reader looks whether more follows
        assert end is not None  # a recording without end raises
        return self._account(end)

    def _introduce(self) -> None:
        """Says where the lines come from."""
        header = self._reader.header
        only = f", process {header.pid} only" if header.pid else ""
        self._console.info(
            escape(
                f"Replaying {self._options.file}: {header.function}{only}, recorded by ebpf-tool "
                f"{header.tool_version} on {header.host_name}, Linux {header.kernel_release}, "
                f"{header.machine}"
            )
        )

    def _account(self, end: End) -> int:
        """Tells what the live command told at its end."""
        if self._options.lines.pid:
            self._console.info(
                f"{self._printed} of the {self._read} recorded events are of process "
                f"{self._options.lines.pid}; the rest of this account is of all of them"
            )
        counters = Counters(end.filtered, end.sent, end.refused)
        account = Account(
            counters, self._read, self._lost, end.duration_ns, end.reader_left, end.drained
        )
        function = escape(self._reader.header.function)
        return 0 if tell(account, function, self._console) else 1


def recorded_argument(recorded: RecordedArgument, *, raw: bool) -> Argument:
    """How the argument was shown, by what the recording says of its type."""
    kind = None
    if recorded.typed:
        # A kind that is newer than this table is printed as what is no integer.
        known = Kind.VOID
        with contextlib.suppress(ValueError):
            known = Kind(recorded.kind)
        kind = Type(known, recorded.type_name, recorded.size, recorded.signed, recorded.is_bool)
    return shown(recorded.name, kind, raw=raw)


def _write(text: str) -> None:
    """Writes whole lines to stdout, as the live command encodes them."""
    rest = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]
