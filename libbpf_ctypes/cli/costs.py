"""What a call of a probed function costs, as far as this kernel tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from .functions import Finder
from .text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .functions import Function
    from .plan import Plan
    from .user_functions import UserFunction


def costs(wanted: Plan) -> list[str]:
    """How the kernel gets to the program at each function, in words: what a call costs."""
    kind = wanted.functions[0].probe
    if kind == "tracepoint":
        return ["tracepoint, by a call that is always there"] * len(wanted.functions)
    if kind == "uprobe":
        how = "by a breakpoint, which costs an exception"
        how += ", and one more at the return" if wanted.returns else ""
        places = cast("Sequence[UserFunction]", wanted.functions)
        return [f"uprobe at {escape(p.path)}+{p.offset:#x}, {how}" for p in places]
    found = _kprobes(wanted)
    return [f"{each}, and as much at the return" for each in found] if wanted.returns else found


def _kprobes(wanted: Plan) -> list[str]:
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

    functions = cast("Sequence[Function]", wanted.functions)
    return [cost(place, function) for place, function in enumerate(functions)]


def _jump() -> str:
    """What becomes of a breakpoint."""
    try:
        text = Path("/proc/sys/debug/kprobes-optimization").read_text(encoding="ascii")
    except OSError:
        return ""
    return ", or by a jump where the kernel can put one" if text.strip() == "1" else ""
