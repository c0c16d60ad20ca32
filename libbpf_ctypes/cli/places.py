"""Where a function's arguments are at its call, and the way from there to what is asked for."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from .._btf import Kind
from .._shapes import VOID, Shape, Shapes
from .fetches import CURRENT_TASK, MAX_STEPS, STACK_POINTER, Fetch
from .text import escape

_POINTER = 8
SCALARS = (Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.PTR)
_STRUCTS = (Kind.STRUCT, Kind.UNION)
_EXPRESSION = re.compile(r"(\*?)([A-Za-z_]\w*)((?:(?:\.|->)[A-Za-z_]\w*|\[\d{1,9}\])*)")
_STEP = re.compile(r"(?:\.|->)(\w+)|\[(\d+)\]")
_MOST_OFFSET = 2**32 - 1


class PathError(Exception):
    """What is wrong with a way to a value.

    Attributes: start, end: which characters of its text are meant.
    """

    def __init__(self, reason: str, start: int, end: int) -> None:
        super().__init__(reason)
        self.start, self.end = start, end


class Place(NamedTuple):
    """Where a value lies.

    Attributes:
        shape, type: its type, and that type's id.
        source: the register that the way begins at.
        reads: the offsets of the pointers that are read on the way.
        in_memory: it lies OFFSET bytes behind the last pointer; else OFFSET bytes into
            the registers from SOURCE on.
        bit, bits: of a bit-field: where in the byte it begins, and its width.
        owner, member: the struct's name and its own in it, "" of an argument.
        behind: of a text that lies behind a tracepoint's fields: what its offset, which is
            here, is counted from; -1: the value itself is here.
    """

    shape: Shape
    source: int
    type: int
    reads: tuple[int, ...] = ()
    in_memory: bool = False
    offset: int = 0
    bit: int = 0
    bits: int = 0
    owner: str = ""
    member: str = ""
    behind: int = -1

    def pointer(self) -> tuple[int, tuple[int, ...]]:
        """Source and reads of what this pointer points to."""
        if self.in_memory:
            return self.source, (*self.reads, self.offset)
        return self.source + self.offset // 8, self.reads

    def fetch(self) -> Fetch:
        """How the number is got that lies here. Raises: ValueError: it cannot be."""
        if self.behind >= 0:
            raise ValueError("it lies behind the record, where only texts are read")
        width = self.bits or 8 * self.shape.size
        start = 8 * self.offset + self.bit
        if not self.in_memory:
            source, shift, size = self.source + start // 64, start % 64, 8
            if shift + width > 64:
                raise ValueError("it lies in two registers")
            return _cut(Fetch(source, 0, size, offsets=self.reads), shift, width, self.shape)
        first, size = _unit(start, width)
        offsets = (*self.reads, first)
        _check_reads(offsets)
        fetch = Fetch(self.source, len(offsets), size, offsets=offsets)
        return _cut(fetch, start - 8 * first, width, self.shape)

    def text_fetch(self, text: int) -> Fetch:
        """How the text is got that lies here, or that this points to. Raises: ValueError."""
        if self.behind >= 0:
            places = (self.offset, self.behind)
            return Fetch(self.source, 1, 4, text, offsets=places, in_record=True)
        if self.shape.kind == Kind.PTR:
            source, reads = self.pointer()
            offsets: tuple[int, ...] = (*reads, 0)
        elif self.in_memory:
            source, offsets = self.source, (*self.reads, self.offset)
        else:
            raise ValueError("it lies in registers")
        _check_reads(offsets[:-1])
        return Fetch(source, len(offsets) - 1, 8, text, offsets=offsets)


def _check_reads(offsets: tuple[int, ...]) -> None:
    if len(offsets) > MAX_STEPS:
        raise ValueError(f"more than {MAX_STEPS} pointers would have to be followed")


def _unit(start: int, width: int) -> tuple[int, int]:
    """The first byte and the size of a read that holds these bits. Raises: ValueError."""
    for size in (1, 2, 4, 8):
        first = start // 8 // size * size if width % 8 or start % 8 else start // 8
        if start + width <= 8 * (first + size):
            return first, size
    if start % 8 + width <= 64:
        return start // 8, 8
    raise ValueError("it has more than 8 bytes")


def _cut(fetch: Fetch, shift: int, width: int, shape: Shape) -> Fetch:
    """The fetch of WIDTH bits from bit SHIFT on, with the sign of the type."""
    signed = shape.signed and shape.kind != Kind.PTR
    if not signed and not shift and width == 8 * fetch.size and fetch.steps:
        return fetch  # the read has cleared what is above
    return fetch._replace(left=64 - shift - width, right=64 - width, is_signed=signed)


class Parameter(NamedTuple):
    """A parameter; PLACE is None where no fetch reaches it."""

    name: str
    place: Place | None


def place_parameters(
    parameters: list[tuple[str, int]], shapes: Shapes, machine: str
) -> list[Parameter]:
    """Where each parameter is when the function begins: by the machine's calling convention.

    Args: parameters: names and types. machine: as os.uname() has it.

    x86_64: six registers; a struct of up to 16 bytes in one or two of them, else on the
    stack, behind the return address. arm64: eight registers; a larger struct is passed by
    its address; what finds no register goes to the stack, and all that follows.
    """
    arm = machine == "aarch64"
    registers, used, stack = (8, 0, 0) if arm else (6, 0, 8)
    found = []
    for number, (name, identity) in enumerate(parameters):
        name, shape = escape(name) or f"arg{number}", shapes.shape(identity)
        size = shape.size
        wanted = -(-size // 8)
        is_large = shape.kind in _STRUCTS and size > 16
        if shape.kind == Kind.FLOAT or (shape.kind == Kind.INT and size > 8):
            if shape.kind == Kind.INT:  # __int128
                used += used % 2 if arm else 0
                used += wanted
            found.append(Parameter(name, None))
            continue
        place = Place(shape, used, identity)
        if is_large and arm:
            wanted = 1
            place = place._replace(in_memory=True)
        if used + wanted <= registers and (arm or not is_large):
            used += wanted
        elif is_large and arm:  # its address is on the stack
            place = place._replace(source=STACK_POINTER, reads=(stack,))
            used, stack = registers, stack + 8
        else:
            place = place._replace(source=STACK_POINTER, in_memory=True, offset=stack)
            used, stack = registers if arm else used, stack + 8 * wanted
        found.append(Parameter(name, place))
    return found


def follow(text: str, parameters: list[Parameter], shapes: Shapes) -> Place:
    """The place of ``NAME``, ``NAME.member``, ``NAME->member``, ``NAME[3]`` and so on.

    Args: parameters: of the function. shapes: the types.
    Raises: PathError; BpfError.
    """
    found = _EXPRESSION.fullmatch(text)
    if found is None:
        raise PathError("this is no argument, as NAME, NAME.member or NAME[0]", 0, len(text))
    star, name, rest = found.groups()
    place = _start(name, parameters, shapes, found.start(2), found.end(2))
    steps = [*_STEP.finditer(rest)]
    if star:
        place = _follow_index(place, 0, shapes, (0, 1))
    for step in steps:
        span = found.start(3) + step.start(), found.start(3) + step.end()
        if step[1]:
            place = _follow_member(place, step[1], shapes, span)
        else:
            place = _follow_index(place, int(step[2]), shapes, span)
        if place.offset > _MOST_OFFSET:
            raise PathError("this lies more than 4 GiB away", *span)
    return place


def _start(name: str, parameters: list[Parameter], shapes: Shapes, start: int, end: int) -> Place:
    known = {f"arg{number}": parameter for number, parameter in enumerate(parameters)}
    known.update((parameter.name, parameter) for parameter in parameters)
    if name in known:
        place = known[name].place
        if place is None:
            raise PathError(f"{name} is of a type that cannot be read", start, end)
        return place
    if name == "current" and shapes.has_btf:
        task = shapes.find("struct task_struct")
        return Place(shapes.shape(task), CURRENT_TASK, task, in_memory=True)
    there = ", ".join(parameter.name for parameter in parameters) or "none"
    near = nearest(name, [parameter.name for parameter in parameters])
    raise PathError(f"there is no argument {name}{near}; there is: {there}", start, end)


def nearest(word: str, known: list[str]) -> str:
    """ " (did you mean …?)", or "" where nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _target(place: Place, shapes: Shapes, span: tuple[int, int]) -> Place:
    """What a pointer points to."""
    source, reads = place.pointer()
    identity = place.shape.target
    shape = shapes.shape(identity) if identity else VOID
    if shape.kind in (Kind.VOID, Kind.FWD, Kind.FUNC_PROTO):
        what = f"what a {_describe(place, shapes)} points to is not known"
        raise PathError(what if shapes.has_btf else f"{what}: this kernel has no BTF", *span)
    return Place(shape, source, identity, reads, True, owner=place.owner, member=place.member)


def _follow_member(place: Place, name: str, shapes: Shapes, span: tuple[int, int]) -> Place:
    if place.shape.kind == Kind.PTR:
        place = _target(place, shapes, span)
    if place.shape.kind not in _STRUCTS:
        raise PathError(f"there are no members in {_describe(place, shapes)}", *span)
    known = []
    for member in shapes.named_members(place.shape):
        if member.name != name:
            known.append(escape(member.name))
            continue
        shape = shapes.shape(member.type)
        offset, bit = divmod(member.bit_offset, 8)
        return place._replace(
            shape=shape,
            type=member.type,
            offset=place.offset + offset,
            bit=bit if member.bits else 0,
            bits=member.bits,
            owner=place.shape.name,
            member=name,
        )
    what = _describe(place, shapes)
    listed = f"; it has: {', '.join(known)}" if len(known) <= 12 else ""
    raise PathError(f"{what} has no member {name}{nearest(name, known)}{listed}", *span)


def _follow_index(place: Place, index: int, shapes: Shapes, span: tuple[int, int]) -> Place:
    shape = place.shape
    if shape.kind == Kind.PTR:
        element = _target(place, shapes, span)
    elif shape.kind == Kind.ARRAY:
        if shape.length and index >= shape.length:
            raise PathError(f"it has {shape.length} elements, the last is [{shape.length - 1}]",
                            *span)  # fmt: skip
        element = place._replace(shape=shapes.shape(shape.target), type=shape.target)
    else:
        raise PathError(f"{_describe(place, shapes)} is no array and no pointer", *span)
    return element._replace(offset=element.offset + index * element.shape.size)


def _describe(place: Place, shapes: Shapes) -> str:
    return escape(shapes.text(place.type))


def is_character(shape: Shape) -> bool:
    """Whether it is char, signed or not."""
    return shape.kind == Kind.INT and shape.size == 1 and not shape.is_bool


def machine() -> str:
    """This machine's name, as the tables of machines have it."""
    return os.uname().machine
