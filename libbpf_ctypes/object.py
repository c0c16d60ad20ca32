"""A BPF object file: opened, adjusted, loaded, its programs attached."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import kernel
from ._ffi import lib
from ._handle import Handle
from ._types import struct_class
from .btf import Btf
from .errors import BpfError, NotFoundError
from .log import calling
from .maps import Map
from .program import Program
from .variables import SECTIONS, Variable

_T = TypeVar("_T")
_H = TypeVar("_H", bound=Handle)

_ELF_MAGIC = b"\x7fELF"
_LITTLE, _BIG = 1, 2
_EM_BPF = 247
_MAX_SIZE = 1 << 26
# ENOENT: libbpf found no section of symbols or strings.
_FORMAT_ERRORS = (errno.ENOENT, errno.EINVAL, errno.ENOEXEC, 4000, 4001, 4002, 4003)


class _Named(Mapping[str, _T]):
    """Parts of an object by name, in the object's order."""

    def __init__(self, what: str, entries: dict[str, _T]) -> None:
        self._what = what
        self._entries = entries

    def __getitem__(self, name: str) -> _T:
        try:
            return self._entries[name]
        except KeyError:
            there = ", ".join(self._entries) or "none"
            reason = f"the object has no {self._what} of that name"
            hint = f"It has: {there}."
            operation = f"find {self._what} {name}"
            raise NotFoundError(operation, errno.ENOENT, reason, hint=hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{self._what}s: {', '.join(self._entries)}>"


class BpfObject(Handle):
    """A BPF object file.

    Open it, set variables, load it into the kernel, attach its programs::

        with BpfObject.open("tool.bpf.o") as obj:
            obj.variables["target_pid"].value = 42
            obj.load()
            link = obj.programs["probe"].attach_kprobe("vfs_read")

    close() also closes the links and buffers that were made of it.

    Attributes:
        programs, maps, variables: its parts by name (read-only mappings); a
            missing name raises NotFoundError, which is a KeyError.

    Source: libbpf's ``struct bpf_object`` (0.0.1; this API 1.0).
    """

    def __init__(self, pointer: Any, source: str, data: object = None) -> None:
        super().__init__(pointer)
        self.source = source
        self.loaded = False
        self._data = data  # libbpf reads it until load()
        self._children: list[weakref.ref[Handle]] = []
        try:
            programs = self._parts(lib.bpf_object__next_program, Program)
            maps = self._parts(lib.bpf_object__next_map, Map)
            self.programs: Mapping[str, Program] = _Named("program", {p.name: p for p in programs})
            self.maps: Mapping[str, Map] = _Named("map", {m.name: m for m in maps})
            self.variables: Mapping[str, Variable] = _Named("variable", self._variables())
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes) -> BpfObject:
        """Opens an object file; nothing is loaded into the kernel.

        Args:
            source: the file's path, or the file's content as bytes.

        Returns: the BpfObject.
        Raises: BpfError: missing, truncated, not an ELF file, for another
            endianness, or not understood by libbpf.

        Source: ``bpf_object__open_mem`` (libbpf 0.0.6).
        """
        if isinstance(source, bytes):
            name, data = f"object of {len(source)} bytes", source
        else:
            name = os.fspath(source)
            data = _read(name)
        _check_elf(name, data)
        buffer = ctypes.create_string_buffer(data, len(data))
        short = os.fsencode(Path(name).name.partition(".")[0])
        opts = struct_class("bpf_object_open_opts")(object_name=short)
        with calling(f"open {name}", _open_hint):
            pointer = lib.bpf_object__open_mem(buffer, len(data), opts)
            return cls(pointer, name, buffer)

    def _parts(self, following: Any, make: Any) -> Iterator[Any]:
        pointer = None
        while pointer := following(self, pointer):
            yield make(pointer, self)

    def _variables(self) -> dict[str, Variable]:
        pointer = lib.bpf_object__btf(self)
        if not pointer:
            return {}
        layouts = Btf(pointer, self, owned=False).variables(SECTIONS)
        # libbpf names a section's map after the object: "kprobe.b.rodata".
        maps = {s: m for s in SECTIONS for m in self.maps.values() if m.name.endswith(s)}
        return {
            layout.name: Variable(self, maps[layout.section], layout)
            for layout in layouts
            if layout.section in maps
        }

    def load(self) -> None:
        """Loads it into the kernel: maps are created, programs verified.

        Raises: BpfError; ``log`` holds the verifier's words if it refused.
        Source: ``bpf_object__load`` (libbpf 0.0.1).
        """
        if self.loaded:
            raise BpfError(f"load {self.source}", errno.EALREADY, "it is loaded already")
        with calling(f"load {self.source}", _load_hint):
            lib.bpf_object__load(self)
            self.loaded = True

    def _adopt(self, child: _H) -> _H:
        """Remembers what must be closed before the object."""
        self._children = [ref for ref in self._children if ref() is not None]
        self._children.append(weakref.ref(child))
        return child

    def _open_children(self, parent: object = None) -> list[Handle]:
        """What was adopted, of this parent or of any, and is not closed."""
        children = [child for ref in self._children if (child := ref()) is not None]
        return [c for c in children if not c.closed and parent in (None, c._parent)]

    def _release(self, pointer: Any) -> None:
        # Links before buffers, so that nobody writes to a buffer without reader.
        for child in sorted(self._open_children(), key=lambda child: child._close_order):
            child.close()
        lib.bpf_object__close(pointer)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "loaded" if self.loaded else "open"
        return f"<BpfObject {self.source} ({state})>"


def _read(name: str) -> bytes:
    """The content of an object file; what has no end is not read to the end."""
    operation = f"open {name}"
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise BpfError(operation, error.errno, error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise BpfError(operation, errno.EINVAL, str(error)) from None
    if len(data) > _MAX_SIZE:
        raise BpfError(operation, errno.EFBIG, f"it is larger than {_MAX_SIZE >> 20} MiB")
    return data


def _check_elf(name: str, data: bytes) -> None:
    """Refuses what libbpf would refuse with a bare number, in words."""
    hint = "It must be a BPF object file, as 'clang -target bpf -g -c' writes it."
    if data[:4] != _ELF_MAGIC:
        what = "it is empty" if not data else "it is not an ELF file"
        raise BpfError(f"open {name}", errno.ENOEXEC, what, hint=hint)
    if len(data) < 64:
        raise BpfError(f"open {name}", errno.ENOEXEC, "it is truncated", hint=hint)
    order = "big" if data[5] == _BIG else "little"
    native = _BIG if sys.byteorder == "big" else _LITTLE
    if data[5] != native:
        reason = f"it is built for a {order}-endian machine, and this one is not"
        raise BpfError(f"open {name}", 4003, reason, hint="Build it with '-target bpf'.")
    machine = int.from_bytes(data[18:20], order)  # type: ignore[arg-type]
    if machine not in (0, _EM_BPF):
        reason = f"it is an ELF file for another machine (e_machine {machine}), not for BPF"
        raise BpfError(f"open {name}", errno.ENOEXEC, reason, hint=hint)
    sections = int.from_bytes(data[40:48], order)  # type: ignore[arg-type]
    if sections > len(data):
        reason = f"it is truncated: {len(data)} bytes, and its sections are listed at {sections}"
        raise BpfError(f"open {name}", errno.ENOEXEC, reason, hint="Copy or build it again.")


def _open_hint(error: BpfError) -> str:
    if error.errno in _FORMAT_ERRORS:
        return "The file is damaged, or newer than this libbpf: build it again, or update libbpf."
    return ""


def _load_hint(error: BpfError) -> str:
    if "PROG LOAD LOG" in error.log:
        return "The kernel's verifier refused a program; its log says where."
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOENT and not Path("/sys/kernel").exists():
        return kernel.NO_SYS_HINT
    return ""
