"""A Parquet file's footer, made of those that pyarrow made of its parts.

pyarrow would keep and write a row group's metadata as objects of some 2 kB for each column, again
for each row group that follows. Here they are the bytes that they are in the file.

A footer is a struct FileMetaData in Thrift's compact protocol: of its fields, 3 is the number of
rows, and 4 the list of row groups. What it says of them is not looked into.
Source: parquet.thrift of apache/parquet-format; thrift-compact-protocol.md of apache/thrift.
"""

from __future__ import annotations

import struct

#: What a file ends with: the length of the footer before it, and the magic number.
TRAILER = struct.Struct("<I4s")
MAGIC = b"PAR1"

_ROWS, _ROW_GROUPS = 3, 4

#: The protocol's types of a value.
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE = 1, 2, 3, (4, 5, 6), 7
_BINARY, _LISTS, _STRUCT = 8, (9, 10), 12


class Footer:
    """A file's footer: of row groups that are added, and of a file that has none."""

    def __init__(self) -> None:
        self._groups = bytearray()
        self._count = self._rows = 0

    def add(self, file: bytes) -> None:
        """Adds a row group. Args: file: that pyarrow wrote with nothing else in it, or its end."""
        data = _footer_of(file)
        fields = _fields(data, 0)[0]
        rows, _ = _varint(data, fields[_ROWS][0])
        start, end = fields[_ROW_GROUPS]
        count, kind, start = _list(data, start)
        if (count, kind) != (1, _STRUCT):
            raise ValueError(f"there are {count} row groups")
        self._rows += rows >> 1  # of an integer with its sign
        self._count += 1
        self._groups += data[start:end]

    def make(self, file: bytes) -> bytes:
        """The footer, and what is behind it. Args: file: without rows; else it is as that one."""
        data = _footer_of(file)
        fields = _fields(data, 0)[0]
        (rows, behind_rows), (groups, behind_groups) = fields[_ROWS], fields[_ROW_GROUPS]
        few = self._count < 15
        kind = bytes([(self._count if few else 15) << 4 | _STRUCT])
        parts: list[bytes | bytearray] = [
            data[:rows],
            _as_varint(self._rows << 1),
            data[behind_rows:groups],
            kind + (b"" if few else _as_varint(self._count)),
            self._groups,
            data[behind_groups:],
        ]
        return b"".join([*parts, TRAILER.pack(sum(map(len, parts)), MAGIC)])


def _footer_of(file: bytes) -> bytes:
    length, _magic = TRAILER.unpack(file[-TRAILER.size :])
    return file[-TRAILER.size - length : -TRAILER.size]


def _fields(data: bytes, at: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Where the value of each field of a struct begins and ends; where the struct ends."""
    found = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if not step:
            step, at = _varint(data, at)
            number, step = 0, step >> 1
        number += step
        end = _skip(data, at, kind)
        found[number] = at, end
        at = end
    return found, at + 1


def _skip(data: bytes, at: int, kind: int) -> int:
    """Where a value of a field ends."""
    if kind in (_TRUE, _FALSE):  # as the kind says
        return at
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in _LISTS:
        count, of, at = _list(data, at)
        for _ in range(count):
            at = at + 1 if of in (_TRUE, _FALSE) else _skip(data, at, of)
        return at
    if kind == _STRUCT:
        return _fields(data, at)[1]
    sizes = {_BYTE: 1, _DOUBLE: 8}
    if kind not in sizes:
        raise ValueError(f"type {kind} is in no footer")
    return at + sizes[kind]


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """How many values a list has, of what type, and where they begin."""
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    return count, kind, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, seven bits in a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
