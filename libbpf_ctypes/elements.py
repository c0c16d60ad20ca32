"""Keys and values of maps: their bytes, and what Python has for them.

An ElementType never changes a value so that it fits: what is out of range, too long
or too short raises OverflowError, ValueError or TypeError, which the map puts in words.
The bytes themselves are always taken, if there are just as many as the map's.
"""

from __future__ import annotations

import struct
import sys
from operator import index
from typing import Any, Callable, NamedTuple

_NATIVE: Any = sys.byteorder
_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}
_CODES |= {(size, True): code.lower() for (size, _), code in _CODES.items()}
BUFFERS = (bytes, bytearray, memoryview)


class ElementType(NamedTuple):
    """How one element becomes bytes and comes back.

    Attributes:
        name: what an error calls it: "u32".
        size: bytes.
        encode: function of a Python value: SIZE bytes.
        decode: function of SIZE bytes: the Python value.
        number: whether values are numbers, which can be added up.
        annotation: the Python type, as source; "Any": several.
    """

    name: str
    size: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    number: bool = False
    annotation: str = "Any"


def exact(value: Any, size: int) -> bytes:
    """The bytes of a buffer that must have this size. Raises: ValueError, TypeError."""
    raw = value if type(value) is bytes else memoryview(value).tobytes()
    if len(raw) != size:
        raise ValueError(f"{len(raw)} bytes do not fit its {size}")
    return raw


def raw_bytes(size: int, why: str = "") -> ElementType:
    """Bytes as they are. WHY: why they are no more than that, for the error."""

    def encode(value: Any) -> bytes:
        if not isinstance(value, BUFFERS):
            kind = type(value).__name__
            raise TypeError(f"it takes {size} bytes, not {kind}{why}; typed() gives it a type")
        return exact(value, size)

    return ElementType("bytes", size, encode, bytes, annotation="bytes")


def integer(size: int, signed: bool = False, order: Any = _NATIVE) -> ElementType:
    """An integer of SIZE bytes."""
    bits = 8 * size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    name = f"{'s' if signed else 'u'}{bits}" if order == _NATIVE else f"{order}-endian u{bits}"

    def encode(value: Any) -> bytes:
        try:
            return index(value).to_bytes(size, order, signed=signed)
        except OverflowError:
            raise OverflowError(f"{index(value)} is out of range ({low} to {high})") from None
        except TypeError:
            return _bytes_for(value, size, "an integer")

    def decode(raw: bytes) -> int:
        return int.from_bytes(raw, order, signed=signed)

    code = _CODES.get((size, signed))
    if code is None or order != _NATIVE:
        return ElementType(name, size, encode, decode, True, "int")
    native = struct.Struct("=" + code)
    pack, unpack = native.pack, native.unpack

    def fast_encode(value: Any) -> bytes:
        try:
            return pack(value)
        except struct.error:
            return encode(value)

    return ElementType(name, size, fast_encode, lambda raw: unpack(raw)[0], True, "int")


def _bytes_for(value: Any, size: int, what: str) -> bytes:
    """A value that is not of its type: the bytes themselves. Raises: ValueError, TypeError."""
    if isinstance(value, BUFFERS):
        return exact(value, size)
    raise TypeError(f"{value!r} is not {what}")


def boolean(size: int = 1) -> ElementType:
    """A _Bool: any other byte than 0 is true."""

    def encode(value: Any) -> bytes:
        if value in (0, 1) and not isinstance(value, BUFFERS):
            return int(value).to_bytes(size, _NATIVE)
        return _bytes_for(value, size, "true or false")

    return ElementType("bool", size, encode, lambda raw: raw != bytes(size), annotation="bool")


def floating(size: int) -> ElementType:
    """A float (4 bytes) or double (8)."""
    codes = {4: "=f", 8: "=d"}
    if size not in codes:
        raise ValueError(f"a float has 4 or 8 bytes, not {size}")
    native = struct.Struct(codes[size])

    def encode(value: Any) -> bytes:
        try:
            return native.pack(value)
        except struct.error:
            return _bytes_for(value, size, "a number")

    return ElementType(
        f"f{8 * size}", size, encode, lambda raw: native.unpack(raw)[0], True, "float"
    )


def text(size: int, *, whole: bool) -> ElementType:
    """A char array as str; bytes that are no UTF-8 become lone surrogates.

    Args: whole: of keys: what lies behind the first NUL belongs to it (without the NULs
        at the end), so that each key is found again; else it is garbage, and cut off.
    """

    def encode(value: Any) -> bytes:
        if not isinstance(value, str):
            return _bytes_for(value, size, "a text")
        raw = value.encode("utf-8", "surrogateescape")
        if len(raw) > size:
            raise ValueError(f"{len(raw)} bytes of text do not fit its {size}")
        return raw.ljust(size, b"\0")

    def decode(raw: bytes) -> str:
        raw = raw.rstrip(b"\0") if whole else raw.partition(b"\0")[0]
        return raw.decode("utf-8", "surrogateescape")

    return ElementType(f"char[{size}]", size, encode, decode, annotation="str")


def enumeration(kind: Any, size: int, signed: bool) -> ElementType:
    """Members of an Enum of integers; a number without a name comes as the number."""
    number = integer(size, signed)

    def encode(value: Any) -> bytes:
        return number.encode(value.value if isinstance(value, kind) else value)

    def decode(raw: bytes) -> Any:
        value = number.decode(raw)
        try:
            return kind(value)
        except ValueError:
            return value

    return ElementType(kind.__name__, size, encode, decode)


def address(kind: Any, size: int) -> ElementType:
    """An ipaddress address in network byte order. KIND: IPv4Address or IPv6Address."""

    def encode(value: Any) -> bytes:
        if isinstance(value, BUFFERS):
            return exact(value, size)
        if not isinstance(value, (str, kind)):  # an int may be in any byte order
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return exact(kind(value).packed, size)

    return ElementType(kind.__name__, size, encode, kind)


def record(schema: Any, size: int) -> ElementType:
    """A C struct, by a Schema. Raises: ValueError: it has another size."""
    if schema.size not in (size, -1):
        raise ValueError(f"the schema has {schema.size} bytes, and the map's have {size}")

    def encode(value: Any) -> bytes:
        # A buffer, not a record: a record that is a tuple has no buffer.
        return exact(value if isinstance(value, BUFFERS) else schema.build(value), size)

    decode = schema.decode if schema.size < 0 else schema.reader()
    return ElementType(f"struct {schema.name}", size, encode, decode)


def hashable(kind: ElementType) -> ElementType:
    """The same for keys, which a dict takes: arrays in records come as tuples, not lists."""
    decode = kind.decode
    return kind._replace(decode=lambda raw: _frozen(decode(raw)))


def _frozen(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    parts = map(_frozen, value)
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def array(schema: Any, size: int) -> ElementType:
    """An array, by a Schema of one field that is it: a tuple."""

    def encode(value: Any) -> bytes:
        if isinstance(value, BUFFERS):
            return exact(value, size)
        return exact(schema.build({"items": value}), size)

    read = schema.reader()
    return ElementType(f"array of {size} bytes", size, encode, lambda raw: tuple(read(raw).items))
