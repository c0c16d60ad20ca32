"""A map's entries as a mapping: what a dict has."""

from __future__ import annotations

import errno
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from contextlib import suppress
from typing import Any, TypeVar, overload

from .enums import MapType, UpdateFlag
from .errors import BpfError, NotFoundError
from .map_batches import Batches
from .map_calls import K, V
from .map_entries import UNSUPPORTED
from .map_types import FULL, INDEXED, KEYLESS, NO_ENTRIES

_D = TypeVar("_D")
_NONE: Any = object()


class MapMapping(Batches[K, V], MutableMapping[K, V]):
    """Base of Map: the operations of a dict."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, key: K) -> V:
        layout = self._layout or self._make_layout()
        try:
            raw = layout.key.encode(key)
        except (ValueError, TypeError, OverflowError):
            raw = self._key("look up", key)  # which says it in words
        return self._decode(key, raw, self._lookup(key, raw))

    def __setitem__(self, key: K, value: V) -> None:
        layout = self._layout or self._make_layout()
        try:
            raw, data = layout.key.encode(key), layout.value.encode(value)
        except (ValueError, TypeError, OverflowError):
            raw, data = self._key("write", key), self._value("write", value)
        code = self._invoke(layout.calls.update_elem, raw, data, 0)
        if code < 0:
            self._fail("write", key, -code)

    def __delitem__(self, key: K) -> None:
        self._delete(key, self._key("delete", key))

    def __contains__(self, key: object) -> bool:
        layout = self._entries()
        if layout.type == MapType.BLOOM_FILTER:
            arguments: tuple[Any, Any] = None, self._encode("look for", layout.value, key)
        else:
            arguments = self._key("look up", key), layout.buffer()
        code = self._invoke(layout.calls.lookup_elem, *arguments)
        if code < 0 and code != -errno.ENOENT:
            self._fail("look up", key, -code)
        return code >= 0

    def __iter__(self) -> Iterator[K]:
        return map(self._entries().key.decode, self._raw_keys())

    def __len__(self) -> int:
        """The number of entries, counted: the kernel does not keep it."""
        layout = self._entries()
        return layout.max_entries if layout.type in FULL else sum(1 for _ in self._raw_keys())

    def __bool__(self) -> bool:
        """Whether anything is in it; True of maps whose entries cannot be listed."""
        kind = self._entries().type
        if kind in KEYLESS or kind in NO_ENTRIES:
            return True
        try:
            return any(True for _ in self._raw_keys())
        except BpfError as error:
            if error.errno in (*UNSUPPORTED, errno.ENOSPC):  # ENOSPC: sockets without cookies
                return True
            raise

    def items(self) -> ItemsView[K, V]:
        """The entries, read together where the kernel can."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """The values, read together with their keys where the kernel can."""
        return _Values(self)

    @overload
    def pop(self, /) -> V: ...
    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: _D) -> V | _D: ...
    def pop(self, key: Any = _NONE, /, default: Any = _NONE) -> Any:
        """Takes an entry out: its value. Without KEY the next one of a queue or stack.

        Of hash maps in one step (Linux 5.14), so that no update is lost; other types
        are looked up and then deleted.

        Raises: NotFoundError, if there is no such key (or nothing) and no DEFAULT.
        Source: ``bpf_map_lookup_and_delete_elem`` (libbpf 0.0.1); Linux 4.20.
        """
        try:
            if key is _NONE:
                self._require_keyless("pop")
                return self._entries().value.decode(self._take(None, None))
            return self.lookup_and_delete_elem(key)
        except NotFoundError:
            if default is _NONE:
                raise
            return default

    def popitem(self) -> tuple[K, V]:
        """Takes any entry out. Raises: NotFoundError: it is empty."""
        layout = self._entries()
        for raw in self._raw_keys():
            key = layout.key.decode(raw)
            try:
                return key, self._take_value(key, raw)
            except NotFoundError:  # gone meanwhile
                continue
        raise NotFoundError(f"pop an entry of map {self.name}", errno.ENOENT, "it is empty")

    def clear(self) -> None:
        """Deletes the entries that are there; what comes meanwhile may stay."""
        layout = self._entries()
        if layout.type in (MapType.QUEUE, MapType.STACK):
            for _ in range(layout.max_entries):
                try:
                    self._take(None, None)
                except NotFoundError:
                    break
            return
        sparse = layout.type in INDEXED and layout.type not in FULL
        for raw in self._indexes() if sparse else self._raw_keys():
            with suppress(NotFoundError):  # gone meanwhile
                self._delete(layout.key.decode(raw), raw)

    def setdefault(self, key: K, default: Any = None) -> V:
        """The value of KEY, or DEFAULT, which is written if there is none: in one step."""
        while True:
            try:
                return self[key]
            except NotFoundError:
                pass
            try:  # and it is looked up: what is written may come back as another thing
                self.update_elem(key, default, UpdateFlag.NOEXIST)
            except BpfError as error:
                if error.errno != errno.EEXIST:  # else another one was quicker
                    raise


class _Items(ItemsView[K, V]):
    """The entries of a map; none is looked up again after it was listed."""

    _mapping: MapMapping[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._items()


class _Values(ValuesView[V]):
    """The values of a map, as _Items."""

    _mapping: MapMapping[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._items())

    def __contains__(self, value: object) -> bool:
        return any(value == other for other in self)
