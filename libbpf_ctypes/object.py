"""A BPF object file: opened, adjusted, loaded, its programs attached."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import kernel
from ._ffi import lib, library_version
from ._types import struct_class
from .attach import attach_all
from .btf import Btf
from .elf import check_elf, read_object
from .errors import BpfError, ClosedError, NotFoundError
from .in_kernel import check_u32
from .link import Link
from .log import calling
from .object_map import ObjectMap
from .object_pins import Pinnable
from .program import Program
from .variables import SECTIONS, Variable

_T = TypeVar("_T")

# ENOENT: libbpf found no section of symbols or strings.
_FORMAT_ERRORS = (errno.ENOENT, errno.EINVAL, errno.ENOEXEC, 4000, 4001, 4002, 4003)
_VERIFIER_HINT = "The kernel's verifier refused a program; its log says where."


class _Named(Mapping[str, _T]):
    """Parts of an object by name, in the object's order."""

    def __init__(self, what: str, entries: dict[str, _T]) -> None:
        self._what = what
        self._entries: Mapping[str, _T | None] = entries

    def __getitem__(self, name: str) -> _T:
        try:
            found = self._entries[name]
        except KeyError:
            there = ", ".join(self._entries) or "none"
            reason = f"the object has no {self._what} of that name"
            hint = f"It has: {there}."
            operation = f"find {self._what} {name}"
            raise NotFoundError(operation, errno.ENOENT, reason, hint=hint) from None
        if found is None:
            raise ClosedError(f"use {self._what} {name}", None, "its object is closed")
        return found

    def forget(self) -> None:
        """Keeps the names alone: the parts hold the object."""
        self._entries = dict.fromkeys(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{self._what}s: {', '.join(self._entries)}>"


class BpfObject(Pinnable):
    """A BPF object file.

    Open it, set variables, load it into the kernel, attach its programs::

        with BpfObject.open("tool.bpf.o") as obj:
            obj.variables["target_pid"].value = 42
            obj.load()
            link = obj.programs["probe"].attach_kprobe("vfs_read")

    close() also closes the links and buffers that were made of it. It may be called at any
    time: in what a buffer's poll calls, in a handler of libbpf's messages, in another thread.

    Attributes:
        programs, maps, variables: its parts by name (read-only mappings); a
            missing name raises NotFoundError, which is a KeyError.

    Source: libbpf's ``struct bpf_object`` (0.0.1; this API 1.0).
    """

    def __init__(self, pointer: Any, source: str, data: Any = None) -> None:
        super().__init__(pointer)
        self.source = source
        self.loaded = False
        self._prepared = False  # its maps are in the kernel
        self._load_tried = False  # libbpf takes no settings any more
        self._data = data  # libbpf reads it until load()
        try:
            programs = self._parts(lib.bpf_object__next_program, Program)
            maps = self._parts(lib.bpf_object__next_map, ObjectMap)
            self.programs: Mapping[str, Program] = _Named("program", {p.name: p for p in programs})
            self.maps: Mapping[str, ObjectMap[Any, Any]] = _Named("map", {m.name: m for m in maps})
            self.variables: Mapping[str, Variable] = _Named("variable", self._variables())
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes,
        *,
        name: str = "",
        relaxed_maps: bool = False,
        pin_root_path: str | os.PathLike[str] = "",
        kconfig: str = "",
        btf_custom_path: str | os.PathLike[str] = "",
        kernel_log_level: int = 0,
        bpf_token_path: str | os.PathLike[str] = "",
    ) -> BpfObject:
        """Opens an object file; nothing is loaded into the kernel.

        Args:
            source: the file's path, or the file's content as bytes.
            name: its name, which begins those of its variables' maps, and stands in errors
                where SOURCE is its content; by default the file's up to the first dot.
            relaxed_maps: take maps with fields that this libbpf does not know.
            pin_root_path: where its maps with LIBBPF_PIN_BY_NAME are pinned, and taken from;
                by default /sys/fs/bpf.
            kconfig: lines as of a kernel's .config, which go before those of the running
                kernel for the object's ``__kconfig`` variables.
            btf_custom_path: the BTF of the running kernel in a file, for one that has none.
            kernel_log_level: of all its programs, see ``Program.log_level`` (libbpf 0.7).
            bpf_token_path: a BPF file system to take a BPF token of (libbpf 1.5, Linux 6.9).

        Returns: the BpfObject.
        Raises: BpfError: missing, truncated, not an ELF file, for another
            endianness, or not understood by libbpf; LibraryError: a token with a libbpf
            before 1.5.

        Source: ``bpf_object__open_mem`` (libbpf 0.0.6).
        """
        if isinstance(source, bytes):
            path, data = name or f"object of {len(source)} bytes", source
        else:
            path = os.fspath(source)
            data = read_object(path)
        check_elf(path, data)
        buffer = ctypes.create_string_buffer(data, len(data))
        operation = f"open {path}"
        texts = {
            "object_name": name or Path(path).name.partition(".")[0],
            "pin_root_path": pin_root_path,
            "kconfig": kconfig,
            "btf_custom_path": btf_custom_path,
            "bpf_token_path": bpf_token_path,
        }
        opts = struct_class("bpf_object_open_opts")(
            relaxed_maps=relaxed_maps,
            **{key: _text(operation, key, value) for key, value in texts.items()},
        )
        if kernel_log_level:
            opts.kernel_log_level = check_u32(operation, "kernel_log_level", kernel_log_level)
        if bpf_token_path:
            _ = lib.bpf_object__token_fd  # raises where libbpf knows no tokens
        with calling(operation, _open_hint):
            pointer = lib.bpf_object__open_mem(buffer, len(data), opts)
            return cls(pointer, path, buffer)

    @property
    def name(self) -> str:
        """Its name. Source: ``bpf_object__name`` (libbpf 0.0.1)."""
        return str(lib.bpf_object__name(self).decode(errors="backslashreplace"))

    @property
    def kversion(self) -> int:
        """The kernel's version that its programs are loaded for, 0x060c00 for 6.12; settable.

        Kprobe programs needed it before Linux 5.0.

        Source: ``bpf_object__kversion`` (libbpf 0.0.1), ``bpf_object__set_kversion`` (0.4).
        """
        return int(lib.bpf_object__kversion(self))

    @kversion.setter
    def kversion(self, version: int) -> None:
        operation = f"set the kernel version of {self.source}"
        check_u32(operation, "the version", version)
        if self._load_tried:
            raise BpfError(operation, errno.EBUSY, "the object is loaded already")
        with calling(operation):
            lib.bpf_object__set_kversion(self, version)

    def _parts(self, following: Any, make: Any) -> Iterator[Any]:
        pointer = None
        while pointer := following(self, pointer):
            yield make(pointer, self)

    @property
    def btf(self) -> Btf:
        """Its own types. Raises: BpfError: it has none. Source: ``bpf_object__btf`` (0.0.2)."""
        return Btf.of(self)

    def _variables(self) -> dict[str, Variable]:
        pointer = lib.bpf_object__btf(self)
        if not pointer:
            return {}
        maps: dict[str, ObjectMap[Any, Any]] = {}
        for map in self.maps.values():
            # libbpf names a section's map after the object, "kprobe.b.rodata", but that of
            # one with a name of its own after the section, ".data.own".
            _, dot, section = map.name.rpartition(".")
            name = map.name if map.name.startswith(".") else dot + section
            if name.startswith(SECTIONS):
                maps[name] = map
        layouts = Btf(pointer, self, owned=False).variables(tuple(maps))
        return {layout.name: Variable(self, maps[layout.section], layout) for layout in layouts}

    def prepare(self) -> None:
        """The first half of load(): its maps are created, its programs not yet verified.

        Between the two, maps can be filled and programs' instructions changed; constants
        and the maps' sizes cannot, any more.

        Raises: BpfError; LibraryError: libbpf is older.
        Source: ``bpf_object__prepare`` (libbpf 1.6).
        """
        operation = f"prepare {self.source}"
        _ = self._as_parameter_  # raises if it is closed
        if self._prepared or self._load_tried:
            raise BpfError(operation, errno.EALREADY, "it is prepared or loaded already")
        function = lib.bpf_object__prepare  # raises where libbpf has none
        with calling(operation, _load_hint):
            try:
                function(self)
                self._prepared = True
            except BpfError:
                self._load_tried = True
                raise

    @property
    def content(self) -> bytes:
        """The object file's bytes, as they were read."""
        return bytes(self._data or b"")

    def load(self) -> None:
        """Loads it into the kernel: maps are created, programs verified.

        Raises: BpfError; ``log`` holds the verifier's words if it refused. After that it
            cannot be loaded any more: open it again.
        Source: ``bpf_object__load`` (libbpf 0.0.1).
        """
        operation = f"load {self.source}"
        _ = self._as_parameter_  # raises if it is closed
        if self.loaded:
            raise BpfError(operation, errno.EALREADY, "it is loaded already")
        if self._load_tried:
            reason = "an earlier load failed"
            raise BpfError(operation, errno.EINVAL, reason, hint="Open the object again.")
        self._load_tried = True
        # The lock: another thread's close() waits for the end.
        with self._lock, calling(operation, self._why_not_loaded):
            lib.bpf_object__load(self)
            self.loaded = self._prepared = True

    def _why_not_loaded(self, error: BpfError) -> str:
        # What the verifier told into buffers of programs, libbpf did not print.
        told = "".join(f"{p!r}: {p.log}" for p in self.programs.values() if p.log)
        error.log += told
        if told and error.errno != errno.EPERM:
            return _VERIFIER_HINT
        return _load_hint(error) or self._unknown_type(error)

    def _unknown_type(self, error: BpfError) -> str:
        """Which program type the kernel lacks: it refuses an unknown one without a word."""
        if error.errno != errno.EINVAL:
            return ""
        for program in self.programs.values():
            name = program.type.name
            if not program.autoload:
                continue
            if not program.type:
                return f"{program.name}'s section {program.section} tells no type: set its type."
            try:
                if not lib.libbpf_probe_bpf_prog_type(program.type, None):
                    return f"This kernel has no programs of type {name}, as {program.name} is."
            except BpfError:  # libbpf cannot try
                version = library_version()
                return (
                    f"libbpf {version} does not know the type {name}; this kernel may not, either."
                )
        return ""

    def attach(self) -> list[Link]:
        """Attaches all programs whose sections say to what, and struct_ops maps.

        Programs with ``autoload`` or ``autoattach`` off are left out; for each other one
        that cannot be attached so a warning is logged that names the method for it.

        Returns: the Links, of programs in the object's order; keep them.
        Raises: BpfError: one cannot be attached, and then none is; or there is none
            whose section says to what.
        Source: as ``bpf_object__attach_skeleton`` (libbpf 0.0.7) by
            ``bpf_program__attach``; maps of struct_ops, which that attaches since libbpf 1.5.
        """
        return attach_all(self)

    def _release(self, pointer: Any) -> None:
        lib.bpf_object__close(pointer)
        for parts in vars(self).values():
            if isinstance(parts, _Named):
                parts.forget()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "loaded" if self.loaded else "open"
        return f"<BpfObject {self.source} ({state})>"


def _text(operation: str, name: str, value: str | os.PathLike[str]) -> bytes | None:
    """A text as C takes it; None for an empty one."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise BpfError(operation, errno.EINVAL, f"{name} holds a NUL")
    return encoded or None


def _open_hint(error: BpfError) -> str:
    if error.errno in _FORMAT_ERRORS:
        return "The file is damaged, or newer than this libbpf: build it again, or update libbpf."
    return ""


def _load_hint(error: BpfError) -> str:
    if "PROG LOAD LOG" in error.log:
        return _VERIFIER_HINT
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOENT and not Path("/sys/kernel").exists():
        return kernel.NO_SYS_HINT
    return ""
