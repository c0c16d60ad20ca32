"""Which of the kernel's functions a probe can be attached to, and why not to the others."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from .. import kernel
from ..kernel import Kallsyms, Symbol

#: Symbols before a function's first instruction, and code that is jumped into, not called.
_NO_FUNCTION = re.compile(r"__(?:pfx|cfi)_|\.|.*\.cold(?:\.|$)")
#: BPF programs, and what kprobes and ftrace generate: code, but of no module.
_GENERATED = re.compile(r"bpf$|__builtin__")
#: What comes before "_sys_" in the names of one system call's function.
_CALLS = ("do", "ia32", "x64", "arm64")
#: Bytes from a function's beginning within which ftrace's call lies.
_ENTRY = 16


class Probeable:
    """What the running kernel says of it: tracefs, debugfs and /proc/kallsyms, read on demand.

    Args: kallsyms: the symbols to judge.
    """

    def __init__(self, kallsyms: Kallsyms) -> None:
        self._kallsyms = kallsyms

    @cached_property
    def _ftraceable(self) -> dict[str, list[int]] | None:
        return kernel.ftraceable()

    @cached_property
    def _blacklist(self) -> frozenset[str]:
        return frozenset(kernel.blacklist() or ())

    @cached_property
    def _init(self) -> range:
        return self._kallsyms.init_code()

    @property
    def knows_ftrace(self) -> bool:
        """Whether tracefs tells which functions ftrace can trace."""
        return self._ftraceable is not None

    def is_ftraceable(self, symbol: Symbol, same: int = 1) -> bool:
        """Whether ftrace can trace the function, and so kprobe.multi; False: or not known.

        Args: same: how many functions have its name and module.
        """
        places = self._places(symbol.name, symbol.module)
        if same <= len(places):
            return True
        if any(0 <= place - symbol.address < _ENTRY for place in places if symbol.address):
            return True
        return self._by_another_name(symbol)

    def _places(self, name: str, module: str) -> list[int]:
        return (self._ftraceable or {}).get(f"{name} [{module}]" if module else name, [])

    def _by_another_name(self, symbol: Symbol) -> bool:
        """A system call without arguments is one function of several names: tracefs has one."""
        found = re.match(r"__\w+?_sys_(\w+)$", symbol.name)
        names = [f"__{prefix}_sys_{found[1]}" for prefix in _CALLS] if found else []
        known = [name for name in names if self._places(name, "")]
        symbols = [each for name in known for each in self._kallsyms.find(name)]
        return any(each.address == symbol.address != 0 for each in symbols)

    def why_not(self, symbol: Symbol, same: int = 1) -> str:
        """Why no probe can be attached to this symbol; "" where nothing is known against it.

        Args: same: how many functions have its name and module.
        """
        if not symbol.is_function:
            return "it is data, not a function"
        if is_artificial(symbol):
            return "it is no function of its own"
        if symbol.name in self._blacklist:
            return "it is on the kernel's kprobe blacklist"
        if symbol.address and symbol.address in self._init:
            return "its code was freed after boot"
        if self.knows_ftrace and not self.is_ftraceable(symbol, same) and _refuses_notrace():
            # A part that the compiler made of a function is judged by that function.
            base = symbol._replace(name=symbol.name.split(".")[0], address=0)
            if base.name == symbol.name or not self.is_ftraceable(base):
                return "it is notrace: the kernel keeps it from ftrace, and kprobes with it"
        return ""


def is_artificial(symbol: Symbol) -> bool:
    """Whether it is no function that is called by this name, though it is code."""
    generated = _GENERATED.match(symbol.module) is not None
    return generated or _NO_FUNCTION.match(symbol.name) is not None


def _refuses_notrace() -> bool:
    """Whether this kernel keeps kprobes from functions that ftrace cannot trace.

    Source: CONFIG_KPROBE_EVENTS_ON_NOTRACE; without /boot's config what nearly all have.
    """
    import os

    try:
        config = Path(f"/boot/config-{os.uname().release}").read_text(encoding="utf-8")
    except OSError:
        return True
    return "CONFIG_KPROBE_EVENTS_ON_NOTRACE=y" not in config
