"""What a call of a probed function costs, as far as this kernel tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .functions import Finder

if TYPE_CHECKING:
    from .attaching import Plan
    from .functions import Function


def costs(wanted: Plan) -> list[str]:
    """How the kernel gets to the program at each function, in words: what a call costs."""
    finder = Finder()
    by_ftrace = bool(finder.kallsyms.find("kprobe_ftrace_handler"))
    breakpoint = "kprobe, by a breakpoint, which costs an exception" + _jump()
    multi = set(wanted.multi)

    def cost(place: int, function: Function) -> str:
        if place in multi:
            return "kprobe.multi, by ftrace"
        if not finder.probeable.knows_ftrace:
            return "kprobe, by ftrace or a breakpoint: tracefs cannot be read"
        seen = by_ftrace and finder.with_ftrace(function).ftraceable
        return "kprobe, by ftrace" if seen else breakpoint

    return [cost(place, function) for place, function in enumerate(wanted.functions)]


def _jump() -> str:
    """What becomes of a breakpoint."""
    try:
        text = Path("/proc/sys/debug/kprobes-optimization").read_text(encoding="ascii")
    except OSError:
        return ""
    return ", or by a jump where the kernel can put one" if text.strip() == "1" else ""
