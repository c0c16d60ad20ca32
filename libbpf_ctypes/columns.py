"""Events as columns: a NumPy structured array over the bytes of many of them.

NumPy is an optional dependency (``pip install libbpf-ctypes[numpy]``), imported
when the first array is made.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

from .errors import BpfError
from .fields import Node
from .schema import Schema

_NATIVE = "<" if sys.byteorder == "little" else ">"


def column_type(schema: Schema[Any], before: int = 0, stride: int = 0) -> Any:
    """The NumPy type of a schema's events.

    Args:
        schema: derived, with at least one field that has a value.
        before: bytes before each event.
        stride: bytes from one event to the next; 0: they follow each other.

    Returns: a structured ``numpy.dtype``. Integers, floats and bools are numbers of
        their byte order; Enum and FlagsEnum their integers; text is bytes without
        the NULs at its end ("S16"; what stands behind an earlier NUL is not cut);
        Bytes are arrays of "u1"; integers of sizes that NumPy lacks are raw bytes
        ("V3"); Array and Struct are nested. Padding is skipped, constants are not
        compared.
    Raises: BpfError: no NumPy (with what to install); the schema is not derived.
    """
    numpy = import_numpy()
    if not schema.derived:
        reason = f"{schema.name} has no columns: {schema.why_not_derived}"
        raise BpfError("make columns of events", errno.EINVAL, reason)
    return numpy.dtype(_struct(schema.fields, before, stride))


def import_numpy() -> Any:
    """The module numpy. Raises: BpfError: it is not installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        reason, hint = "NumPy is not installed", "Install it: pip install 'libbpf-ctypes[numpy]'."
        raise BpfError("make columns of events", None, reason, hint=hint) from None


def _struct(node: Node, before: int = 0, stride: int = 0) -> dict[str, Any]:
    names, formats, offsets = [], [], []
    at = before
    for name, inner in node.items:
        if name and inner.size:
            names.append(name)
            formats.append(_format(inner))
            offsets.append(at)
        at += inner.fixed
    return {"names": names, "formats": formats, "offsets": offsets, "itemsize": stride or at}


def _format(node: Node) -> Any:
    if node.kind == "struct":
        return _struct(node)
    if node.kind == "array":
        assert node.element is not None
        return (_format(node.element), (node.count,))
    if node.kind == "bool":
        return "?"
    if node.kind == "text":
        return f"S{node.size}"
    if node.kind == "bytes":  # "S" would lose NULs at the end
        return ("u1", (node.size,))
    letter = "f" if node.kind == "float" else "i" if node.signed else "u"
    return f"{node.order or _NATIVE}{letter}{node.size}" if node.code else f"V{node.size}"
