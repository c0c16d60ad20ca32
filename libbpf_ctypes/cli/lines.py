"""Events as lines: what kprobe prints of them, and replay again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from .origin import RETURNED, traced_at
from .text import Memo, WallClock, escape, format_boot

if TYPE_CHECKING:
    from ..errors import BpfError
    from ..events import CallEvent, SyscallEvent
    from .account import Account
    from .argument import Argument
    from .formats import ShownArgument
    from .line_options import LineOptions
    from .origin import Traced
    from .stacks import Stacks
    from .style import Style

#: On a terminal: columns of "[pid]" at first, of "comm:", of "function:" at most.
_PID_WIDTH, _COMM_WIDTH, _FUNCTION_WIDTH = 7, 16, 24


class Formatter:
    """Makes text of events. All that a formatter need not do does nothing here.

    Attributes: failed: whether something did not get where it was to go. It is told already.
    """

    failed = False

    def start(self) -> str:
        """The text before the first event."""
        return ""

    def format(self, events: Iterable[Any]) -> str:
        """The text of events, in whole lines."""
        raise NotImplementedError

    def lost(self, cpu: int, events: int) -> None:
        """Takes a report of losses, made before the events that are formatted next."""

    def wait(self, deadline: float) -> bool:
        """Waits for room for more events, to DEADLINE (of time.monotonic) at most; whether
        there is. What is formatted without it is kept, all the same.
        """
        return True

    def stop(self) -> None:
        """Cuts short what end() waits for; safe in a signal handler."""

    def error(self, error: BpfError | str) -> str:
        """The text of an error, where errors belong among the events."""
        return ""

    def turn(self) -> float | None:
        """Does what is due though no event came; returns in how many seconds next, or None."""
        return None

    def end(self, account: Account | None) -> str:
        """The text behind the last event; what is held back is let go of.

        Args: account: None where an error ended the trace, and was told.
        """
        return ""


class Lines(Formatter):
    """One line for each struct syscall_event, by the clock as it then is.

    The events may be plain tuples, their names bytes: see Schema.flat().
    """

    def __init__(
        self, options: LineOptions, argument: Argument, clock: WallClock, style: Style
    ) -> None:
        self._argument = f"{argument.label}="
        self._values = Memo(argument.format)
        self._callers = _Callers(options, style)
        self._timestamp = time_format(options.time, clock)

    def format(self, events: Iterable[SyscallEvent]) -> str:
        callers, values, timestamp = self._callers, self._values, self._timestamp
        argument = self._argument
        return "".join(
            [
                f"{callers[pid, tid, comm]}{argument}{values[register]}, "
                f"timestamp={timestamp(ns)}\n"
                for pid, tid, register, ns, comm in events
            ]
        )


def line_formatter(
    options: LineOptions, argument: Argument, clock: WallClock
) -> Callable[[Iterable[SyscallEvent]], str]:
    """A function that makes lines of struct syscall_events, as in a pipe or a file."""
    from .style import PLAIN

    return Lines(options, argument, clock, PLAIN).format


class CallLines(Formatter):
    """One line for each struct call_event: all arguments that are shown, and its time.

    Args:
        functions: of the trace. Their names are in the lines where there are several.
        stacks: follow the lines, a frame in each.
    """

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        style: Style,
        stacks: Stacks | None = None,
    ) -> None:
        self._several = len(functions) > 1
        self._callers = _Callers(options, style)
        self._timestamp = time_format(options.time, clock)
        self._arguments = Arguments(functions, raw=options.raw_args, took=True)
        self._frames = None if stacks is None else Frames(stacks)
        longest = max((len(label_of(functions, i)) for i in range(len(functions))), default=0)
        width = min(longest, _FUNCTION_WIDTH) + 1 if style.aligned else 0

        def label(index: int) -> str:
            name = label_of(functions, index)
            blanks = " " * (width - len(name) - 1)
            return f"{style.function(name)}:{blanks} "

        self._labels = Memo(label)

    def format(self, events: Iterable[CallEvent]) -> str:
        callers, labels, arguments = self._callers, self._labels, self._arguments
        timestamp, several, frames = self._timestamp, self._several, self._frames
        lines = []
        for event in events:
            pid, tid, _register, ns, comm, function = event[:6]
            if not pid and event.host_pid:
                pid = tid = _ELSEWHERE
            name = labels[function] if several else ""
            shown = "".join([f"{label}={show(event)}, " for label, show in arguments[function]])
            lines.append(f"{callers[pid, tid, comm]}{name}{shown}timestamp={timestamp(ns)}\n")
            if frames is not None:
                lines.append(frames[frames.key(event)])
        return "".join(lines)


class Frames(Memo):
    """The frames of an event's stacks in lines of their own, the kernel's first, by key()."""

    def __init__(self, stacks: Stacks) -> None:
        def make(key: tuple[int, int, int]) -> str:
            kernel, user, pid = key
            frames = (*stacks.kernel(kernel), *stacks.user(user, pid))
            return "".join([f"    {frame}\n" for frame in frames])

        super().__init__(make)

    @staticmethod
    def key(event: CallEvent) -> tuple[int, int, int]:
        """What the frames are of."""
        return event.kernel_stack, event.user_stack, event.pid


def format_took(duration_ns: int) -> str:
    """How long a call took."""
    return f"{duration_ns // 1000}.{duration_ns % 1000:03}us"


#: Makes text of an argument's value.
Show = Callable[["CallEvent"], str]

#: Stands for the process id of a process that the user's pid namespace does not have.
_ELSEWHERE = -1


class _Callers(Memo):
    """ "[pid] comm: " by (pid, tid, comm), padded on a terminal."""

    def __init__(self, options: LineOptions, style: Style) -> None:
        from ..fields import decode_cstring  # not needed to read the options
        from .style import pad

        show_tid, process = options.show_tid, style.process
        width = 2 * _PID_WIDTH - 1 if show_tid else _PID_WIDTH

        def caller(key: tuple[int, int, str | bytes]) -> str:
            nonlocal width
            pid, tid, name = key
            comm = escape(name if isinstance(name, str) else decode_cstring(name))
            numbers = (pid, tid) if show_tid else (pid,)
            who = "/".join("?" if number == _ELSEWHERE else str(number) for number in numbers)
            who, comm = f"[{who}]", f"{comm}:"
            if style.aligned:
                if len(who) > width:
                    self.clear()  # those that were made for narrower ones
                    width = len(who)
                who, comm = who.ljust(width), pad(comm, _COMM_WIDTH)
            return process(f"{who} {comm}") + " "

        super().__init__(caller)


def time_format(time: str, clock: WallClock) -> Callable[[int], str]:
    """How a time is printed under this --time. Returns: a function of nanoseconds."""
    formats: dict[str, Callable[[int], str]] = {
        "ns": str,
        "boot": format_boot,
        "wall": clock.format,
    }
    return formats[time]


def label_of(functions: tuple[Traced, ...], index: int) -> str:
    """The name of a function by its place in the trace."""
    label = traced_at(functions, index).label
    # It was escaped when it was found, unless a recording is damaged.
    return label if label.isprintable() else escape(label)


class Arguments(dict[int, "list[tuple[str, Show]]"]):
    """By a function's place in the trace: its arguments' names, and what makes their text.

    Args: raw: see show(). took: of returns there is the time, too, behind the value.
    """

    def __init__(self, functions: tuple[Traced, ...], *, raw: bool, took: bool = False) -> None:
        super().__init__()
        self._functions, self._raw, self._took = functions, raw, took

    def __missing__(self, index: int) -> list[tuple[str, Show]]:
        function = traced_at(self._functions, index)
        found = [(each.name, show(each, raw=self._raw)) for each in function.in_order()]
        if function.returns and self._took:
            place = int(bool(found) and found[0][0] == RETURNED)
            found.insert(place, ("took", lambda event: format_took(event.duration_ns)))
        self[index] = found
        return found


def show(argument: ShownArgument, *, raw: bool) -> Show:
    """A function that makes text of an argument's value in an event.

    Args: raw: a number is printed as it is, unsigned, whatever its type.
    """
    from .formats import format_value  # not needed to read the options

    if argument.text >= 0:
        return lambda event: format_value(argument, event)
    words = Memo(str if raw else argument.words)
    value, bit = argument.value, 1 << argument.value

    def show_number(event: CallEvent) -> str:
        return "<unreadable>" if event.unreadable & bit else words[event.values[value]]

    return show_number
