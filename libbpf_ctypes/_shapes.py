"""Types as a reader of C follows them, one step at a time: a pointer's target, a member.

layout.py reads a whole struct with all that lies in it; here only what is asked for is
read, so that the way from a ``struct file *`` to a name costs microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ._btf import MODIFIERS, Kind, TypeStore, words_at
from ._syscalls import TYPES
from .errors import BpfError, NotFoundError

#: Compilers' names of integers, and those that people write.
_SHORT_NAMES = {
    "long long unsigned int": "unsigned long long",
    "long long int": "long long",
    "long unsigned int": "unsigned long",
    "long int": "long",
    "short unsigned int": "unsigned short",
    "short int": "short",
}
_LONG_NAMES = re.compile(r"\b(?:" + "|".join(_SHORT_NAMES) + r")\b")

#: Structs without a name in structs: damaged BTF may hold one that holds itself.
_DEEPEST = 16


class Shape(NamedTuple):
    """A type, and where it leads.

    Attributes:
        kind: without typedefs and qualifiers.
        name: the struct's, union's, enum's or integer's own.
        size: bytes.
        signed, is_bool: of an integer; of an enum signed.
        typedefs: the names that were taken off, the outermost first.
        is_const: declared const.
        id: its number in the BTF without typedefs and qualifiers; 0: void.
        target: the type that a pointer leads to, or that an array consists of.
        length: of an array.
    """

    kind: Kind
    name: str
    size: int
    signed: bool = False
    is_bool: bool = False
    typedefs: tuple[str, ...] = ()
    is_const: bool = False
    id: int = 0
    target: int = 0
    length: int = 0


class ShapeMember(NamedTuple):
    """A member: BITS is not 0 of a bit-field."""

    name: str
    bit_offset: int
    bits: int
    type: int


VOID = Shape(Kind.VOID, "void", 0)


class Shapes:
    """Types by their ids: those of a Btf, and what is declared as text, with ids below 0.

    Args: btf: None: there are no types but the declared ones.
    Raises: its methods: BpfError: damaged, or no such id.
    """

    def __init__(self, btf: TypeStore | None) -> None:
        self._types = btf
        self._declared: list[tuple[str, Shape]] = []
        self._ids: dict[str, int] = {}
        self._read: dict[int, Shape] = {VOID.id: VOID}
        self._texts: dict[int, str] = {}
        self._functions: dict[str, int] | None = None

    @property
    def _btf(self) -> TypeStore:
        if self._types is None:
            raise NotFoundError("find a type", None, "the kernel's types (BTF) are not there")
        return self._types

    @property
    def has_btf(self) -> bool:
        """Whether there are more types than the declared ones."""
        return self._types is not None

    def shape(self, identity: int) -> Shape:
        """The type with this id."""
        if identity < 0:
            return self._declared[-1 - identity][1]
        found = self._read.get(identity)
        if found is None:
            with self._btf._reading():
                found = self._read[identity] = self._read_shape(identity)
        return found

    def declare(self, text: str) -> int:
        """An id for a type as system calls have them: ``const struct timespec *``, ``size_t``."""
        text = " ".join(text.split())
        if text not in self._ids:
            shape = self._declared_shape(text)
            self._declared.append((text, shape))
            self._ids[text] = -len(self._declared)
        return self._ids[text]

    def add(self, text: str, shape: Shape) -> int:
        """An id for a type of which only this is known; TEXT is how C writes it."""
        self._declared.append((text, shape))
        return -len(self._declared)

    def _declared_shape(self, text: str) -> Shape:
        text = re.sub(r"\s*\bconst$", "", text)  # of a pointer itself
        if text.endswith("*"):
            target = 0 if text == "void *" else self.declare(text[:-1])
            return Shape(Kind.PTR, "", 8, target=target)
        name = re.sub(r"^const ", "", text)
        is_const = name != text
        if name in ("char", "unsigned char"):
            return Shape(Kind.INT, name, 1, name == "char", is_const=is_const)
        if name.partition(" ")[0] in ("struct", "union", "enum") and self.has_btf:
            try:
                return self.shape(self._btf.find(name).id)._replace(is_const=is_const)
            except NotFoundError:
                pass
        kind = TYPES.get(name, "")
        if kind == "pointer":
            return Shape(Kind.PTR, "", 8, typedefs=(name,))
        if kind:
            return Shape(
                Kind.INT, name, int(kind[1:]) // 8, kind[0] == "s", False, (name,), is_const
            )
        return Shape(Kind.VOID if name == "void" else Kind.FWD, name, 0)

    def _read_shape(self, identity: int) -> Shape:
        btf, is_const = self._btf, False
        typedefs: list[str] = []
        for _ in range(64):  # a chain of modifiers in damaged BTF may be a circle
            if not identity:
                return VOID._replace(typedefs=tuple(typedefs), is_const=is_const)
            raw = btf._raw(identity)
            if raw.kind not in MODIFIERS:
                break
            is_const = is_const or raw.kind == Kind.CONST
            if raw.kind == Kind.TYPEDEF:
                typedefs.append(btf._name(raw.name_offset))
            identity = raw.size_or_type
        plain = btf.type(identity)  # which refuses a circle
        raw = btf._raw(identity)
        target = length = 0
        if plain.kind == Kind.PTR:
            target = raw.size_or_type
        elif plain.kind == Kind.ARRAY:
            target, _index, length = words_at(raw.data, 3)
        name = "" if plain.kind in (Kind.PTR, Kind.ARRAY) else plain.name
        signed = plain.signed
        if plain.kind in (Kind.ENUM, Kind.ENUM64) and not signed:  # older compilers do not say
            constants = self.constants(Shape(plain.kind, name, plain.size, id=identity))
            signed = any(value < 0 for _name, value in constants)
        return Shape(
            plain.kind,
            name,
            plain.size,
            signed,
            plain.is_bool,
            tuple(typedefs),
            is_const,
            identity,
            target,
            length,
        )

    def index_functions(self) -> None:
        """Makes parameters() fast, for many functions: each look-up reads all types' names.

        What comes from the kernel is of its byte order; a module's functions are its own.
        """
        btf = self._btf
        with btf._reading():
            self._functions = {name: identity for identity, name in btf._own_of(Kind.FUNC)}

    def parameters(self, function: str) -> list[tuple[str, int]]:
        """Name and type of a function's parameters; a last one of type 0 is ``...``.

        Raises: NotFoundError: no such function here.
        """
        with self._btf._reading():
            raw = self._btf._raw(self._prototype(function))
            words = words_at(raw.data, 2 * raw.vlen)
            return [(self._btf._name(name), kind) for name, kind in zip(words[::2], words[1::2])]

    def returned(self, function: str) -> int:
        """The type of what a function returns; 0: void. Raises: as parameters()."""
        with self._btf._reading():
            return self._btf._raw(self._prototype(function)).size_or_type

    def _prototype(self, function: str) -> int:
        if self._functions is None:
            identity = self._btf.find(function, Kind.FUNC).id
        elif function in self._functions:
            identity = self._functions[function]
        else:
            raise NotFoundError(f"find func {function}", None, f"{self._btf.source} has none")
        return self._btf._raw(identity).size_or_type

    def members(self, shape: Shape) -> list[ShapeMember]:
        """The members of a struct or union as they are declared; of others none."""
        if shape.kind not in (Kind.STRUCT, Kind.UNION):
            return []
        with self._btf._reading():
            raw = self._btf._raw(shape.id)
            words = words_at(raw.data, 3 * raw.vlen)
            found = []
            for name, kind, place in zip(words[::3], words[1::3], words[2::3]):
                # Where any member is a bit-field, the upper 8 bits hold the width.
                bits, offset = (place >> 24, place & 0xFFFFFF) if raw.flag else (0, place)
                found.append(ShapeMember(self._btf._name(name), offset, bits, kind))
            return found

    def named_members(self, shape: Shape, depth: int = 0) -> Iterator[ShapeMember]:
        """The members by which C code calls them: those of nameless ones are their parent's."""
        for member in self.members(shape):
            if member.name:
                yield member
            elif depth < _DEEPEST:
                for inner in self.named_members(self.shape(member.type), depth + 1):
                    yield inner._replace(bit_offset=member.bit_offset + inner.bit_offset)

    def constants(self, shape: Shape) -> tuple[tuple[str, int], ...]:
        """Name and value of an enum's constants; of others none."""
        if shape.kind not in (Kind.ENUM, Kind.ENUM64):
            return ()
        from .layout import Structs

        return Structs(self._btf).layout(shape.id).constants

    def constants_named(self, name: str) -> set[int]:
        """The values that constants of this name have, in any enum."""
        found = set()
        with self._btf._reading():
            for identity, raw in self._btf._types():
                if raw.kind not in (Kind.ENUM, Kind.ENUM64):
                    continue
                step = 3 if raw.kind == Kind.ENUM64 else 2
                offsets = words_at(raw.data, step * raw.vlen)[::step]
                if name in map(self._btf._name, offsets):
                    constants = self.constants(Shape(raw.kind, "", raw.size_or_type, id=identity))
                    found |= {value for constant, value in constants if constant == name}
        return found

    def text(self, identity: int) -> str:
        """The type as C writes it: ``const char *``; of a nameless one only its word."""
        if identity < 0:
            return self._declared[-1 - identity][0]
        if identity not in self._texts:
            self._texts[identity] = self._make_text(identity)
        return self._texts[identity]

    def _make_text(self, identity: int) -> str:
        printer = getattr(self._btf, "declaration", None)
        try:
            text = str(printer(identity)) if printer else ""
        except BpfError:
            text = ""
        if text and "{" not in text:
            return _LONG_NAMES.sub(lambda found: _SHORT_NAMES[found[0]], text)
        shape = self.shape(identity)
        words = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.PTR: "void *"}
        return words.get(shape.kind, "enum")

    def find(self, name: str) -> int:
        """The id of the type of this name. Raises: NotFoundError."""
        return self._btf.find(name).id
