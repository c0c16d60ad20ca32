"""The version of the running kernel."""

from __future__ import annotations

import os
import re


def is_since(version: str) -> bool:
    """Whether this kernel is of a VERSION, "6.7", or newer."""
    running, since = (
        [int(part) for part in re.findall(r"\d+", text)[:2]]
        for text in (os.uname().release, version)
    )
    return running >= since
