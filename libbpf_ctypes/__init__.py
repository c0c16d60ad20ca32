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
    from .attach_iterators import IteratorLink
    from .attach_places import Attached, attached_programs
    from .attachment import Attachment
    from .btf import Btf
    from .cli.text import escape
    from .enums import AttachType, LinkType, MapFlag, MapType, ProgramType, UpdateFlag
    from .errors import (
        BpfError,
        ClosedError,
        DecodeError,
        LayoutError,
        LibraryError,
        NotFoundError,
        RecordingError,
    )
    from .events import CALL_EVENT, SYSCALL_EVENT, CallEvent, SyscallEvent
    from .in_kernel import LoadedProgram, RunResult, Statistics, enable_stats
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
    from .maps import Map, OpenMap
    from .object import BpfObject
    from .object_map import ObjectMap
    from .paths import KPROBE_OBJECT
    from .perf_buffer import PerfBuffer
    from .perf_event import HardwareEvent, PerfEvent, PerfType, SoftwareEvent
    from .program import Program
    from .recording import RecordingReader
    from .ring_buffer import RingBuffer, RingStatistics
    from .schema import Schema
    from .skeleton import Skeleton
    from .source_lines import FunctionInfo, LineInfo
    from .tc import TcAttachment
    from .user_ring_buffer import UserRingBuffer

_MODULES = {
    "AttachType": "enums",
    "Attached": "attach_places",
    "Attachment": "attachment",
    "BpfError": "errors",
    "BpfObject": "object",
    "Btf": "btf",
    "BtfInfo": "info",
    "CALL_EVENT": "events",
    "CallEvent": "events",
    "ClosedError": "errors",
    "DecodeError": "errors",
    "FunctionInfo": "source_lines",
    "HardwareEvent": "perf_event",
    "IteratorLink": "attach_iterators",
    "KPROBE_OBJECT": "paths",
    "LayoutError": "errors",
    "LibraryError": "errors",
    "LineInfo": "source_lines",
    "Link": "link",
    "LinkInfo": "info",
    "LinkType": "enums",
    "LoadedProgram": "in_kernel",
    "Map": "maps",
    "MapFlag": "enums",
    "MapInfo": "info",
    "MapType": "enums",
    "NotFoundError": "errors",
    "ObjectMap": "object_map",
    "OpenMap": "maps",
    "PerfBuffer": "perf_buffer",
    "PerfEvent": "perf_event",
    "PerfType": "perf_event",
    "Program": "program",
    "ProgramInfo": "info",
    "ProgramType": "enums",
    "RecordingError": "errors",
    "RecordingReader": "recording",
    "RingBuffer": "ring_buffer",
    "RingStatistics": "ring_buffer",
    "RunResult": "in_kernel",
    "SYSCALL_EVENT": "events",
    "Schema": "schema",
    "Skeleton": "skeleton",
    "SoftwareEvent": "perf_event",
    "Statistics": "in_kernel",
    "SyscallEvent": "events",
    "TcAttachment": "tc",
    "UpdateFlag": "enums",
    "attached_programs": "attach_places",
    "btf_info": "info",
    "enable_stats": "in_kernel",
    "escape": "cli.text",
    "UserRingBuffer": "user_ring_buffer",
    "library_path": "_ffi",
    "library_version": "_ffi",
    "link_info": "info",
    "map_info": "info",
    "program_info": "info",
}

__all__ = [
    "CALL_EVENT",
    "KPROBE_OBJECT",
    "SYSCALL_EVENT",
    "AttachType",
    "Attached",
    "Attachment",
    "BpfError",
    "BpfObject",
    "Btf",
    "BtfInfo",
    "CallEvent",
    "ClosedError",
    "DecodeError",
    "FunctionInfo",
    "HardwareEvent",
    "IteratorLink",
    "LayoutError",
    "LibraryError",
    "LineInfo",
    "Link",
    "LinkInfo",
    "LinkType",
    "LoadedProgram",
    "Map",
    "MapFlag",
    "MapInfo",
    "MapType",
    "NotFoundError",
    "ObjectMap",
    "OpenMap",
    "PerfBuffer",
    "PerfEvent",
    "PerfType",
    "Program",
    "ProgramInfo",
    "ProgramType",
    "RecordingError",
    "RecordingReader",
    "RingBuffer",
    "RingStatistics",
    "RunResult",
    "Schema",
    "Skeleton",
    "SoftwareEvent",
    "Statistics",
    "SyscallEvent",
    "TcAttachment",
    "UpdateFlag",
    "UserRingBuffer",
    "attached_programs",
    "btf_info",
    "enable_stats",
    "escape",
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
