"""Which formatter the options ask for, and events without the newer fields made fit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lines import CallLines, Formatter, LineOptions

if TYPE_CHECKING:
    from .origin import Origin, Traced
    from .style import Style
    from .text import WallClock


def call_formatter(
    options: LineOptions,
    functions: tuple[Traced, ...],
    clock: WallClock,
    style: Style,
    origin: Origin,
) -> Formatter:
    """The formatter of struct call_events that the options ask for.

    Args:
        functions: of the trace, in the order of the events' ``function``.
        style: style_of() where the text goes.
        origin: here(), or a recording's.

    Raises: usage.UsageError: --fields names a field that there is not.
    """
    if options.json:
        from .json_lines import JsonLines

        return JsonLines(options, functions, clock, origin)
    if options.fields:
        from .columns import Columns

        return Columns(options, functions, clock, style)
    return CallLines(options, functions, clock, style)
