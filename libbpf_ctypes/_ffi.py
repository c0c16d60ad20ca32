"""libbpf through ctypes: finds it, and loads it on first use.

The only module that knows a shared library. ``lib.NAME(...)`` calls libbpf's
function NAME, of which _libbpf.py knows the types; one that fails raises BpfError
with the error number taken before anything else ran.
"""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import get_errno, set_errno
from typing import Any, Callable, NamedTuple

from ._libbpf import FUNCTIONS
from ._types import ctype, split
from .errors import ENOTSUPP, BpfError, LibraryError

ENVIRONMENT = "LIBBPF_CTYPES_LIBRARY"
DEFAULT_LIBRARY = "libbpf.so.1"
INSTALL_HINT = (
    "Install libbpf 1.0 or newer: 'apt install libbpf1' (Debian 12+, Ubuntu 24.04+), "
    "'dnf install libbpf' (Fedora, RHEL), 'apk add libbpf' (Alpine); "
    f"or name the library in {ENVIRONMENT}."
)


def _fail(name: str, code: int) -> BpfError:
    reason = ""
    if code >= 4000:  # enum libbpf_errno: unknown to os.strerror
        text = ctypes.create_string_buffer(128)
        lib.libbpf_strerror(code, text, len(text))
        reason = text.value.decode(errors="replace")
    elif code == ENOTSUPP:
        reason = "Operation is not supported (ENOTSUPP)"
    return BpfError(name, code or None, reason)


def _pointer(result: Any, function: Any, _arguments: tuple[Any, ...]) -> Any:
    """Checker of a function that returns NULL and sets errno."""
    if not result and result != b"":
        raise _fail(function.__name__, get_errno())
    return result


def _status(result: int, function: Any, _arguments: tuple[Any, ...]) -> int:
    """Checker of a function that returns a negative error number."""
    if result < 0:
        raise _fail(function.__name__, -result)
    return result


#: Functions whose NULL is an answer, not an error: there is none, or it is the last one.
NULL_ANSWERS = frozenset(
    (
        "bpf_link__pin_path",
        "bpf_map__inner_map",
        "bpf_map__pin_path",
        "bpf_map__get_pin_path",
        "bpf_map__exclusive_program",
        "bpf_map__initial_value",
        "bpf_object__btf",
        "bpf_object__next_map",
        "bpf_object__next_program",
        "bpf_object__prev_map",
        "bpf_object__prev_program",
        "bpf_program__func_info",
        "bpf_program__insns",
        "bpf_program__line_info",
        "bpf_program__log_buf",
        "btf__base_btf",
        "libbpf_bpf_attach_type_str",
        "libbpf_bpf_link_type_str",
        "libbpf_bpf_map_type_str",
        "libbpf_bpf_prog_type_str",
        "libbpf_set_print",
    )
)

#: Functions whose negative number is an answer: not loaded, not known, as it was given.
NEGATIVE_ANSWERS = frozenset(
    (
        "bpf_map__fd",
        "bpf_object__btf_fd",
        "bpf_object__token_fd",
        "bpf_program__fd",
        "btf__fd",
        "libbpf_get_error",
        "libbpf_strerror",
    )
)

#: Those of them that may fail, too: they set errno then, and do not touch it where NULL is
#: the answer.
NULL_OR_ERROR = frozenset(
    (
        "bpf_map__inner_map",
        "bpf_object__next_map",
        "bpf_object__next_program",
        "bpf_object__prev_map",
        "bpf_object__prev_program",
    )
)

#: Functions that are called with the GIL held: each callback would take it and give it
#: back, and with a busy second thread wait for it 5 ms each time.
KEEP_GIL = ("perf_buffer__consume_buffer", "ring_buffer__consume")


def _descriptor(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Checker of a function that returns -1 where a map has no descriptor yet."""
    return result if result == -1 else _status(result, function, arguments)


def _not_zero(result: int, function: Any, _arguments: tuple[Any, ...]) -> int:
    """Checker of a function that returns 0 and sets errno."""
    if not result:
        raise _fail(function.__name__, get_errno())
    return result


def _null_or_error(result: Any, function: Any, _arguments: tuple[Any, ...]) -> Any:
    """Checker of a function whose NULL is an error only with an errno: it was 0 before."""
    if not result and get_errno():
        raise _fail(function.__name__, get_errno())
    return result


_Checker = Callable[[Any, Any, tuple[Any, ...]], Any]

#: Functions that tell of a failure as no other one does.
_OWN_WAYS: dict[str, _Checker] = {
    "bpf_object__find_map_fd_by_name": _descriptor,
    "btf__align_of": _not_zero,
}


class Prototype(NamedTuple):
    """One C function, as libbpf's headers declare it, and what tells that it failed."""

    name: str
    arguments: tuple[Any, ...]
    result: Any
    checker: _Checker | None
    since: str


def prototype(name: str) -> Prototype:
    """The prototype of a function. Raises: KeyError: libbpf has none of that name."""
    since, result, parameters = FUNCTIONS[name]
    checker: _Checker | None = None
    if name in _OWN_WAYS:
        checker = _OWN_WAYS[name]
    elif name in NULL_OR_ERROR:
        checker = _null_or_error
    elif result.endswith("*") and name not in NULL_ANSWERS:
        checker = _pointer
    elif result in ("int", "long", "s64") and name not in NEGATIVE_ANSWERS:
        checker = _status
    arguments = tuple(ctype(word.rpartition(" ")[0]) for word in split(parameters))
    return Prototype(name, arguments, ctype(result), checker, since)


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
    members["clean_errno"] = False  # whether it is called with an errno of 0
    library._FuncPtr = type("_Function", (plain,), members)
    return library


def _call(function: Any, *arguments: Any) -> Any:
    """Calls a function of libbpf with the handles' pointers.

    ctypes would ask for ``_as_parameter_`` too, but hide a ClosedError in its ArgumentError.

    ctypes' copy of errno is left as it was: a handler of signals, a collected handle or a
    logging handler may call libbpf between another call and the look at that one's errno.
    """
    pointers = [getattr(argument, "_as_parameter_", argument) for argument in arguments]
    before = get_errno()
    if function.clean_errno:
        set_errno(0)
    try:
        return super(type(function), function).__call__(*pointers)
    finally:
        set_errno(before)


class _Lib:
    """libbpf's functions as attributes, each bound when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: ctypes.CDLL | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise AttributeError(f"libbpf has no function {name}")
        declared = prototype(name)
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
            raise self._missing(library, declared) from None
        function.argtypes = declared.arguments
        function.restype = declared.result
        function.clean_errno = name in NULL_OR_ERROR  # type: ignore[attr-defined]
        if declared.checker is not None:
            function.errcheck = declared.checker
        setattr(self, name, function)
        return function

    @staticmethod
    def _missing(library: ctypes.CDLL, declared: Prototype) -> LibraryError:
        found = f"{library.libbpf_major_version()}.{library.libbpf_minor_version()}"
        reason = f"needs libbpf {declared.since}; {library_path()} is libbpf {found}"
        if declared.since.startswith("0."):  # which every libbpf 1.x has: it is broken
            hint = INSTALL_HINT
        else:
            hint = f"Install libbpf {declared.since} or newer, or name one in {ENVIRONMENT}."
        return LibraryError(declared.name, None, reason, hint=hint)


class _DlInfo(ctypes.Structure):
    """Dl_info of dladdr(3)"""

    _fields_ = [
        ("file_name", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol_name", ctypes.c_char_p),
        ("symbol_address", ctypes.c_void_p),
    ]


def library_path() -> str:
    """The path of the loaded libbpf.

    Raises:
        LibraryError: libbpf is missing or unusable.

    Source: dladdr(3).
    """
    info = _DlInfo()
    address = ctypes.cast(lib.libbpf_major_version, ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return os.fsdecode(info.file_name or b"")


def library_version() -> str:
    """The loaded libbpf's version, as ``"1.1"``.

    Raises:
        LibraryError: libbpf is missing or unusable.

    Source: ``libbpf_major_version``, ``libbpf_minor_version`` (libbpf 0.6).
    """
    return f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}"


def libbpf_has(since: str) -> bool:
    """Whether the loaded libbpf is of this version or newer."""
    loaded = lib.libbpf_major_version(), lib.libbpf_minor_version()
    return loaded >= tuple(int(part) for part in since.split("."))


lib: Any = _Lib()
