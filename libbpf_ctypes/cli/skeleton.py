"""``ebpf-tool skeleton``: an object file as a typed Python module."""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import Any

from ..skeleton_source import DEFAULT_PACKAGE, skeleton_source
from . import usage
from .source import print_source


def run(words: dict[str, Any]) -> int:
    """Prints the module; returns the exit status. Raises: usage.UsageError."""
    file, package = words["FILE"], read_package(words)
    return print_source(file, lambda obj: skeleton_source(obj, file, package))


def read_package(words: dict[str, Any]) -> str:
    """The package that the module imports from. Raises: usage.UsageError."""
    package: str = DEFAULT_PACKAGE if words["--package"] is None else words["--package"]
    names = package.lstrip(".").split(".")
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n) and not iskeyword(n) for n in names):
        example = f"tool.vendor.{DEFAULT_PACKAGE} or .vendor.{DEFAULT_PACKAGE}"
        raise usage.UsageError(f"--package takes a package's name, as {example}, not {package!r}")
    return package
