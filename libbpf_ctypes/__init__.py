"""libbpf_ctypes: the system's libbpf from Python, through ctypes alone.

Importing it loads neither libbpf nor construct: each name is fetched on first
use, and libbpf on its first call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ._ffi import library_path, library_version
    from .errors import (
        BpfError,
        ClosedError,
        DecodeError,
        LayoutError,
        LibraryError,
        NotFoundError,
        RecordingError,
    )
    from .events import SYSCALL_EVENT, SyscallEvent
    from .info import (
        BtfInfo,
        LinkInfo,
        MapInfo,
        ProgramInfo,
        btf_info,
        link_info,
        map_info,
        program_info,
    )
    from .link import Link
    from .maps import Map
    from .object import BpfObject
    from .paths import KPROBE_OBJECT
    from .perf_buffer import PerfBuffer
    from .program import Program
    from .recording import RecordingReader
    from .ring_buffer import RingBuffer
    from .schema import Schema

_MODULES = {
    "BpfError": "errors",
    "BpfObject": "object",
    "BtfInfo": "info",
    "ClosedError": "errors",
    "DecodeError": "errors",
    "KPROBE_OBJECT": "paths",
    "LayoutError": "errors",
    "LibraryError": "errors",
    "Link": "link",
    "LinkInfo": "info",
    "Map": "maps",
    "MapInfo": "info",
    "NotFoundError": "errors",
    "PerfBuffer": "perf_buffer",
    "Program": "program",
    "ProgramInfo": "info",
    "RecordingError": "errors",
    "RecordingReader": "recording",
    "RingBuffer": "ring_buffer",
    "SYSCALL_EVENT": "events",
    "Schema": "schema",
    "SyscallEvent": "events",
    "btf_info": "info",
    "library_path": "_ffi",
    "library_version": "_ffi",
    "link_info": "info",
    "map_info": "info",
    "program_info": "info",
}

__all__ = [
    "KPROBE_OBJECT",
    "SYSCALL_EVENT",
    "BpfError",
    "BpfObject",
    "BtfInfo",
    "ClosedError",
    "DecodeError",
    "LayoutError",
    "LibraryError",
    "Link",
    "LinkInfo",
    "Map",
    "MapInfo",
    "NotFoundError",
    "PerfBuffer",
    "Program",
    "ProgramInfo",
    "RecordingError",
    "RecordingReader",
    "RingBuffer",
    "Schema",
    "SyscallEvent",
    "btf_info",
    "library_path",
    "library_version",
    "link_info",
    "map_info",
    "program_info",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
