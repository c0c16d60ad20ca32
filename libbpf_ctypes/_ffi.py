"""libbpf through ctypes: finds it, loads it on first use, holds its prototypes.

The only module that knows a shared library. ``lib.NAME(...)`` calls libbpf's
function NAME; one that fails raises BpfError with the error number taken
before anything else ran.
"""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_long,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Callable, NamedTuple, Optional

from .errors import BpfError, LibraryError

ENVIRONMENT = "LIBBPF_CTYPES_LIBRARY"
DEFAULT_LIBRARY = "libbpf.so.1"
INSTALL_HINT = (
    "Install libbpf 1.0 or newer: 'apt install libbpf1' (Debian 12+, Ubuntu 24.04+), "
    "'dnf install libbpf' (Fedora, RHEL), 'apk add libbpf' (Alpine); "
    f"or name the library in {ENVIRONMENT}."
)


class BpfObjectP(c_void_p):
    """struct bpf_object *"""


class BpfProgramP(c_void_p):
    """struct bpf_program *"""


class BpfMapP(c_void_p):
    """struct bpf_map *"""


class BpfLinkP(c_void_p):
    """struct bpf_link *"""


class PerfBufferP(c_void_p):
    """struct perf_buffer *"""


class BtfP(c_void_p):
    """struct btf *"""


class Opts(Structure):
    """Base of libbpf's opts structs: zeroed, with ``sz`` set, as LIBBPF_OPTS does."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(ctypes.sizeof(self), **fields)


class OpenOpts(Opts):
    """struct bpf_object_open_opts, its first fields"""

    _fields_ = [("sz", c_size_t), ("object_name", c_char_p)]


class KprobeOpts(Opts):
    """struct bpf_kprobe_opts; bytes past an older libbpf's last field stay zero."""

    _fields_ = [
        ("sz", c_size_t),
        ("bpf_cookie", c_uint64),
        ("offset", c_size_t),
        ("retprobe", c_bool),
        ("attach_mode", c_int),  # libbpf 1.2
    ]


class UprobeOpts(Opts):
    """struct bpf_uprobe_opts"""

    _fields_ = [
        ("sz", c_size_t),
        ("ref_ctr_offset", c_size_t),
        ("bpf_cookie", c_uint64),
        ("retprobe", c_bool),
        ("func_name", c_char_p),
        ("attach_mode", c_int),  # libbpf 1.2
    ]


class PerfBufferOpts(Opts):
    """struct perf_buffer_opts"""

    _fields_ = [("sz", c_size_t), ("sample_period", c_uint32)]  # libbpf 1.2


class PerfEventAttr(Structure):
    """struct perf_event_attr as it was first, which ``size`` says (PERF_ATTR_SIZE_VER0)"""

    _fields_ = [
        ("type", c_uint32),
        ("size", c_uint32),
        ("config", c_uint64),
        ("sample_period", c_uint64),
        ("sample_type", c_uint64),
        ("read_format", c_uint64),
        ("flags", c_uint64),
        ("wakeup_events", c_uint32),
        ("bp_type", c_uint32),
        ("config1", c_uint64),
    ]


PrintFn = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
SampleFn = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_uint32)
LostFn = CFUNCTYPE(None, c_void_p, c_int, c_uint64)
EventFn = CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)


def _fail(name: str, code: int) -> BpfError:
    reason = ""
    if code >= 4000:  # enum libbpf_errno: unknown to os.strerror
        text = ctypes.create_string_buffer(128)
        lib.libbpf_strerror(code, text, len(text))
        reason = text.value.decode(errors="replace")
    return BpfError(name, code, reason)


def _pointer(result: Any, function: Any, _arguments: tuple[Any, ...]) -> Any:
    """Checker of a function that returns NULL and sets errno."""
    if not result and result != b"":
        raise _fail(function.__name__, ctypes.get_errno())
    return result


def _status(result: int, function: Any, _arguments: tuple[Any, ...]) -> int:
    """Checker of a function that returns a negative error number."""
    if result < 0:
        raise _fail(function.__name__, -result)
    return result


_Checker = Optional[Callable[[Any, Any, tuple[Any, ...]], Any]]


class Prototype(NamedTuple):
    """One C function, as libbpf's headers declare it."""

    name: str
    arguments: tuple[Any, ...]
    result: Any
    checker: _Checker
    since: str


#: Functions that are called with the GIL held: each callback would take it and give it
#: back, and with a busy second thread wait for it 5 ms each time.
KEEP_GIL = ("perf_buffer__consume_buffer",)

# fmt: off
PROTOTYPES = {p.name: p for p in (Prototype(*row) for row in (
    # libbpf.h: the library
    ("libbpf_major_version", (), c_uint32, None, "0.6"),
    ("libbpf_minor_version", (), c_uint32, None, "0.6"),
    ("libbpf_strerror", (c_int, c_char_p, c_size_t), c_int, None, "0.0.1"),
    ("libbpf_set_print", (c_void_p,), c_void_p, None, "0.0.1"),
    ("libbpf_num_possible_cpus", (), c_int, _status, "0.0.4"),
    # libbpf.h: objects
    ("bpf_object__open_mem",
     (c_void_p, c_size_t, POINTER(OpenOpts)), BpfObjectP, _pointer, "0.0.6"),
    ("bpf_object__load", (BpfObjectP,), c_int, _status, "0.0.1"),
    ("bpf_object__close", (BpfObjectP,), None, None, "0.0.1"),
    ("bpf_object__btf", (BpfObjectP,), BtfP, None, "0.0.2"),
    ("bpf_object__next_program", (BpfObjectP, BpfProgramP), BpfProgramP, None, "0.6"),
    ("bpf_object__next_map", (BpfObjectP, BpfMapP), BpfMapP, None, "0.6"),
    # libbpf.h: programs and links
    ("bpf_program__name", (BpfProgramP,), c_char_p, None, "0.0.7"),
    ("bpf_program__section_name", (BpfProgramP,), c_char_p, None, "0.2"),
    ("bpf_program__type", (BpfProgramP,), c_int, None, "0.7"),
    ("bpf_program__fd", (BpfProgramP,), c_int, None, "0.0.1"),
    ("bpf_program__attach_kprobe",
     (BpfProgramP, c_bool, c_char_p), BpfLinkP, _pointer, "0.0.4"),
    ("bpf_program__attach_kprobe_opts",
     (BpfProgramP, c_char_p, POINTER(KprobeOpts)), BpfLinkP, _pointer, "0.5"),
    ("bpf_program__attach_uprobe_opts",
     (BpfProgramP, c_int, c_char_p, c_size_t, POINTER(UprobeOpts)), BpfLinkP, _pointer, "0.5"),
    ("bpf_program__attach_raw_tracepoint",
     (BpfProgramP, c_char_p), BpfLinkP, _pointer, "0.0.4"),
    ("bpf_link__destroy", (BpfLinkP,), c_int, _status, "0.0.4"),
    # libbpf.h: maps
    ("bpf_map__name", (BpfMapP,), c_char_p, None, "0.0.1"),
    ("bpf_map__type", (BpfMapP,), c_int, None, "0.1"),
    ("bpf_map__key_size", (BpfMapP,), c_uint32, None, "0.1"),
    ("bpf_map__value_size", (BpfMapP,), c_uint32, None, "0.1"),
    ("bpf_map__max_entries", (BpfMapP,), c_uint32, None, "0.1"),
    ("bpf_map__fd", (BpfMapP,), c_int, None, "0.0.1"),
    ("bpf_map__initial_value", (BpfMapP, POINTER(c_size_t)), c_void_p, None, "0.5"),
    ("bpf_map__lookup_elem",
     (BpfMapP, c_char_p, c_size_t, c_char_p, c_size_t, c_uint64), c_int, _status, "0.8"),
    # libbpf.h: perf buffers
    ("perf_buffer__new",
     (c_int, c_size_t, SampleFn, LostFn, c_void_p, POINTER(PerfBufferOpts)),
     PerfBufferP, _pointer, "0.6"),
    ("perf_buffer__new_raw",
     (c_int, c_size_t, POINTER(PerfEventAttr), EventFn, c_void_p, c_void_p),
     PerfBufferP, _pointer, "0.6"),
    ("perf_buffer__free", (PerfBufferP,), None, None, "0.0.4"),
    ("perf_buffer__epoll_fd", (PerfBufferP,), c_int, _status, "0.2"),
    ("perf_buffer__buffer_cnt", (PerfBufferP,), c_size_t, None, "0.2"),
    ("perf_buffer__buffer",
     (PerfBufferP, c_int, POINTER(c_void_p), POINTER(c_size_t)), c_int, _status, "1.0"),
    ("perf_buffer__consume_buffer", (PerfBufferP, c_size_t), c_int, _status, "0.2"),
    # btf.h
    ("btf__load_vmlinux_btf", (), BtfP, _pointer, "0.5"),
    ("btf__load_module_btf", (c_char_p, BtfP), BtfP, _pointer, "0.5"),
    ("btf__free", (BtfP,), None, None, "0.0.1"),
    ("btf__type_cnt", (BtfP,), c_uint32, None, "0.6"),
    ("btf__find_by_name_kind", (BtfP, c_char_p, c_uint32), c_int, _status, "0.0.6"),
    ("btf__type_by_id", (BtfP, c_uint32), c_void_p, _pointer, "0.0.1"),
    ("btf__name_by_offset", (BtfP, c_uint32), c_char_p, _pointer, "0.0.1"),
    ("btf__resolve_size", (BtfP, c_uint32), c_long, _status, "0.0.1"),
))}
# fmt: on


def _load() -> ctypes.CDLL:
    """Opens libbpf and refuses one whose functions have other signatures."""
    path = os.environ.get(ENVIRONMENT) or DEFAULT_LIBRARY
    operation = f"load {path}"
    try:
        library = ctypes.CDLL(path, use_errno=True)
    except (OSError, ValueError) as error:  # a path that is no text
        code = getattr(error, "errno", None)
        raise LibraryError(operation, code, str(error), hint=INSTALL_HINT) from None
    try:
        major = library.libbpf_major_version()
    except AttributeError:  # libbpf has it since 0.6
        old = hasattr(library, "bpf_object__open")
        reason = "this is libbpf 0.x, too old" if old else "this is no libbpf"
        raise LibraryError(operation, None, reason, hint=INSTALL_HINT) from None
    if major != 1:
        reason = f"this is libbpf {major}.x, whose functions have other signatures than 1.x's"
        raise LibraryError(operation, None, reason, hint=INSTALL_HINT)
    return _with_handles(library)


def _with_handles(library: ctypes.CDLL) -> ctypes.CDLL:
    """The same library, its functions called by _call()."""
    plain = library._FuncPtr
    members = {"__call__": _call, "_flags_": plain._flags_, "_restype_": plain._restype_}
    library._FuncPtr = type("_Function", (plain,), members)
    return library


def _call(function: Any, *arguments: Any) -> Any:
    """Calls a function of libbpf with the handles' pointers.

    ctypes would ask for ``_as_parameter_`` too, but hide a ClosedError in its ArgumentError.
    """
    pointers = [getattr(argument, "_as_parameter_", argument) for argument in arguments]
    return super(type(function), function).__call__(*pointers)


class _Lib:
    """libbpf's functions as attributes, each bound when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: ctypes.CDLL | None = None

    def __getattr__(self, name: str) -> Any:
        prototype = PROTOTYPES.get(name)
        if prototype is None:
            raise AttributeError(name)
        with self._lock:
            if self._library is None:
                self._library = _load()
            library = self._library
        if name in KEEP_GIL:
            path, handle = library._name, library._handle
            library = _with_handles(ctypes.PyDLL(path, handle=handle, use_errno=True))
        try:
            function = library[name]  # not getattr: this function object is ours alone
        except AttributeError:
            raise self._missing(library, prototype) from None
        function.argtypes = prototype.arguments
        function.restype = prototype.result
        if prototype.checker is not None:
            function.errcheck = prototype.checker
        setattr(self, name, function)
        return function

    @staticmethod
    def _missing(library: ctypes.CDLL, prototype: Prototype) -> LibraryError:
        found = f"{library.libbpf_major_version()}.{library.libbpf_minor_version()}"
        reason = f"needs libbpf {prototype.since}; {library_path()} is libbpf {found}"
        return LibraryError(prototype.name, None, reason, hint=INSTALL_HINT)


class _DlInfo(Structure):
    """Dl_info of dladdr(3)"""

    _fields_ = [
        ("file_name", c_char_p),
        ("base", c_void_p),
        ("symbol_name", c_char_p),
        ("symbol_address", c_void_p),
    ]


def library_path() -> str:
    """The path of the loaded libbpf.

    Raises:
        LibraryError: libbpf is missing or unusable.

    Source: dladdr(3).
    """
    info = _DlInfo()
    address = ctypes.cast(lib.libbpf_major_version, c_void_p)
    ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return os.fsdecode(info.file_name or b"")


def library_version() -> str:
    """The loaded libbpf's version, as ``"1.1"``.

    Raises:
        LibraryError: libbpf is missing or unusable.

    Source: ``libbpf_major_version``, ``libbpf_minor_version`` (libbpf 0.6).
    """
    return f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}"


lib: Any = _Lib()
