"""Many entries of a map with few calls of the kernel, in Python's types."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._types import struct_class
from .errors import BpfError, NotFoundError
from .map_calls import Calls, K, V
from .map_entries import CALLS, MAX_BATCH, UNSUPPORTED
from .map_types import OF_MAPS


class Batches(Calls[K, V]):
    """Base of Map: its batches. Maps and kernels without them do it one by one."""

    def lookup_batch(self, size: int = 0, flags: int = 0) -> Iterator[list[tuple[K, V]]]:
        """All entries, in lists of what one call of the kernel brings.

        Args:
            size: entries of a list; 0: as many as is good. A hash gives whole buckets:
                more at once where one holds more.
            flags: UpdateFlag.LOCK.

        Returns: an iterator of lists of (key, value), as items() otherwise.
        Raises: BpfError.
        Source: ``bpf_map_lookup_batch`` (libbpf 0.0.7); Linux 5.6, per-CPU arrays 5.13. Maps
            without it are read one by one.
        """
        return self._typed_batches("lookup_batch", size, flags)

    def lookup_and_delete_batch(self, size: int = 0, flags: int = 0) -> Iterator[list[tuple[K, V]]]:
        """All entries of a hash map, each deleted when it is read: no update is lost.

        Args, Returns: as of lookup_batch(). What was not asked for any more stays.
        Raises: BpfError. Source: ``bpf_map_lookup_and_delete_batch`` (libbpf 0.0.7); Linux 5.6.
            Other types are read and deleted one by one.
        """
        return self._typed_batches("lookup_and_delete_batch", size, flags)

    def _typed_batches(self, call: str, size: int, flags: int) -> Iterator[list[Any]]:
        layout = self._entries()
        self._require_keys("read a batch")
        flags = self._flags("read a batch", flags)
        if size < 0:
            raise BpfError(f"read map {self.name}", errno.EINVAL, f"{size} is no size of a batch")
        take = call == "lookup_and_delete_batch"
        came = False
        if not (take and layout.type in OF_MAPS):  # an inner map is opened before it is deleted
            for found in self._batches(call, size, flags):
                came = True
                if batch := list(self._decoded(found)):
                    yield batch
        if came:
            return
        batch = []
        for raw in self._raw_keys():
            key = layout.key.decode(raw)
            try:
                value = self._take_value(key, raw) if take else self.lookup_elem(key, flags)
            except NotFoundError:
                continue
            batch.append((key, value))
            if len(batch) == (size or MAX_BATCH):
                yield batch
                batch = []
        if batch:
            yield batch

    def update_batch(self, entries: Mapping[K, V] | Iterable[tuple[K, V]], flags: int = 0) -> int:
        """Writes many entries, with few calls of the kernel.

        Args:
            entries: a mapping, or pairs of key and value. If one does not fit, none is written.
            flags: an UpdateFlag; Linux takes LOCK alone here, with another one each entry
                is written by itself.

        Returns: how many were written.
        Raises: BpfError: the reason says how many were written before.
        Source: ``bpf_map_update_batch`` (libbpf 0.0.7); Linux 5.6. Maps without it are
            written one by one.
        """
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        raw = [(self._key("write", k), self._value("write", v)) for k, v in pairs]
        flags = self._flags("write a batch", flags)
        return self._write_batch("write a batch", raw, "update_batch", flags)

    def delete_batch(self, keys: Iterable[K]) -> int:
        """Deletes many entries, with few calls of the kernel.

        Args: keys: those that are not there are left out.
        Returns: how many were deleted.
        Raises: BpfError: the reason says how many were deleted before.
        Source: ``bpf_map_delete_batch`` (libbpf 0.0.7); Linux 5.6. Maps without it: one by one.
        """
        raw = [(self._key("delete", key), b"") for key in keys]
        return self._write_batch("delete a batch", raw, "delete_batch", 0)

    def _write_batch(
        self, what: str, pairs: list[tuple[bytes, bytes]], call: str, flags: int
    ) -> int:
        """Writes, or deletes where the function does; the kernel stops at the first error."""
        write, function = call == "update_batch", getattr(CALLS, call)
        opts = struct_class("bpf_map_batch_opts")(elem_flags=flags) if flags else None
        at = done = 0
        single, decode = False, self._entries().key.decode
        while at < len(pairs):
            part = pairs[at : at + (1 if single else MAX_BATCH)]
            count = ctypes.c_uint32(len(part))
            arguments: list[Any] = [b"".join(key for key, _ in part)]
            arguments += [b"".join(value for _, value in part)] if write else []
            try:
                if not single:
                    self._call(what, None, function, *arguments, ctypes.byref(count), opts)
                elif write:
                    self._update(decode(part[0][0]), *part[0], flags)
                else:
                    self._delete(decode(part[0][0]), part[0][0])
            except BpfError as error:
                if single or count.value >= len(part):  # as it was: the kernel did not begin
                    count.value = 0
                if isinstance(error, NotFoundError) and not write:
                    at += 1  # the one that is gone
                elif error.errno in UNSUPPORTED and not single:
                    single = True
                else:
                    error.strerror = f"{error.strerror} ({done + count.value} of {len(pairs)} done)"
                    raise
            at, done = at + count.value, done + count.value
        return done
