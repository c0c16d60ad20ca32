"""BPF maps of an object."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING

from ._ffi import lib
from ._handle import Part
from .enums import MapType
from .errors import BpfError
from .log import calling

if TYPE_CHECKING:
    from .object import BpfObject

_PER_CPU = (
    MapType.PERCPU_HASH,
    MapType.PERCPU_ARRAY,
    MapType.LRU_PERCPU_HASH,
    MapType.PERCPU_CGROUP_STORAGE,
)


class Map(Part):
    """A map of a BpfObject; owned by it, and gone when it is closed."""

    _parent: BpfObject

    @property
    def name(self) -> str:
        """The map's name. Source: ``bpf_map__name`` (libbpf 0.0.1)."""
        return str(lib.bpf_map__name(self).decode(errors="backslashreplace"))

    @property
    def type(self) -> MapType:
        """The map type. Source: ``bpf_map__type`` (libbpf 0.1)."""
        return MapType(lib.bpf_map__type(self))

    @property
    def key_size(self) -> int:
        """Bytes of a key. Source: ``bpf_map__key_size`` (libbpf 0.1)."""
        return int(lib.bpf_map__key_size(self))

    @property
    def value_size(self) -> int:
        """Bytes of a value (of one CPU's). Source: ``bpf_map__value_size`` (libbpf 0.1)."""
        return int(lib.bpf_map__value_size(self))

    @property
    def max_entries(self) -> int:
        """How many entries it holds. Source: ``bpf_map__max_entries`` (libbpf 0.1)."""
        return int(lib.bpf_map__max_entries(self))

    @property
    def fd(self) -> int:
        """Its file descriptor, owned by the object.

        Raises: BpfError before load(). Source: ``bpf_map__fd`` (libbpf 0.0.1).
        """
        fd = int(lib.bpf_map__fd(self))
        if fd < 0:
            reason = "the object is not loaded"
            raise BpfError(f"use map {self.name}", errno.EBADF, reason, hint="Call load() first.")
        return fd

    def lookup(self, key: bytes) -> bytes:
        """The value of KEY.

        Args: key: exactly ``key_size`` bytes.
        Returns: ``value_size`` bytes.
        Raises: BpfError: ENOENT if there is no such key, EINVAL for a key of
            another size or a per-CPU map (``lookup_percpu``).
        Source: ``bpf_map__lookup_elem`` (libbpf 0.8).
        """
        return self._lookup(key, self.value_size)

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The value of KEY on each possible CPU, in order of CPU numbers.

        Args: key: exactly ``key_size`` bytes.
        Returns: one value of ``value_size`` bytes per CPU.
        Raises: BpfError: as lookup().
        Source: ``bpf_map__lookup_elem`` (libbpf 0.8): values lie 8-byte aligned.
        """
        if self.type not in _PER_CPU:
            raise BpfError(f"look up per CPU in {self.name}", errno.EINVAL, "not a per-CPU map")
        size = self.value_size
        stride = (size + 7) & ~7
        values = self._lookup(key, stride * lib.libbpf_num_possible_cpus())
        return [values[at : at + size] for at in range(0, len(values), stride)]

    def _lookup(self, key: bytes, size: int) -> bytes:
        value = ctypes.create_string_buffer(size)
        with calling(f"look up in map {self.name}"):
            _ = self.fd
            lib.bpf_map__lookup_elem(self, key, len(key), value, size, 0)
        return value.raw

    def __repr__(self) -> str:
        if self._parent.closed:
            return "<Map of a closed object>"
        return f"<Map {self.name} ({self.type.name})>"
