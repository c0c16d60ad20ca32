"""``--json``: one JSON object per line. docs/json.md and docs/json-schema.json describe them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quoted  # with its quotes, in plain ASCII
from typing import TYPE_CHECKING, Any

from ..errors import BpfError
from .formats import ShownArgument, is_cut, is_readable, text_of
from .json_text import VERSION, hex_bytes
from .json_text import line as _line
from .json_text import text as _text
from .lines import Formatter
from .origin import traced_at
from .text import Memo, WallClock

if TYPE_CHECKING:
    from ..events import CallEvent
    from .account import Account
    from .line_options import LineOptions
    from .origin import Origin, Traced
    from .stacks import Stacks

#: Losses are told so often at most, by the events' times.
_LOSS_NS = 10**9


def error_record(error: BpfError | str) -> str:
    """The object of an error. It carries the version: it may be the only one."""
    if isinstance(error, str):
        return _line("error", version=VERSION, message=_text(error))
    return _line(
        "error",
        version=VERSION,
        message=_text(str(error)),
        operation=_text(error.operation),
        errno=error.errno,
        hint=_text(error.hint),
    )


class JsonLines(Formatter):
    """An object for each struct call_event, and for all else that a trace has to tell."""

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        origin: Origin,
        stacks: Stacks | None = None,
    ) -> None:
        self._raw, self._functions = options.raw_args, functions
        self._clock, self._origin = clock, origin
        self._returns = {place for place, made in enumerate(functions) if made.returns}
        self._stacks = None if stacks is None else _Stacks(stacks)
        self._heads = Memo(self._head)
        self._processes = Memo(_process)
        self._arguments: dict[int, list[_Argument]] = {}
        self._losses: dict[int, int] = {}
        self._next_loss = 0

    def start(self) -> str:
        functions = [
            {
                "name": _text(function.label),
                "symbol": _text(function.symbol),
                "module": _text(function.module),
                "returns": function.returns,
                "args": [
                    {"name": name, "type": _text(argument.type)}
                    for name, argument in by_name(function.arguments)
                ],
            }
            for function in self._functions
        ]
        origin = self._origin
        return _line(
            "header",
            version=VERSION,
            tool=_text(f"ebpf-tool {origin.tool_version}"),
            host=_text(origin.host_name),
            boot_id=_text(origin.boot_id),
            kernel=_text(origin.kernel_release),
            machine=_text(origin.machine),
            functions=functions,
        )

    def format(self, events: Iterable[CallEvent]) -> str:
        if not self._losses:
            return "".join(map(self._event, events))
        parts = []
        for event in events:
            if self._losses and event.timestamp_ns >= self._next_loss:
                self._next_loss = event.timestamp_ns + _LOSS_NS
                parts.append(self._take_losses())
            parts.append(self._event(event))
        return "".join(parts)

    def lost(self, cpu: int, events: int) -> None:
        self._losses[cpu] = self._losses.get(cpu, 0) + events

    def _take_losses(self) -> str:
        losses, self._losses = self._losses, {}
        return _line("lost", events=sum(losses.values()), cpus=_by_cpu(losses))

    def error(self, error: BpfError | str) -> str:
        return error_record(error)

    def end(self, account: Account | None) -> str:
        before = self._take_losses() if self._losses else ""
        if account is None:
            return before
        counters = account.counters
        return before + _line(
            "summary",
            seen=counters.seen,
            filtered=counters.filtered,
            unreadable=counters.unreadable,
            delivered=account.delivered,
            beyond=account.beyond,
            unread=account.unread,
            lost=account.lost,
            lost_in_buffer=counters.refused,
            lost_cpus=_by_cpu(dict(account.refused_cpus)),
            missed=account.missed,
            in_flight=counters.in_flight,
            unmatched=counters.unmatched,
            no_room=counters.no_room,
            no_stack=counters.no_stack,
            duration_ns=account.duration_ns,
            adds_up=account.adds_up,
        )

    def _event(self, event: CallEvent) -> str:
        ns = event.timestamp_ns
        arguments = self._arguments.get(event.function)
        if arguments is None:
            arguments = self._make(event.function)
        fields, words, odd = [], [], not event.comm.isascii()
        for argument in arguments:
            field, name, is_odd = argument.parts(event)
            fields.append(field)
            if name:
                words.append(name)
            odd = odd or is_odd
        notes = f',"words":{{{",".join(words)}}}' if words else ""
        if odd:
            notes += _notes(event, arguments)
        if self._stacks is not None:
            notes += self._stacks[event.kernel_stack, event.user_stack, event.pid]
        took = f',"duration_ns":{event.duration_ns}' if event.function in self._returns else ""
        return (
            f'{self._heads[event.function]}{_number(event.cpu)},"timestamp_ns":{ns},'
            f'"time":"{self._clock.format(ns)}"{took},'
            f"{self._processes[event[:2] + event[4:5] + event[7:14]]},"
            f'"args":{{{",".join(fields)}}}{notes}}}\n'
        )

    def _head(self, index: int) -> str:
        name = traced_at(self._functions, index).label
        return f'{{"type":"event","function":{quoted(_text(name))},"cpu":'

    def _make(self, index: int) -> list[_Argument]:
        named = by_name(traced_at(self._functions, index).arguments)
        made = self._arguments[index] = [_Argument(*pair, self._raw) for pair in named]
        return made


def by_name(arguments: tuple[ShownArgument, ...]) -> list[tuple[str, ShownArgument]]:
    """Arguments with their keys: what is shown a second time, in another format, is "name:2"."""
    found: dict[str, ShownArgument] = {}
    for argument in arguments:
        name = key = _text(argument.name)
        number = 1
        while key in found:
            number += 1
            key = f"{name}:{number}"
        found[key] = argument
    return list(found.items())


class _Stacks(Memo):
    """The frames of an event's stacks as JSON, by their keys and the process's number."""

    def __init__(self, stacks: Stacks) -> None:
        def make(key: tuple[int, int, int]) -> str:
            kernel, user, pid = key
            found = {"kernel_stack": stacks.kernel(kernel), "user_stack": stacks.user(user, pid)}
            return "".join(
                f',"{name}":{json.dumps(frames)}' for name, frames in found.items() if frames
            )

        super().__init__(make)


class _Argument:
    """How an argument becomes JSON: its parts of an object, with its name."""

    def __init__(self, name: str, argument: ShownArgument, raw: bool) -> None:
        self._argument = argument
        self.name = name = quoted(name)
        number = int if raw else argument.number

        def words(value: int) -> str:
            """What a line has, where it says more than the number does."""
            shown = str(value) if raw else argument.words(value)
            same = shown == json.dumps(number(value)).strip('"')
            return "" if same else f"{name}:{quoted(_text(shown))}"

        self._fields = Memo(lambda value: f"{name}:{json.dumps(number(value))}")
        self._words = Memo(words)

    def parts(self, event: CallEvent) -> tuple[str, str, bool]:
        """Its value, null for a NULL text and for what could not be read; the name of a number,
        "" where it has none; whether there is more to say of it: see _notes().
        """
        argument = self._argument
        value = event.values[argument.value]
        if not is_readable(argument, event):
            return f"{self.name}:null", "", True
        if argument.text < 0:
            return self._fields[value], self._words[value], False
        text = text_of(argument, event)
        if text is None:
            return f"{self.name}:null", "", False
        odd = not text.isascii() or is_cut(argument, event)
        return f"{self.name}:{quoted(_text(text))}", "", odd

    def unreadable(self, event: CallEvent) -> str:
        """Its name, if it could not be read."""
        return "" if is_readable(self._argument, event) else self.name

    def cut(self, event: CallEvent) -> str:
        """Its name, if it is a text that was longer."""
        return self.name if is_cut(self._argument, event) else ""

    def bytes(self, event: CallEvent) -> str:
        """The bytes of a text that is not UTF-8, in hex; "" for any other."""
        argument = self._argument
        if argument.text < 0 or not is_readable(argument, event):
            return ""
        raw = _bytes(text_of(argument, event) or "")
        return f"{self.name}:{raw}" if raw else ""


def _notes(event: CallEvent, arguments: list[_Argument]) -> str:
    """What is to be said of some events only."""
    comm = _bytes(event.comm)
    notes = [f',"comm_bytes":{comm}'] if comm else []
    for name, brackets, parts in (
        ("unreadable", "[]", [argument.unreadable(event) for argument in arguments]),
        ("cut", "[]", [argument.cut(event) for argument in arguments]),
        ("args_bytes", "{}", [argument.bytes(event) for argument in arguments]),
    ):
        if any(parts):
            notes.append(f',"{name}":{brackets[0]}{",".join(filter(None, parts))}{brackets[1]}')
    return "".join(notes)


def _bytes(text: str) -> str:
    """The bytes of a text in hex, quoted; "" where they are UTF-8."""
    found = hex_bytes(text)
    return f'"{found}"' if found else ""


def _number(number: int | None) -> str:
    return "null" if number is None else str(number)


def _process(key: tuple[Any, ...]) -> str:
    """Who called, by what _event() takes out of an event."""
    pid, tid, comm, uid, gid, host_pid, host_tid, ns_pid, ns_tid, cgroup = key
    if not pid and host_pid:  # the user's pid namespace does not have it
        pid = tid = None
    if not ns_pid:  # not asked for, or not known
        ns_pid = ns_tid = None
    numbers = {
        "uid": uid, "gid": gid, "host_pid": host_pid, "host_tid": host_tid,
        "ns_pid": ns_pid, "ns_tid": ns_tid, "cgroup": cgroup,
    }  # fmt: skip
    rest = ",".join(f'"{name}":{_number(number)}' for name, number in numbers.items())
    return f'"pid":{_number(pid)},"tid":{_number(tid)},"comm":{quoted(_text(comm))},{rest}'


def _by_cpu(losses: dict[int, int]) -> dict[str, int]:
    return {str(cpu): count for cpu, count in sorted(losses.items())}
