"""What a recording holds, and what it is in a trace: events, functions, the account."""

from __future__ import annotations

import json
from typing import Any

from .. import recording_format
from ..btf import Kind
from ..errors import BpfError
from ..events import CallEvent, Counters, SyscallEvent
from ..recording_format import End, Header
from ..recording_layout import schema_of
from ..schema import Schema
from .account import Account
from .argument import Argument
from .formats import BOOLEAN, DECIMAL, POINTER, Format, ShownArgument
from .origin import Traced
from .stacks import RecordedStacks
from .stream import Decode
from .text import escape


def end_of(account: Account) -> End:
    """The account as a recording keeps it: what was unreadable is among the filtered."""
    counters = account.counters
    return End(
        samples=account.delivered - account.beyond,
        reported_lost=account.reported,
        seen=sum(counters[:4]),
        filtered=counters.filtered + counters.unreadable,
        sent=counters.sent,
        refused=counters.refused,
        duration_ns=account.duration_ns,
        reader_left=account.reader_left,
        drained=account.drained,
        unreadable=counters.unreadable,
        missed=-1 if account.missed is None else account.missed,
        refused_cpus=account.refused_cpus,
        beyond=account.beyond,
        begun=counters.begun,
        ended=counters.ended,
        no_room=counters.no_room,
        unmatched=counters.unmatched,
        no_stack=counters.no_stack,
    )


def account_of(end: End, delivered: int, reported: int) -> Account:
    """The account that a recording ends with. Args: of what is in the recording."""
    filtered = end.filtered - end.unreadable
    counters = Counters(filtered, end.sent, end.refused, end.unreadable, *end[-5:])
    return Account(
        counters,
        delivered + end.beyond,
        reported,
        end.duration_ns,
        end.reader_left,
        end.drained,
        end.refused_cpus,
        None if end.missed < 0 else end.missed,
        end.beyond,
    )


#: The kinds of fields that a line is made of.
_KINDS = {
    **dict.fromkeys(("pid", "tid", "syscall_nr", "timestamp_ns"), recording_format.INTEGER),
    "comm": recording_format.TEXT,
}


def sample_decoder(header: Header) -> Decode:
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


_AnyCall: Any = CallEvent

#: Bytes of a stack's frames: a chunk has room for them, and for what else is said of a stack.
_MOST_OF_FRAMES = recording_format.MAX_PAYLOAD - 4096

#: Fields of a struct call_event that are not in every recording: 0 there.
_NEWER = ("duration_ns", "kernel_stack", "user_stack")

#: The other fields that are one number each, after those of a syscall_event.
_CALL_NUMBERS = CallEvent._fields[len(SyscallEvent._fields) : -2 - len(_NEWER)]


def is_of_calls(header: Header) -> bool:
    """Whether the recording's samples are struct call_events."""
    kinds = {field.name: field.kind for field in header.fields}
    return all(kinds.get(name) == recording_format.INTEGER for name in _CALL_NUMBERS)


def call_decoder(header: Header) -> Decode:
    """A function that decodes a recording's struct call_events.

    Raises: as sample_decoder().
    """
    sample_decoder(header)  # has the first fields
    schema: Schema[Any] = schema_of(header)
    decode, names = schema.decode, schema.record._fields
    values = _numbered(header, "values", recording_format.INTEGER)
    texts = _numbered(header, "texts", recording_format.TEXT)
    numbers = {field.name for field in header.fields if field.kind == recording_format.INTEGER}
    present = [name for name in CallEvent._fields[:-2] if name in numbers or name not in _NEWER]
    newer = [0] * (len(CallEvent._fields) - 2 - len(present))
    wanted = [names.index(name) for name in (*present, *values, *texts)]
    plain = wanted == list(range(len(names)))
    first, behind = len(present), len(present) + len(values)

    def decode_call(data: bytes) -> Any:
        fields = decode(data)
        if not plain:
            fields = [fields[at] for at in wanted]
        numbers = *fields[:first], *newer
        return _AnyCall(*numbers, list(fields[first:behind]), list(fields[behind:]))

    return lambda samples: [decode_call(data) for _cpu, data in samples]


def _numbered(header: Header, name: str, kind: int) -> list[str]:
    """The fields NAME0, NAME1 and so on of this kind, as far as they go."""
    kinds = {field.name: field.kind for field in header.fields}
    found: list[str] = []
    while kinds.get(f"{name}{len(found)}") == kind:
        found.append(f"{name}{len(found)}")
    return found


def function_record(traced: Traced) -> dict[str, Any]:
    """A function as a recording keeps it."""
    returns = {"returns": True} if traced.returns else {}
    return {
        **returns,
        "label": traced.label,
        "symbol": traced.symbol,
        "module": traced.module,
        "arguments": [
            {
                "name": argument.name,
                "type": argument.type,
                "value": argument.value,
                "text": argument.text,
                "format": argument.format,
            }
            for argument in traced.arguments
        ],
    }


def traced_functions(records: list[dict[str, Any]], header: Header) -> tuple[Traced, ...]:
    """The functions of a recording. Raises: BpfError: they are not as function_record() makes."""
    try:
        return tuple(_traced(record, header) for record in records)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"its functions make no sense ({error!r})"
        raise BpfError("replay the recording", None, reason) from None


def _traced(record: dict[str, Any], header: Header) -> Traced:
    values = len(_numbered(header, "values", recording_format.INTEGER))
    texts = len(_numbered(header, "texts", recording_format.TEXT))
    arguments = []
    for found in record["arguments"]:
        value, text = int(found["value"]), int(found["text"])
        if not 0 <= value < values or not -1 <= text < texts:
            raise ValueError(f"value {value} and text {text}")
        name, kind = _printable(found["name"]), _printable(found["type"])
        arguments.append(ShownArgument(name, kind, value, text, format_of(found["format"])))
    label, symbol, module = (str(record[name]) for name in ("label", "symbol", "module"))
    return Traced(label, symbol, module, tuple(arguments), bool(record.get("returns")))


def _printable(text: Any) -> str:
    """A text that was escaped before it was recorded; if it was not, it is now."""
    return str(text) if str(text).isprintable() else escape(str(text))


def stack_record(key: int, pid: int | None, frames: tuple[str, ...]) -> dict[str, Any]:
    """A stack as a recording keeps it. Args: pid: of the process; None: it is the kernel's."""
    process = {} if pid is None else {"pid": pid}
    if len(json.dumps(frames)) > _MOST_OF_FRAMES:  # whoever writes a perf map names functions
        longest = _MOST_OF_FRAMES // len(frames) // len("\\ud83d\\ude00") - 1
        frames = tuple(frame[:longest] for frame in frames)
    return {"key": key, **process, "frames": frames}


def take_stacks(records: list[dict[str, Any]], stacks: RecordedStacks) -> None:
    """Gives a chunk's stacks to STACKS. Raises: BpfError: they are not as stack_record() makes."""
    try:
        for record in records:
            key, frames = int(record["key"]), tuple(map(_printable, record["frames"]))
            if "pid" in record:
                stacks.add_user(key, int(record["pid"]), frames)
            else:
                stacks.add_kernel(key, frames)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"its stacks make no sense ({error!r})"
        raise BpfError("replay the recording", None, reason) from None


def format_of(record: Any) -> Format:
    """The Format that json made a list of."""
    base, size, signed, names, limit = record
    if not 1 <= size <= 8:
        raise ValueError(f"size {size}")
    names = tuple((int(mask), int(value), _printable(name)) for mask, value, name in names)
    return Format(int(base), int(size), bool(signed), names, int(limit))


def plain_function(function: str, argument: Argument) -> Traced:
    """The only function of a trace of struct syscall_events."""
    kind = argument.type
    form = Format(DECIMAL, 8)
    if kind is not None:
        form = Format(POINTER, 8)
        if kind.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64) and 0 < kind.size <= 8:
            form = Format(BOOLEAN if kind.is_bool else DECIMAL, kind.size, kind.signed)
    name = "" if kind is None else kind.name
    module, _, symbol = function.rpartition(":")
    first = ShownArgument(argument.label, escape(name), 0, -1, form)
    return Traced(function, symbol, module, (first,))


def as_calls(header: Header) -> Decode:
    """sample_decoder(), and its events as struct call_events: what they lack is None."""
    decode = sample_decoder(header)

    def decode_calls(samples: list[tuple[int, bytes]]) -> list[Any]:
        return [
            _AnyCall(
                *event, 0, cpu, None, None, event.pid, event.tid, None, None, None, 0,
                0, 0, 0, [event.syscall_nr], [],
            )
            for event, (cpu, _data) in zip(decode(samples), samples)
        ]  # fmt: skip

    return decode_calls
