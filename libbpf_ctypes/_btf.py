"""BTF as libbpf hands it out: reading its types one by one, with their ids checked."""

from __future__ import annotations

import ctypes
import errno
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from typing import Any, Callable, NamedTuple, TypeVar, Union, cast

from ._ffi import lib
from ._handle import Handle
from .enums import Tolerant
from .errors import BpfError, NotFoundError
from .log import calling


class Kind(Tolerant):
    """Kinds of types, as in <linux/btf.h>."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
INT_SIGNED, INT_BOOL = 1, 4
_POINTER_SIZE = ctypes.sizeof(ctypes.c_void_p)
#: Words behind a struct btf_type: in any case, and for each of its entries.
_BEHIND = {
    Kind.INT: (1, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.DECL_TAG: (1, 0),
    Kind.ENUM64: (0, 3),
}
_KINDS = [Kind(number) for number in range(32)]
#: The words of C before a name.
_WORDS = {"struct": Kind.STRUCT, "union": Kind.UNION, "enum": Kind.ENUM}
#: How many entries types() reads before it lets another thread close.
_AT_ONCE = 256
#: Kinds that have a size of their own.
_SIZED = (Kind.INT, Kind.FLOAT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.DATASEC)


class Type(NamedTuple):
    """A type with its typedefs and qualifiers taken off."""

    kind: Kind
    name: str
    size: int  # bytes; 0 for void
    signed: bool = False
    is_bool: bool = False


class Parameter(NamedTuple):
    """A parameter of a function; the name is "" where the source gave none."""

    name: str
    type: Type


class Variable(NamedTuple):
    """A global variable: where it lies in its section, and what it is."""

    name: str
    section: str
    offset: int
    size: int
    type: Type


class RawType(NamedTuple):
    """struct btf_type, and where the data behind it begins."""

    name_offset: int
    kind: Kind
    vlen: int
    flag: bool
    size_or_type: int
    data: int


class BtfType(NamedTuple):
    """An entry of BTF.

    Attributes:
        id: its number in this BTF.
        kind: what it is.
        name: "" of what has none, as pointers.
        size: bytes, of those that say so: integers, floats, structs, unions, enums, data
            sections; else 0.
    """

    id: int
    kind: Kind
    name: str
    size: int


#: How a type is asked for: its id, an entry, or its name (``"struct file"``, ``"u64"``).
Which = Union[int, str, BtfType]


_F = TypeVar("_F", bound=Callable[..., Any])


def reading(method: _F) -> _F:
    """A method that reads types: another thread's close() waits until it has returned."""

    @wraps(method)
    def locked(self: TypeStore, *arguments: Any, **options: Any) -> Any:
        with self._reading():
            return method(self, *arguments, **options)

    return cast("_F", locked)


class TypeStore(Handle):
    """The types behind libbpf's pointer.

    Attributes:
        source: where they come from, in words.

    An object's own types (``owned=False``) are gone with the object, a module's with
    the kernel's, which they build on: using them then raises ClosedError.
    """

    def __init__(
        self, pointer: Any, parent: object = None, *, owned: bool = True, source: str = "BTF"
    ) -> None:
        super().__init__(pointer, parent)
        self.source = source
        self._owned = owned

    @property
    def _as_parameter_(self) -> Any:
        pointer = super()._as_parameter_
        if isinstance(self._parent, Handle):
            _ = self._parent._as_parameter_  # raises if it is closed
        return pointer

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What it reads, its own and its parent's, is not freed meanwhile."""
        parent = self._parent
        _ = self._as_parameter_  # in a forked child nobody may ever give the lock back
        with self._lock:
            if isinstance(parent, TypeStore):
                with parent._reading():
                    yield
            elif isinstance(parent, Handle):
                with parent._lock:
                    yield
            else:
                yield

    def types(self, kind: Kind | None = None, *, own: bool = False) -> Iterator[BtfType]:
        """Every type, or those of a kind, in the order of their ids.

        Args: own: without those of the base.
        """
        with self._reading():
            steps = self._types(self._first_own() if own else 1)
        entries = (self._entry(*step) for step in steps if kind is None or kind == step[1].kind)
        while True:
            with self._reading():  # not while the caller has its turn
                found = list(islice(entries, _AT_ONCE))
            yield from found
            if len(found) < _AT_ONCE:
                return

    @reading
    def find(self, which: Which, kind: Kind | None = None) -> BtfType:
        """The type with this id, or the first one of this name (and kind).

        Args: which: an id, or a name as BTF has it, or with its word: ``"struct file"``.
        Raises: NotFoundError (ENOENT); TypeError: none of these.
        Source: ``btf__find_by_name_kind`` (libbpf 0.0.6), ``btf__find_by_name`` (0.0.1).
        """
        if isinstance(which, BtfType):
            which = which.id  # it may be another BTF's
        if not isinstance(which, (int, str)):
            raise TypeError(f"not the id or name of a type: {which!r}")
        try:
            identity = which if isinstance(which, int) else self._find(which, kind)
            if not 0 <= identity < lib.btf__type_cnt(self):
                raise BpfError("find type", errno.ENOENT)
            raw = self._raw(identity)
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            what = f"{kind.name.lower() if kind else 'type'} {which}"
            reason = f"{self.source} has none"
            raise NotFoundError(f"find {what}", errno.ENOENT, reason) from None
        return self._entry(identity, raw)

    def _entry(self, identity: int, raw: RawType) -> BtfType:
        size = raw.size_or_type if raw.kind in _SIZED else 0
        return BtfType(identity, raw.kind, self._name(raw.name_offset), size)

    def _find(self, name: str, kind: Kind | None) -> int:
        word, _, rest = name.rpartition(" ")
        if word in _WORDS and kind in (None, _WORDS[word]):
            name, kind = rest, _WORDS[word]
        if "\\" in name:  # bytes that are no UTF-8, as _name() gives them
            same = (entry.id for entry in self.types(kind) if entry.name == name)
            return next(same, -1)
        encoded = name.encode(errors="replace")
        if not encoded or b"\0" in encoded:  # the nameless; what would be cut off
            raise BpfError("find type", errno.ENOENT)
        if kind is None:
            return int(lib.btf__find_by_name(self, encoded))
        try:
            return int(lib.btf__find_by_name_kind(self, encoded, kind))
        except BpfError as error:
            if kind != Kind.ENUM or error.errno != errno.ENOENT:
                raise
            return int(lib.btf__find_by_name_kind(self, encoded, Kind.ENUM64))

    def _first_own(self) -> int:
        base = self._parent
        return int(lib.btf__type_cnt(base)) if isinstance(base, TypeStore) else 1

    @reading
    def parameters(self, function: str) -> tuple[Parameter, ...]:
        """The parameters of a function, in order.

        Raises: BpfError (ENOENT: no such function here).
        """
        operation = f"find {function} in BTF"
        if "\0" in function:
            raise BpfError(operation, errno.ENOENT)
        with calling(operation):
            identity = lib.btf__find_by_name_kind(self, function.encode(), Kind.FUNC)
            return self._parameters(self._raw(self._raw(identity).size_or_type))

    def _parameters(self, prototype: RawType) -> tuple[Parameter, ...]:
        words = words_at(prototype.data, 2 * prototype.vlen)
        pairs = zip(words[::2], words[1::2])
        return tuple(Parameter(self._name(name), self.type(kind)) for name, kind in pairs)

    @reading
    def type(self, identity: int) -> Type:
        """The type with this id, without typedefs and qualifiers. Raises: BpfError."""
        if not 0 <= identity < 1 << 32:  # C would cut it off
            raise BpfError(f"read BTF type {identity}", errno.EINVAL, "there is none")
        for _ in range(64):  # a chain of modifiers in damaged BTF may be a circle
            raw = self._raw(identity) if identity else None
            if raw is None:
                return Type(Kind.VOID, "void", 0)
            if raw.kind not in MODIFIERS:
                return self._type(identity, raw)
            identity = raw.size_or_type
        raise BpfError(f"resolve BTF type {identity}", None, "the chain of typedefs does not end")

    def _type(self, identity: int, raw: RawType) -> Type:
        name = self._name(raw.name_offset)
        if raw.kind == Kind.INT:
            encoding = words_at(raw.data, 1)[0] >> 24 & 0xF
            signed, is_bool = bool(encoding & INT_SIGNED), bool(encoding & INT_BOOL)
            return Type(raw.kind, name, raw.size_or_type, signed, is_bool)
        if raw.kind in (Kind.ENUM, Kind.ENUM64):
            return Type(raw.kind, name, raw.size_or_type, raw.flag)
        if raw.kind == Kind.PTR:
            return Type(raw.kind, name, _POINTER_SIZE)
        if raw.kind == Kind.ARRAY:
            size = int(lib.btf__resolve_size(self, identity))  # which refuses a circle
            element = self.type(words_at(raw.data, 1)[0])
            return Type(raw.kind, element.name, size, element.signed)
        if raw.kind in (Kind.STRUCT, Kind.UNION, Kind.FLOAT):
            return Type(raw.kind, name, raw.size_or_type)
        return Type(raw.kind, name, 0)

    @reading
    def variables(self, sections: tuple[str, ...]) -> list[Variable]:
        """The global variables of these data sections, in the order of the BTF."""
        found: list[Variable] = []
        for _identity, raw in self._types():
            section = self._name(raw.name_offset)
            if raw.kind != Kind.DATASEC or section not in sections:
                continue
            words = words_at(raw.data, 3 * raw.vlen)
            for variable, offset, size in zip(words[::3], words[1::3], words[2::3]):
                entry = self._raw(variable)
                name, kind = self._name(entry.name_offset), self.type(entry.size_or_type)
                found.append(Variable(name, section, offset, size, kind))
        return found

    def _types(self, first: int = 1) -> Iterator[tuple[int, RawType]]:
        """Every type with its id, in the order of the BTF."""
        own = self._first_own()
        if first < own and isinstance(self._parent, TypeStore):
            yield from self._parent._types(first)
        if lib.btf__endianness(self) == (sys.byteorder == "big"):
            yield from enumerate(self._walk(), own)
        else:  # its raw data is not what libbpf reads
            for identity in range(own, lib.btf__type_cnt(self)):
                yield identity, self._raw(identity)

    def _raw_data(self) -> tuple[int, bytes]:
        """The address of its own bytes, and a copy of them."""
        size = ctypes.c_uint32()
        address = int(lib.btf__raw_data(self, ctypes.byref(size)))
        return address, ctypes.string_at(address, size.value)

    def _strings(self) -> int:
        """Bytes of its strings: a name's offset is below that."""
        order = ">" if lib.btf__endianness(self) else "<"
        own = int(struct.unpack_from(f"{order}5I", self._raw_data()[1], 4)[4])
        return own + (self._parent._strings() if isinstance(self._parent, TypeStore) else 0)

    def _walk(self) -> Iterator[RawType]:
        """Its own types, read from its raw data: the kernel has 150,000."""
        address, data = self._raw_data()
        header, place, length = struct.unpack_from("=III", data, 4)
        at = header + place
        end = at + length
        read = struct.Struct("=III").unpack_from
        while at + 12 <= end:
            name, info, value = read(data, at)
            kind, count = _KINDS[info >> 24 & 0x1F], info & 0xFFFF
            at += 12
            yield RawType(name, kind, count, bool(info >> 31), value, address + at)
            single, each = _BEHIND.get(kind, (0, 0))
            at += 4 * (single + each * count)

    def _own_of(self, kind: Kind) -> Iterator[tuple[int, str]]:
        """Id and name of its own types of a kind, of BTF in this machine's byte order.

        It is _walk() without what that leaves to the caller: five times faster.
        """
        _address, data = self._raw_data()
        header, place, length, names = struct.unpack_from("=4I", data, 4)
        at, end, wanted = header + place, header + place + length, int(kind)
        base = self._parent._strings() if isinstance(self._parent, TypeStore) else 0
        identity, names = self._first_own(), header + names - base
        behind = [_BEHIND.get(one, (0, 0)) for one in _KINDS]
        single = [12 + 4 * words for words, _each in behind]
        each = [4 * words for _single, words in behind]
        read = struct.Struct("=II").unpack_from
        while at + 12 <= end:
            name, info = read(data, at)
            number = info >> 24 & 0x1F
            if number == wanted:
                first = names + name
                if name < base:
                    yield identity, self._name(name)
                else:
                    text = data[first : data.index(b"\0", first)]
                    yield identity, text.decode(errors="backslashreplace")
            at += single[number] + each[number] * (info & 0xFFFF)
            identity += 1

    def _raw(self, identity: int) -> RawType:
        address = ctypes.addressof(lib.btf__type_by_id(self, identity).contents)
        name, info, value = words_at(address, 3)
        kind = _KINDS[info >> 24 & 0x1F]
        return RawType(name, kind, info & 0xFFFF, bool(info >> 31), value, address + 12)

    def _name(self, offset: int) -> str:
        return str(lib.btf__name_by_offset(self, offset).decode(errors="backslashreplace"))

    def _release(self, pointer: Any) -> None:
        if self._owned:
            lib.btf__free(pointer)

    def __del__(self) -> None:
        if self._owned:
            super().__del__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.source}{' (closed)' if self.closed else ''}>"


def words_at(address: int, count: int) -> tuple[int, ...]:
    """COUNT native u32 values: libbpf has checked that the types lie within its data."""
    return struct.unpack(f"={count}I", ctypes.string_at(address, 4 * count))
