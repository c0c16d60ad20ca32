"""``--format chrome-trace``: the Trace Event Format that Perfetto and Chrome's viewer open.

docs/chrome-trace.md says what is in it. It is the format's array of events; a file that ends
behind any event is one, too: its last bracket may be missing. It is UTF-8, and letters are as they
are: Perfetto's viewer shows "\\u00e9" as it is written, unless a quotation mark is in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring as quoted  # with its quotes
from typing import TYPE_CHECKING, Any

from ..errors import BpfError
from .columns import PREFIX
from .formats import BOOLEAN, ShownArgument, is_cut, is_readable, text_of
from .json_lines import JsonLines, by_name
from .lines import Formatter, label_of
from .origin import traced_at
from .text import Memo, WallClock, escape

if TYPE_CHECKING:
    from ..events import CallEvent
    from .account import Account
    from .line_options import LineOptions
    from .origin import Origin, Traced
    from .stacks import Stacks

#: Added to the host's numbers of a process that the tracer's pid namespace does not have:
#: above all that Linux gives, so that they are no others.
OUTSIDE = 1 << 22

#: Threads whose names are remembered; beyond, names are written again.
_MOST_THREADS = 1 << 16

#: Losses are told so often at most, by the events' times.
_LOSS_NS = 10**9

#: Integers below are exact in JavaScript, and so in a viewer; others are texts.
_EXACT = 2**53
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)")

#: Among an event's arguments: who called, and from where. An argument of such a name is "arg:…".
_OURS = ("caller", "kernel_stack", "user_stack")


class ChromeTrace(Formatter):
    """A slice for each call whose return was traced, an instant for each other event.

    Args:
        functions: of the trace.
        origin: here(), or a recording's.
        stacks: by the events' keys; None: none were asked for.
    """

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        origin: Origin,
        stacks: Stacks | None = None,
    ) -> None:
        self._raw, self._functions, self._stacks = options.raw_args, functions, stacks
        self._host, self._clock = origin.host_name, clock
        self._json = JsonLines(options, functions, clock, origin)
        self._header = json.loads(self._json.start())
        self._names = Memo(lambda index: quoted(label_of(functions, index)))
        self._arguments: dict[int, list[_Argument]] = {}
        self._threads: dict[tuple[int, int], str] = {}
        self._losses: dict[int, int] = {}
        self._next_loss = 0
        self._errors: list[str] = []
        self._begun = False
        self._last = 0
        self._between = "\n"

    def start(self) -> str:
        return "["

    def format(self, events: Iterable[CallEvent]) -> str:
        parts: list[str] = []
        for event in events:
            ns = event.timestamp_ns
            if not self._begun:
                parts.append(self._begin(ns))
            if self._losses and ns >= self._next_loss:
                parts.append(self._take_losses(ns))
            self._last = max(self._last, ns)
            pid, tid = event.pid, event.tid
            if not pid and event.host_pid:
                pid, tid = event.host_pid + OUTSIDE, event.host_tid + OUTSIDE
            if self._threads.get((pid, tid)) != event.comm:
                parts += self._name(pid, tid, event.comm)
            parts.append(self._event(event, pid, tid))
        return self._joined(parts)

    def lost(self, cpu: int, events: int) -> None:
        self._losses[cpu] = self._losses.get(cpu, 0) + events

    def error(self, error: BpfError | str) -> str:
        if self._begun:
            return self._joined([self._note(self._last, "error", message=escape(str(error)))])
        self._errors.append(escape(str(error)))  # it has no time yet
        return ""

    def end(self, account: Account | None) -> str:
        parts = []
        if self._begun and self._losses:
            parts.append(self._take_losses(self._last))
        if self._begun and account is not None:
            summary = json.loads(self._json.end(account).splitlines()[-1])
            del summary["type"]
            parts.append(self._note(self._last, "end of the trace", **summary))
        return self._joined(parts) + "\n]\n"

    def _joined(self, parts: list[str]) -> str:
        """Events with what is between them, and before the first."""
        if not parts:
            return ""
        text = self._between + ",\n".join(parts)
        self._between = ",\n"
        return text

    def _begin(self, ns: int) -> str:
        """What there is to say of all, at the first event's time: before there is none."""
        self._begun = True
        keys = ("tool", "host", "boot_id", "kernel", "machine")
        told = {key: escape(str(self._header[key])) for key in keys}
        offset = str(self._clock.offset_ns)  # a text: it has more than 53 bits
        begin = self._note(ns, f"trace of {told['host']}", **told, clock_offset_ns=offset)
        errors = [self._note(ns, "error", message=message) for message in self._errors]
        return ",\n".join([begin, *errors])

    def _note(self, ns: int, name: str, **args: Any) -> str:
        """An instant of the whole trace."""
        return json.dumps(
            {
                "name": name, "cat": "ebpf-tool", "ph": "i", "s": "g", "ts": 0,
                "pid": 0, "tid": 0, "args": args,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).replace('"ts":0', f'"ts":{_microseconds(ns)}', 1)  # fmt: skip

    def _take_losses(self, ns: int) -> str:
        self._next_loss = ns + _LOSS_NS
        losses, self._losses = self._losses, {}
        cpus = {str(cpu): count for cpu, count in sorted(losses.items())}
        events = sum(losses.values())
        return self._note(ns, f"{events} events lost", events=events, cpus=cpus)

    def _name(self, pid: int, tid: int, comm: str) -> list[str]:
        """The metadata that name a thread, and its process: by its main thread, if it is seen."""
        parts = []
        if tid == pid or (pid, pid) not in self._threads:
            parts.append(self._metadata("process_name", pid, pid, comm))
            if tid != pid:
                self._remember(pid, pid, comm)
        self._remember(pid, tid, comm)
        return [*parts, self._metadata("thread_name", pid, tid, comm)]

    def _remember(self, pid: int, tid: int, comm: str) -> None:
        if len(self._threads) >= _MOST_THREADS:
            self._threads.clear()
        self._threads[pid, tid] = comm

    def _metadata(self, what: str, pid: int, tid: int, comm: str) -> str:
        name = escape(comm) + (f" (the host's {tid - OUTSIDE})" if pid > OUTSIDE else "")
        return (
            f'{{"name":"{what}","ph":"M","ts":0,"pid":{pid},"tid":{tid},'
            f'"args":{{"name":{quoted(name)}}}}}'
        )

    def _event(self, event: CallEvent, pid: int, tid: int) -> str:
        index, ns = event.function, event.timestamp_ns
        function = traced_at(self._functions, index)
        if function.returns:
            duration = event.duration_ns or 0
            what = f'"ph":"X","ts":{_microseconds(ns - duration)},"dur":{_microseconds(duration)}'
        else:
            what = f'"ph":"i","s":"t","ts":{_microseconds(ns)}'
        arguments = self._arguments.get(index)
        if arguments is None:
            named = by_name(function.arguments)
            arguments = self._arguments[index] = [_Argument(*each, self._raw) for each in named]
        args = [f"{argument.name}:{argument.json(event)}" for argument in arguments]
        args.append(f'"caller":{{"cpu":{event.cpu},"uid":{_number(event.uid)}}}')
        if self._stacks is not None:
            args += self._stacks_of(event, self._stacks)
        category = quoted(escape(function.module or "kernel"))
        return (
            f'{{"name":{self._names[index]},"cat":{category},{what},"pid":{pid},"tid":{tid},'
            f'"args":{{{",".join(args)}}}}}'
        )

    def _stacks_of(self, event: CallEvent, stacks: Stacks) -> list[str]:
        frames = {
            "kernel_stack": stacks.kernel(event.kernel_stack),
            "user_stack": stacks.user(event.user_stack, event.pid),
        }
        return [
            f'"{name}":[{",".join(map(quoted, found))}]' for name, found in frames.items() if found
        ]


class _Argument:
    """An argument as the viewer shows it: in words where a line has words."""

    def __init__(self, name: str, argument: ShownArgument, raw: bool) -> None:
        self.name = quoted(f"{PREFIX}{name}" if name in _OURS else name)
        self._argument = argument
        is_bool = argument.format.base == BOOLEAN and not raw

        def shown(value: int) -> str:
            text = str(value) if raw else argument.words(value)
            number = int(text) if _DECIMAL.fullmatch(text) else _EXACT
            return text if is_bool or abs(number) < _EXACT else quoted(text)

        self._numbers = Memo(shown)

    def json(self, event: CallEvent) -> str:
        """Its value in an event; null for a NULL text."""
        argument = self._argument
        if not is_readable(argument, event):
            return '"<unreadable>"'
        if argument.text < 0:
            return self._numbers[event.values[argument.value]]
        text = text_of(argument, event)
        if text is None:
            return "null"
        return quoted(escape(text) + ("..." if is_cut(argument, event) else ""))


def _number(number: int | None) -> str:
    return "null" if number is None else str(number)


def _microseconds(ns: int) -> str:
    """Nanoseconds in the format's unit, none of them left out."""
    whole, rest = divmod(abs(ns), 1000)
    return f"{'-' * (ns < 0)}{whole}.{rest:03d}"
