"""The first argument of a kernel function: its name and how it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..btf import Btf, Kind, Parameter, Type
from ..errors import BpfError
from ..kernel import Kallsyms
from .formats import BOOLEAN, DECIMAL, Format
from .text import escape


class Argument(NamedTuple):
    """How the first argument is shown, and what that follows from."""

    label: str
    format: Callable[[int], str]
    name: str
    type: Type | None


def shown(name: str, kind: Type | None, *, raw: bool) -> Argument:
    """The label is the parameter's name or ``arg0``, the format that of its type.

    Args:
        name: as BTF has it, "" where it has none.
        kind: its type; None: it is unknown.
        raw: print the register as an unsigned number, whatever its type.
    """
    format_register = str if raw or kind is None else argument_formatter(kind)
    return Argument(escape(name) or "arg0", format_register, name, kind)


def first_argument(function: str, *, raw: bool) -> Argument:
    """The first argument of a function of the running kernel, by its BTF.

    Args: function: a name, or ``module:name``. raw: see shown().

    Without BTF, and for a function without parameters or names, the label is
    ``arg0`` and the register is printed as it is.
    """
    module, _, name = function.rpartition(":")
    try:
        parameters = _parameters(module, name)
    except BpfError:
        parameters = ()
    if not parameters:
        return shown("", None, raw=raw)
    return shown(parameters[0].name, parameters[0].type, raw=raw)


def _parameters(module: str, name: str) -> tuple[Parameter, ...]:
    with Btf.kernel() as kernel:
        if not module:
            try:
                return kernel.parameters(name)
            except BpfError:
                module = next((symbol.module for symbol in Kallsyms().find(name)), "")
                if not module:
                    raise
        with Btf.module(module, kernel) as types:
            return types.parameters(name)


def argument_formatter(kind: Type | None) -> Callable[[int], str]:
    """How a register is printed that holds a value of this type; as it is without one.

    Callers leave the upper half of a register undefined where the type is
    narrower: the value is cut to the type's width.
    """
    if kind is None:
        return str
    if kind.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64) and 0 < kind.size <= 8:
        base = BOOLEAN if kind.is_bool else DECIMAL
        return Format(base, kind.size, kind.signed and not kind.is_bool).words
    return hex
