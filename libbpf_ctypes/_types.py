"""libbpf's types as ctypes knows them, each made of the interface's data when first asked for."""

from __future__ import annotations

import ctypes
import re
import threading
from typing import Any, Callable, TypeVar

from ._libbpf import CALLBACKS, ENUMS, OPAQUE, STRUCTS

_SCALARS: dict[str, Any] = {
    "void": None,
    "bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "u8": ctypes.c_uint8,
    "s8": ctypes.c_int8,
    "u16": ctypes.c_uint16,
    "s16": ctypes.c_int16,
    "int": ctypes.c_int,
    "u32": ctypes.c_uint32,
    "long": ctypes.c_long,
    "ulong": ctypes.c_ulong,
    "u64": ctypes.c_uint64,
    "s64": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "ssize_t": ctypes.c_ssize_t,
}


class Pointer(ctypes.c_void_p):
    """A pointer to one of libbpf's own structs; NULL is false."""

    @classmethod
    def from_param(cls, value: Any) -> Any:
        """Takes such a pointer or None: a number would be an address to crash on."""
        if value is None or isinstance(value, cls):
            return value
        raise TypeError(f"{value!r} is no {cls.__doc__}")


class Opts(ctypes.Structure):
    """A struct that begins with its size: zeroed, with ``sz`` set, as LIBBPF_OPTS does.

    Bytes past an older libbpf's last field stay zero, so that it takes them.

    Raises: AttributeError: there is no such field; OverflowError: a number does not fit it.
    """

    __slots__ = ()  # or a misspelt option would be an attribute, and never reach C

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        for name, value in fields.items():  # ctypes has cut it in silence
            if isinstance(value, int) and (getattr(self, name) or 0) != value:
                raise OverflowError(f"{name} is out of range: {value}")
        self.sz = ctypes.sizeof(self)


_T = TypeVar("_T")
_made: dict[str, Any] = {}
_lock = threading.RLock()


def _once(make: Callable[[str], _T]) -> Callable[[str], _T]:
    """Makes each type once: ctypes tells types apart by identity."""

    def get(name: str) -> _T:
        key = f"{make.__name__} {name}"
        with _lock:
            if key not in _made:
                _made[key] = make(name)
            found: _T = _made[key]
            return found

    get.__doc__ = make.__doc__
    return get


@_once
def pointer_class(name: str) -> type[Pointer]:
    """The class of pointers to one of libbpf's own structs."""
    assert name in OPAQUE, name
    return type(f"{name}_p", (Pointer,), {"__doc__": f"struct {name} *"})


@_once
def callback_class(name: str) -> Any:
    """The class of a callback: call it with a Python function.

    Pointers to structs with fields come to that as plain addresses. The one that prints
    keeps C's errno.
    """
    result, parameters = CALLBACKS[name]
    arguments = [ctype(_address_only(text)) for text in split(parameters)]
    return ctypes.CFUNCTYPE(ctype(result), *arguments, use_errno=name == "libbpf_print_fn_t")


def _address_only(text: str) -> str:
    return "void*" if text[:-1] in STRUCTS else text


def struct_class(name: str) -> Any:
    """The class of a struct or union; of opts structs it is an Opts."""
    with _lock:
        if name not in _made:
            kind, fields = STRUCTS[name]
            base: Any = ctypes.Union if kind == "union" else ctypes.Structure
            if re.match(r"size_t sz(,|$)", fields):
                base = Opts
            members = {"__doc__": f"{kind} {name}", "__slots__": ()}
            made = _made[name] = type(name, (base,), members)
            _set_fields(made, fields)  # afterwards: it may hold pointers to its own
        return _made[name]


def _set_fields(made: Any, fields: str) -> None:
    listed: list[tuple[Any, ...]] = []
    anonymous = []
    for field in split(fields):
        kind, _, name = field.rpartition(" ")
        name, _, width = name.partition(":")
        if not name:
            name = f"_{len(listed)}"
            if kind in STRUCTS:
                anonymous.append(name)
        listed.append((name, ctype(kind), int(width)) if width else (name, ctype(kind)))
    made._anonymous_ = anonymous
    made._fields_ = listed


def split(words: str) -> list[str]:
    """The parts of a list in the interface's data."""
    return words.split(", ") if words else []


def ctype(text: str) -> Any:
    """The ctypes type of a type in the interface's data."""
    if text in _SCALARS:
        return _SCALARS[text]
    if text.endswith("*"):
        return _pointer_to(text[:-1])
    if array := re.fullmatch(r"(.*)\[(\d+)\]", text):
        return ctype(array[1]) * int(array[2])
    if text in ENUMS:
        return ctypes.c_int if min(ENUMS[text].values()) < 0 else ctypes.c_uint32
    return callback_class(text) if text in CALLBACKS else struct_class(text)


def _pointer_to(target: str) -> Any:
    if target == "void":
        return ctypes.c_void_p
    if target == "char":
        return ctypes.c_char_p
    if target in OPAQUE:
        return pointer_class(target)
    return ctypes.POINTER(ctype(target))
