"""What a probe would break in a program is refused: the kernel does not look."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from ..errors import BpfError
from .elf_symbols import ElfSymbols
from .instructions import beginnings
from .places import machine
from .text import escape

#: The longest instruction; how far into a function a place may lie.
_LONGEST, _FARTHEST = 15, 1 << 22
#: A probe of a return puts another address in the place of the one to return to. These do not
#: find what they look for there, or keep that address for later.
_NOT_RETURNING = re.compile(
    "_start|_dl_start_user|_dl_runtime_.*|__restore(_rt)?|_*(sig)?setjmp|_*(get|swap)context"
    "|__start_context"
)


def check_place(text: str, symbols: ElfSymbols, start: int, inside: int) -> None:
    """Refuses a place where no instruction begins: the program would run another one.

    Args:
        text: what the user calls it.
        start: where in the file its function begins.
        inside: bytes from there.

    Raises: BpfError.
    """
    operation = f"probe {escape(text)}"
    if inside > _FARTHEST:
        raise BpfError(operation, errno.EILSEQ, "it is too far from the function's beginning")
    before = 0
    for at in beginnings(symbols.code(start, inside + _LONGEST), machine()):
        if at == inside:
            return
        if at > inside:
            hint = f"One begins at +{before:#x}, the next at +{at:#x}: see 'objdump -d'."
            reason = "it is in the midst of an instruction, and would make another one of it"
            raise BpfError(operation, errno.EILSEQ, reason, hint=hint)
        before = at
    reason = f"what the function does from +{before:#x} on are no instructions that are known"
    raise BpfError(operation, errno.EILSEQ, reason)


def check_returns(text: str, symbols: ElfSymbols, names: Iterable[str]) -> None:
    """Refuses functions of a file whose returns cannot be probed. Raises: BpfError."""
    operation, hint = f"probe returns of {escape(text)}", "Trace its calls with uprobe."
    if symbols.has_section(".go.buildinfo"):
        reason = "it is a Go program: it moves its stacks, and ends at an address it does not know"
        raise BpfError(operation, errno.EINVAL, reason, hint=hint)
    if not any(map(can_return, names)):
        reason = "it does not return as others do: a probe of its return would break the program"
        raise BpfError(operation, errno.EINVAL, reason, hint=hint)


def can_return(name: str) -> bool:
    """Whether a function's return can be probed."""
    return _NOT_RETURNING.fullmatch(name) is None
