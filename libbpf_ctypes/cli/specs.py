"""How an argument is printed: by its type, by what is known of it, by what --arg asks for."""

from __future__ import annotations

import re

from .._btf import Kind
from .._shapes import Shape, Shapes
from ..errors import BpfError
from . import flags
from .formats import BOOLEAN, DECIMAL, POINTER, TEXT, Format, named
from .places import PathError, Place, follow, machine, nearest
from .scope import MissingArgument, Scope, text_kind
from .text import escape
from .usage import UsageError

#: Behind such a ``const char *`` its length: it is data, not a text with a NUL.
_LENGTH = re.compile(r".*(len|size|count|bytes|nr|sz)(_.*)?|n|l")

#: System calls that declare the names they are given without const.
_NAMES = {"filename", "name", "dev_name", "dir_name", "type"}


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
    if not scope.typed and not place.in_memory:
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


def plain_format(shape: Shape, typed: bool) -> Format:
    if not typed:
        return Format(DECIMAL, 8)
    if shape.kind == Kind.PTR:
        return Format(POINTER, 8)
    if shape.is_bool:
        return Format(BOOLEAN, shape.size)
    return Format(DECIMAL, shape.size, shape.signed)


def read_spec(spec: str, scope: Scope) -> tuple[str, Place, Format]:
    """Name, place and format of an --arg. Raises: UsageError."""
    path, colon, wanted = spec.partition(":")
    try:
        place = follow(path, scope.parameters, scope.shapes)
    except PathError as error:
        raise MissingArgument(f"--arg {escape(spec)}: {scope.label}: {error}") from None
    try:
        return escape(path), place, _format_of(place, scope, path, wanted if colon else None)
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
