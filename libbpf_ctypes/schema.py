"""Events as construct declares them, decoded at the speed of ``struct``."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from keyword import iskeyword
from typing import Any, Callable, Generic, TypeVar, cast
from weakref import WeakValueDictionary

import construct

from .builder import build_bytes
from .codec import MAX_PADDING, Codec, compile_codec, flat_codec, plain_bytes, refuse_size
from .errors import DecodeError
from .fields import CString, decode_cstring, describe

__all__ = ["MAX_PADDING", "CString", "Schema", "as_schema", "decode_cstring"]

_T = TypeVar("_T")


class Schema(Generic[_T]):
    """A decoder derived from a construct Struct, which stays the source of truth.

    Derived are Structs of a fixed size: integers (Int24 and BytesInteger too)
    and floats of any size and byte order, Flag, Bytes, CString, PaddedString,
    Padding, Array, nested Struct, Enum, FlagsEnum, Const. The values are those
    of ``declaration.parse``, in named tuples in place of Containers and lists
    in place of ListContainers, but for one: a PaddedString is cut at its first
    NUL, and bytes that are not of its encoding become lone surrogates
    ("surrogateescape"), where construct strips NULs from the end only and
    raises. Any other declaration is left to construct's own parse, with its
    Containers: ``derived`` is False then.

    Args:
        declaration: the construct Struct.
        name: the record type's name; "SyscallEvent" is held against the C struct
            "syscall_event" by PerfBuffer. A declaration that is named itself,
            ``"syscall_event" / Struct(...)``, goes by that name there.

    Attributes:
        declaration: the construct Struct.
        name: the record type's name.
        size: bytes of an event; -1 where it varies.
        record: the named tuple type; construct.Container where not derived.
        why_not_derived: which field only construct can parse, and why; "" where derived.

    Raises: DecodeError: not a construct declaration, or NAME cannot name a type.
    """

    def __init__(self, declaration: Any, name: str = "Event") -> None:
        if not name.isidentifier() or iskeyword(name):
            raise DecodeError(f"derive schema {name!r}", None, "a type cannot have this name")
        if not isinstance(declaration, construct.Construct):
            reason = f"it is of type {type(declaration).__name__}, and no construct declaration"
            hint = 'Declare the event as Struct("pid" / Int32un, …).'
            raise DecodeError(f"derive schema {name}", None, reason, hint=hint)
        self.declaration = declaration
        self.name = name
        self.fields = describe(declaration)
        self.size: int = -1 if self.fields.size is None else self.fields.size
        self.why_not_derived = self.fields.obstacle()
        if not self.why_not_derived and self.fields.kind != "struct":
            self.why_not_derived = "the declaration is no Struct"
        self._codec: Codec | None = None
        self.record: type[_T] = cast("type[_T]", construct.Container)
        if self.derived:
            self._codec = compile_codec(self.fields, name)
            self.record = self._codec.record
            # The function itself, not a method around it: a call is dear here.
            self.decode = self._codec.decode  # type: ignore[assignment,method-assign]
        _derived.setdefault(id(declaration), self)

    @staticmethod
    def from_btf(source: Any, struct: str) -> Schema[Any]:
        """The schema of a C struct, from the types of an object file, or of the kernel.

        Char arrays become text, bools Flag, enums Enum, pointers unsigned
        integers, unions and bit-fields Bytes, gaps Padding.

        Args:
            source: a BpfObject, which need not be loaded, or a Btf (``Btf.kernel()``).
            struct: the C struct's name, ``"syscall_event"`` or ``"struct syscall_event"``.

        Returns: the Schema; its record is called "SyscallEvent".
        Raises: NotFoundError: no such struct; the error names those that are
            there. BpfError: the object has no BTF.
        """
        from .declare import declare, type_name  # libbpf comes in only with an object

        struct = struct[len("struct ") :] if struct.startswith("struct ") else struct
        return Schema(declare(source, struct).construct, type_name(struct))

    @property
    def derived(self) -> bool:
        """Whether ``struct`` decodes it, and not construct."""
        return not self.why_not_derived

    def decode(self, data: bytes | bytearray | memoryview) -> _T:
        """Decodes one event.

        Args: data: bytes of one event; up to 7 more, a perf sample's padding,
            are ignored. Without them it is fastest; decode_many() takes many
            samples at the same speed.
        Returns: the record.
        Raises: DecodeError: too few bytes or too many, with both sizes; a
            constant that differs; what construct raised where it parses.
        """
        data = bytes(plain_bytes(data))
        if self.size >= 0:
            self.check_size(len(data))
            return self._parse(io.BytesIO(data[: self.size]))
        stream = io.BytesIO(data)
        record = self._parse(stream)
        if len(data) - stream.tell() > MAX_PADDING:
            raise refuse_size(self.name, len(data), stream.tell())
        return record

    def _parse(self, stream: io.BytesIO) -> _T:
        """construct's parse of what is next in the stream."""
        left = stream.getbuffer().nbytes - stream.tell()
        try:
            return cast(_T, self.declaration.parse_stream(stream))
        except Exception as error:  # a user's functions may raise anything
            why = str(error).replace("\n", " ") or type(error).__name__
            reason = f"construct cannot parse these {left} bytes ({why})"
            raise DecodeError(f"decode event {self.name}", None, reason) from error

    def flat(self) -> Schema[Any]:
        """The same events as plain tuples of the values as they lie in memory.

        In half the time: text is bytes with all its NULs, an Enum or FlagsEnum its
        integer, a nested Struct and an Array are no tuples of their own, constants
        are not compared, integers that ``struct`` does not know are bytes.

        Raises: DecodeError: only construct can parse them.
        """
        if not self.derived:
            raise DecodeError(f"derive flat schema {self.name}", None, self.why_not_derived)
        flat: Schema[Any] = copy(self)
        flat._codec = flat_codec(self.fields, self.name)
        flat.record = flat._codec.record
        flat.decode = flat._codec.decode  # type: ignore[assignment,method-assign]
        return flat

    def reader(self) -> Callable[[Any], _T]:
        """The decoder for a caller that has checked the length: a buffer of ``size`` bytes."""
        return self.decode if self._codec is None else self._codec.read

    def spaced(self, before: int, after: int) -> Callable[[Any], Iterator[_T]]:
        """A decode_many() for bytes with BEFORE bytes in front of each event and AFTER behind it.

        Of a derived schema; the length is not checked.
        """
        assert self._codec is not None
        return self._codec.spaced(before, after)

    def decode_many(self, data: Any) -> Iterator[_T]:
        """Decodes many events.

        Args: data: bytes, or another buffer, of events without anything
            between them; or an iterable of perf samples, as PerfBuffer without
            a schema gives them, each with its padding.
        Returns: an iterator of the records.
        Raises: DecodeError: the length is no multiple of ``size`` (at once,
            before any record); else as decode(), when the event's turn comes.
        """
        if isinstance(data, str):
            raise DecodeError(f"decode events {self.name}", None, "text came, not bytes")
        try:
            data = plain_bytes(data)
        except DecodeError:  # no buffer, but an iterable of them
            samples = cast("Iterable[Any]", data)
            return (
                map(self.decode, samples) if self._codec is None else self._codec.samples(samples)
            )
        if self.size < 0:
            return self._parse_all(io.BytesIO(data))
        came, size = memoryview(data).nbytes, self.size
        if came % size if size else came:
            reason = f"{came} bytes came, which is no multiple of the schema's {size}"
            raise DecodeError(f"decode events {self.name}", None, reason)
        if not came:
            return iter(())
        if self._codec is not None:
            return self._codec.many(data)
        whole = bytes(data)
        return (self.decode(whole[at : at + size]) for at in range(0, came, size))

    def _parse_all(self, stream: io.BytesIO) -> Iterator[_T]:
        end = stream.getbuffer().nbytes
        while stream.tell() < end:
            start = stream.tell()
            record = self._parse(stream)
            if stream.tell() == start:
                reason = "an event took no bytes, and some are left"
                raise DecodeError(f"decode events {self.name}", None, reason)
            yield record

    def build(self, record: Any) -> bytes:
        """The bytes of an event: the reverse of decode().

        Args: record: a record, or a mapping of the fields' names. Constants may
            be missing.
        Returns: ``size`` bytes; padding is as the declaration says, zeros.
        Raises: DecodeError: a field is missing, or its value does not fit.
        """
        if self.derived:
            return build_bytes(self.fields, record, self.name)
        fields = record if isinstance(record, Mapping) else getattr(record, "_asdict", dict)()
        try:
            return bytes(self.declaration.build(fields))
        except Exception as error:  # a user's functions may raise anything
            raise DecodeError(f"build {self.name}", None, f"construct cannot ({error})") from error

    def check_size(self, size: int) -> None:
        """Raises DecodeError unless a sample of SIZE bytes holds just one event."""
        if self.size >= 0 and not self.size <= size <= self.size + MAX_PADDING:
            raise refuse_size(self.name, size, self.size)

    def __repr__(self) -> str:
        size = "varying size" if self.size < 0 else f"{self.size} bytes"
        return f"<Schema {self.name}, {size}{'' if self.derived else ', parsed by construct'}>"


#: The first Schema of each declaration, by its id: one Struct has one record type.
#: A Schema holds its declaration, so that an id in here is nobody else's.
_derived: WeakValueDictionary[int, Schema[Any]] = WeakValueDictionary()


def as_schema(schema: Any) -> Schema[Any]:
    """A Schema, derived from a construct Struct where it is none yet."""
    if isinstance(schema, Schema):
        return schema
    return _derived.get(id(schema)) or Schema(schema)
