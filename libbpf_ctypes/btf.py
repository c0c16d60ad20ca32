"""BTF, the kernel's type information: functions' parameters and global variables."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._ffi import lib
from ._handle import Handle
from .enums import Tolerant
from .errors import BpfError
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


_MODIFIERS = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
_INT_SIGNED, _INT_BOOL = 1, 4
_POINTER_SIZE = ctypes.sizeof(ctypes.c_void_p)


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


class _Raw(NamedTuple):
    """struct btf_type, and where the data behind it begins."""

    name_offset: int
    kind: Kind
    vlen: int
    flag: bool
    size_or_type: int
    data: int


class Btf(Handle):
    """The types of an object, of the kernel or of a module.

    Source: <linux/btf.h> (Linux 4.18), libbpf's btf.h; the kernel's own BTF
    needs CONFIG_DEBUG_INFO_BTF (Linux 5.2), a module's Linux 5.11.
    """

    def __init__(self, pointer: Any, parent: object = None, *, owned: bool = True) -> None:
        super().__init__(pointer, parent)
        self._owned = owned

    @classmethod
    def kernel(cls) -> Btf:
        """The running kernel's types. Raises: BpfError (ENOENT: the kernel has none)."""
        with calling("read the kernel's BTF"):
            return cls(lib.btf__load_vmlinux_btf())

    @classmethod
    def module(cls, name: str, base: Btf) -> Btf:
        """A module's types, on top of the kernel's in BASE. Raises: BpfError."""
        with calling(f"read the BTF of module {name}"):
            return cls(lib.btf__load_module_btf(name.encode(), base), base)

    def parameters(self, function: str) -> tuple[Parameter, ...]:
        """The parameters of a function, in order.

        Raises: BpfError (ENOENT: no such function here).
        """
        with calling(f"find {function} in BTF"):
            identity = lib.btf__find_by_name_kind(self, function.encode(), Kind.FUNC)
            prototype = self._raw(self._raw(identity).size_or_type)
            words = _words(prototype.data, 2 * prototype.vlen)
            return tuple(
                Parameter(self._name(name), self.type(identity))
                for name, identity in zip(words[::2], words[1::2])
            )

    def type(self, identity: int) -> Type:
        """The type with this id, without typedefs and qualifiers. Raises: BpfError."""
        for _ in range(64):  # a chain of modifiers in damaged BTF may be a circle
            raw = self._raw(identity) if identity else None
            if raw is None:
                return Type(Kind.VOID, "void", 0)
            if raw.kind not in _MODIFIERS:
                return self._type(identity, raw)
            identity = raw.size_or_type
        raise BpfError(f"resolve BTF type {identity}", None, "the chain of typedefs does not end")

    def _type(self, identity: int, raw: _Raw) -> Type:
        name = self._name(raw.name_offset)
        if raw.kind == Kind.INT:
            encoding = _words(raw.data, 1)[0] >> 24 & 0xF
            signed, is_bool = bool(encoding & _INT_SIGNED), bool(encoding & _INT_BOOL)
            return Type(raw.kind, name, raw.size_or_type, signed, is_bool)
        if raw.kind in (Kind.ENUM, Kind.ENUM64):
            return Type(raw.kind, name, raw.size_or_type, raw.flag)
        if raw.kind == Kind.PTR:
            return Type(raw.kind, name, _POINTER_SIZE)
        if raw.kind == Kind.ARRAY:
            size = int(lib.btf__resolve_size(self, identity))  # which refuses a circle
            element = self.type(_words(raw.data, 1)[0])
            return Type(raw.kind, element.name, size, element.signed)
        if raw.kind in (Kind.STRUCT, Kind.UNION, Kind.FLOAT):
            return Type(raw.kind, name, raw.size_or_type)
        return Type(raw.kind, name, 0)

    def variables(self, sections: tuple[str, ...]) -> list[Variable]:
        """The global variables of these data sections, in the order of the BTF."""
        found: list[Variable] = []
        for _identity, raw in self.types():
            section = self._name(raw.name_offset)
            if raw.kind != Kind.DATASEC or section not in sections:
                continue
            words = _words(raw.data, 3 * raw.vlen)
            for variable, offset, size in zip(words[::3], words[1::3], words[2::3]):
                entry = self._raw(variable)
                name, kind = self._name(entry.name_offset), self.type(entry.size_or_type)
                found.append(Variable(name, section, offset, size, kind))
        return found

    def types(self) -> Iterator[tuple[int, _Raw]]:
        """Every type with its id, in the order of the BTF."""
        for identity in range(1, lib.btf__type_cnt(self)):
            yield identity, self._raw(identity)

    def _raw(self, identity: int) -> _Raw:
        address = ctypes.addressof(lib.btf__type_by_id(self, identity).contents)
        name_offset, info, size_or_type = _words(address, 3)
        kind = Kind(info >> 24 & 0x1F)
        return _Raw(name_offset, kind, info & 0xFFFF, bool(info >> 31), size_or_type, address + 12)

    def _name(self, offset: int) -> str:
        return str(lib.btf__name_by_offset(self, offset).decode(errors="backslashreplace"))

    def _release(self, pointer: Any) -> None:
        if self._owned:
            lib.btf__free(pointer)

    def __del__(self) -> None:
        if self._owned:
            super().__del__()

    def __repr__(self) -> str:
        return f"<Btf{' (closed)' if self.closed else ''}>"


def _words(address: int, count: int) -> tuple[int, ...]:
    """COUNT native u32 values: libbpf has checked that the types lie within its data."""
    return struct.unpack(f"={count}I", ctypes.string_at(address, 4 * count))
