"""Events as lines: what kprobe prints of them, and replay again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from . import usage
from .text import Memo, WallClock, escape, format_boot

if TYPE_CHECKING:
    from ..events import SyscallEvent
    from .argument import Argument

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
    """A function that makes lines of events, by the clock as it then is.

    The events may be plain tuples, their names bytes: see Schema.flat().
    """
    from ..fields import decode_cstring  # not needed to read the options

    values = Memo(argument.format)
    formats: dict[str, Callable[[int], str]] = {
        "ns": str,
        "boot": format_boot,
        "wall": clock.format,
    }
    timestamp = formats[options.time]

    def caller(key: tuple[int, int, str | bytes]) -> str:
        pid, tid, name = key
        comm = name if isinstance(name, str) else decode_cstring(name)
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
