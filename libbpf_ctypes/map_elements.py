"""Keys and values that only some types of maps have."""

from __future__ import annotations

import struct
import sys
from operator import index
from typing import Any, Callable

from .elements import BUFFERS, ElementType, exact, integer

_NATIVE: Any = sys.byteorder
_U32, _S32 = integer(4), integer(4, True)


def prefix(size: int, inner: ElementType | None = None, network: Any = None) -> ElementType:
    """The key of an LPM trie: a prefix length and an address.

    Taken are ``(length, bytes)``, networks and addresses of ipaddress, the SIZE bytes,
    and what INNER takes. It comes back as INNER gives it, as a NETWORK, or as
    ``(length, bytes)``.
    """
    room = size - 4
    if room < 1:
        raise ValueError(f"the key of an LPM trie has at least 5 bytes, not {size}")

    def encode(value: Any) -> bytes:
        if isinstance(value, BUFFERS):
            return exact(value, size)
        if network is not None and isinstance(value, str):
            value = network(value)
        length, packed = _prefix_parts(value)
        if packed is None:
            if inner is None:
                raise TypeError(f"{value!r} is no network and no (length, bytes)")
            return inner.encode(value)
        if len(packed) != room:
            raise ValueError(f"its {len(packed)} bytes of address do not fit the trie's {room}")
        if not 0 <= length <= 8 * room:
            raise OverflowError(f"prefix length {length} is out of range (0 to {8 * room})")
        return struct.pack("=I", length) + packed

    def decode(raw: bytes) -> Any:
        if inner is not None:
            return inner.decode(raw)
        length = int.from_bytes(raw[:4], _NATIVE)
        return (length, raw[4:]) if network is None else network((raw[4:], length), strict=False)

    name = inner.name if inner else network.__name__ if network else "(prefix length, address)"
    return ElementType(name, size, encode, decode)


def _prefix_parts(value: Any) -> tuple[int, bytes | None]:
    """Length and address of a key; None where it says neither."""
    first = getattr(value, "network_address", None)
    if first is not None:
        return value.prefixlen, first.packed
    packed = getattr(value, "packed", None)
    if packed is not None:
        return value.max_prefixlen, packed
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], BUFFERS):
        return index(value[0]), bytes(value[1])
    return 0, None


def descriptor(size: int = 4, decode: Callable[[bytes], Any] | None = None) -> ElementType:
    """A file descriptor: an int, or what has ``fd`` or ``fileno()``, as Map, Program, files.

    What comes back is no descriptor but an id, or what DECODE makes of it.
    """
    number = integer(size)

    def encode(value: Any) -> bytes:
        if isinstance(value, BUFFERS):
            return exact(value, size)
        return number.encode(file_descriptor(value))

    return ElementType("file descriptor", size, encode, decode or number.decode)


def file_descriptor(value: Any) -> int:
    """The descriptor of an int, or of what has ``fd`` or ``fileno()``. Raises: TypeError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    fd = getattr(value, "fd", None)
    if isinstance(fd, int):
        return fd
    if hasattr(value, "fileno"):
        return int(value.fileno())
    raise TypeError(f"{value!r} has no file descriptor")


def with_program(size: int, what: str) -> ElementType:
    """Of device and CPU maps: a number, and behind it the program to run, if SIZE is 8.

    Taken are ``number`` and ``(number, program)``; a map without room for a program
    gives back the number, the others ``(number, id of the program)``.
    """

    def encode(value: Any) -> bytes:
        if isinstance(value, BUFFERS):
            return exact(value, size)
        number, *program = value if isinstance(value, tuple) else (value,)
        parts = [_U32.encode(number)]
        if size == 8:  # no program is -1: 0 is a descriptor
            parts.append(_S32.encode(file_descriptor(program[0]) if program else -1))
        elif program:
            raise ValueError(f"the map's values have {size} bytes: no room for a program")
        return exact(b"".join(parts), size)

    def decode(raw: bytes) -> Any:
        return _U32.decode(raw) if size == 4 else struct.unpack("=2I", raw)

    return ElementType(what, size, encode, decode)


def stack(size: int) -> ElementType:
    """A stack trace: a tuple of addresses, the innermost first, up to the first 0."""
    words = struct.Struct(f"={size // 8}Q")

    def decode(raw: bytes) -> tuple[int, ...]:
        found = words.unpack(raw)
        return found[: found.index(0)] if 0 in found else found

    return ElementType("stack trace", size, lambda value: exact(value, size), decode)


def per_cpu(one: ElementType, cpus: int) -> ElementType:
    """A value for each possible CPU, each beginning at a multiple of 8 bytes.

    A list holds one for each CPU, in order of their numbers; anything else is a value
    for all of them.
    """
    stride = (one.size + 7) & ~7
    padding = bytes(stride - one.size)
    places = [(at, at + one.size) for at in range(0, stride * cpus, stride)]

    def encode(value: Any) -> bytes:
        if not isinstance(value, list):
            return (one.encode(value) + padding) * cpus
        if len(value) != cpus:
            raise ValueError(f"{len(value)} values came for {cpus} possible CPUs")
        return b"".join(one.encode(item) + padding for item in value)

    def decode(raw: bytes) -> list[Any]:
        return [one.decode(raw[start:end]) for start, end in places]

    return ElementType(f"{one.name} per CPU", stride * cpus, encode, decode)
