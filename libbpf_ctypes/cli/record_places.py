"""Where a tracepoint's fields lie in its record, and of which types they are."""

from __future__ import annotations

from .._btf import Kind
from .._shapes import Shape, Shapes
from ..errors import BpfError
from .fetches import RECORD
from .places import Parameter, Place
from .tracepoints import Field, Tracepoint

_SIZES = (1, 2, 4, 8)
_CHARACTERS = {"char": True, "signed char": True, "unsigned char": False}


def place_fields(tracepoint: Tracepoint, shapes: Shapes) -> list[Parameter]:
    """The fields as parameters; those of no type that can be read have no place.

    Of a system call's arguments 8 bytes are recorded, whatever their types are.
    """
    return [
        Parameter(field.name, _place(field, shapes, bool(call_of(tracepoint))))
        for field in tracepoint.fields
    ]


def call_of(tracepoint: Tracepoint) -> str:
    """The system call that a tracepoint tells the beginning or the end of; "": of none."""
    for prefix in ("sys_enter_", "sys_exit_"):
        if tracepoint.category == "syscalls" and tracepoint.name.startswith(prefix):
            return tracepoint.name[len(prefix) :]
    return ""


def _place(field: Field, shapes: Shapes, is_wide: bool) -> Place | None:
    element = _type(field, shapes, is_wide)
    if element is None:
        return None
    identity, size = element, shapes.shape(element).size
    if field.is_array:
        length = 0 if field.data_loc else field.size // max(1, size)
        text = f"{shapes.text(element)}[{length or ''}]"
        shape = Shape(Kind.ARRAY, "", length * size, target=element, length=length)
        identity = shapes.add(text, shape)
    behind = {"": -1, "data": 0, "rel": field.offset + field.size}[field.data_loc]
    if behind >= 0 and field.type not in _CHARACTERS:
        return None
    place = Place(shapes.shape(identity), RECORD, identity, in_memory=True, offset=field.offset)
    return place._replace(behind=behind)


def _type(field: Field, shapes: Shapes, is_wide: bool) -> int | None:
    """The type of a field, or of an array's elements, as far as it is known; None: it is not."""
    text = field.type
    if text in _CHARACTERS:
        return shapes.add(text, Shape(Kind.INT, text, 1, _CHARACTERS[text]))
    if text in ("bool", "_Bool"):
        return shapes.add(text, Shape(Kind.INT, text, 1, is_bool=True))
    known = _declared(text, shapes)
    shape = shapes.shape(known)
    if shape.kind == Kind.PTR or text.endswith("*"):
        return known if shape.kind == Kind.PTR and shape.size <= field.size else None
    if field.is_array:
        return known if shape.kind == Kind.INT else None
    fits = shape.size == field.size or (is_wide and 0 < shape.size <= field.size)
    if shape.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64) and fits:
        return known
    if field.size not in _SIZES or text.startswith(("struct", "union")):
        return None
    # A name that the kernel's types have not, or another size: the record itself knows.
    return shapes.add(text, Shape(Kind.INT, text, field.size, field.signed, typedefs=(text,)))


def _declared(text: str, shapes: Shapes) -> int:
    """The type of this name: of system calls' arguments, or the kernel's."""
    known = shapes.declare(text)
    if shapes.shape(known).kind != Kind.FWD or not shapes.has_btf:
        return known
    try:
        return shapes.find(text[len("const ") :] if text.startswith("const ") else text)
    except BpfError:
        return known
