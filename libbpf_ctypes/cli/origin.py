"""Where a trace is from, and what it traced: for recordings and for JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import __version__

if TYPE_CHECKING:
    from .formats import ShownArgument


class Origin(NamedTuple):
    """The tool, the machine and its boot: timestamps of one boot can be compared."""

    tool_version: str
    host_name: str
    machine: str
    kernel_release: str
    boot_id: str  # "" where it is unknown


class Traced(NamedTuple):
    """A function of the trace; an event names it by its place in the list of them."""

    label: str  # what the user sees: "openat", "ext4:ext4_readdir"
    symbol: str  # as in /proc/kallsyms
    module: str  # "" for the kernel itself
    arguments: tuple[ShownArgument, ...]
    returns: bool = False  # its events are returns: they have a duration, and "ret"

    def in_order(self) -> tuple[ShownArgument, ...]:
        """The arguments as lines have them: a return value comes first."""
        if not self.returns:
            return self.arguments
        return tuple(sorted(self.arguments, key=lambda argument: argument.name != RETURNED))


def traced_at(functions: tuple[Traced, ...], index: int) -> Traced:
    """A function by its place in the trace; a damaged event may name none."""
    if index < len(functions):
        return functions[index]
    return Traced(f"function {index}", "", "", ())


#: The name of what a function returned, among its arguments.
RETURNED = "ret"


def here() -> Origin:
    """This machine, now."""
    names = os.uname()
    return Origin(__version__, names.nodename, names.machine, names.release, _boot_id())


def _boot_id() -> str:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return text.strip()
