"""``ebpf-tool replay``: the lines of a recorded trace, on any machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..btf import Kind, Type
from ..errors import BpfError
from ..recording import RecordingReader
from ..recording_format import Argument as RecordedArgument
from ..recording_format import Clock, End, Functions, Lost, Samples, Stacks
from .account import exit_status, tell
from .argument import Argument, shown
from .console import Console
from .formatters import call_formatter
from .line_options import LineOptions, read_line_options
from .lines import Formatter, Lines
from .origin import Origin
from .output import open_file
from .recorded import (
    account_of,
    as_calls,
    call_decoder,
    is_of_calls,
    plain_function,
    sample_decoder,
    take_stacks,
    traced_functions,
)
from .stacks import RecordedStacks
from .stream import Decode
from .style import style_of
from .text import WallClock, escape
from .usage import UsageError


class Options(NamedTuple):
    """The command line, checked."""

    file: str
    lines: LineOptions
    output: str | None
    strict: bool
    quiet: bool


def read_options(words: dict[str, Any]) -> Options:
    """The options in docopt's words. Raises: usage.UsageError."""
    return Options(
        words["FILE"],
        read_line_options(words),
        words.get("--output"),
        bool(words.get("--strict")),
        words["--quiet"],
    )


def run(words: dict[str, Any]) -> int:
    """Runs the command; returns its exit status. Raises: usage.UsageError."""
    options = read_options(words)
    console = Console(quiet=options.quiet, verbose=False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of text there is nothing to tidy up
    try:
        with _open(options.file) as file:
            _check_output(file, options.output)
            return _Replay(options, console, RecordingReader(file, options.file)).run()
    except BpfError as error:
        if options.lines.json and console.also is None:
            _print_error(error, options.output)
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


def _check_output(file: BinaryIO, output: str | None) -> None:
    """Refuses to write the lines over the recording. Raises: UsageError."""
    with contextlib.suppress(OSError, ValueError):  # it is not there yet, or cannot be
        if output is not None and os.path.samestat(os.fstat(file.fileno()), Path(output).stat()):
            raise UsageError(f"--output is the recording itself, {escape(output)}")


def _print_error(error: BpfError, output: str | None) -> None:
    """Prints the object of what ended the replay before the first line, if that can be."""
    from .json_lines import error_record

    with contextlib.suppress(BpfError, OSError):
        os.write(_lines_fd(output), error_record(error).encode())


class _Replay:
    def __init__(self, options: Options, console: Console, reader: RecordingReader) -> None:
        self._options = options
        self._console = console
        self._reader = reader
        self._functions: list[dict[str, Any]] = []
        self._stacks, self._has_stacks = RecordedStacks(), False
        self._read = self._printed = self._lost = 0
        self._clock = WallClock()
        self._clock.set(*reader.header.clock)
        self._fd = _lines_fd(options.output) if options.lines.is_text else _nowhere()
        self._formatter: Formatter | None = None
        self._signal = 0
        self._catch_signals()
        self._encoding = options.lines.encoding

    def _catch_signals(self) -> None:
        """Of formats that hold something back, it is written, or told, before a signal ends us."""
        if not self._options.lines.is_text:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        self._signal = number
        signal.signal(number, signal.SIG_DFL)  # should a pipe that is read keep us from an end
        if self._formatter is not None:
            self._formatter.stop()

    def run(self) -> int:
        self._introduce()
        try:
            end = self._replay()
        except BpfError as error:
            if self._formatter is None:
                raise
            self._console.failure(error)
            self._write(self._formatter.end(None))
            return 1
        assert self._formatter is not None
        status = self._account(end, self._formatter)
        if self._signal:  # as it ends other replays
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(os.getpid(), self._signal)
        return status

    def _replay(self) -> End | None:
        """Prints what the recording holds; returns its end, None: a signal came before."""
        lines, formatter = self._options.lines, self._formatter
        end: End | None = None
        for item in self._reader:
            if isinstance(item, Functions):
                self._functions += item.functions
                continue
            if isinstance(item, Stacks):
                take_stacks(item.stacks, self._stacks)
                self._has_stacks = True
                continue
            if isinstance(item, Clock):
                self._clock.set(*item)
                continue
            if formatter is None:
                formatter, decode = self._begin()
            if isinstance(item, Samples):
                events = decode(item.samples)
                self._read += len(events)
                if lines.pids:
                    events = [event for event in events if event.pid in lines.pids]
                self._printed += len(events)
                self._write(formatter.format(events))
                while not self._signal and not formatter.wait(time.monotonic() + 1):
                    pass  # a collector that is away: Ctrl-C ends it
            elif isinstance(item, Lost):
                self._lost += item.events
                formatter.lost(*item)
            else:
                end = item  # not the end of the loop: the reader looks whether more follows
            if self._signal:
                return None
        return end  # a recording without end raises

    def _begin(self) -> tuple[Formatter, Decode]:
        """What makes text of the events, and of what is before them; all functions are read."""
        header, lines = self._reader.header, self._options.lines
        style = style_of(lines.color, self._fd)
        argument = recorded_argument(header.argument, raw=lines.raw_args)
        if is_of_calls(header):
            functions, decode = traced_functions(self._functions, header), call_decoder(header)
        elif lines.format != "lines" or lines.fields:
            functions, decode = (plain_function(header.function, argument),), as_calls(header)
        else:
            self._formatter = Lines(lines, argument, self._clock, style)
            return self._formatter, sample_decoder(header)
        origin = Origin(
            header.tool_version,
            header.host_name,
            header.machine,
            header.kernel_release,
            header.boot_id,
        )
        formatter = call_formatter(
            lines, functions, self._clock, style, origin, self._stacks, self._console
        )
        self._formatter = formatter
        self._write(formatter.start())
        if lines.format != "lines":
            self._console.also = lambda error: self._write(formatter.error(error))
        return formatter, decode

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

    def _account(self, end: End | None, formatter: Formatter) -> int:
        """Tells what the live command told at its end."""
        self._catch_signals()
        if end is None:
            self._console.info(f"Stopped after {self._printed} events")
            self._write(formatter.end(None))
            return int(formatter.failed)
        pids = self._options.lines.pids
        if pids:
            which = f"process{'es' * (len(pids) > 1)} {', '.join(map(str, pids))}"
            self._console.info(
                f"{self._printed} of the {self._read} recorded events are of {which}; "
                "the rest of this account is of all of them"
            )
        if self._options.lines.format == "folded" and not self._has_stacks:
            self._console.warning("There are no stacks in it: it was recorded without -k and -u.")
        account = account_of(end, self._read, self._lost)
        function = escape(self._reader.header.function)
        good = tell(account, function, self._console, replayed=True)
        self._write(formatter.end(account))
        failed = formatter.failed or not good
        return exit_status(account, strict=self._options.strict) or int(failed)

    def _write(self, text: str) -> None:
        """Writes whole lines, as the live command encodes them."""
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def _nowhere() -> int:
    """Where the text goes of a format that makes none."""
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _lines_fd(path: str | None) -> int:
    """Where the lines go: a file, or stdout."""
    if path is not None:
        return open_file(path)
    if sys.stdout is None:
        raise BpfError("write the output", None, "stdout is closed", hint="Leave it open.")
    return sys.stdout.fileno()


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
