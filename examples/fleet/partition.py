#!/usr/bin/env python3
"""Puts traces of many hosts where one query finds them: DIRECTORY/host=HOST/date=DATE/NAME.parquet.

    partition.py DIRECTORY TRACE...

A TRACE is a recording (ebpf-tool ... --record), which is converted, or a Parquet file
(ebpf-tool ... --format parquet -o FILE), which is copied. Host and date are the trace's own: the
date is its first event's, in UTC. A file appears under its name when it is whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from pyarrow import ArrowException, parquet


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    directory, *traces = map(Path, sys.argv[1:])
    status = 0
    for trace in traces:
        try:
            print(add(trace, directory))
        except (OSError, ValueError, ArrowException) as error:
            print(f"{trace}: {error}", file=sys.stderr)
            status = 1
    return status


def add(trace: Path, directory: Path) -> Path:
    """Adds a trace to the directory; returns its file there."""
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{trace.stem}.{os.getpid()}"  # engines skip names that begin with a dot
    try:
        if trace.suffix == ".parquet":
            shutil.copyfile(trace, part)
        else:
            # Of a recording whose host was switched off meanwhile, what there is: replay tells.
            tool = ["ebpf-tool", "replay", str(trace), "-q", "--format", "parquet", "-o", str(part)]
            subprocess.run(tool, check=False)
            if not part.exists():
                raise ValueError("there is no trace in it")
        place = directory / partition(part)
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{trace.stem}.parquet"
        os.link(part, path)  # which does not replace a file that is there
        return path
    finally:
        part.unlink(missing_ok=True)


def partition(file: Path) -> str:
    """Where the file belongs: "host=web1/date=2026-11-23"."""
    with parquet.ParquetFile(file) as opened:
        known = opened.metadata.metadata or {}
        column = opened.schema_arrow.get_field_index("timestamp_ns")
        if column < 0 or not known.keys() >= {b"host", b"clock_offset_ns"}:
            raise ValueError("it is no trace of ebpf-tool --format parquet")
        host, clock = known[b"host"].decode() or "(none)", int(known[b"clock_offset_ns"])
        groups = [opened.metadata.row_group(at) for at in range(opened.metadata.num_row_groups)]
        times = [group.column(column).statistics for group in groups]
        # A damaged recording's times may not fit: they are null.
        first = min((each.min for each in times if each.has_min_max), default=-clock)
    date = datetime.fromtimestamp((first + clock) // 10**9, timezone.utc).date()
    return f"host={quote(host, safe='')}/date={date}"


if __name__ == "__main__":
    sys.exit(main())
