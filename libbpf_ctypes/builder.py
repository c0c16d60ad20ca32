"""Bytes of values: the reverse of decoding."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from operator import index
from typing import Any

import construct

from .errors import DecodeError
from .fields import Node


def build_bytes(node: Node, value: Any, path: str) -> bytes:
    """The bytes of a value.

    Args:
        node: the value's type, without obstacles.
        value: as decode() gives it; a mapping in place of a record, too.
        path: the value's name, for the error.

    Raises: DecodeError: a field is missing, or its value does not fit.
    """
    if node.kind == "struct":
        parts = []
        for name, item in node.items:
            inner = f"{path}.{name}" if name else path
            parts.append(build_bytes(item, _part(value, name, item, path), inner))
        return b"".join(parts)
    if node.kind == "pad":
        return node.pattern * node.fixed
    try:
        if node.kind != "array":
            return _leaf_bytes(node, value)
        if len(value) != node.count:
            raise ValueError(f"{len(value)} elements, not {node.count}")
    except (TypeError, ValueError, OverflowError, struct.error, construct.ConstructError) as error:
        reason = f"{value!r} does not fit ({error})"
        raise DecodeError(f"build {path}", None, reason) from None
    assert node.element is not None
    return b"".join(build_bytes(node.element, v, f"{path}[{n}]") for n, v in enumerate(value))


def _part(record: Any, name: str | None, node: Node, path: str) -> Any:
    """A field's value in a record or a mapping; None where it needs none."""
    if name is None or node.kind == "pad":
        return None
    if isinstance(record, Mapping):
        if name in record:
            return record[name]
    elif hasattr(record, name):
        return getattr(record, name)
    if node.const:
        return None
    raise DecodeError(f"build {path}", None, f"the record has no {name}")


def _leaf_bytes(node: Node, value: Any) -> bytes:
    if node.const:
        if value is not None and not value == node.const[0]:
            raise ValueError(f"it must be {node.const[0]!r}")
        value = node.const[0]
    if node.names is not None:
        value = node.names._encode(value, None, "")
    if node.kind == "int":
        order: Any = "big" if node.order == ">" else "little"
        return index(value).to_bytes(node.fixed, order, signed=node.signed)
    if node.kind == "float":
        return struct.pack(node.order + node.code, value)
    if node.kind == "bool":
        return b"\1" if value else b"\0"
    if isinstance(value, str) and node.kind == "text":
        if "\0" in value:
            raise ValueError("a NUL would end it")
        value = value.encode(node.encoding, "surrogateescape").ljust(node.fixed, b"\0")
    elif node.kind == "text":
        value = bytes(memoryview(value)).ljust(node.fixed, b"\0")
    raw = bytes(memoryview(value))  # not bytes(value): of a number that would be zeros
    if len(raw) != node.fixed:
        raise ValueError(f"{len(raw)} bytes, not {node.fixed}")
    return raw
