"""The arguments of a traced function: which are shown, how they are read and printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .._btf import Kind
from .._shapes import Shape, Shapes
from ..errors import BpfError
from . import flags
from .fetches import MAX_TEXTS, MAX_VALUES, Fetch
from .formats import BOOLEAN, DECIMAL, POINTER, TEXT, Format, named
from .formats import ShownArgument as ShownArgument
from .formats import format_value as format_value
from .places import PathError, Place, follow, machine, nearest
from .scope import Scope, scope_of, text_kind
from .text import escape
from .usage import UsageError

if TYPE_CHECKING:
    from ..btf import Btf
    from .functions import Function

#: Behind such a ``const char *`` its length: it is data, not a text with a NUL.
_LENGTH = re.compile(r".*(len|size|count|bytes|nr|sz)(_.*)?|n|l")

#: System calls that declare the names they are given without const.
_NAMES = {"filename", "name", "dev_name", "dir_name", "type"}


class Arguments(NamedTuple):
    """What is shown of a function's calls.

    Attributes:
        shown: in order.
        fetches: of the values, in their order.
        left_out: names that found no room, or cannot be read.
    """

    shown: tuple[ShownArgument, ...]
    fetches: tuple[Fetch, ...]
    left_out: tuple[str, ...] = ()


class _Shower:
    """Collects what is shown, as long as there is room."""

    def __init__(self, scope: Scope, values: int, texts: int) -> None:
        self._scope = scope
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
        if form.base == TEXT:
            if self._used_texts == self._texts:
                raise ValueError(f"there is room for {self._texts} texts")
            fetch = place.text_fetch(self._used_texts + 1)
            text, self._used_texts = self._used_texts, self._used_texts + 1
        else:
            fetch = place.fetch()
        kind = escape(self._scope.shapes.text(place.type))
        self.shown.append(ShownArgument(name, kind, len(self.fetches), text, form))
        self.fetches.append(fetch)

    def add_all(self) -> None:
        """All parameters, structs by their members; what finds no room is left out."""
        for number, parameter in enumerate(self._scope.parameters):
            if parameter.place is None:
                self.left_out.append(parameter.name)
                continue
            self._add_whole(parameter.name, parameter.place, number)

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


def default_format(place: Place, scope: Scope, name: str, number: int = -1) -> Format | None:
    """How a value is printed where nothing else is asked for; None: it is no scalar, no text.

    Args: name, number: the parameter's; number -1: it is not a parameter itself.
    """
    shape, shapes = place.shape, scope.shapes
    if text_kind(place, shapes) == "array":
        return Format(TEXT, limit=shape.length)
    if shape.kind == Kind.PTR:
        if _is_text(place, scope, number):
            return Format(TEXT)
        return Format(POINTER, 8)
    if shape.is_bool:
        return Format(BOOLEAN, shape.size)
    if shape.kind in (Kind.ENUM, Kind.ENUM64):
        constants = shapes.constants(shape)
        return Format(DECIMAL, shape.size, shape.signed, named(constants, shape.size))
    if shape.kind != Kind.INT:
        return None
    if place.owner:
        table = flags.table_of_member(place.owner, place.member, shape.typedefs)
    else:
        table = flags.table_of_argument(scope.syscall, name, shape.typedefs)
    found = flags.table_format(table, machine(), shape.size, shape.signed) if table else None
    if found is not None:
        return found
    if not scope.typed and not place.owner:
        return Format(POINTER, 8)
    return Format(DECIMAL, shape.size, shape.signed)


def _is_text(place: Place, scope: Scope, number: int) -> bool:
    """Whether a pointer is shown as a text: ``const char *``, and no data of a given length."""
    kind = text_kind(place, scope.shapes)
    if number < 0:
        return kind == "const"
    parameters = scope.parameters
    if kind == "pointer":
        kind = "const" if scope.syscall and parameters[number].name in _NAMES else ""
    if kind != "const":
        return False
    following = parameters[number + 1] if number + 1 < len(parameters) else None
    if following is None or following.place is None:
        return True
    return following.place.shape.kind != Kind.INT or not _LENGTH.fullmatch(following.name)


def arguments_of(
    function: Function,
    btf: Btf | Shapes | None,
    *,
    all_of: bool = False,
    specs: list[str] | tuple[str, ...] = (),
    values: int = MAX_VALUES,
    texts: int = MAX_TEXTS,
) -> Arguments:
    """What is shown of a function's calls.

    Args:
        btf: the kernel's types, or those of the function's module; None: there are none.
        all_of: all its arguments (--args).
        specs: these (--arg NAME[.member][:FORMAT]), before all of them. Neither: the first.
        values, texts: room in an event.

    Raises: UsageError: a spec that cannot be met; MissingArgument: by this function.
    """
    scope = scope_of(function, btf)
    shower = _Shower(scope, values, texts)
    for spec in specs:
        _add_spec(spec, scope, shower)
    if all_of:
        shower.add_all()
    elif not specs:
        _add_first(scope, shower)
    return Arguments(tuple(shower.shown), tuple(shower.fetches), tuple(shower.left_out))


class MissingArgument(UsageError):
    """The function has no such argument; another of the trace may have it."""


def _add_spec(spec: str, scope: Scope, shower: _Shower) -> None:
    path, colon, wanted = spec.partition(":")
    try:
        place = follow(path, scope.parameters, scope.shapes)
    except PathError as error:
        raise MissingArgument(f"--arg {escape(spec)}: {scope.label}: {error}") from None
    try:
        shower.add(escape(path), place, _format_of(place, scope, path, wanted if colon else None))
    except ValueError as error:
        raise UsageError(f"--arg {escape(spec)}: {scope.label}: {error}") from None


def _format_of(place: Place, scope: Scope, path: str, wanted: str | None) -> Format:
    """The format of a spec. Raises: ValueError."""
    shape, shapes = place.shape, scope.shapes
    if wanted == "str":
        if text_kind(place, shapes) == "array":
            return Format(TEXT, limit=shape.length)
        if shape.kind == Kind.PTR:
            return Format(TEXT)
        if not scope.typed and shape.size == 8:
            raise ValueError("a register of unknown type is no text")
        raise ValueError(f"{escape(shapes.text(place.type))} is no text")
    names = [parameter.name for parameter in scope.parameters]
    number = names.index(path) if path in names else -1
    form = default_format(place, scope, path if number >= 0 else "", number)
    if form is None or (form.base == TEXT and wanted and shape.kind != Kind.PTR):
        raise ValueError(_why_no_value(place, shapes))
    if wanted is None:
        return form
    signed = shape.signed and shape.kind != Kind.PTR
    found = flags.table_format(wanted, machine(), shape.size, signed)
    if found is None:
        found = _enum_format(wanted, shape, shapes)
    if found is None:
        known = ["str", "dec", "hex", "oct", *flags.table_names()]
        raise ValueError(
            f"there is no format {escape(wanted)!r}{nearest(wanted, known)}; there is: "
            f"{', '.join(known)}, and the names of the kernel's enums"
        )
    return found


def _enum_format(name: str, shape: Shape, shapes: Shapes) -> Format | None:
    """The constants of one of the kernel's enums; None: there is none of this name."""
    if not shapes.has_btf:
        return None
    try:
        enum = shapes.shape(shapes.find(f"enum {name}"))
    except BpfError:
        return None
    constants = shapes.constants(enum)
    return Format(DECIMAL, shape.size, shape.signed, named(constants, shape.size))


def _why_no_value(place: Place, shapes: Shapes) -> str:
    text = escape(shapes.text(place.type))
    if place.shape.kind in (Kind.STRUCT, Kind.UNION):
        names = [escape(member.name) for member in shapes.named_members(place.shape)]
        some = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        return f"it is a {text}: name a member of it ({some})"
    if place.shape.kind == Kind.ARRAY:
        return f"it is an array ({text}): name an element, as [0]"
    return f"a {text} cannot be shown"


def _add_first(scope: Scope, shower: _Shower) -> None:
    """The first argument, as the plain program's line has it: a number by its type."""
    if not scope.parameters:
        return
    parameter = scope.parameters[0]
    if parameter.place is None:
        shower.left_out.append(parameter.name)
        return
    place = parameter.place
    if place.shape.kind in (Kind.STRUCT, Kind.UNION):
        shower.add_all()
        del shower.shown[1:], shower.fetches[1:]
        return
    shower.add(parameter.name, place, _plain_format(place.shape, scope.typed))


def _plain_format(shape: Shape, typed: bool) -> Format:
    if not typed:
        return Format(DECIMAL, 8)
    if shape.kind == Kind.PTR:
        return Format(POINTER, 8)
    if shape.is_bool:
        return Format(BOOLEAN, shape.size)
    return Format(DECIMAL, shape.size, shape.signed)
