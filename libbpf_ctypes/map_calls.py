"""A map's entries in Python's types: the kernel's calls, with their flags and in batches."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from ._ffi import lib
from .elements import BUFFERS, ElementType
from .enums import MapFlag, MapType
from .errors import BpfError, NotFoundError
from .in_kernel import check_unsigned
from .map_elements import per_cpu
from .map_entries import CALLS, Entries, Layout
from .map_types import KEYLESS, NO_ENTRIES, OF_MAPS, PER_CPU, key_type, named, value_type

#: BPF_F_CPU and BPF_F_ALL_CPUS (Linux 6.19): values of one CPU in a per-CPU map.
_ONE_CPU = 8 | 16

K = TypeVar("K")
V = TypeVar("V")


class Calls(Entries, Generic[K, V]):
    """Base of Map: each call that the kernel has for entries."""

    _specs: tuple[Any, Any] = (None, None)

    @property
    def type(self) -> MapType:
        """The map type; UNKNOWN_n of a newer kernel's."""
        raise NotImplementedError

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        raise NotImplementedError

    @property
    def value_size(self) -> int:
        """Bytes of a value (of one CPU's)."""
        raise NotImplementedError

    @property
    def max_entries(self) -> int:
        """How many entries it holds; of a ring buffer its bytes."""
        raise NotImplementedError

    @property
    def flags(self) -> MapFlag:
        """The BPF_F_ flags that it is created with."""
        raise NotImplementedError

    def _c_types(self) -> tuple[Any, Any, str]:
        """The C types of key and value (None: not known), and why they are not."""
        raise NotImplementedError

    @staticmethod
    def _open_inner(raw: bytes) -> Any:
        """What a map of maps holds. No method: the layout, which keeps it, would keep the map."""
        raise NotImplementedError

    def _types(self) -> tuple[ElementType, ElementType]:
        """The types of keys and of one CPU's values, as its settings are now."""
        kind, sizes = self.type, (self.key_size, self.value_size)
        given_key, given_value = self._specs
        known: tuple[Any, Any, str] = (None, None, "")
        if given_key is None or given_value is None:
            known = self._c_types()
        try:
            key = (
                key_type(kind, sizes[0], known[0], known[2])
                if given_key is None
                else named(given_key, sizes[0], key=True)
            )
            one = (
                value_type(kind, sizes[1], self.flags, known[1], known[2])
                if given_value is None
                else named(given_value, sizes[1], key=False)
            )
        except (ValueError, TypeError) as error:
            raise BpfError(f"type map {self.name}", errno.EINVAL, words(error)) from None
        return key, one

    def _annotations(self) -> tuple[str, str]:
        """The types as Python source, for Map[K, V]; "Any": several, "None": it has none."""
        kind = self.type
        if kind in NO_ENTRIES:
            return "None", "None"
        key, one = self._types()
        return key.annotation, "Any" if kind in PER_CPU else one.annotation

    def _make_layout(self) -> Layout:
        fd, kind = self.fd, self.type  # no descriptor before its settings are final
        key, one = self._types()
        given_value = self._specs[1]
        if kind in OF_MAPS and given_value is None:
            one = one._replace(decode=self._open_inner)
        value = per_cpu(one, lib.libbpf_num_possible_cpus()) if kind in PER_CPU else one
        buffer = ctypes.c_char * value.size
        made = Layout(kind, self.max_entries, key, value, one, buffer, CALLS)
        self._fd, self._layout = fd, made
        return made

    def _encode(self, what: str, kind: ElementType, value: Any) -> bytes:
        try:
            return kind.encode(value)
        except BpfError:  # of a schema, or of a closed map that is the value
            raise
        except (ValueError, TypeError, OverflowError) as error:
            code = errno.ERANGE if isinstance(error, OverflowError) else errno.EINVAL
            reason = str(error)
        raise BpfError(f"{what} {value!r:.80} in map {self.name}", code, reason)

    def _key(self, what: str, key: Any) -> bytes:
        layout = self._entries()
        if not layout.key.size:
            self._fail(what, None, errno.EOPNOTSUPP)
        return self._encode(f"{what} key", layout.key, key)

    def _value(self, what: str, value: Any) -> bytes:
        return self._encode(f"{what} value", self._entries().value, value)

    def _items(self) -> Iterator[tuple[K, V]]:
        return self._decoded(self._raw_items())

    def _decoded(self, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[K, V]]:
        """Entries in Python's types."""
        layout = self._entries()
        key, value = layout.key.decode, layout.value.decode
        if layout.type not in OF_MAPS:
            return ((key(k), value(v)) for k, v in pairs)
        return self._opened(pairs)

    def _opened(self, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[K, V]]:
        """Of maps of maps: each inner map opened, but of those that were deleted meanwhile."""
        decode = self._entries().key.decode
        for raw, number in pairs:
            key = decode(raw)
            try:
                value = self._decode(key, raw, number)
            except NotFoundError:
                continue
            yield key, value

    def _decode(self, key: Any, raw: bytes, data: bytes) -> V:
        """A value that was looked up, in Python's type.

        Raises: NotFoundError: of maps of maps: the entry is gone meanwhile.
        """
        decode = self._entries().value.decode
        while True:
            try:
                return cast(V, decode(data))
            except NotFoundError:  # another inner map is there by now, and this one gone
                data = self._lookup(key, raw)

    def _take_value(self, key: Any, raw: bytes, flags: int = 0) -> V:
        """Looks up and deletes. An inner map is opened before: nothing else may keep it."""
        layout = self._entries()
        if layout.type not in OF_MAPS:
            return cast(V, layout.value.decode(self._take(key, raw, flags)))
        value = self._decode(key, raw, self._lookup(key, raw, flags))
        try:
            self._delete(key, raw)
        except BaseException:
            if isinstance(value, Calls):
                value._parent.close()
            raise
        return value

    def _flags(self, what: str, flags: int) -> int:
        """The flags of a call. Raises: BpfError: C would cut them, or values have another size."""
        operation = f"{what} in map {self.name}"
        flags = check_unsigned(operation, "the flags", flags)
        if flags & _ONE_CPU and self._entries().type in PER_CPU:
            reason = "flags for the value of one CPU (BPF_F_CPU, BPF_F_ALL_CPUS) are not supported"
            raise BpfError(operation, errno.EOPNOTSUPP, reason)
        return flags

    # --- single entries

    def lookup_elem(self, key: K, flags: int = 0) -> V:
        """The value of KEY: ``m[key]`` with flags.

        Args: flags: UpdateFlag.LOCK: under the value's spin lock (Linux 5.1).
        Raises: NotFoundError: there is no such key; BpfError.
        Source: ``bpf_map_lookup_elem_flags`` (libbpf 0.0.2).
        """
        raw = self._key("look up", key)
        flags = self._flags("look up", flags)
        return self._decode(key, raw, self._lookup(key, raw, flags))

    def update_elem(self, key: K, value: V, flags: int = 0) -> None:
        """Writes an entry: ``m[key] = value`` with flags.

        Args: flags: an UpdateFlag: NOEXIST (it must be new), EXIST (it must be there),
            each or none with LOCK: under the value's spin lock (Linux 5.1).
        Raises: BpfError: EEXIST; E2BIG: the map is full; NotFoundError: EXIST, and it is not.
        Source: ``bpf_map_update_elem`` (libbpf 0.0.1); Linux 3.18.
        """
        raw = self._key("write", key)
        flags = self._flags("write", flags) if flags != 0 else 0
        self._update(key, raw, self._value("write", value), flags)

    def lookup_and_delete_elem(self, key: K, flags: int = 0) -> V:
        """Takes an entry out: ``m.pop(key)`` with flags.

        Args: flags: UpdateFlag.LOCK. Raises: NotFoundError; BpfError.
        Source: ``bpf_map_lookup_and_delete_elem_flags`` (libbpf 0.5); Linux 5.14.
        """
        raw = self._key("look up and delete", key)
        flags = self._flags("look up and delete", flags)
        return self._take_value(key, raw, flags)

    def lookup(self, key: bytes, flags: int = 0) -> bytes:
        """The bytes of KEY's value, whatever types the map has.

        Args: key: exactly ``key_size`` bytes; flags: as of lookup_elem().
        Returns: ``value_size`` bytes.
        Raises: NotFoundError: there is no such key; BpfError: EINVAL for a key of
            another size or a per-CPU map (``lookup_percpu``).
        Source: ``bpf_map_lookup_elem`` (libbpf 0.0.1); Linux 3.18.
        """
        if self._entries().type in PER_CPU:
            hint = "lookup_percpu() does."
            reason = "a per-CPU map has several values"
            raise BpfError(f"look up in {self.name}", errno.EINVAL, reason, hint=hint)
        return self._lookup(key, self._exact(key), self._flags("look up", flags))

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The bytes of KEY's value on each possible CPU, in order of CPU numbers.

        Args: key: exactly ``key_size`` bytes.
        Returns: one value of ``value_size`` bytes per CPU.
        Raises: as lookup().
        Source: ``bpf_map_lookup_elem`` (libbpf 0.0.1): values lie 8-byte aligned; Linux 4.6.
        """
        if self.type not in PER_CPU:
            raise BpfError(f"look up per CPU in {self.name}", errno.EINVAL, "not a per-CPU map")
        size = self._entries().one.size
        stride = (size + 7) & ~7
        values = self._lookup(key, self._exact(key))
        return [values[at : at + size] for at in range(0, len(values), stride)]

    def _exact(self, key: bytes) -> bytes:
        size = self._entries().key.size
        if not size:
            self._fail("look up", None, errno.EOPNOTSUPP)
        if not isinstance(key, BUFFERS):
            reason = f"the key is of type {type(key).__name__}: it takes the bytes"
            raise BpfError(f"look up in {self.name}", errno.EINVAL, reason)
        raw = bytes(key)
        if len(raw) != size:
            reason = f"the key has {len(raw)} bytes, and the map's have {size}"
            raise BpfError(f"look up in {self.name}", errno.EINVAL, reason)
        return raw

    def sum(self, key: K) -> Any:
        """The values of all CPUs of a per-CPU map added up.

        Returns: a number; of records the record of the sums, where all fields are numbers.
        Raises: NotFoundError; BpfError: no per-CPU map, or no numbers.
        """
        operation = f"add up the values of {key!r:.80} in map {self.name}"
        layout = self._entries()
        if layout.type not in PER_CPU:
            raise BpfError(operation, errno.EINVAL, "not a per-CPU map")
        values = cast("list[Any]", self.lookup_elem(key))
        if layout.one.number:
            return sum(values)
        fields = getattr(values[0], "_fields", None)
        if fields and all(isinstance(field, (int, float)) for field in values[0]):
            return type(values[0])(*map(sum, zip(*values)))
        reason = f"values of type {layout.one.name} are no numbers"
        raise BpfError(operation, errno.EINVAL, reason, hint="typed(value=…) says what they are.")

    # --- without keys

    def push(self, value: V, flags: int = 0) -> None:
        """Puts a value into a queue or stack, or adds it to a bloom filter.

        Args: flags: UpdateFlag.EXIST: a full queue or stack drops its oldest value.
        Raises: BpfError: E2BIG: it is full.
        Source: ``bpf_map_update_elem`` without a key; Linux 4.20, bloom filters 5.16.
        """
        self._require_keyless("push")
        self._update(None, None, self._value("push", value), self._flags("push", flags), "push")

    def peek(self) -> V:
        """The next value of a queue or stack, which stays in it.

        Raises: NotFoundError: it is empty; BpfError.
        Source: ``bpf_map_lookup_elem`` without a key; Linux 4.20.
        """
        self._require_keyless("peek")
        return cast(V, self._entries().value.decode(self._lookup(None, None, what="peek")))

    def _require_keyless(self, what: str) -> None:
        kind = self._entries().type
        if kind not in KEYLESS:
            reason = f"it is of type {kind.name}, no queue or stack"
            raise BpfError(f"{what} in map {self.name}", errno.EOPNOTSUPP, reason)
        if kind == MapType.BLOOM_FILTER and what != "push":
            self._fail(what, None, errno.EOPNOTSUPP)


def words(error: BaseException) -> str:
    """The text of an error that becomes the reason of another one."""
    return (error.strerror or "") if isinstance(error, BpfError) else str(error)
