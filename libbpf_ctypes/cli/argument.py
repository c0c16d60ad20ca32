"""The first argument of a kernel function: its name and how it is printed, from BTF."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..btf import Btf, Parameter
from ..errors import BpfError
from ..kernel import Kallsyms
from .text import argument_formatter, escape


class Argument(NamedTuple):
    """How the first argument is shown."""

    label: str
    format: Callable[[int], str]


def first_argument(function: str, *, raw: bool) -> Argument:
    """The label is the parameter's name, the format its declared type's.

    Args:
        function: a name, or ``module:name``.
        raw: print the register as an unsigned number.

    Without BTF, and for a function without parameters or names, the label is
    ``arg0`` and the register is printed as it is.
    """
    module, _, name = function.rpartition(":")
    try:
        parameters = _parameters(module, name)
    except BpfError:
        parameters = ()
    if not parameters:
        return Argument("arg0", str)
    first = parameters[0]
    return Argument(escape(first.name) or "arg0", str if raw else argument_formatter(first.type))


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
