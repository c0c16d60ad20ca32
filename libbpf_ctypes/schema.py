"""Events as construct declares them, decoded at the speed of ``struct``."""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable
from functools import lru_cache
from keyword import iskeyword
from typing import Any, Generic, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import construct

from .errors import DecodeError

_T = TypeVar("_T")

#: A perf sample is padded so that its size and the 4 bytes before it fill
#: 8-byte words: up to 7 bytes of garbage follow the event.
MAX_PADDING = 7


class CString(construct.Adapter):  # type: ignore[misc]
    """A char array: text up to the first NUL, as the kernel's comm.

    Bytes that are not UTF-8 become lone surrogates ("surrogateescape"), so that
    any name is decoded and every name is built back as it was.

    Args: size: bytes of the array.
    """

    def __init__(self, size: int) -> None:
        super().__init__(construct.Bytes(size))
        self.size = size

    def _decode(self, obj: bytes, context: Any, path: Any) -> str:
        return decode_cstring(obj)

    def _encode(self, obj: str | bytes, context: Any, path: Any) -> bytes:
        raw = obj.encode("utf-8", "surrogateescape") if isinstance(obj, str) else bytes(obj)
        if len(raw) > self.size:
            raise construct.StringError(f"{len(raw)} bytes do not fit {self.size}", path)
        return raw.ljust(self.size, b"\0")


@lru_cache(maxsize=1024)
def decode_cstring(raw: bytes) -> str:
    """The text up to the first NUL; see CString. Remembers recent names: they repeat."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class _Field(NamedTuple):
    name: str | None  # None: padding
    code: str  # struct's
    convert: Callable[[Any], Any] | None


class Schema(Generic[_T]):
    """A decoder derived from a construct Struct.

    A flat Struct of integers, floats, Bytes, CString and Padding, all of one
    endianness, is decoded by ``struct`` into a named tuple; ``derived`` is
    False for any other fixed-size Struct, which construct itself parses.

    Args:
        declaration: the construct Struct; it stays the source of truth.
        name: the record type's name.

    Attributes:
        size: bytes of an event.
        record: the named tuple type; construct.Container where not derived.
        derived: whether ``struct`` decodes it.
        decode: function of a buffer of exactly ``size`` bytes; the fast path.

    Raises: DecodeError: the Struct's size is not fixed.
    """

    def __init__(self, declaration: construct.Struct, name: str = "Event") -> None:
        self.declaration = declaration
        try:
            self.size: int = declaration.sizeof()
        except construct.SizeofError as error:
            raise DecodeError(
                f"derive schema {name}", None, f"not of a fixed size ({error})"
            ) from None
        fields = _flatten(declaration)
        self.derived = fields is not None
        self.record: type[_T]
        self.decode: Callable[[Any], _T]
        if fields is None:
            self.record = cast("type[_T]", construct.Container)
            self.decode = lambda data: cast(_T, declaration.parse(bytes(data)))
        else:
            self.record, self.decode = _compile(name, fields, self.size)
        _derived.setdefault(declaration, self)

    def parse(self, sample: bytes | bytearray | memoryview) -> _T:
        """Decodes one sample as the kernel hands it out, its padding cut.

        Args: sample: ``size`` bytes, and at most 7 more.
        Returns: the record.
        Raises: DecodeError: too few bytes, or too many.
        """
        self.check_size(len(sample))
        return self.decode(bytes(sample[: self.size]))

    def check_size(self, size: int) -> None:
        """Raises DecodeError unless a sample of SIZE bytes holds just one event."""
        if self.size <= size <= self.size + MAX_PADDING:
            return
        raise DecodeError(
            "decode event",
            None,
            f"{size} bytes came, and the schema has {self.size}",
            hint="The program that sends and the schema that reads do not belong together.",
        )


#: The first Schema of each declaration: one Struct has one record type.
_derived: WeakKeyDictionary[Any, Schema[Any]] = WeakKeyDictionary()


def as_schema(schema: Any) -> Schema[Any]:
    """A Schema, derived from a construct Struct where it is none yet."""
    if isinstance(schema, Schema):
        return schema
    return _derived.get(schema) or Schema(schema)


def _flatten(declaration: construct.Struct) -> list[_Field] | None:
    """The fields in struct's codes, the byte order in the first's; None if they do not derive."""
    fields: list[_Field] = []
    orders = set()
    for sub in declaration.subcons:
        name = getattr(sub, "name", None)
        inner = sub.subcon if isinstance(sub, construct.Renamed) else sub
        if isinstance(inner, construct.FormatField):
            orders.add(inner.fmtstr[0])
            fields.append(_Field(name, inner.fmtstr[1:], None))
        elif isinstance(inner, CString):
            fields.append(_Field(name, f"{inner.size}s", decode_cstring))
        elif isinstance(inner, construct.Bytes) and isinstance(inner.length, int):
            fields.append(_Field(name, f"{inner.length}s", None))
        elif _is_padding(sub):
            fields.append(_Field(None, f"{sub.length}x", None))
        else:
            return None
        if not fields[-1].code.endswith("x") and not _is_field_name(name):
            return None
    names = [field.name for field in fields if field.name]
    if len(orders) > 1 or len(names) != len(set(names)):
        return None
    order = orders.pop() if orders else "="
    # struct's "=" is native order without alignment, as construct lays fields out.
    return [_Field(None, order, None), *fields]


def _is_padding(sub: Any) -> bool:
    """Whether it is construct's Padding of a fixed length."""
    padded = isinstance(sub, construct.Padded) and sub.subcon is construct.Pass
    return padded and isinstance(sub.length, int)


def _is_field_name(name: str | None) -> bool:
    """Whether a named tuple takes a field of this name."""
    return bool(name and name.isidentifier() and name[0] != "_") and not iskeyword(name or "")


def _compile(name: str, fields: list[_Field], size: int) -> tuple[Any, Callable[[Any], Any]]:
    order, *rest = fields
    layout = struct.Struct(order.code + "".join(field.code for field in rest))
    if layout.size != size:
        raise DecodeError(f"derive schema {name}", None, f"{layout.size} bytes, not {size}")
    named = [field for field in rest if field.name]  # without the padding
    record: Any = namedtuple(name, [field.name for field in named])  # type: ignore[misc]
    unpack, make = layout.unpack, record._make
    converters = [(at, field.convert) for at, field in enumerate(named) if field.convert]

    def decode(data: Any) -> Any:
        values: Any = unpack(data)
        if converters:
            values = list(values)
            for at, convert in converters:
                values[at] = convert(values[at])
        return make(values)

    return record, decode
