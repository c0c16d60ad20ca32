"""``--dry-run``: what would be attached, how, and what each call and the trace would cost."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .._perf_open import PAGE_SIZE, default_pages, pages_for
from .costs import costs
from .formats import ShownArgument
from .output import Output, OutputClosedError
from .text import escape

if TYPE_CHECKING:
    from .calls import Calls
    from .options import Options
    from .tracepoints import Probed

_WRITE_SECONDS = 10.0


def print_plan(calls: Calls, options: Options, output: Output) -> int:
    """Prints it; returns the exit status."""
    for line in _lines(calls, options):
        output.add(line + "\n")
    try:
        output.flush(time.monotonic() + _WRITE_SECONDS, force=True)
    except OutputClosedError:
        return 0
    return 0 if not output.unwritten() else 1


def _lines(calls: Calls, options: Options) -> list[str]:
    plan = calls.plan
    count = len(calls.functions)
    what = f"{count} {calls.noun}{'s' * (count > 1)}"
    by = "" if calls.noun == plan.method else f" by {plan.method}"
    lines = [f"Would attach to {what}{by}:"]
    for function, traced, how in zip(calls.functions, calls.traced, costs(plan)):
        shown = ", ".join(_argument(argument) for argument in traced.arguments)
        lines.append(f"  {_name(function)}({shown}): {how}")
    for kind, most in calls.work():
        lines.append(f"{kind}: {most}")
    if not options.sums:
        cpus = os.cpu_count() or 1
        pages = pages_for(options.buffer) if options.buffer else default_pages()
        size = pages * PAGE_SIZE >> 10
        lines.append(f"Buffers: {cpus} CPUs with {size} KiB each, {cpus * size} KiB")
    lines.append(f"Files that the probes keep open: {plan.descriptors}")
    if len(plan.single) > 1:
        lines.append("Single probes are attached one after the other: many take a while.")
    return lines


def _argument(argument: ShownArgument) -> str:
    return f"{argument.type} {argument.name}".replace("* ", "*")


def _name(function: Probed) -> str:
    name = escape(function.label)
    if function.symbol == function.label or function.probe != "kprobe":
        return name
    return f"{name} = {escape(function.symbol)}"
