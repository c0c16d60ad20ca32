"""The command lines of ``ebpf-tool latency`` and ``ebpf-tool count``, checked."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from . import usage
from .by import ARGUMENT, KERNEL_STACK, KEYS, USER_STACK, By, read_by
from .histogram import Scale, read_scale
from .options import Options, read_options
from .usage import UsageError

_YEARS = 10 * 366 * 86400
_MOST = 1 << 32


class Aggregate(NamedTuple):
    """The command line.

    Attributes:
        options: what other commands have, too.
        times: how long calls take is summed up, not only how many there are.
        by: what calls are grouped by.
        interval: seconds of each; 0: the whole trace is one.
        top: so many groups are shown; 0: all.
        scale: of the histograms.
        plot: the file of a picture, "" for none.
        folded: folded stacks are printed.
    """

    options: Options
    times: bool
    by: By
    interval: float
    top: int
    scale: Scale
    plot: str
    folded: bool


def read_aggregate(words: dict[str, Any], *, times: bool) -> Aggregate:
    """The options in docopt's words. Raises: usage.UsageError."""
    folded = _read_folded(words)
    by = read_by(words["--by"], tuple(words["--arg"]))
    if not by.names:
        by = By(("comm", "stack")) if folded else By(("function",))
    if folded and not by.stacks:
        raise UsageError("--format folded counts stacks: ask for them with --by stack")
    if times and ARGUMENT in by.names:
        from .places import nearest

        near = nearest(by.argument_name, list(KEYS))
        raise UsageError(f"latency is not by arguments, as {by.argument_name!r}{near}; count is")
    plot = words["--plot"] or ""
    if words["--plot"] is not None and not plot.endswith(".svg"):
        raise UsageError(f"--plot draws an SVG: name the file as FILE.svg, not {plot!r}")
    if plot and words["--output"] and _is_one_file(plot, words["--output"]):
        raise UsageError("--plot and --output name the same file")
    # What --format and --arg are for lines they are not here.
    args = [by.argument] if by.argument else []
    options = read_options({**words, "--format": None, "--json": _is_json(words), "--arg": args})
    if options.kind == "uprobe" and "kernel-stack" in by.names:
        raise UsageError("--by kernel-stack: the kernel does not call a program's functions")
    interval = 0.0
    if words["--interval"] is not None:
        interval = usage.number(words, "--interval", _YEARS)
        if not interval:
            raise UsageError("--interval takes more than 0 seconds")
    return Aggregate(
        options=options._replace(
            kernel_stack=bool(by.bits & KERNEL_STACK), user_stack=bool(by.bits & USER_STACK)
        ),
        times=times,
        by=by,
        interval=interval,
        top=0 if words["--top"] is None else usage.whole_number(words, "--top", _MOST),
        scale=read_scale(words["--linear"]),
        plot=plot,
        folded=folded,
    )


def _is_json(words: dict[str, Any]) -> bool:
    return bool(words["--json"] or words["--format"] == "json")


def _read_folded(words: dict[str, Any]) -> bool:
    """Whether stacks are to be printed for flame graphs. Raises: usage.UsageError."""
    if words["--format"] is None:
        return False
    found = usage.choice(words, "--format", ("lines", "json", "folded"))
    if words["--json"] and found != "json":
        raise UsageError(f"--json is --format json: give it or --format {found}")
    if found == "folded" and words["--dry-run"]:
        raise UsageError("--format folded has no use for --dry-run: leave one of them out")
    return found == "folded"


def _is_one_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
