"""Which formatter the options ask for, and events without the newer fields made fit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lines import CallLines, Formatter

if TYPE_CHECKING:
    from .console import Console
    from .line_options import LineOptions
    from .origin import Origin, Traced
    from .stacks import Stacks
    from .style import Style
    from .text import WallClock


def call_formatter(
    options: LineOptions,
    functions: tuple[Traced, ...],
    clock: WallClock,
    style: Style,
    origin: Origin,
    stacks: Stacks | None = None,
    console: Console | None = None,
) -> Formatter:
    """The formatter of struct call_events that the options ask for.

    Args:
        functions: of the trace, in the order of the events' ``function``.
        style: style_of() where the text goes.
        origin: here(), or a recording's.
        stacks: by the events' ``kernel_stack`` and ``user_stack``; None: none were asked for.
        console: of a format that has something to tell beside its text.

    Raises: usage.UsageError: --fields names a field that there is not. BpfError: the format
        needs a package that is not there, or a file that cannot be written.
    """
    if options.format == "json":
        from .json_lines import JsonLines

        return JsonLines(options, functions, clock, origin, stacks)
    if options.format == "folded":
        from .folded import Folded

        return Folded(stacks)
    if options.format == "otlp":
        from .otlp import OtlpSender

        assert console is not None
        return OtlpSender(options, functions, clock, origin, console, stacks)
    if options.format == "chrome-trace":
        from .chrome_trace import ChromeTrace

        return ChromeTrace(options, functions, clock, origin, stacks)
    if options.format == "parquet":
        from .parquet import ParquetWriter

        return ParquetWriter(options, functions, clock, origin, stacks)
    if options.fields:
        from .columns import Columns

        return Columns(options, functions, clock, style, stacks)
    return CallLines(options, functions, clock, style, stacks)
