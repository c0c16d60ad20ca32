"""Names of C++ and Rust functions as their authors wrote them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache

#: The hash that Rust's older scheme, which is C++'s, puts behind each name.
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}(?= \(\.|$)")
_MANGLED = ("_Z", "_R")

#: What to do where names cannot be demangled.
HINT = "pip install 'libbpf-ctypes[symbols]'" + (
    "" if sys.version_info >= (3, 11) else " (in a Python from 3.11 on)"
)


@lru_cache(maxsize=1)
def _demangler() -> Callable[[str], str | None] | None:
    try:
        from pycxxfilt import demangle as found
    except ImportError:
        return None
    make: Callable[[str], str | None] = found
    return make


def is_mangled(name: str) -> bool:
    """Whether a name looks like one that the compiler made of a C++ or Rust one."""
    return name.startswith(_MANGLED)


def can_demangle() -> bool:
    """Whether the package that demangles is there."""
    return _demangler() is not None


def demangle(name: str) -> str:
    """The name as it was written; one that is not mangled, or cannot be demangled, as it is."""
    found = _demangler() if is_mangled(name) else None
    if found is None:
        return name
    try:
        return _RUST_HASH.sub("", found(name) or name)
    except ValueError:  # it only looked like one
        return name
