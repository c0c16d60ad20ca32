"""Events as lines: what kprobe prints of them, and replay again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .. import recording_format
from ..errors import BpfError
from ..events import SyscallEvent
from ..recording_format import Header, schema_of
from ..schema import Schema
from . import usage
from .argument import Argument
from .text import Memo, WallClock, escape, format_boot

_PID_MAX = 1 << 22


class LineOptions(NamedTuple):
    """What the command line says of the lines, checked."""

    pid: int  # 0: every process
    show_tid: bool
    time: str
    raw_args: bool


def read_line_options(words: dict[str, Any]) -> LineOptions:
    """The options in docopt's words. Raises: usage.UsageError."""
    return LineOptions(
        pid=usage.whole_number(words, "--pid", _PID_MAX) if words["--pid"] is not None else 0,
        show_tid=words["--show-tid"],
        time=usage.choice(words, "--time", ("ns", "boot", "wall")),
        raw_args=words["--raw-args"],
    )


def line_formatter(
    options: LineOptions, argument: Argument, clock: WallClock
) -> Callable[[Iterable[SyscallEvent]], str]:
    """A function that makes lines of events, by the clock as it then is."""
    values = Memo(argument.format)
    formats: dict[str, Callable[[int], str]] = {
        "ns": str,
        "boot": format_boot,
        "wall": clock.format,
    }
    timestamp = formats[options.time]

    def caller(key: tuple[int, int, str]) -> str:
        pid, tid, comm = key
        who = f"{pid}/{tid}" if options.show_tid else str(pid)
        return f"[{who}] {escape(comm)}: {argument.label}="

    callers = Memo(caller)

    def format_events(events: Iterable[SyscallEvent]) -> str:
        return "".join(
            [
                f"{callers[pid, tid, comm]}{values[register]}, timestamp={timestamp(ns)}\n"
                for pid, tid, register, ns, comm in events
            ]
        )

    return format_events


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
