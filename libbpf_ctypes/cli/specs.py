"""How an argument is printed: by its type, by what is known of it, by what --arg asks for."""

from __future__ import annotations

import re

from .._btf import Kind
from .._shapes import Shape, Shapes
from ..errors import BpfError
from . import flags
from .fetches import RETURN_VALUE
from .formats import (
    BOOLEAN,
    DECIMAL,
    ERROR,
    ERROR_POINTER,
    HEXADECIMAL,
    POINTER,
    TEXT,
    Format,
    Name,
    named,
)
from .origin import RETURNED
from .places import Parameter, PathError, Place, follow, machine, nearest
from .scope import MissingArgument, Scope, text_kind
from .text import escape
from .usage import UsageError

#: Behind such a ``const char *`` its length: it is data, not a text with a NUL.
_LENGTH = re.compile(r".*(len|size|count|bytes|nr|sz)(_.*)?|n|l")

#: enum failed of call_event.h: which return values tell of an error.
NEGATIVE, FAILED_POINTER, ERROR_NUMBER, MINUS_ONE = range(1, 5)

#: The type whose highest 4095 values are errors.
_UNSIGNED_LONG = ("long unsigned int", "unsigned long")

#: Formats that say what a value is of which nothing is known: bytes, and whether it has a sign.
_TYPES = {"int": (4, True), "uint": (4, False), "long": (8, True), "ulong": (8, False)}

#: System calls that declare the names they are given without const.
_NAMES = {"filename", "name", "dev_name", "dir_name", "type"}


def default_format(place: Place, scope: Scope, name: str, number: int = -1) -> Format | None:
    """How a value is printed where nothing else is asked for; None: it is no scalar, no text.

    Args: name, number: the parameter's; number -1: it is not a parameter itself.
    """
    shape, shapes = place.shape, scope.shapes
    if text_kind(place, shapes) == "array":
        return Format(TEXT, limit=shape.length)
    if name in scope.words and not place.owner and shape.kind != Kind.PTR:
        return _named_by_record(shape, scope.words[name])
    if place.source == RETURN_VALUE and not place.in_memory:
        found = result_format(place, scope)
        if found is not None:
            return found
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
    if name == RETURNED and failure_of(place, scope) == NEGATIVE:  # of a tracepoint
        return Format(ERROR, shape.size, True)
    return Format(DECIMAL, shape.size, shape.signed)


def result_format(place: Place, scope: Scope) -> Format | None:
    """How a return value is printed that may be an error; None: it is of another type."""
    shape = place.shape
    if not scope.in_kernel:
        is_number = shape.kind == Kind.INT and not shape.is_bool
        return Format(DECIMAL, shape.size, shape.signed) if is_number else None
    if shape.kind == Kind.PTR:
        return Format(ERROR_POINTER, 8)
    return Format(ERROR, shape.size, shape.signed) if failure_of(place, scope) else None


def failure_of(place: Place, scope: Scope) -> int:
    """How a return value tells of an error: NEGATIVE to MINUS_ONE; 0: it does not."""
    shape = place.shape
    if not scope.in_kernel:
        return MINUS_ONE
    if shape.kind == Kind.PTR:
        return FAILED_POINTER
    if shape.kind != Kind.INT or shape.is_bool or shape.size < 4:
        return 0
    if shape.signed:
        return NEGATIVE
    return ERROR_NUMBER if shape.name in _UNSIGNED_LONG else 0


def _named_by_record(shape: Shape, names: tuple[Name, ...]) -> Format:
    """As the tracepoint itself prints it: flags and what else of them there is, or one of many."""
    is_flags = any(mask == bits for mask, bits, _name in names)
    return Format(HEXADECIMAL if is_flags else DECIMAL, shape.size, shape.signed, names)


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


def read_spec(spec: str, scope: Scope, *, returns: bool = False) -> tuple[str, Place, Format]:
    """Name, place and format of an --arg. Raises: UsageError.

    Args: returns: the trace is of returns: there is an argument ``ret``.
    """
    path, colon, wanted = spec.partition(":")
    parameters = scope.parameters
    if returns and scope.returned is not None:
        parameters = [*parameters, Parameter(RETURNED, scope.returned)]
    try:
        place = follow(path, parameters, scope.shapes)
    except PathError as error:
        raise MissingArgument(f"--arg {escape(spec)}: {scope.label}: {error}") from None
    if colon and wanted == "str" and _is_address(place):
        text = scope.shapes.declare("const char *")
        place = place._replace(shape=scope.shapes.shape(text), type=text)
    try:
        return escape(path), place, _format_of(place, scope, path, wanted if colon else None)
    except ValueError as error:
        raise UsageError(f"--arg {escape(spec)}: {scope.label}: {error}") from None


def _is_address(place: Place) -> bool:
    """Whether it is a returned number that may be an address, for all that is known."""
    shape = place.shape
    is_returned = place.source == RETURN_VALUE and not place.in_memory
    return is_returned and shape.kind == Kind.INT and shape.size == 8


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
    name = path if number >= 0 or place.source == RETURN_VALUE else ""
    form = default_format(place, scope, name, number)
    if form is None or (form.base == TEXT and wanted and shape.kind != Kind.PTR):
        raise ValueError(_why_no_value(place, shapes))
    if wanted is None:
        return form
    if wanted in _TYPES:
        size, signed = _TYPES[wanted]
        return Format(DECIMAL, min(size, shape.size), signed)
    signed = shape.signed and shape.kind != Kind.PTR
    if wanted == "errno":
        return Format(ERROR, shape.size, signed)
    found = flags.table_format(wanted, machine(), shape.size, signed)
    if found is None:
        found = _enum_format(wanted, shape, shapes)
    if found is None:
        known = ["str", "dec", "hex", "oct", "errno", *_TYPES, *flags.table_names()]
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
