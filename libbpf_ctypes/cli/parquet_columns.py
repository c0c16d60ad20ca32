"""The columns of arguments in a Parquet file: their names, types, and how they are filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .formats import BOOLEAN, ERROR, ERROR_POINTER, POINTER, ShownArgument, text_of
from .text import Memo, escape

if TYPE_CHECKING:
    from ..events import CallEvent
    from .origin import Traced

#: Before an argument's name: its value, and what a line has in the place of a number.
VALUE, WORDS = "arg_", "words_"

#: Makes the values of a column of events.
Take = Callable[["Sequence[CallEvent]"], "list[Any]"]


class Column(NamedTuple):
    """A column of an argument that one or more functions have.

    Attributes:
        name: of the column.
        kind: its type, as arrow_type() takes it.
        takers: by a function's place in the trace.
    """

    name: str
    kind: str
    takers: dict[int, Take]


def arrow_type(arrow: Any, kind: str) -> Any:
    """The type of Arrow. Args: arrow: the module. kind: "int32", "string" and the like."""
    if kind == "time":
        return arrow.timestamp("us", "UTC")  # Spark reads no nanoseconds
    if kind == "strings":
        return arrow.list_(arrow.string())
    if kind == "decimal":
        return arrow.decimal128(20, 0)
    return getattr(arrow, {"bool": "bool_"}.get(kind, kind))()


def argument_columns(functions: tuple[Traced, ...], *, raw: bool) -> list[Column]:
    """The columns of the arguments of all functions, in their order.

    An argument of several functions is one column, of a type that holds all of them.
    Names that differ in capital letters only are one: to many readers they are.

    Args: raw: numbers are as they are, unsigned.
    """
    found: dict[str, list[tuple[int, str, ShownArgument]]] = {}
    for index, function in enumerate(functions):
        for name, argument in by_name(function.arguments):
            found.setdefault(name.lower(), []).append((index, name, argument))
    columns = []
    for uses in found.values():
        name = uses[0][1]
        kind = _common({_kind(argument, raw) for _index, _name, argument in uses})
        takers = {index: _take(argument, kind, raw=raw) for index, _name, argument in uses}
        columns.append(Column(VALUE + name, kind, takers))
        words = {
            index: _take_words(argument)
            for index, _name, argument in uses
            if not raw and kind != "string" and _has_words(argument)
        }
        if words:
            columns.append(Column(WORDS + name, "string", words))
    return columns


def by_name(arguments: tuple[ShownArgument, ...]) -> Iterator[tuple[str, ShownArgument]]:
    """Arguments with their names: what a function shows a second time is "name:2"."""
    seen: dict[str, int] = {}
    for argument in arguments:
        number = seen[argument.name.lower()] = seen.get(argument.name.lower(), 0) + 1
        name = escape(argument.name)
        yield (name if number == 1 else f"{name}:{number}"), argument


def _kind(argument: ShownArgument, raw: bool) -> str:
    """The type of an argument's column, if it were alone in it."""
    form = argument.format
    if argument.text >= 0:
        return "string"
    if raw or form.base in (POINTER, ERROR_POINTER):
        return "uint64"
    if form.base == BOOLEAN:
        return "bool"
    bits = next(bits for bits in (8, 16, 32, 64) if 8 * form.size <= bits)
    return f"{'' if form.signed else 'u'}int{bits}"


def _common(kinds: set[str]) -> str:
    """A type that holds values of all these types."""
    if len(kinds) == 1:
        return next(iter(kinds))
    if "string" in kinds:
        return "string"
    kinds = {"uint8" if kind == "bool" else kind for kind in kinds}
    unsigned = [int(kind[4:]) for kind in kinds if kind[0] == "u"]
    signed = [int(kind[3:]) for kind in kinds if kind[0] == "i"]
    if not signed:
        return f"uint{max(unsigned)}"
    bits = max([*signed, *(2 * bits for bits in unsigned)])
    return f"int{bits}" if bits <= 64 else "decimal"


def _take(argument: ShownArgument, kind: str, *, raw: bool) -> Take:
    """What takes an argument out of events: null where it was not readable, or a NULL text.

    Args: kind: of the column.
    """
    if argument.text >= 0:
        return _take_texts(argument)
    at, bit, form = argument.value, 1 << argument.value, argument.format
    if kind in ("string", "bool"):
        convert: Callable[[int], Any] = argument.number  # of type bool
        if kind == "string":
            convert = str if raw else argument.words

        def take(events: Sequence[CallEvent]) -> list[Any]:
            return [None if e.unreadable & bit else convert(e.values[at]) for e in events]

        return take
    mask = 2**64 - 1 if raw else (1 << 8 * form.size) - 1
    sign = (mask + 1) >> 1 if form.signed and not raw else 0

    def take_numbers(events: Sequence[CallEvent]) -> list[int | None]:
        return [
            None if e.unreadable & bit else ((e.values[at] & mask) ^ sign) - sign for e in events
        ]

    return take_numbers


def _take_texts(argument: ShownArgument) -> Take:
    at, bit, index = argument.value, 1 << argument.value, argument.text
    texts = Memo(escape)

    def take(events: Sequence[CallEvent]) -> list[str | None]:
        return [
            None if e.unreadable & bit or not e.values[at] else texts[e.texts[index]]
            for e in events
        ]

    def take_cut(events: Sequence[CallEvent]) -> list[str | None]:
        found = (None if e.unreadable & bit else text_of(argument, e) for e in events)
        return [None if text is None else texts[text] for text in found]

    return take_cut if argument.format.limit else take


def _has_words(argument: ShownArgument) -> bool:
    form = argument.format
    return argument.text < 0 and (bool(form.names) or form.base in (ERROR, ERROR_POINTER))


def _take_words(argument: ShownArgument) -> Take:
    """What takes an argument's words out of events: null where they are but the number."""
    at, bit = argument.value, 1 << argument.value

    def words(value: int) -> str:
        shown = argument.words(value)
        return "" if shown.lstrip("-")[:1].isdigit() else shown

    texts = Memo(words)

    def take(events: Sequence[CallEvent]) -> list[str | None]:
        return [None if e.unreadable & bit else texts[e.values[at]] or None for e in events]

    return take
