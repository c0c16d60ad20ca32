"""Global variables of an object: read and set by name."""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys
from typing import TYPE_CHECKING, Any, Union

from . import btf
from ._ffi import lib
from .errors import BpfError
from .log import calling

if TYPE_CHECKING:
    from .maps import Map
    from .object import BpfObject

SECTIONS = (".rodata", ".data", ".bss")
_NUMBERS = (btf.Kind.INT, btf.Kind.ENUM, btf.Kind.ENUM64)

Value = Union[int, bool, bytes]


class Variable:
    """One global variable of a BpfObject.

    Before load() its ``value`` may be read and set. Afterwards it is the kernel's
    copy, as it is at that moment: a constant can then only be read.
    """

    def __init__(self, parent: BpfObject, section: Map[Any, Any], layout: btf.Variable) -> None:
        self._object = parent
        self._section = section
        self._layout = layout

    @property
    def name(self) -> str:
        """The C variable's name."""
        return self._layout.name

    @property
    def type(self) -> btf.Type:
        """Its type, from the object's BTF."""
        return self._layout.type

    @property
    def value(self) -> Value:
        """An int for integers and enums, a bool for _Bool, else the bytes.

        Raises: BpfError: setting a constant after load(); a value that does not fit.
        Source: ``bpf_map__initial_value`` (libbpf 0.5), after load() the map
        behind the section, which is written by mmap (since Linux 5.5).
        """
        raw = self._read()
        if self.type.is_bool:
            return raw != b"\0"
        if self.type.kind in _NUMBERS:
            return int.from_bytes(raw, _BYTE_ORDER, signed=self.type.signed)
        return raw

    @value.setter
    def value(self, value: Value) -> None:
        operation = f"set variable {self.name}"
        constant = self._layout.section.startswith(".rodata")
        if constant and (self._object._prepared or self._object._load_tried):
            reason = "it is a constant, and the object is loaded: constants are set before that"
            raise BpfError(operation, errno.EBUSY, reason)
        if isinstance(value, int):
            if self.type.kind not in _NUMBERS:
                reason = f"it is no number, and takes {self._layout.size} bytes"
                raise BpfError(operation, errno.EINVAL, reason)
            low, high = _limits(self._layout.size, self.type)
            if not low <= value <= high:
                reason = f"{value} is out of range ({low} to {high})"
                raise BpfError(operation, errno.ERANGE, reason)
            signed = self.type.signed
            value = int(value).to_bytes(self._layout.size, _BYTE_ORDER, signed=signed)
        raw = bytes(value)  # raises TypeError for text
        if len(raw) != self._layout.size:
            reason = f"{len(raw)} bytes do not fit its {self._layout.size}"
            raise BpfError(operation, errno.EINVAL, reason)
        if self._object._prepared:
            self._write(operation, raw)
        else:
            ctypes.memmove(self._address(), raw, len(raw))

    def _read(self) -> bytes:
        if self._object._prepared:
            section = self._section.lookup(bytes(4))
            return section[self._layout.offset : self._layout.offset + self._layout.size]
        return ctypes.string_at(self._address(), self._layout.size)

    def _write(self, operation: str, raw: bytes) -> None:
        """Writes to the kernel's copy these bytes only: programs may write those beside them."""
        start, end = self._layout.offset, self._layout.offset + self._layout.size
        try:
            with mmap.mmap(self._section.fd, self._section.value_size) as memory:
                memory[start:end] = raw
        except OSError as error:
            hint = "Writing to a loaded object's variables needs Linux 5.5."
            raise BpfError(operation, error.errno, hint=hint) from None

    def _address(self) -> int:
        size = ctypes.c_size_t()
        with calling(f"find variable {self.name}"):
            start = lib.bpf_map__initial_value(self._section, ctypes.byref(size))
        if not start or self._layout.offset + self._layout.size > size.value:
            raise BpfError(f"find variable {self.name}", None, "it lies outside of its section")
        return int(start) + self._layout.offset

    def __repr__(self) -> str:
        return f"<Variable {self.name}>"


_BYTE_ORDER = sys.byteorder


def _limits(size: int, kind: btf.Type) -> tuple[int, int]:
    if kind.is_bool:
        return 0, 1
    bits = 8 * size
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.signed else (0, (1 << bits) - 1)
