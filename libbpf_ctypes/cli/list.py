"""``ebpf-tool list``: functions that can be probed, with prototypes, and why others cannot."""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import kernel
from ..btf import Btf, Kind
from ..errors import BpfError
from .console import Console, wants_debug
from .functions import Finder, Function, take_apart
from .text import escape

#: So many names are looked up one by one; of more, an index of all is made.
_FEW = 200
#: The most columns that a name takes on a terminal before its prototype is moved.
_NAME_WIDTH = 40


def run(words: dict[str, Any]) -> int:
    """Prints a line for each function; returns the exit status. Raises: UsageError."""
    word = take_apart(words["PATTERN"] or "*")
    console = Console(quiet=False, verbose=wants_debug(0))
    try:
        finder = Finder()
        if not len(finder.kallsyms):
            hint = "Mount it first: 'mount -t proc proc /proc'."
            raise BpfError("list functions", None, "/proc/kallsyms cannot be read", hint=hint)
        if sys.stdout is None:
            raise BpfError("write the list", None, "stdout is closed")
        found = finder.candidates(word, variants=True)
        _say_what_is_unknown(console, finder)
        _print(finder, found)
    except BpfError as error:
        console.failure(error)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        console.error(f"write the list: {error.strerror}")
    else:
        return 0
    return 1


def _say_what_is_unknown(console: Console, finder: Finder) -> None:
    if not kernel.has_kprobes():
        console.warning("This kernel has no kprobes (CONFIG_KPROBES): none of these can be probed.")
        return
    if not finder.probeable.knows_ftrace:
        hint = "'mount -t tracefs tracefs /sys/kernel/tracing', as root"
        console.info(f"tracefs cannot be read, so functions that are notrace are not told: {hint}.")
    if kernel.blacklist() is None:
        hint = "'mount -t debugfs debugfs /sys/kernel/debug', as root"
        console.info(f"debugfs cannot be read, so blacklisted functions are not told: {hint}.")


def _print(finder: Finder, found: list[Function]) -> None:
    """Lines as they are made: prototypes take a while."""
    terminal = sys.stdout.isatty()
    width = min(_NAME_WIDTH, max(len(each.label) for each in found))
    with Prototypes(many=len(found) > _FEW) as prototypes:
        for each in found:
            name, prototype = escape(each.label), escape(prototypes.of(each))
            why_not = finder.why_not(each)
            if terminal:
                text = prototype or "(its prototype is not known)"
                print(f"{name:<{width}}  {f'cannot be probed: {why_not}' if why_not else text}")
            else:
                print(f"{name}\t{prototype}\t{why_not}")
    sys.stdout.flush()


class Prototypes:
    """The prototypes of the kernel's functions, of its modules' and of the system calls.

    Args: many: of so many functions that an index is worth its while.
    """

    def __init__(self, *, many: bool) -> None:
        self._many = many
        self._types: dict[str, Btf | None] = {}  # by module; None: it has none
        self._places: dict[str, dict[str, int]] = {}

    def of(self, function: Function) -> str:
        """A function's prototype as C has it, "" where none is known."""
        if function.syscall:
            from .._syscalls import OTHERS, SYSCALLS

            others = OTHERS.get(os.uname().machine, {})
            parameters = others.get(function.syscall, SYSCALLS.get(function.syscall))
            return "" if parameters is None else f"long {function.syscall}({parameters or 'void'})"
        try:
            return self._look_up(function)
        except BpfError:  # it is not in BTF, as variants and assembly are
            return ""

    def _look_up(self, function: Function) -> str:
        types = self._of_module(function.module)
        if types is None:
            return ""
        if not self._many:
            return types.function(function.symbol).prototype
        if function.module not in self._places:
            with types._reading():
                places = {name: place for place, name in types._own_of(Kind.FUNC)}
            self._places[function.module] = places
        place = self._places[function.module].get(function.symbol)
        return "" if place is None else types.function(place).prototype

    def _of_module(self, module: str) -> Btf | None:
        if module not in self._types:
            base = self._of_module("") if module else None
            try:
                if not module:
                    self._types[module] = Btf.kernel()
                else:
                    self._types[module] = Btf.module(module, base) if base else None
            except BpfError:
                self._types[module] = None
        return self._types[module]

    def __enter__(self) -> Prototypes:
        return self

    def __exit__(self, *_error: object) -> None:
        for types in reversed(list(self._types.values())):  # the kernel's is the modules' base
            if types is not None:
                types.close()
