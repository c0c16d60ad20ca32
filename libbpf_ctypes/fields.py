"""What a construct Struct says of its fields, as a tree that decoders and checks are made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import Any, Callable

import construct
from construct import core

#: Bytes up to which a text is remembered once decoded (paths do not repeat), and how many.
REMEMBERED = 64
_MAX_TEXTS = 4096

#: construct's names of the encodings in which a NUL byte is a NUL character.
_BYTE_ENCODINGS = {"ascii": "ascii", "utf8": "utf-8", "utf_8": "utf-8", "u8": "utf-8"}

#: A perf sample holds less than 64 KiB: a longer list of values is no event.
_MAX_VALUES = 1 << 16

#: More than perf_event_output() can send.
_MAX_BYTES = 1 << 20

#: Python's compiler takes some 90 parentheses in each other.
_MAX_DEPTH = 32

_NATIVE = "<" if sys.byteorder == "little" else ">"


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


#: Texts as they were decoded, by their bytes: names repeat, and a look-up is fast.
texts: dict[bytes, str] = {}


def decode_cstring(raw: bytes) -> str:
    """The text up to the first NUL; see CString."""
    text = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if len(raw) <= REMEMBERED:
        if len(texts) >= _MAX_TEXTS:
            texts.clear()
        texts[raw] = text
    return text


def text_decoder(encoding: str) -> Callable[[bytes], str]:
    """The function that decodes a char array, as decode_cstring does."""
    if encoding == "utf-8":
        return decode_cstring
    return lambda raw: raw.partition(b"\0")[0].decode(encoding, "surrogateescape")


@dataclass(frozen=True)
class Node:
    """A field's type.

    Attributes:
        kind: int, float, bool, bytes, text, pad, array, struct, or opaque:
            what only construct understands.
        size: bytes; None where it varies.
        code: struct's letter of a number that it knows; "" for the others.
        order: "<" or ">"; "" where bytes have no order.
        signed: of an integer.
        encoding: Python's name of a text's.
        pattern: the byte that padding is built of.
        count, element: of an array.
        items: a struct's fields, by name; None is the name of what has no value.
        names: construct's Enum or FlagsEnum around an integer.
        const: (value,) that it must have; () for any.
        reason: why it is opaque.
    """

    kind: str
    size: int | None
    code: str = ""
    order: str = ""
    signed: bool = False
    encoding: str = ""
    pattern: bytes = b"\0"
    count: int = 0
    element: Node | None = None
    items: tuple[tuple[str | None, Node], ...] = ()
    names: Any = None
    const: tuple[Any, ...] = ()
    reason: str = ""

    @property
    def fixed(self) -> int:
        """Its size, of a node that is not opaque."""
        assert self.size is not None
        return self.size

    def values(self) -> int:
        """How many of struct's values it takes."""
        if self.kind == "pad":
            return 0
        if self.kind == "array":
            assert self.element is not None
            return self.count * self.element.values()
        if self.kind == "struct":
            return sum(node.values() for _, node in self.items)
        return 1

    def parts(self) -> int:
        """How much there is to make: its values, and what holds none of them."""
        if self.kind == "array":
            assert self.element is not None
            return 1 + self.count * self.element.parts()
        return 1 + sum(node.parts() for _, node in self.items)

    def depth(self) -> int:
        """How many levels of structs and arrays it has."""
        inner = [node for _, node in self.items] + ([self.element] if self.element else [])
        return 1 + max((node.depth() for node in inner), default=0)

    def obstacle(self, path: str = "") -> str:
        """Why ``struct`` cannot decode it, with the field's name; "" if it can."""
        if self.kind == "opaque":
            return f"{path or 'the declaration'} {self.reason}"
        if self.kind == "array":
            assert self.element is not None
            return self.element.obstacle(f"{path}[]")
        found = (
            node.obstacle(f"{path}.{name}" if path and name else name or path)
            for name, node in self.items
        )
        return next(filter(None, found), "")


def describe(declaration: Any) -> Node:
    """The tree of a construct declaration.

    Args: declaration: any construct; a Struct at its top, named or not.
    Returns: the Node; opaque where construct alone can parse it.
    """
    try:
        node = _describe(declaration)
        depth = node.depth()
    except RecursionError:
        return Node("opaque", None, reason="is nested without end")
    if node.size is not None and node.size > _MAX_BYTES:
        return Node("opaque", node.size, reason=f"has {node.size} bytes, more than a perf sample")
    if not node.obstacle() and node.parts() > _MAX_VALUES:
        return _opaque(
            declaration, f"has {node.values() or node.parts()} values, more than a perf sample"
        )
    if depth > _MAX_DEPTH:
        return _opaque(declaration, f"is nested {depth} levels deep")
    return node


def unwrap(declaration: Any) -> Any:
    """The declaration without the names that ``"name" / ...`` gives it."""
    while type(declaration) is construct.Renamed:
        declaration = declaration.subcon
    return declaration


def _describe(sub: Any) -> Node:
    if sub.parsed is not None:
        return _opaque(sub, "calls a function when it is parsed")
    if type(sub) is construct.Renamed:
        return _describe(sub.subcon)
    make = _MAKERS.get(type(sub))
    if make is None:
        return _opaque(sub, f"is a {type(sub).__name__}, which only construct can parse")
    return make(sub)


def _opaque(sub: Any, reason: str) -> Node:
    try:
        size = sub.sizeof()
    except Exception:  # the user's function that computes it may raise anything
        size = None
    return Node("opaque", size if isinstance(size, int) and size >= 0 else None, reason=reason)


def _number(sub: Any) -> Node:
    order, code = sub.fmtstr
    if code == "?":
        return Node("bool", 1, "?")
    kind = "float" if code in "efd" else "int"
    order = "" if sub.length == 1 else _NATIVE if order == "=" else order
    return Node(kind, sub.length, code, order, signed=code.islower())


def _bytes_integer(sub: Any) -> Node:
    flags = (sub.signed, sub.swapped)
    if not _is_length(sub.length, 1) or not all(isinstance(flag, bool) for flag in flags):
        return _opaque(sub, "has a computed length or byte order")
    return Node("int", sub.length, "", "<" if sub.swapped else ">", sub.signed)


def _is_length(length: Any, least: int = 0) -> bool:
    return type(length) is int and length >= least


def _bytes(sub: Any) -> Node:
    if not _is_length(sub.length):
        return _opaque(sub, "has a computed length")
    return Node("bytes", sub.length)


def _cstring(sub: Any) -> Node:
    return Node("text", sub.size, encoding="utf-8") if _is_length(sub.size) else _opaque(sub, "")


def _padded_string(sub: Any) -> Node:
    """PaddedString: construct builds it of three others."""
    sized = sub.subcon
    stripped: Any = sized.subcon if type(sized) is construct.FixedSized else None
    plain = type(stripped) is construct.NullStripped and stripped.pad == b"\0"
    encoding = _BYTE_ENCODINGS.get(sub.encoding.replace("-", "_").lower())
    if encoding is None:
        return _opaque(sub, f"is text in {sub.encoding}, whose characters are not bytes")
    if not plain or stripped.subcon is not construct.GreedyBytes or not _is_length(sized.length):
        return _opaque(sub, "is no text of a fixed size")
    return Node("text", sized.length, encoding=encoding)


def _padded(sub: Any) -> Node:
    if sub.subcon is not construct.Pass or not _is_length(sub.length):
        return _opaque(sub, "is padded around another field, or to a computed length")
    return Node("pad", sub.length, pattern=sub.pattern)


def _array(sub: Any) -> Node:
    if not _is_length(sub.count) or sub.discard:
        return _opaque(sub, "is an array of a computed length, or discards its elements")
    element = _describe(sub.subcon)
    if element.kind == "pad" or element.size is None:
        return _opaque(sub, "is an array of what only construct can parse")
    return Node("array", sub.count * element.size, count=sub.count, element=element)


def _struct(sub: Any) -> Node:
    items = tuple((field.name, _field(field)) for field in sub.subcons)
    names = [name for name, _ in items if name]
    if len(names) != len(set(names)):
        return _opaque(sub, "has two fields of one name")
    sizes = [node.size for _, node in items]
    size = None if None in sizes else sum(s for s in sizes if s is not None)
    return Node("struct", size, items=items)


def _field(sub: Any) -> Node:
    """A struct's field; opaque if a named tuple could not hold it under its name."""
    name, node = sub.name, _describe(sub)
    if not name:
        return node if node.kind == "pad" or node.const else _opaque(sub, "has no name")
    if not name.isidentifier() or not name.isascii() or name[0] == "_" or iskeyword(name):
        return _opaque(sub, "has a name that a named tuple cannot have")
    return node


def _named_integer(sub: Any) -> Node:
    inner = _describe(sub.subcon)
    if inner.kind != "int" or inner.const or inner.names is not None:
        return _opaque(sub, "names the values of something else than an integer")
    return replace(inner, names=sub)


def _const(sub: Any) -> Node:
    inner = _describe(sub.subcon)
    if inner.kind in ("opaque", "pad", "struct", "array") or inner.const:
        return _opaque(sub, "is a constant of more than one value")
    return replace(inner, const=(sub.value,))


_MAKERS: dict[type[Any], Callable[[Any], Node]] = {
    construct.FormatField: _number,
    construct.BytesInteger: _bytes_integer,
    type(construct.Flag): lambda _sub: Node("bool", 1, "?"),
    construct.Bytes: _bytes,
    CString: _cstring,
    core.StringEncoded: _padded_string,
    construct.Padded: _padded,
    construct.Array: _array,
    construct.Struct: _struct,
    construct.Enum: _named_integer,
    construct.FlagsEnum: _named_integer,
    construct.Const: _const,
}
