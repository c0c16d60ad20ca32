"""What all attach methods share: arguments checked in words, known refusals explained."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union

from . import kernel
from ._ffi import INSTALL_HINT, lib, libbpf_has, library_path, library_version
from ._types import struct_class
from .enums import AttachType, ProgramType
from .errors import BpfError, LibraryError
from .link import Link
from .log import calling

if TYPE_CHECKING:
    from ._handle import Handle
    from .object import BpfObject

Hint = Callable[[BpfError], str]

#: One cookie for all functions, one for each, or none.
Cookies = Union[int, Sequence[int], None]

#: A file by its path, or an open descriptor.
PathOrFd = Union[str, "os.PathLike[str]", int]

#: A pattern, or a list of names, or of numbers: addresses in the kernel, offsets in a file.
Functions = Union[str, Sequence[Union[str, int]]]

#: What probes of functions are, as an argument of _require_type().
KPROBE = (ProgramType.KPROBE,)

_MODES = ("auto", "legacy", "perf", "link")  # enum probe_attach_mode


class AttachableBase:
    """The program as its attach methods see it."""

    _parent: BpfObject

    # Of Program, which inherits the attach methods.
    name: Any
    section: Any
    type: Any
    _as_parameter_: Any

    def _require_load(self, operation: str) -> int:
        """The program's descriptor. Raises: BpfError before load()."""
        fd = int(lib.bpf_program__fd(self))
        if fd < 0:
            raise BpfError(operation, None, "the object is not loaded", hint="Call load() first.")
        return fd

    def _require_type(self, operation: str, kinds: Sequence[ProgramType], sections: str) -> None:
        """Raises BpfError unless the program's type is one of KINDS.

        libbpf asks the kernel for a link by the program's own type, whatever the number beside
        it means to that: an interface's index, a descriptor.
        """
        if told := expecting(self, kinds, sections):
            raise BpfError(operation, errno.EINVAL, hint=told)

    def _attach(
        self, operation: str, target: str, function: str, *arguments: Any, hint: Hint | None
    ) -> Link:
        """Calls a function of libbpf that returns a link, and owns that."""
        self._require_load(operation)
        with calling(operation, hint):
            pointer = getattr(lib, function)(self, *arguments)
            return self._parent._adopt(Link(pointer, self._parent, target))

    def _adopt(self, child: Handle) -> Any:
        return self._parent._adopt(child)


def name_of(operation: str, what: str, name: str) -> bytes:
    """A name as C takes it. Raises: BpfError: empty, or with a character that no name has."""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise BpfError(operation, errno.EINVAL, f"{name!r} is not {what}")
    return name.encode()


def number(operation: str, what: str, value: int, bits: int, *, least: int = 0) -> int:
    """VALUE, if C takes it: ctypes would cut it. Raises: BpfError."""
    if not isinstance(value, int) or not least <= value < 1 << bits:
        reason = f"{what} is {value!r}, not a number from {least} to {(1 << bits) - 1:#x}"
        raise BpfError(operation, errno.EINVAL, reason)
    return value


def fd_of(operation: str, what: str, handle: Any) -> int:
    """The descriptor of WHAT, or its own. Raises: BpfError."""
    fd = handle if isinstance(handle, int) else getattr(handle, "fd", None)
    if fd is None:
        raise BpfError(operation, errno.EINVAL, f"{what} is {handle!r}, which has no descriptor")
    return number(operation, f"{what}'s descriptor", fd, 31)


def in_hex(value: Any) -> str:
    """A number as messages show it; what is none as it is, to be refused later."""
    return hex(value) if isinstance(value, int) else str(value)


def cookie_of(operation: str, cookie: int) -> int:
    """The cookie, if it is one: 64 bits. Raises: BpfError."""
    return number(operation, "the cookie", cookie, 64)


def cookies_of(operation: str, cookie: Cookies, count: int) -> Any:
    """A cookie for each of COUNT functions as C takes them; None for none. Raises: BpfError."""
    if cookie is None:
        return None
    cookies = list(cookie) if isinstance(cookie, Iterable) else [cookie] * count
    if len(cookies) != count:
        raise BpfError(operation, errno.EINVAL, f"{len(cookies)} cookies for {count} functions")
    return (ctypes.c_uint64 * count)(*(cookie_of(operation, each) for each in cookies))


def pid_of(operation: str, pid: int) -> int:
    """-1 for all processes, 0 for this one, or a process id. Raises: BpfError."""
    return number(operation, "the process id", pid, 31, least=-1)


def mode_of(operation: str, mode: str) -> int:
    """How a probe is attached, as libbpf numbers it. Raises: BpfError, LibraryError."""
    if mode not in _MODES:
        raise BpfError(operation, errno.EINVAL, f"mode {mode!r} is none of {', '.join(_MODES)}")
    if mode != "auto":
        require_libbpf(operation, "1.2", "a choice of how a probe is attached")
    return _MODES.index(mode)


def interface_of(operation: str, interface: str | int) -> int:
    """The index of a network interface by its name, or its own. Raises: BpfError: there is none."""
    import socket

    if isinstance(interface, int):
        number(operation, "the interface's index", interface, 31, least=1)
    else:
        name_of(operation, "the name of an interface", interface)
    try:
        if isinstance(interface, int):
            socket.if_indextoname(interface)
            return interface
        return socket.if_nametoindex(interface)
    except OSError:
        there = ", ".join(name for _, name in socket.if_nameindex()) or "none"
        reason = f"there is no interface {interface} in this network namespace"
        raise BpfError(operation, errno.ENODEV, reason, hint=f"There are: {there}.") from None


@contextmanager
def opened(operation: str, file: PathOrFd, *, folder: bool = False) -> Iterator[int]:
    """A descriptor of a file while it is needed; one that was given stays open."""
    if isinstance(file, int):
        yield number(operation, "the descriptor", file, 31)
        return
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0)
    try:
        fd = os.open(file, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        code = getattr(error, "errno", None) or errno.EINVAL
        reason = f"{os.fspath(file)!r}: {getattr(error, 'strerror', None) or error}"
        raise BpfError(operation, code, reason) from None
    try:
        yield fd
    finally:
        os.close(fd)


def opts(name: str, **fields: Any) -> Any:
    """libbpf's options of that struct; what is 0 or None stays as zeroed."""
    return struct_class(name)(**{key: value for key, value in fields.items() if value})


def require_libbpf(operation: str, since: str, what: str) -> None:
    """Raises LibraryError unless libbpf has WHAT, a field of its options."""
    if not libbpf_has(since):
        reason = f"{what} needs libbpf {since}; {library_path()} is libbpf {library_version()}"
        raise LibraryError(operation, None, reason, hint=INSTALL_HINT)


def kernel_hint(error: BpfError, what: str, since: str) -> str:
    """Why the kernel refused WHAT, which Linux has since that version, as far as can be told."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    running = os.uname().release
    if _version(running) < _version(since):
        return f"{what} needs Linux {since}; this is {running}."
    if error.errno == errno.ENODEV:
        return "There is no such interface in this network namespace."
    if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
        return f"This kernel is built without what {what} needs."
    return ""


def expecting(program: Any, kinds: Sequence[ProgramType], sections: str) -> str:
    """A hint where the program's type is none of KINDS; else ""."""
    if program.type in kinds:
        return ""
    return f"The program is of type {program.type.name}: its section must be {sections}."


def attach_type_of(program: Any) -> AttachType:
    """What the program's section says of where it is attached."""
    return AttachType(lib.bpf_program__expected_attach_type(program))


def _version(version: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    import re

    return tuple(int(each) for each in re.findall(r"\d+", version)[:2])


def function_name(operation: str, function: str) -> bytes:
    if str(function).startswith(":"):
        raise BpfError(operation, errno.EINVAL, f"{function!r} is not a function name")
    return name_of(operation, "a function name", function)


def pattern_or_list(operation: str, functions: Functions) -> tuple[str, Sequence[str | int]]:
    """A pattern or a list, the other one empty."""
    if isinstance(functions, str):
        return functions, []
    if isinstance(functions, bytes) or not isinstance(functions, Iterable):
        reason = f"{functions!r} is neither a pattern nor a list of functions"
        raise BpfError(operation, errno.EINVAL, reason)
    return "", list(functions)


def symbols(
    operation: str,
    pattern: str,
    listed: Sequence[str | int],
    cookie: Cookies,
    names: str,
    places: str,
) -> dict[str, object]:
    """The fields of the options that say where, of names or of numbers."""
    if not listed:
        function_name(operation, pattern)
        if cookie is not None:
            reason = "a cookie goes with a list of functions, not with a pattern"
            raise BpfError(operation, errno.EINVAL, reason)
        return {}
    fields = {"cnt": len(listed), "cookies": cookies_of(operation, cookie, len(listed))}
    names_only = [each for each in listed if isinstance(each, str)]
    if not names_only:
        fields[places] = numbers(operation, "a place", listed)
    elif len(names_only) == len(listed):
        encoded = [function_name(operation, each) for each in names_only]
        fields[names] = (ctypes.c_char_p * len(encoded))(*encoded)
    else:
        raise BpfError(operation, errno.EINVAL, "the list mixes names and numbers")
    return fields


def numbers(operation: str, what: str, values: Sequence[Any]) -> object:
    return (ctypes.c_ulong * len(values))(*(number(operation, what, v, 64) for v in values))


def one_of(operation: str, retprobe: bool, session: bool) -> None:
    if retprobe and session:
        raise BpfError(operation, errno.EINVAL, "a session runs at the return anyway: no retprobe")


TRACEFS_HINT = (
    "tracefs is not mounted: 'mount -t tracefs tracefs /sys/kernel/tracing' first, "
    "or take a raw tracepoint."
)


def tracefs() -> bool:
    """Whether tracefs is where libbpf looks for it."""
    return any(Path(each, "events").is_dir() for each in kernel.TRACEFS)
