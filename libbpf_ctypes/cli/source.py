"""What prints Python source made of an object file has in common."""

from __future__ import annotations

from typing import Callable

from ..errors import BpfError
from ..object import BpfObject
from .console import Console, wants_debug


def print_source(file: str, make: Callable[[BpfObject], str]) -> int:
    """Prints what MAKE makes of the object in FILE; returns the exit status."""
    console = Console(quiet=False, verbose=wants_debug(0))
    try:
        with BpfObject.open(file) as obj:
            text = make(obj)
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
