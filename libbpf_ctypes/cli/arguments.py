"""The arguments of a traced function: which are shown, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._btf import Kind
from .._shapes import Shapes
from .fetches import MAX_TEXTS, MAX_VALUES, Fetch
from .formats import DECIMAL, POINTER, TEXT, Format
from .formats import ShownArgument as ShownArgument
from .formats import format_value as format_value
from .origin import RETURNED
from .places import Place
from .scope import KernelTypes, MissingArgument, Scope, scope_of
from .specs import (
    NEGATIVE,
    default_format,
    failure_of,
    plain_format,
    read_spec,
)
from .text import escape
from .tracepoints import Probed, Tracepoint
from .usage import UsageError

if TYPE_CHECKING:
    from ..btf import Btf


class Arguments(NamedTuple):
    """What is shown of a function's calls.

    Attributes:
        shown: in order.
        fetches: of the values, in their order.
        left_out: names that found no room, or cannot be read.
        failed: of a return: how its value tells of an error, see specs.failure_of().
        failed_shift: of specs.NEGATIVE: 64 less the value's bits.
    """

    shown: tuple[ShownArgument, ...]
    fetches: tuple[Fetch, ...]
    left_out: tuple[str, ...] = ()
    failed: int = 0
    failed_shift: int = 0


class _Shower:
    """Collects what is shown, as long as there is room."""

    def __init__(self, scope: Scope, values: int, texts: int, raw: bool) -> None:
        self._scope, self._raw = scope, raw
        self._values, self._texts = values, texts
        self._used_texts = 0
        self.shown: list[ShownArgument] = []
        self.fetches: list[Fetch] = []
        self.left_out: list[str] = []

    def add(self, name: str, place: Place, form: Format) -> None:
        """Takes one more. Raises: ValueError: no room, or it cannot be read."""
        if len(self.shown) == self._values:
            raise ValueError(f"there is room for {self._values} values")
        text = -1
        if self._raw and not place.in_memory:
            fetch, form = Fetch(place.pointer()[0]), Format(DECIMAL, 8)
        elif form.base == TEXT:
            if self._used_texts == self._texts:
                raise ValueError(f"there is room for {self._texts} texts")
            fetch = place.text_fetch(self._used_texts + 1)
            text, self._used_texts = self._used_texts, self._used_texts + 1
        else:
            fetch = place.fetch()
        kind = escape(self._scope.shapes.text(place.type))
        self.shown.append(ShownArgument(name, kind, len(self.fetches), text, form))
        self.fetches.append(fetch)

    def reserve(self, places: list[tuple[str, Place, Format]]) -> None:
        """Keeps room for what is added behind all parameters."""
        self._values -= len(places)
        self._texts -= sum(form.base == TEXT for _name, _place, form in places)

    def release(self, places: list[tuple[str, Place, Format]]) -> None:
        """Gives the room free that reserve() kept."""
        self._values += len(places)
        self._texts += sum(form.base == TEXT for _name, _place, form in places)

    def add_all(self, asked: dict[str, Format]) -> None:
        """All parameters, structs by their members; what finds no room is left out.

        Args: asked: by name: how these are to be printed.
        """
        for number, parameter in enumerate(self._scope.parameters):
            if parameter.place is None:
                self.left_out.append(parameter.name)
            elif parameter.name in asked:
                self._try(parameter.name, parameter.place, asked[parameter.name])
            else:
                self._add_whole(parameter.name, parameter.place, number)

    def add_first(self) -> None:
        """The first parameter, as the plain program's line has it: a number by its type."""
        parameter = next(iter(self._scope.parameters), None)
        if parameter is None:
            return
        if parameter.place is None:
            self.left_out.append(parameter.name)
        elif parameter.place.shape.kind in (Kind.STRUCT, Kind.UNION):
            self._add_whole(parameter.name, parameter.place, 0)
            del self.shown[1:], self.fetches[1:], self.left_out[:]
        else:
            form = plain_format(parameter.place.shape, self._scope.typed)
            self.add(parameter.name, parameter.place, form)

    def _add_whole(self, name: str, place: Place, number: int) -> None:
        shapes = self._scope.shapes
        if place.shape.kind == Kind.STRUCT:
            members = shapes.members(place.shape)
            for member in members:
                shape = shapes.shape(member.type)
                inner = place._replace(
                    shape=shape,
                    type=member.type,
                    offset=place.offset + member.bit_offset // 8,
                    bit=member.bit_offset % 8 if member.bits else 0,
                    bits=member.bits,
                    owner=place.shape.name,
                    member=member.name,
                )
                alone = len(members) == 1 or not member.name
                self._add_whole(name if alone else f"{name}.{escape(member.name)}", inner, number)
            return
        if place.shape.kind == Kind.UNION and place.shape.size in (1, 2, 4, 8):
            name_of_size = {1: "unsigned char", 2: "umode_t", 4: "unsigned int"}
            kind = shapes.declare(name_of_size.get(place.shape.size, "unsigned long"))
            union = place._replace(shape=shapes.shape(kind)._replace(typedefs=()))
            form = Format(POINTER, union.shape.size)
            self._try(name, union, form)
            return
        wanted = default_format(place, self._scope, self._scope.parameters[number].name, number)
        if wanted is None:
            self.left_out.append(name)
        elif wanted.base == TEXT and self._used_texts == self._texts:
            self._try(name, place, Format(POINTER, 8))
        else:
            self._try(name, place, wanted)

    def _try(self, name: str, place: Place, form: Format) -> None:
        try:
            self.add(name, place, form)
        except ValueError:
            self.left_out.append(name)


def arguments_of(
    function: Probed,
    btf: Btf | Shapes | None,
    *,
    all_of: bool = False,
    specs: list[str] | tuple[str, ...] = (),
    values: int = MAX_VALUES,
    texts: int = MAX_TEXTS,
    raw: bool = False,
    returns: bool = False,
    ret: str = "",
    first: bool = True,
) -> Arguments:
    """What is shown of a function's calls.

    Args:
        btf: the kernel's types, or those of the function's module; None: there are none.
        all_of: all its arguments (--args).
        specs: these (--arg NAME[.member][:FORMAT]); with all_of behind all of them, but
            an argument itself in its place. Neither: the first argument; all fields of a
            tracepoint.
        values, texts: room in an event.
        raw: what lies in a register as an unsigned number, whatever its type.
        returns: the return value comes first, named "ret", if there is one.
        ret: its format; "": by its type.
        first: show the first argument where nothing is asked for.

    Raises: UsageError: a spec that cannot be met; MissingArgument: by this function.
    """
    scope = scope_of(function, btf)
    shower = _Shower(scope, values, texts, raw)
    asked = [read_spec(spec, scope, returns=returns) for spec in specs]
    failed = failed_shift = 0
    if returns and scope.returned is not None:
        failed = failure_of(scope.returned, scope)
        failed_shift = 64 - 8 * scope.returned.shape.size if failed == NEGATIVE else 0
        if all(name != RETURNED for name, _place, _form in asked):
            spec = f"{RETURNED}:{ret}" if ret else RETURNED
            try:
                shower.add(*read_spec(spec, scope, returns=True))
            except UsageError as error:
                text = str(error).replace(f"--arg {RETURNED}:", "--ret ", 1)
                raise UsageError(text) from None
    if all_of or (first and not specs and isinstance(function, Tracepoint)):
        names = {parameter.name for parameter in scope.parameters}
        own = {name: form for name, _place, form in asked if name in names}
        asked = [one for one in asked if one[0] not in names]
        shower.reserve(asked)
        shower.add_all(own)
        shower.release(asked)
    elif first and not specs:
        shower.add_first()
    for name, place, form in asked:
        try:
            shower.add(name, place, form)
        except ValueError as error:
            raise UsageError(f"--arg {name}: {scope.label}: {error}") from None
    shown, fetches = tuple(shower.shown), tuple(shower.fetches)
    return Arguments(shown, fetches, tuple(shower.left_out), failed, failed_shift)


def arguments_of_all(
    functions: Sequence[Probed],
    types: KernelTypes,
    *,
    all_of: bool = False,
    specs: list[str] | tuple[str, ...] = (),
    raw: bool = False,
    returns: bool = False,
    ret: str = "",
) -> list[Arguments]:
    """What is shown of the calls of each function of a trace.

    A spec that a function cannot meet is left out there, as long as another one of the
    trace can; a function that meets none of them shows nothing.

    Raises: UsageError: a spec, or RET, that cannot be met at all.
    """
    found, met, is_returned = [], set(), False
    refused: dict[str, MissingArgument] = {}
    for function in functions:
        shapes, meant = types.of(function), []
        scope = scope_of(function, shapes)
        is_returned = is_returned or scope.returned is not None
        for spec in specs:
            try:
                read_spec(spec, scope, returns=returns)
            except MissingArgument as error:
                refused.setdefault(spec, error)
            else:
                meant.append(spec)
        met |= set(meant)
        found.append(
            arguments_of(
                function,
                shapes,
                all_of=all_of,
                specs=meant,
                raw=raw,
                returns=returns,
                ret=ret,
                first=not specs,
            )
        )
    for spec in specs:
        if spec in refused and spec not in met:
            raise refused[spec]
    if ret and not is_returned:
        label = functions[0].label
        raise UsageError(f"--ret: {label} returns nothing, or nothing that can be printed")
    return found
