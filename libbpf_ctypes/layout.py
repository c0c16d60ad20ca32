"""The C structs of BTF: as they lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ._btf import MODIFIERS, Kind, TypeStore, words_at
from ._ffi import lib
from .errors import BpfError, NotFoundError

if TYPE_CHECKING:
    from .object import BpfObject

#: A pointer of a BPF program, whatever the machine's are.
_POINTER_SIZE = 8
#: How many names an error lists.
_MANY = 40
#: Structs in structs: damaged BTF may hold one that holds itself.
_DEEPEST = 32


class CType(NamedTuple):
    """A C type, without its typedefs and qualifiers.

    Attributes:
        kind: as in BTF; FLOAT, too.
        name: "" of arrays, and of what has none.
        size: bytes.
        signed: of an integer; of an enum True if the compiler says so (clang
            does since LLVM 15).
        is_bool: of an integer.
        length, element: of an array.
        members: of a struct or union.
        constants: of an enum: name and value.
    """

    kind: Kind
    name: str
    size: int
    signed: bool = False
    is_bool: bool = False
    length: int = 0
    element: CType | None = None
    members: tuple[CMember, ...] = ()
    constants: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        """As a C programmer would name it: u32, char[16], struct inner."""
        if self.kind == Kind.ARRAY and self.element is not None:
            return f"{self.element}[{self.length}]"
        if self.kind == Kind.INT and (self.is_bool or self.name == "char"):
            return "bool" if self.is_bool else "char"
        if self.kind == Kind.INT:
            return f"{'s' if self.signed else 'u'}{8 * self.size}"
        if self.kind == Kind.PTR:
            return "pointer"
        words = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.FLOAT: "float"}
        word = words.get(self.kind, "enum")
        return word + (str(8 * self.size) if word == "float" else f" {self.name}").rstrip()


class CMember(NamedTuple):
    """A member of a struct; BITS is not 0 of a bit-field, which lies at BIT_OFFSET."""

    name: str
    bit_offset: int
    bits: int
    type: CType

    @property
    def offset(self) -> int:
        """Bytes from the struct's beginning; of a bit-field the byte where it begins."""
        return self.bit_offset // 8

    @property
    def end(self) -> int:
        """The byte behind it."""
        return -(-(self.bit_offset + self.bits) // 8) if self.bits else self.offset + self.type.size


class Structs:
    """The structs of an object, of the kernel or of a module, read when they are asked for.

    Args: source: a BpfObject, loaded or not, or a Btf.
    Raises: BpfError: the object has no BTF.
    """

    def __init__(self, source: BpfObject | TypeStore) -> None:
        self._btf = source if isinstance(source, TypeStore) else types_of(source)
        self._source = source.source
        with self._btf._reading():
            self._pointer_size = int(lib.btf__pointer_size(self._btf)) or _POINTER_SIZE
        self._names: list[str] = []
        self._read: dict[int, CType] = {}

    @property
    def names(self) -> list[str]:
        """The names of all structs, in the order of the BTF."""
        if not self._names:
            names = (entry.name for entry in self._btf.types(Kind.STRUCT))
            self._names = list(dict.fromkeys(name for name in names if name))
        return self._names

    def struct(self, name: str) -> CType:
        """The struct of this name. Raises: NotFoundError, which says what is there; BpfError."""
        try:
            identity = self._btf.find(name, Kind.STRUCT).id
        except NotFoundError:
            raise self._no_struct(name) from None
        return self.layout(identity)

    def _no_struct(self, name: str) -> NotFoundError:
        reason = f"{self._source} has no struct of that name"
        names = self.names
        if len(names) > _MANY:  # the kernel has ten thousand
            names = [other for other in names if name and name in other][:_MANY]
            hint = f"Like it are: {', '.join(names)}." if names else ""
        else:
            hint = (
                f"It has: {', '.join(names) or 'none'}. A struct that only functions use gets no "
                f"BTF: 'const struct {name} *unused = 0;' outside of them keeps it."
            )
        return NotFoundError(f"find struct {name}", None, reason, hint=hint)

    def layout(self, identity: int) -> CType:
        """The type with this id. Raises: BpfError: no such id, or damaged."""
        with self._btf._reading():
            return self._type(identity)

    def _type(self, identity: int, depth: int = 0) -> CType:
        """The type, read once: structs in structs would double with each level."""
        found = self._read.get(identity)
        if found is None:
            found = self._read[identity] = self._read_type(identity, depth)
        return found

    def _read_type(self, identity: int, depth: int) -> CType:
        btf = self._btf
        for _ in range(_DEEPEST):  # a chain of modifiers in damaged BTF may be a circle
            raw = btf._raw(identity) if identity else None
            if raw is None:
                return CType(Kind.VOID, "void", 0)
            if raw.kind not in MODIFIERS:
                break
            identity = raw.size_or_type
        else:
            depth = _DEEPEST
        if depth >= _DEEPEST:
            reason = "the types do not end"
            raise BpfError(
                f"read the types of {self._source}", None, reason, hint="Build it again."
            )
        assert raw is not None
        name, size = btf._name(raw.name_offset), raw.size_or_type
        if raw.kind == Kind.ARRAY:
            element, _index, count = words_at(raw.data, 3)
            inner = self._type(element, depth + 1)
            return CType(raw.kind, "", count * inner.size, length=count, element=inner)
        if raw.kind in (Kind.STRUCT, Kind.UNION):
            return CType(raw.kind, name, size, members=self._members(raw, depth))
        if raw.kind in (Kind.ENUM, Kind.ENUM64):
            constants = self._constants(raw)
            return CType(raw.kind, name, size, raw.flag, constants=constants)
        if raw.kind == Kind.PTR:
            return CType(raw.kind, "", self._pointer_size)
        plain = btf.type(identity)
        return CType(plain.kind, plain.name, plain.size, plain.signed, plain.is_bool)

    def _members(self, raw: Any, depth: int) -> tuple[CMember, ...]:
        words = words_at(raw.data, 3 * raw.vlen)
        members = []
        for name, identity, place in zip(words[::3], words[1::3], words[2::3]):
            # Where any member is a bit-field, the upper 8 bits hold the width.
            bits, offset = (place >> 24, place & 0xFFFFFF) if raw.flag else (0, place)
            kind = self._type(identity, depth + 1)
            members.append(CMember(self._btf._name(name), offset, bits, kind))
        return tuple(members)

    def _constants(self, raw: Any) -> tuple[tuple[str, int], ...]:
        wide = raw.kind == Kind.ENUM64
        words = words_at(raw.data, (3 if wide else 2) * raw.vlen)
        if wide:
            values = [low | high << 32 for low, high in zip(words[1::3], words[2::3])]
        else:
            values = list(words[1::2])
        # Without the compiler's word, what is written as -1 is taken for -1.
        sign = 1 << 63 if wide and raw.flag else 0 if wide else 1 << 31
        names = map(self._btf._name, words[:: 3 if wide else 2])
        return tuple((name, (value ^ sign) - sign) for name, value in zip(names, values))


def types_of(obj: BpfObject) -> TypeStore:
    """An object's own types. Raises: BpfError: it has none."""
    pointer = lib.bpf_object__btf(obj)
    if not pointer:
        hint = "Build it with 'clang -g', and strip it with 'llvm-strip -g' alone."
        raise BpfError(f"read the types of {obj.source}", None, "it has no BTF", hint=hint)
    return TypeStore(pointer, obj, owned=False)


def has_types(obj: BpfObject) -> bool:
    """Whether an object has BTF at all."""
    return bool(lib.bpf_object__btf(obj))


def members(struct: CType, base: int = 0) -> Iterator[CMember]:
    """The members by which C code calls them: an anonymous struct's are its parent's."""
    for member in struct.members:
        if not member.name and member.type.kind == Kind.STRUCT:
            yield from members(member.type, base + member.bit_offset)
        else:
            yield member._replace(bit_offset=base + member.bit_offset)
