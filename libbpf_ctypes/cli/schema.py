"""``ebpf-tool schema``: a struct of an object file as Python source."""

from __future__ import annotations

from typing import Any

from ..declare import module_source
from ..errors import BpfError
from ..layout import Structs
from ..object import BpfObject
from .console import Console, wants_debug
from .text import escape


def run(words: dict[str, Any]) -> int:
    """Prints the source, or without STRUCT the structs' names; returns the exit status."""
    console = Console(quiet=False, verbose=wants_debug(0))
    try:
        with BpfObject.open(words["FILE"]) as obj:
            if words["STRUCT"] is None:
                text = "".join(f"{escape(name)}\n" for name in Structs(obj).names)
            else:
                text = module_source(obj, words["STRUCT"])
        print(text, end="", flush=True)
    except BpfError as error:
        console.failure(error)
    except BrokenPipeError:  # the reader has seen enough
        return 0
    except OSError as error:
        console.error(f"write the output: {error.strerror}")
    else:
        return 0
    return 1
