"""libbpf as C has it: its functions, types and constants by their own names, errors checked.

    from libbpf_ctypes import raw

    fd = raw.bpf_map_create(raw.BPF_MAP_TYPE_HASH, b"counts", 4, 8, 16, None)
    opts = raw.bpf_object_open_opts(object_name=b"tool")  # zeroed, with its size set

- a function is called with its C arguments; it raises BpfError where C returns NULL or a
  negative number to say that it failed. One that the loaded libbpf lacks raises
  LibraryError, which names the version that has it and the one that was found (hasattr()
  raises it, too: it is no AttributeError);
- a struct or union is a ctypes Structure, by its name or by ``struct_`` and its name: five
  need that, whose name is a function's, too (``struct_bpf_prog_query_opts``). libbpf's own
  structs are pointers of a class of their own; NULL is false;
- a callback's class makes one of a Python function: keep it as long as libbpf may call it,
  and let no exception leave it. Called without arguments it is NULL;
- an enumeration is an IntEnum, and its constants are also here by their names.

Nothing here is closed, freed or kept alive for you. The classes of the package do that; this
is for what they do not have. Source: libbpf's headers (VERSION says of which release).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from ._ffi import lib
from ._libbpf import CALLBACKS, CONSTANTS, ENUMS, FUNCTIONS, OPAQUE, STRUCTS, VERSION
from ._types import callback_class, pointer_class, struct_class

_VALUES = {**CONSTANTS, **{n: v for values in ENUMS.values() for n, v in values.items()}}


def __getattr__(name: str) -> Any:
    value = _make(name)
    if not name.startswith("_"):
        globals()[name] = value
    return value


def _make(name: str) -> Any:
    if name in FUNCTIONS:
        return getattr(lib, name)
    if name in _VALUES:
        return _VALUES[name]
    if name in STRUCTS:
        return struct_class(name)
    if name.startswith("struct_") and name[7:] in STRUCTS:
        return struct_class(name[7:])
    if name in OPAQUE:
        return pointer_class(name)
    if name in CALLBACKS:
        return callback_class(name)
    if name in ENUMS:
        return IntEnum(name, ENUMS[name])
    raise AttributeError(f"libbpf {VERSION} has nothing of the name {name}")


def since(name: str) -> str:
    """The version of libbpf that brought a function, as ``"1.2"``. Raises: KeyError."""
    return FUNCTIONS[name][0]


def __dir__() -> list[str]:
    names = {n for n in globals() if not n.startswith("_")}
    hidden = {f"struct_{name}" for name in STRUCTS if name in FUNCTIONS}
    return sorted(names.union(FUNCTIONS, _VALUES, STRUCTS, OPAQUE, CALLBACKS, ENUMS, hidden))
