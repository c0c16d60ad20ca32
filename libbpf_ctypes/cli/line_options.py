"""The options of the output, as kprobe and its kin and replay take them, checked."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple

from . import usage

FORMATS = ("lines", "json", "folded", "chrome-trace", "parquet", "otlp")
COLORS = ("auto", "always", "never")

#: Formats that print while events come.
_AS_THEY_COME = ("lines", "json", "chrome-trace")

#: Where a collector of OpenTelemetry listens on its own machine.
ENDPOINT = "http://localhost:4318"


class LineOptions(NamedTuple):
    """What the command line says of the lines, checked."""

    pids: tuple[int, ...]  # none: every process
    show_tid: bool
    time: str
    raw_args: bool
    fields: tuple[str, ...] = ()  # --fields; none: whole lines
    color: str = "auto"
    format: str = "lines"  # one of FORMATS
    endpoint: str = ENDPOINT  # of otlp
    output: str = ""  # -o, for a format that writes it itself

    @property
    def json(self) -> bool:
        """Whether errors are objects among the events."""
        return self.format == "json"

    @property
    def is_text(self) -> bool:
        """Whether the formatter makes text; others write or send by themselves."""
        return self.format not in ("parquet", "otlp")

    @property
    def encoding(self) -> str:
        """Of the text: that of stdout, but UTF-8 in a file, and where the format is."""
        return "utf-8" if self.output or self.format == "chrome-trace" else sys.stdout.encoding


def read_line_options(words: dict[str, Any]) -> LineOptions:
    """The options in docopt's words. Raises: usage.UsageError."""
    fields = words.get("--fields")
    options = LineOptions(
        pids=usage.numbers(words, "--pid", 1, usage.PID_MAX),
        show_tid=words["--show-tid"],
        time=usage.choice(words, "--time", ("ns", "boot", "wall")),
        raw_args=words["--raw-args"],
        fields=() if fields is None else tuple(fields.split(",")),
        color="auto" if words.get("--color") is None else usage.choice(words, "--color", COLORS),
        format=_read_format(words),
        endpoint=_read_endpoint(words),
        output=words.get("--output") or "",
    )
    if "" in options.fields:
        example = "'--fields time,pid,comm,args'"
        raise usage.UsageError(f"--fields takes names with commas between, as in {example}")
    if options.fields and options.show_tid:
        raise usage.UsageError("--show-tid is of whole lines: name tid among the --fields")
    _check_format(options, words)
    return options


def _read_format(words: dict[str, Any]) -> str:
    given = words.get("--format")
    if given is None:
        return "json" if words.get("--json") else "lines"
    found = usage.choice(words, "--format", FORMATS)
    if words.get("--json") and found != "json":
        raise usage.UsageError(f"--json is --format json: give it or --format {found}")
    return found


def _read_endpoint(words: dict[str, Any]) -> str:
    given = words.get("--endpoint")
    if given is None:
        return os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ENDPOINT
    if not re.fullmatch(r"https?://[!-~]+", given):
        raise usage.UsageError(f"--endpoint takes a URL as {ENDPOINT}, not {given!r}")
    return str(given)


def _check_format(options: LineOptions, words: dict[str, Any]) -> None:
    """Refuses options that the format has no use for. Raises: usage.UsageError."""
    form, given = options.format, f"--format {options.format}"
    if words.get("--json"):
        given = "--json"
    of_text = form in ("lines", "json")
    for option, is_useless in (
        ("--fields", options.fields and form != "lines"),
        ("--show-tid", options.show_tid and not of_text),
        ("--time", options.time != "ns" and not of_text),
        ("--raw-args", options.raw_args and form == "folded"),
        ("--line-buffered", words.get("--line-buffered") and form not in _AS_THEY_COME),
        ("--dry-run", words.get("--dry-run") and form != "lines"),
        ("--output", options.output and form == "otlp"),
    ):
        if is_useless:
            raise usage.UsageError(f"{given} has no use for {option}: leave one of them out")
    if form == "parquet" and not options.output:
        raise usage.UsageError("--format parquet writes a file: name it with -o")
    stacks = words.get("--kernel-stack") or words.get("--user-stack")
    if form == "folded" and words.get("FUNCTION") and not stacks:  # a replay has what it has
        raise usage.UsageError("--format folded counts stacks: ask for them with -k or -u")
    if words.get("--endpoint") is not None and form != "otlp":
        raise usage.UsageError("--endpoint is where --format otlp sends to: give both")
