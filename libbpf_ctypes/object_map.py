"""A map of an object: set up before load(), used after it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ._ffi import lib
from ._handle import Part
from .enums import MapFlag, MapType
from .errors import BpfError
from .in_kernel import check_u32, check_unsigned
from .log import calling
from .map_calls import K, V
from .map_elements import file_descriptor
from .map_types import OF_MAPS
from .maps import Map
from .pinning import encoded_path, pin_hint

if TYPE_CHECKING:
    from .link import Link
    from .object import BpfObject
    from .program import Program

_LOAD = "Call load() first."


_INNER = ("type", "key_size", "value_size", "max_entries", "map_flags")


class InnerMap(NamedTuple):
    """What the maps in a map of maps are like: as the properties of a Map."""

    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: MapFlag


class ObjectMap(Part, Map[K, V]):
    """A map of a BpfObject; owned by it, and gone when it is closed.

    Before load() its properties may be set: ``obj.maps["EVENTS"].max_entries = 1 << 20``.
    Afterwards they only tell (EBUSY), and it is a mapping, see Map.

    Source: libbpf's ``struct bpf_map`` (0.0.1; this API 1.0).
    """

    _parent: BpfObject

    def __init__(self, pointer: Any, parent: BpfObject) -> None:
        super().__init__(pointer, parent)
        # Now: libbpf forgets both if the kernel does not take them, as of another size.
        self._type_ids = self._get("btf_key_type_id"), self._get("btf_value_type_id")

    def _get(self, name: str) -> Any:
        return getattr(lib, f"bpf_map__{name}")(self)

    def _set(self, name: str, *arguments: Any, words: str = "") -> None:
        """Calls a setter of libbpf's, which it only takes before load()."""
        operation = self._may_set(words or name.replace("set_", "").replace("_", " "))
        with calling(operation):
            getattr(lib, f"bpf_map__{name}")(self, *arguments)
        self._layout = None

    def _set_u32(self, name: str, number: int) -> None:
        operation = f"set {name.replace('_', ' ')} of map {self.name}"
        self._set(f"set_{name}", check_u32(operation, "it", number))

    def _may_set(self, what: str) -> str:
        """The name of setting something. Raises: BpfError (EBUSY): it is too late."""
        operation = f"set {what} of map {self.name}"
        parent = self._parent
        if parent._prepared or parent._load_tried:
            raise BpfError(operation, errno.EBUSY, "the object is loaded: it is set before load()")
        return operation

    @property
    def name(self) -> str:
        """The map's name. Source: ``bpf_map__name`` (libbpf 0.0.1)."""
        return str(self._get("name").decode(errors="backslashreplace"))

    @property
    def fd(self) -> int:
        """Its file descriptor, owned by the object.

        Raises: BpfError before load(). Source: ``bpf_map__fd`` (libbpf 0.0.1).
        """
        fd = int(lib.bpf_map__fd(self))
        operation = f"use map {self.name}"
        if self._parent._prepared and not self.autocreate:  # libbpf 1.5 gives a placeholder
            raise BpfError(operation, errno.EBADF, "it was not created: autocreate is off")
        if fd < 0:
            raise BpfError(operation, errno.EBADF, "the object is not loaded", hint=_LOAD)
        return fd

    @property
    def type(self) -> MapType:
        """The map type. Source: ``bpf_map__type`` (libbpf 0.1)."""
        return MapType(self._get("type"))

    @type.setter
    def type(self, kind: MapType | int) -> None:
        self._set_u32("type", kind)

    @property
    def key_size(self) -> int:
        """Bytes of a key. Source: ``bpf_map__key_size`` (libbpf 0.1)."""
        return int(self._get("key_size"))

    @key_size.setter
    def key_size(self, size: int) -> None:
        self._set_u32("key_size", size)

    @property
    def value_size(self) -> int:
        """Bytes of a value (of one CPU's).

        That of a section of variables (``.bss``) may be set since libbpf 1.3: its last
        array grows.

        Source: ``bpf_map__value_size`` (libbpf 0.1).
        """
        return int(self._get("value_size"))

    @value_size.setter
    def value_size(self, size: int) -> None:
        self._set_u32("value_size", size)

    @property
    def max_entries(self) -> int:
        """How many entries it holds; of a ring buffer its bytes.

        Source: ``bpf_map__max_entries`` (libbpf 0.1).
        """
        return int(self._get("max_entries"))

    @max_entries.setter
    def max_entries(self, entries: int) -> None:
        self._set_u32("max_entries", entries)

    @property
    def flags(self) -> MapFlag:
        """The BPF_F_ flags that it is created with. Source: ``bpf_map__map_flags`` (libbpf 0.1)."""
        return MapFlag(self._get("map_flags"))

    @flags.setter
    def flags(self, flags: int) -> None:
        self._set_u32("map_flags", flags)

    @property
    def numa_node(self) -> int:
        """Where its memory lies, with MapFlag.NUMA_NODE. Source: ``bpf_map__numa_node``."""
        return int(self._get("numa_node"))

    @numa_node.setter
    def numa_node(self, node: int) -> None:
        self._set_u32("numa_node", node)

    @property
    def ifindex(self) -> int:
        """The device that it is offloaded to; 0: none. Source: ``bpf_map__ifindex``."""
        return int(self._get("ifindex"))

    @ifindex.setter
    def ifindex(self, ifindex: int) -> None:
        self._set_u32("ifindex", ifindex)

    @property
    def map_extra(self) -> int:
        """What its type uses it for: of a bloom filter the number of hash functions.

        Source: ``bpf_map__map_extra`` (libbpf 0.6); Linux 5.16.
        """
        return int(self._get("map_extra"))

    @map_extra.setter
    def map_extra(self, extra: int) -> None:
        operation = f"set map extra of map {self.name}"
        self._set("set_map_extra", check_unsigned(operation, "it", extra))

    @property
    def autocreate(self) -> bool:
        """Whether load() creates it. Source: ``bpf_map__autocreate`` (libbpf 0.8)."""
        return bool(self._get("autocreate"))

    @autocreate.setter
    def autocreate(self, wanted: bool) -> None:
        self._set("set_autocreate", wanted)

    @property
    def autoattach(self) -> bool:
        """Whether a skeleton attaches this struct_ops map.

        Source: ``bpf_map__autoattach`` (libbpf 1.5).
        """
        return bool(self._get("autoattach"))

    @autoattach.setter
    def autoattach(self, wanted: bool) -> None:
        lib.bpf_map__set_autoattach(self, wanted)

    @property
    def initial_value(self) -> bytes:
        """The first value of a section of variables, or of a struct_ops; b"" of other maps.

        It is set in its whole length. Variables by name: ``obj.variables``.

        Source: ``bpf_map__initial_value`` (libbpf 0.5), ``bpf_map__set_initial_value`` (0.0.8).
        """
        size = ctypes.c_size_t()
        address = lib.bpf_map__initial_value(self, ctypes.byref(size))
        return ctypes.string_at(address, size.value) if address else b""

    @initial_value.setter
    def initial_value(self, value: bytes) -> None:
        raw = memoryview(value).tobytes()
        operation = self._may_set("initial value")
        there = len(self.initial_value)
        if len(raw) != there:
            raise BpfError(operation, errno.EINVAL, f"{len(raw)} bytes do not fit its {there}")
        self._set("set_initial_value", raw, len(raw))

    @property
    def is_internal(self) -> bool:
        """Whether it holds a section of variables. Source: ``bpf_map__is_internal``."""
        return bool(self._get("is_internal"))

    @property
    def inner_map(self) -> InnerMap | None:
        """Of a map of maps: what each map in it is like; else None.

        Set, it is any Map that is in the kernel, which they will be like.

        Source: ``bpf_map__inner_map`` (libbpf 0.4), ``bpf_map__set_inner_map_fd`` (0.0.1).
        """
        found = self._get("inner_map") if self.type in OF_MAPS else None
        if not found:
            return None
        # libbpf's setters would crash on it: it belongs to no object.
        read = (getattr(lib, f"bpf_map__{name}")(found) for name in _INNER)
        kind, key_size, value_size, max_entries, flags = map(int, read)
        return InnerMap(MapType(kind), key_size, value_size, max_entries, MapFlag(flags))

    @inner_map.setter
    def inner_map(self, template: Map[Any, Any]) -> None:
        self._set("set_inner_map_fd", template.fd, words="inner map")

    @property
    def exclusive_program(self) -> Program | None:
        """The only program that may use it; None: any. Set a Program of this object.

        Source: ``bpf_map__exclusive_program`` (libbpf 1.7); Linux 6.18.
        """
        pointer = self._get("exclusive_program")
        programs = self._parent.programs.values()
        same = [p for p in programs if pointer and _address(p._pointer) == _address(pointer)]
        return same[0] if same else None

    @exclusive_program.setter
    def exclusive_program(self, program: Program) -> None:
        self._set("set_exclusive_program", program)

    def reuse(self, other: Map[Any, Any] | int) -> None:
        """Takes another map in place of creating one: of another object, pinned, or opened.

        Args: other: a Map, or a descriptor, which is duplicated. Its sizes and flags must fit.
        Raises: BpfError. Source: ``bpf_map__reuse_fd`` (libbpf 0.0.1).
        """
        operation = f"reuse a map for map {self.name}"
        if self._parent._prepared or self._parent._load_tried:
            raise BpfError(operation, errno.EBUSY, "the object is loaded: reuse() comes before")
        fd = file_descriptor(other)
        with calling(operation):
            lib.bpf_map__reuse_fd(self, fd)
        self._layout = None

    @property
    def pin_path(self) -> str:
        """Where load() takes it from, or pins it; "": nowhere.

        Source: ``bpf_map__pin_path`` (libbpf 0.5), ``bpf_map__set_pin_path`` (0.0.6).
        """
        return os.fsdecode(self._get("pin_path") or b"")

    @pin_path.setter
    def pin_path(self, path: str | os.PathLike[str] | None) -> None:
        encoded = encoded_path(f"set pin path of map {self.name}", path) if path else None
        self._set("set_pin_path", encoded)

    @property
    def is_pinned(self) -> bool:
        """Whether this object pinned it, or took it from its pin path.

        Source: ``bpf_map__is_pinned`` (libbpf 0.0.6).
        """
        return bool(self._get("is_pinned"))

    def pin(self, path: str | os.PathLike[str] | None = None) -> None:
        """Pins it in a BPF file system: it lives on there.

        Args: path: a missing folder is made; None: where pin_path says.
        Raises: BpfError. Source: ``bpf_map__pin`` (libbpf 0.0.1); Linux 4.4.
        """
        self._pinning("pin", path)

    def unpin(self, path: str | os.PathLike[str] | None = None) -> None:
        """Removes the pin. Raises: BpfError. Source: ``bpf_map__unpin`` (libbpf 0.0.1)."""
        self._pinning("unpin", path)

    def _pinning(self, what: str, path: str | os.PathLike[str] | None) -> None:
        operation = f"{what} map {self.name}"
        encoded = None if path is None else encoded_path(operation, path)
        _ = self.fd
        with calling(operation, pin_hint):
            getattr(lib, f"bpf_map__{what}")(self, encoded)

    def attach_struct_ops(self) -> Link:
        """Registers a map of functions with the kernel, such as a TCP congestion control.

        Returns: the Link; closing it removes them.
        Raises: BpfError: it is no struct_ops map, not loaded, or there is one of its name.
        Source: ``bpf_map__attach_struct_ops`` (libbpf 0.0.7); Linux 5.6.
        """
        from .attach import attach_struct_ops

        return attach_struct_ops(self)

    def _c_types(self) -> tuple[Any, Any, str]:
        from .layout import Structs, has_types

        if not has_types(self._parent):
            return None, None, " (the object has no BTF)"
        structs = Structs(self._parent)
        key, value = (structs.layout(i) if i else None for i in self._type_ids)
        return key, value, ""

    def __repr__(self) -> str:
        if self._parent.closed:
            return "<Map of a closed object>"
        return f"<Map {self.name} ({self.type.name})>"


def _address(pointer: Any) -> int | None:
    return ctypes.cast(pointer, ctypes.c_void_p).value
