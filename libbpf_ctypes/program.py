"""BPF programs of an object: their settings before load, and what they are after it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any

from ._ffi import lib
from ._handle import Part
from ._types import struct_class
from .attach import Attachable
from .enums import AttachType, ProgramType
from .errors import BpfError
from .in_kernel import InKernel, LoadedProgram, check_u32, id_hint
from .log import calling

if TYPE_CHECKING:
    from .object import BpfObject
    from .source_lines import FunctionInfo, LineInfo

_INSTRUCTION = 8  # bytes
_MAX_LOG = (1 << 30) - 1  # the kernel's limit


class Program(Attachable, InKernel, Part):
    """A program of a BpfObject; owned by it, and gone when it is closed.

    Its settings can be changed between open() and load(); later they raise BpfError (EBUSY).

    Source: libbpf's ``struct bpf_program`` (0.0.1; this API 1.0).
    """

    _parent: BpfObject

    def __init__(self, pointer: Any, parent: BpfObject) -> None:
        super().__init__(pointer, parent)
        self._log_buffer: ctypes.Array[ctypes.c_char] | None = None
        self._target: object = None  # its descriptor is used when we are loaded

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> LoadedProgram:
        """Opens a program that is pinned in a BPF file system.

        Returns: the LoadedProgram; close it.
        Raises: BpfError: nothing is there, it is a map or a link (EINVAL), no privilege.
        Source: ``bpf_obj_get`` (libbpf 0.0.1); Linux 4.4.
        """
        from .pinning import open_pinned

        return LoadedProgram(open_pinned(path, "program"), f"pinned at {os.fspath(path)}")

    @classmethod
    def open_id(cls, id: int) -> LoadedProgram:
        """Opens a program of the kernel by its number.

        Returns: the LoadedProgram; close it.
        Raises: BpfError: there is none (ENOENT), no privilege.
        Source: ``bpf_prog_get_fd_by_id`` (libbpf 0.0.1); Linux 4.13.
        """
        operation = f"open program {id}"
        with calling(operation, id_hint):
            fd = lib.bpf_prog_get_fd_by_id(check_u32(operation, "its number", id))
            return LoadedProgram(fd, f"{id}")

    @property
    def name(self) -> str:
        """The C function's name. Source: ``bpf_program__name`` (libbpf 0.0.7)."""
        return str(lib.bpf_program__name(self).decode(errors="backslashreplace"))

    @property
    def section(self) -> str:
        """The ELF section. Source: ``bpf_program__section_name`` (libbpf 0.2)."""
        return str(lib.bpf_program__section_name(self).decode(errors="backslashreplace"))

    @property
    def fd(self) -> int:
        """Its file descriptor, owned by the object.

        Raises: BpfError (EBADF): it is not loaded. Source: ``bpf_program__fd`` (libbpf 0.0.1).
        """
        fd = int(lib.bpf_program__fd(self))
        if fd < 0:
            reason = "it is not loaded"
            hint = "Its autoload is off, or it was unloaded."
            if not self._parent.loaded:
                hint = "Call the object's load() first."
            raise BpfError(f"use {self!r}", errno.EBADF, reason, hint=hint)
        return fd

    def _set(self, what: str, function: str, *values: Any) -> None:
        """Changes a setting, with the function of libbpf of this name."""
        operation = f"set {what} of program {self.name}"
        self._require_unloaded(operation)
        with calling(operation):
            getattr(lib, function)(self, *values)

    def _set_number(self, what: str, function: str, number: int) -> None:
        number = check_u32(f"set {what} of program {self.name}", what, number)
        self._set(what, function, number)

    def _require_unloaded(self, operation: str) -> None:
        """Some setters of libbpf check it, others do nothing without a word."""
        if self._parent._load_tried:
            reason = "the object is loaded already, or its load failed"
            raise BpfError(operation, errno.EBUSY, reason, hint="Set it before load().")

    @property
    def type(self) -> ProgramType:
        """The program type, settable. A new type forgets what the section's name asked for.

        Source: ``bpf_program__type`` (libbpf 0.7), ``bpf_program__set_type`` (0.0.1).
        """
        return ProgramType(lib.bpf_program__type(self))

    @type.setter
    def type(self, type: int) -> None:
        self._set_number("type", "bpf_program__set_type", type)

    @property
    def expected_attach_type(self) -> AttachType:
        """Where it is to be attached, as some types must know at load; settable.

        Source: ``bpf_program__expected_attach_type`` (libbpf 0.7),
        ``bpf_program__set_expected_attach_type`` (0.0.1); Linux 4.17.
        """
        return AttachType(lib.bpf_program__expected_attach_type(self))

    @expected_attach_type.setter
    def expected_attach_type(self, type: int) -> None:
        function = "bpf_program__set_expected_attach_type"
        self._set_number("expected attach type", function, type)

    @property
    def autoload(self) -> bool:
        """Whether load() loads it; settable.

        Source: ``bpf_program__autoload``, ``bpf_program__set_autoload`` (libbpf 0.1).
        """
        return bool(lib.bpf_program__autoload(self))

    @autoload.setter
    def autoload(self, on: bool) -> None:
        self._set("autoload", "bpf_program__set_autoload", on)

    @property
    def autoattach(self) -> bool:
        """Whether a skeleton attaches it; settable, after load() too.

        Source: ``bpf_program__autoattach``, ``bpf_program__set_autoattach`` (libbpf 1.0).
        """
        return bool(lib.bpf_program__autoattach(self))

    @autoattach.setter
    def autoattach(self, on: bool) -> None:
        lib.bpf_program__set_autoattach(self, on)

    @property
    def flags(self) -> int:
        """BPF_F_ flags of its load, such as BPF_F_SLEEPABLE (16); settable.

        Source: ``bpf_program__flags``, ``bpf_program__set_flags`` (libbpf 0.6).
        """
        return int(lib.bpf_program__flags(self))

    @flags.setter
    def flags(self, flags: int) -> None:
        self._set_number("flags", "bpf_program__set_flags", flags)

    def set_ifindex(self, ifindex: int) -> None:
        """Loads it into a network device's own hardware; 0: into the kernel.

        Source: ``bpf_program__set_ifindex`` (libbpf 0.0.1); Linux 4.15.
        """
        self._set_number("ifindex", "bpf_program__set_ifindex", ifindex)

    def set_attach_target(
        self, function: str = "", program: Program | LoadedProgram | None = None
    ) -> None:
        """Names what a fentry, fexit, fmod_ret, LSM or freplace program is loaded for.

        Args:
            function: the kernel's function, or that of PROGRAM; "" with a PROGRAM: the one
                that the section names.
            program: a loaded program with BTF; None: the kernel.

        Raises: BpfError: no such function (ESRCH, ENOENT), no BTF.
        Source: ``bpf_program__set_attach_target`` (libbpf 0.0.8); Linux 5.5.
        """
        fd = program.fd if program is not None else 0
        encoded = function.encode() or None
        self._set("attach target", "bpf_program__set_attach_target", fd, encoded)
        self._target = program

    @property
    def log_level(self) -> int:
        """How much the verifier tells: 0 only of a refusal, 1, 2; 4 adds statistics; settable.

        Source: ``bpf_program__log_level``, ``bpf_program__set_log_level`` (libbpf 0.7).
        """
        return int(lib.bpf_program__log_level(self))

    @log_level.setter
    def log_level(self, level: int) -> None:
        self._set_number("log level", "bpf_program__set_log_level", level)

    @property
    def log_size(self) -> int:
        """Bytes of the buffer that keeps the verifier's log for ``log``; settable, 0: none.

        With one too small for all of it a load with a log level fails (ENOSPC); Linux before
        6.4 takes none below 128 bytes, and none takes 1 GiB.

        Source: ``bpf_program__set_log_buf`` (libbpf 0.7).
        """
        return len(self._log_buffer) if self._log_buffer is not None else 0

    @log_size.setter
    def log_size(self, size: int) -> None:
        if not 0 <= size <= _MAX_LOG:
            operation = f"set log size of program {self.name}"
            raise BpfError(operation, errno.ERANGE, f"{size} is not 0 to {_MAX_LOG}")
        buffer = ctypes.create_string_buffer(size) if size else None
        # ctypes has char * as bytes, which nobody may write to.
        address = ctypes.cast(buffer, ctypes.c_char_p) if buffer is not None else None
        self._set("log size", "bpf_program__set_log_buf", address, size)
        self._log_buffer = buffer  # libbpf has the address until the object is closed

    @property
    def log(self) -> str:
        """What the verifier told when it was loaded, or refused; "" without ``log_size``."""
        return self._log_buffer.value.decode(errors="replace") if self._log_buffer else ""

    @property
    def instructions(self) -> bytes:
        """Its instructions, 8 bytes each, as libbpf has them; settable.

        Before load() they are the file's, after it those that went to the kernel. A new
        value is as long as the old one, as libbpf still enters maps and functions where the
        file says; after the object's ``prepare()`` (libbpf 1.6) it may have any length.

        Source: ``bpf_program__insns`` (libbpf 0.6), ``bpf_program__set_insns`` (0.8).
        """
        size = lib.bpf_program__insn_cnt(self) * _INSTRUCTION
        return ctypes.string_at(lib.bpf_program__insns(self), size)

    @instructions.setter
    def instructions(self, instructions: bytes) -> None:
        raw = bytes(instructions)
        operation = f"set instructions of program {self.name}"
        if not raw or len(raw) % _INSTRUCTION:
            reason = f"{len(raw)} bytes are not instructions of {_INSTRUCTION}"
            raise BpfError(operation, errno.EINVAL, reason)
        before = lib.bpf_program__insn_cnt(self) * _INSTRUCTION
        if len(raw) != before and not self._parent._prepared:
            reason = f"{len(raw)} bytes in place of {before}"
            hint = "Another length is possible after the object's prepare() (libbpf 1.6)."
            raise BpfError(operation, errno.EINVAL, reason, hint=hint)
        count = len(raw) // _INSTRUCTION
        array = (struct_class("bpf_insn") * count).from_buffer_copy(raw)
        self._set("instructions", "bpf_program__set_insns", array, count)

    @property
    def function_info(self) -> list[FunctionInfo]:
        """Its functions, once it is prepared or loaded.

        Source: ``bpf_program__func_info`` (libbpf 1.6).
        """
        from .source_lines import function_info

        return function_info(self)

    @property
    def line_info(self) -> list[LineInfo]:
        """Its lines of source, once it is prepared or loaded.

        Source: ``bpf_program__line_info`` (libbpf 1.6).
        """
        from .source_lines import line_info

        return line_info(self, self._parent)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pins it in a BPF file system: it lives on after the object, and after this process.

        Args: path: a new name below /sys/fs/bpf; its folder is made if it is missing.
        Raises: BpfError: not loaded, something is there, no BPF file system.
        Source: ``bpf_program__pin`` (libbpf 0.0.1); Linux 4.4.
        """
        self._call_pinning("pin", "to", path)

    def unpin(self, path: str | os.PathLike[str]) -> None:
        """Removes its pin. Raises: BpfError: there is none.

        Source: ``bpf_program__unpin`` (libbpf 0.0.1).
        """
        self._call_pinning("unpin", "from", path)

    def _call_pinning(self, what: str, where: str, path: str | os.PathLike[str]) -> None:
        from .pinning import encoded_path, pin_hint

        operation = f"{what} program {self.name} {where} {os.fspath(path)}"
        encoded = encoded_path(operation, path)
        _ = self.fd  # raises if it is not loaded
        with calling(operation, pin_hint):
            getattr(lib, f"bpf_program__{what}")(self, encoded)

    def unload(self) -> None:
        """Lets go of it: its descriptor is closed, the rest of the object stays.

        Its links and pins keep it in the kernel. Source: ``bpf_program__unload`` (libbpf 0.0.1).
        """
        lib.bpf_program__unload(self)

    def __repr__(self) -> str:
        if self._parent.closed:
            return "<Program of a closed object>"
        return f"<Program {self.name} ({self.type.name})>"
