"""``ebpf-tool schema``: a struct of an object file as Python source."""

from __future__ import annotations

from typing import Any

from ..declare import module_source
from ..layout import Structs
from ..object import BpfObject
from .source import print_source
from .text import escape


def run(words: dict[str, Any]) -> int:
    """Prints the source, or without STRUCT the structs' names; returns the exit status."""
    struct = words["STRUCT"]

    def make(obj: BpfObject) -> str:
        if struct is None:
            return "".join(f"{escape(name)}\n" for name in Structs(obj).names)
        return module_source(obj, struct)

    return print_source(words["FILE"], make)
