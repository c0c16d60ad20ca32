"""BPF maps as mappings: of any object, created, pinned, or found by id."""

from __future__ import annotations

import errno
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._ffi import lib
from ._handle import Descriptor
from .enums import MapFlag, MapType
from .errors import BpfError, NotFoundError
from .in_kernel import check_u32, id_hint
from .log import calling
from .map_calls import K, V
from .map_mapping import MapMapping

if TYPE_CHECKING:
    from .info import MapInfo

_Self = TypeVar("_Self", bound="Map[Any, Any]")
_Open = TypeVar("_Open", bound="OpenMap[Any, Any]")


class Map(MapMapping[K, V]):
    """A map, used as a dict: ``m[key]``, ``m[key] = value``, ``del``, ``in``, ``for``, ``items()``.

    Keys and values are what the map's BTF says: int, bool, float, str for char arrays, bytes
    for byte arrays, tuples for others, records (named tuples) for structs, which are written
    as records or dicts. Without BTF they are bytes of the exact size; typed() gives them
    types. The bytes themselves are always taken. A value that does not fit is refused.

    - **Per-CPU** maps give a list, a value for each possible CPU. Assigned is such a list,
      or one value for all CPUs; sum() adds them up.
    - **Queues and stacks** have push(), pop() and peek(); **bloom filters** push() and ``in``.
    - **LPM tries** take networks and addresses of ``ipaddress``, and ``(prefix length, bytes)``.
    - **Maps of maps** take a Map, and give the inner one opened: close it.
    - **Program arrays**, perf event, cgroup, socket and XSK maps take a Program, a file or a
      file descriptor; what is read is an id (or a socket's cookie), where the kernel tells it.
    - **Device and CPU maps** take a number, or ``(number, program)``.
    - **Storage** of sockets, inodes, tasks and cgroups is found by file or file descriptor.
    - **Ring buffers** and arenas have no entries.

    Iteration survives that programs or threads insert and delete meanwhile, and it ends: each
    entry comes at most once, and in hash maps (Linux 5.6) and arrays all that is there all
    the time comes; in other maps some may be left out if many are deleted meanwhile.
    ``items()`` and ``values()`` read keys and values together where the kernel can.

    A missing key raises NotFoundError, which is a KeyError; all else BpfError. Two maps are
    equal if they are the same Python object.

    MutableMapping's ``update()`` writes a whole mapping; the kernel's calls with their flags
    are lookup_elem(), update_elem(), lookup_and_delete_elem() and the ``_batch`` methods;
    lookup() and lookup_percpu() give the plain bytes.

    Source: bpf(2) through libbpf; Linux 4.4 to 6.18, as each method says.
    """

    @property
    def info(self) -> MapInfo:
        """What the kernel tells of it.

        Raises: BpfError. Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1); Linux 4.13.
        """
        from .info import map_info

        return map_info(self.fd)

    @property
    def id(self) -> int:
        """Its number in the kernel, for open_id(). Raises: BpfError. Linux 4.13."""
        return self.info.id

    # --- where maps come from

    @staticmethod
    def create(
        type: MapType | int,
        *,
        key: Any = None,
        value: Any = None,
        key_size: int | None = None,
        value_size: int | None = None,
        max_entries: int = 0,
        flags: int = 0,
        name: str = "",
        inner_map: Map[Any, Any] | None = None,
        **more: int,
    ) -> OpenMap[Any, Any]:
        """Creates a map in the kernel, of no object::

            with Map.create(MapType.HASH, key="u32", value="u64", max_entries=1024) as m:
                m[1] = 2

        Args:
            type: a MapType; a number of a newer kernel's.
            key, value: their types, as of typed(); they say the sizes, too.
            key_size, value_size: bytes. Without them and types: as the map type demands
                (an index or descriptor of 4 bytes, no key, no value).
            max_entries: how many; bytes of a ring buffer, 0 of storage.
            flags: MapFlag. LPM tries and storage need NO_PREALLOC.
            name: at most 15 letters, digits, ``_`` and ``.``; a longer one is cut off.
            inner_map: of maps of maps: one like those that will be in it.
            more: other fields of ``struct bpf_map_create_opts``: map_extra, numa_node,
                map_ifindex, btf_fd, btf_key_type_id, btf_value_type_id, token_fd…

        Returns: the map; close it.
        Raises: BpfError. Source: ``bpf_map_create`` (libbpf 0.6); Linux 3.18.
        """
        from .map_create import create_map

        if inner_map is not None:
            check_map(f"create map {name} with an inner one", inner_map)
            more["inner_map_fd"] = inner_map.fd
        specs, sizes = (key, value), (key_size, value_size)
        made: OpenMap[Any, Any] = OpenMap(
            create_map(type, specs, sizes, max_entries, flags, name, more)
        )
        made._specs = specs
        return made

    @staticmethod
    def open_pinned(path: str | os.PathLike[str]) -> OpenMap[Any, Any]:
        """Opens a map that is pinned in a BPF file system.

        Returns: the map; close it.
        Raises: BpfError: nothing is there, or what is there is a program or a link.
        Source: ``bpf_obj_get`` (libbpf 0.0.1); Linux 4.4.
        """
        from .pinning import open_pinned

        return OpenMap(open_pinned(path, "map"))

    @staticmethod
    def open_id(id: int) -> OpenMap[Any, Any]:
        """Opens a map by its number, as Map.id, maps() and bpftool tell it.

        Returns: the map; close it.
        Raises: NotFoundError: there is none; BpfError: CAP_SYS_ADMIN is missing.
        Source: ``bpf_map_get_fd_by_id`` (libbpf 0.0.1); Linux 4.13.
        """
        operation = f"open map {id}"
        try:
            with calling(operation, id_hint):
                return OpenMap(int(lib.bpf_map_get_fd_by_id(check_u32(operation, "the id", id))))
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            code, hint, log = error.errno, error.hint, error.log
        raise NotFoundError(operation, code, hint=hint, log=log)

    def typed(self: _Self, *, key: Any = None, value: Any = None) -> _Self:
        """The same map with other types of keys and values.

        Args:
            key, value: None: as it is: what was asked for before, or what BTF says. Else

                - ``"u8"`` to ``"u128"``, ``"s8"`` to ``"s128"``; ``"be16"``, ``"le16"`` and
                  more: unsigned, in that byte order; ``"f32"``, ``"f64"``, ``"bool"``,
                  ``"fd"`` (a file descriptor);
                - ``int`` (unsigned), ``float``, ``bool``, ``str``, ``bytes``, of the map's size;
                - an IntEnum;
                - IPv4Address, IPv6Address of ipaddress, and for LPM tries IPv4Network,
                  IPv6Network;
                - a Schema, or a construct Struct.

        Returns: another Map of the same descriptor, closed together with it.
        Raises: BpfError: no such type, or the map's size is another one.
        """
        other = object.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        before = self._specs
        other._specs = (before[0] if key is None else key, before[1] if value is None else value)
        other._layout = None
        if self._layout is not None:
            other._entries()  # which checks the types
        return other

    def freeze(self) -> None:
        """Makes it read-only for user space; programs may still write, if its flags let them.

        Raises: BpfError: EBUSY: it is mapped for writing; EPERM: it is frozen already.
        Source: ``bpf_map_freeze`` (libbpf 0.0.3); Linux 5.2.
        """
        with calling(f"freeze map {self.name}"):
            lib.bpf_map_freeze(self.fd)

    @staticmethod
    def _open_inner(raw: bytes) -> OpenMap[Any, Any]:
        return Map.open_id(int.from_bytes(raw, sys.byteorder))


def check_map(operation: str, map: object) -> None:
    """Raises: BpfError: it is no map."""
    if not isinstance(map, Map):
        raise BpfError(operation, errno.EINVAL, f"{map!r:.80} is no Map")


class _Holder(Descriptor):
    """The descriptor, which the map and its typed() twins share."""

    name = ""

    def __repr__(self) -> str:
        return f"<OpenMap {self.name}{' (closed)' if self.closed else ''}>"


class OpenMap(Map[K, V]):
    """A map by a file descriptor of its own: close it, or use it in a ``with``.

    Map.create(), Map.open_pinned() and Map.open_id() make it, and so do maps of maps.
    Closing it does not delete a map that others use, or that is pinned. One that is
    forgotten is closed with a ResourceWarning.

    Args: fd: the descriptor, which belongs to it from now on.
    Raises: BpfError: it is none of a map.
    Source: libbpf's calls by file descriptor; what the kernel tells of it, Linux 4.13.
    """

    _parent: _Holder

    def __init__(self, fd: int) -> None:
        from .info import map_info

        self._parent = _Holder(fd)
        try:
            self._info: MapInfo = map_info(fd)
            self._parent.name = self._info.name or f"{self._info.id}"
        except BaseException:
            self._parent.close()
            raise

    @property
    def _as_parameter_(self) -> int:
        return self._parent.fd

    @property
    def name(self) -> str:
        """Its name in the kernel, at most 15 bytes; else its id. Linux 4.15."""
        return self._parent.name

    @property
    def fd(self) -> int:
        """Its file descriptor, closed with it. Raises: ClosedError."""
        return self._parent.fd

    @property
    def type(self) -> MapType:
        """The map type; UNKNOWN_n of a newer kernel's."""
        return self._info.type

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._info.key_size

    @property
    def value_size(self) -> int:
        """Bytes of a value (of one CPU's)."""
        return self._info.value_size

    @property
    def max_entries(self) -> int:
        """How many entries it holds; of a ring buffer its bytes."""
        return self._info.max_entries

    @property
    def flags(self) -> MapFlag:
        """The BPF_F_ flags that it was created with."""
        return MapFlag(self._info.map_flags)

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._parent.closed

    def close(self) -> None:
        """Closes the descriptor, and buffers that read it. A second call does nothing."""
        self._parent.close()

    def __enter__(self: _Open) -> _Open:
        return self

    def __exit__(
        self,
        _kind: Any,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pins it in a BPF file system, from where open_pinned() takes it.

        Raises: BpfError. Source: ``bpf_obj_pin`` (libbpf 0.0.1); Linux 4.4.
        """
        from .pinning import encoded_path, pin_hint

        operation = f"pin map {self.name} to {os.fspath(path)}"
        encoded = encoded_path(operation, path)
        with calling(operation, pin_hint):
            lib.bpf_obj_pin(self.fd, encoded)

    def _c_types(self) -> tuple[Any, Any, str]:
        info = self._info
        ids = info.btf_key_type_id, info.btf_value_type_id
        if not info.btf_id or not any(ids):
            return None, None, " (it has no BTF)"
        from .btf import Btf

        try:
            btf = Btf.open_id(info.btf_id)
        except BpfError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOENT):
                raise
            return None, None, " (its BTF may be read with CAP_SYS_ADMIN only)"
        with btf:
            key, value = (btf.layout(i) if i else None for i in ids)
        return key, value, ""

    def __repr__(self) -> str:
        return f"<Map {self.name} ({self.type.name}{', closed' if self.closed else ''})>"
