"""The entries of a map as bytes: single calls, and walks that always end."""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Iterator
from os import getpid
from typing import Any, NamedTuple, NoReturn

from . import kernel
from ._ffi import lib
from ._types import struct_class
from .elements import ElementType
from .enums import MapType
from .errors import ENOTSUPP, BpfError, NotFoundError
from .map_types import BATCHED, FULL, INDEXED, KEYLESS, NO_ENTRIES, STORAGES

#: What the kernel says of a call that a type of map does not have.
UNSUPPORTED = (errno.EOPNOTSUPP, ENOTSUPP, errno.EINVAL)
#: Bytes that one batch may take, and entries.
_BATCH_BYTES, MAX_BATCH = 1 << 20, 4096


class Functions:
    """libbpf's functions for entries, called as they are

    ``lib`` looks for handles among the arguments and makes errors of numbers, which takes
    longer than the call.
    """

    def __getattr__(self, name: str) -> Any:
        function = getattr(lib, f"bpf_map_{name}")
        made = ctypes.CFUNCTYPE(ctypes.c_int, *function.argtypes)
        plain = made(ctypes.cast(function, ctypes.c_void_p).value or 0)
        setattr(self, name, plain)
        return plain


CALLS = Functions()


class Layout(NamedTuple):
    """What a map's entries are made of.

    Attributes:
        type: of the map.
        max_entries: of the map.
        key: the type of keys.
        value: the type of values, of all CPUs in a per-CPU map.
        one: the type of one CPU's value.
        buffer: the ctypes array for a value.
        calls: libbpf's functions.
    """

    type: MapType
    max_entries: int
    key: ElementType
    value: ElementType
    one: ElementType
    buffer: Any
    calls: Functions


class Entries:
    """Base of Map: the calls that read and write entries, each with memory of its own."""

    _parent: Any  # a Handle
    _layout: Layout | None = None
    _fd = -1  # with the layout

    @property
    def name(self) -> str:
        """The map's name."""
        raise NotImplementedError

    @property
    def fd(self) -> int:
        """The map's file descriptor. Raises: BpfError."""
        raise NotImplementedError

    def _make_layout(self) -> Layout:
        raise NotImplementedError

    def _entries(self) -> Layout:
        """The layout, of a map that is in the kernel and open. Raises: BpfError."""
        return self._layout or self._make_layout()

    def _invoke(self, function: Any, *arguments: Any) -> int:
        """Calls one of Functions with the descriptor, which nobody closes meanwhile.

        Returns: 0, or a negative error number. Raises: ClosedError.
        """
        parent = self._parent
        if parent._owner != getpid():  # before the lock: in a child another thread's stays locked
            _ = parent._as_parameter_
        with parent._lock:
            if parent._pointer is None:
                _ = parent._as_parameter_
            return int(function(self._fd, *arguments))

    def _call(self, what: str, key: Any, function: Any, *arguments: Any) -> None:
        """The same, and an error is raised.

        Args: what, key: what is done with which entry, for the error.
        Raises: NotFoundError: there is no such entry; BpfError.
        """
        code = self._invoke(function, *arguments)
        if code < 0:
            self._fail(what, key, -code)

    def _fail(self, what: str, key: Any, code: int) -> NoReturn:
        """The error of a call, in words."""
        entry = "" if key is None else f" {key!r:.80}"
        operation = f"{what}{entry} in map {self.name}"
        kind = self._entries().type
        if kind == MapType.SOCKMAP and code == errno.EINVAL and "delete" in what:
            code = errno.ENOENT  # as the other types say it
        if code == errno.ENOENT:
            empty = key is None
            reason = "it is empty" if empty else "there is no such key"
            raise NotFoundError(operation, code, reason)
        reason, hint = _explanation(code, kind, self._entries().max_entries, what)
        code = errno.EOPNOTSUPP if code == ENOTSUPP else code
        raise BpfError(operation, code, reason, hint=hint)

    def _lookup(self, key: Any, raw: bytes | None, flags: int = 0, what: str = "look up") -> bytes:
        layout = self._entries()
        buffer = layout.buffer()
        if flags:
            code = self._invoke(layout.calls.lookup_elem_flags, raw, buffer, flags)
        else:
            code = self._invoke(layout.calls.lookup_elem, raw, buffer)
        if code < 0:
            self._fail(what, key, -code)
        found: bytes = buffer.raw
        return found

    def _take(self, key: Any, raw: bytes | None, flags: int = 0) -> bytes:
        """Looks up and deletes; in two calls where the kernel has no single one."""
        what = "pop" if key is None else "look up and delete"
        buffer = self._entries().buffer()
        calls = self._entries().calls
        try:
            if flags:
                self._call(what, key, calls.lookup_and_delete_elem_flags, raw, buffer, flags)
            else:
                self._call(what, key, calls.lookup_and_delete_elem, raw, buffer)
        except BpfError as error:
            if error.errno not in UNSUPPORTED or raw is None:
                raise
            found = self._lookup(key, raw, flags)
            self._delete(key, raw)
            return found
        taken: bytes = buffer.raw
        return taken

    def _update(
        self, key: Any, raw: bytes | None, value: bytes, flags: int, what: str = "write"
    ) -> None:
        self._call(what, key, self._entries().calls.update_elem, raw, value, flags)

    def _delete(self, key: Any, raw: bytes) -> None:
        self._call("delete", key, self._entries().calls.delete_elem, raw)

    def _walk(self) -> Iterator[bytes]:
        """The keys that are there, each once; it ends, whatever other threads do.

        The kernel begins anew if a key is gone when it is asked for the next one: what came
        already is left out then, and so many steps are enough to see every entry twice.
        """
        layout = self._entries()
        seen: dict[bytes, None] = {}
        key: bytes | None = None
        for _ in range(2 * layout.max_entries + 16):
            following = ctypes.create_string_buffer(layout.key.size)
            try:
                self._call("list the keys", None, layout.calls.get_next_key, key, following)
            except NotFoundError:
                break
            key = following.raw
            seen[key] = None
        return iter(seen)

    def _indexes(self) -> Iterator[bytes]:
        """The keys of an array, whatever they are typed as."""
        for index in range(self._entries().max_entries):
            yield index.to_bytes(4, sys.byteorder)

    def _raw_keys(self) -> Iterator[bytes]:
        """The keys of the entries that are there."""
        layout = self._entries()
        if layout.type in FULL:
            yield from self._indexes()
        elif layout.type in BATCHED or layout.type in INDEXED:
            yield from (key for key, _ in self._raw_items())
        else:
            self._require_keys("list the keys")
            yield from self._walk()

    def _raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        """The entries that are there, read together where the kernel can."""
        layout = self._entries()
        self._require_keys("list the entries")
        if layout.type in BATCHED:
            batches = self._batches("lookup_batch")
            first = next(batches, None)
            if first is not None:
                yield from first
                for batch in batches:
                    yield from batch
                return
        keys = self._indexes() if layout.type in INDEXED else self._walk()
        for key in keys:
            try:
                value = self._lookup(layout.key.decode(key), key)
            except NotFoundError:  # an index without value, or it is gone
                continue
            yield key, value

    def _require_keys(self, what: str) -> None:
        kind = self._entries().type
        if kind in KEYLESS or kind in NO_ENTRIES or kind in STORAGES:
            self._fail(what, None, errno.EOPNOTSUPP)

    def _batches(
        self, call: str, size: int = 0, flags: int = 0
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """All entries by batches: each list holds one; nothing comes if the kernel cannot.

        Args: call: of Functions; size: entries of a batch, 0: as many as is good.
        """
        layout = self._entries()
        key_size, value_size = layout.key.size, layout.value.size
        least = 1 if layout.type in INDEXED else 16  # of a hash it takes whole buckets
        count = size or max(min(_BATCH_BYTES // (key_size + value_size), MAX_BATCH), least)
        count = max(min(count, layout.max_entries), 1)
        function = getattr(layout.calls, call)
        limit = 2 * layout.max_entries + 16
        opts = struct_class("bpf_map_batch_opts")(elem_flags=flags) if flags else None
        place, last = ctypes.create_string_buffer(max(key_size, 8)), None
        while True:
            keys = ctypes.create_string_buffer(count * key_size)
            values = ctypes.create_string_buffer(count * value_size)
            came = ctypes.c_uint32(count)
            try:
                found = (last, place, keys, values, ctypes.byref(came), opts)
                self._call("read a batch", None, function, *found)
            except NotFoundError:  # the end, with the last entries
                yield _pairs(keys.raw, key_size, values.raw, value_size, came.value)
                return
            except BpfError as error:
                if error.errno == errno.ENOSPC and count < limit:
                    count = min(2 * count, limit)  # one bucket of the hash holds more
                    continue
                if error.errno in UNSUPPORTED and last is None:
                    return
                raise
            yield _pairs(keys.raw, key_size, values.raw, value_size, came.value)
            last, place = place, ctypes.create_string_buffer(len(place))


def _pairs(
    keys: bytes, key_size: int, values: bytes, value_size: int, count: int
) -> list[tuple[bytes, bytes]]:
    """What a batch brought, entry by entry."""
    return [
        (
            keys[at * key_size : (at + 1) * key_size],
            values[at * value_size : (at + 1) * value_size],
        )
        for at in range(count)
    ]


def _explanation(code: int, kind: MapType, entries: int, what: str) -> tuple[str, str]:
    """Reason and hint of an error number; "": as the system calls it."""
    if code in (errno.EOPNOTSUPP, ENOTSUPP):
        reason = f"a map of type {kind.name} cannot do that, or not in this kernel"
        if kind in NO_ENTRIES:
            return f"a map of type {kind.name} has no entries", NO_ENTRIES[kind]
        if kind in KEYLESS:
            can = "push, and 'value in map'" if kind == MapType.BLOOM_FILTER else "push, pop, peek"
            return f"a map of type {kind.name} has no keys", f"It can {can}."
        if kind in STORAGES:
            return reason, "Its entries are found by file descriptor only."
        if kind in INDEXED and "look up" in what:
            return f"the kernel does not tell what is in a map of type {kind.name}", ""
        return reason, ""
    if code == errno.E2BIG:
        if kind in INDEXED:
            return f"the index is out of range (0 to {entries - 1})", ""
        return f"it is full: {entries} entries", "Set max_entries before it is created."
    if code == errno.EEXIST:
        return "the key is there already", ""
    if code == errno.EINVAL and what == "delete" and kind in FULL:
        return "an array's entries cannot be deleted", "Write zeros instead."
    if code == errno.ENOSPC and kind in (MapType.SOCKMAP, MapType.SOCKHASH):
        hint = "From one with values of 8 bytes sockets are read as cookies."
        return "the kernel does not tell which sockets are in it", hint
    if code in (errno.EPERM, errno.EACCES):
        frozen = "It is frozen, or read-only or write-only for this process."
        return "", kernel.privilege_hint() if kernel.missing_capabilities() else frozen
    return "", ""
