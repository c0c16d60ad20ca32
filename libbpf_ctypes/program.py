"""BPF programs of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ffi import lib
from ._handle import Part
from .attach import Attachable
from .enums import ProgramType

if TYPE_CHECKING:
    from .object import BpfObject


class Program(Attachable, Part):
    """A program of a BpfObject; owned by it, and gone when it is closed."""

    _parent: BpfObject

    @property
    def name(self) -> str:
        """The C function's name. Source: ``bpf_program__name`` (libbpf 0.0.7)."""
        return str(lib.bpf_program__name(self).decode(errors="backslashreplace"))

    @property
    def section(self) -> str:
        """The ELF section. Source: ``bpf_program__section_name`` (libbpf 0.2)."""
        return str(lib.bpf_program__section_name(self).decode(errors="backslashreplace"))

    @property
    def type(self) -> ProgramType:
        """The program type. Source: ``bpf_program__type`` (libbpf 0.7)."""
        return ProgramType(lib.bpf_program__type(self))

    def __repr__(self) -> str:
        if self._parent.closed:
            return "<Program of a closed object>"
        return f"<Program {self.name} ({self.type.name})>"
