"""BTF, the type information of BPF objects, the kernel and its modules."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ._btf import BtfType, Kind, Parameter, Type, TypeStore, Variable, Which, reading
from ._ffi import lib
from .errors import BpfError
from .log import calling

if TYPE_CHECKING:
    from .btf_text import Printer
    from .layout import CType
    from .object import BpfObject

__all__ = ["Btf", "BtfType", "Function", "Kind", "Parameter", "Type", "Variable"]

_KERNEL = Path("/sys/kernel/btf")


class Function(NamedTuple):
    """A function.

    Attributes:
        name: its name.
        parameters: in order; a last one of kind VOID without a name stands for ``...``.
        returns: the type of its result, of kind VOID where it has none.
        prototype: as C has it: ``ssize_t vfs_read(struct file *file, char *buf, …)``.
    """

    name: str
    parameters: tuple[Parameter, ...]
    returns: Type
    prototype: str


class Btf(TypeStore):
    """The types of an object, of the kernel or of a module.

    ``Btf.kernel()``, ``Btf.module(name)``, ``Btf.of(obj)``, ``Btf.open_id(id)``,
    ``Btf.from_file(path)`` and ``Btf.from_bytes(data)`` make one; close it, or use ``with``.
    An object's is gone with the object, a module's with the kernel's that it builds on.
    Threads may share one; a close() waits for those that read.

    What comes from a file or bytes is checked as a whole before dump(), declaration(),
    format_data() or function() is first called, as libbpf would follow damaged ids out of
    its memory: some 15 µs for each type (of the kernel's 125,000 two seconds). What the
    kernel hands out, it has checked itself.

    Source: <linux/btf.h> (Linux 4.18), libbpf's btf.h; the kernel's own BTF
    needs CONFIG_DEBUG_INFO_BTF (Linux 5.2), a module's Linux 5.11.
    """

    def __init__(
        self, pointer: Any, parent: object = None, *, owned: bool = True, source: str = "BTF"
    ) -> None:
        super().__init__(pointer, parent, owned=owned, source=source)
        self._own_base: Btf | None = None  # closed with it
        self._printer: Printer | None = None
        self._sound = False  # its ids may be followed by libbpf without a check

    @classmethod
    def kernel(cls) -> Btf:
        """The running kernel's types.

        Raises: BpfError (ENOENT: the kernel has none).
        Source: ``btf__load_vmlinux_btf`` (libbpf 0.5), Linux 5.2.
        """
        operation = "read the kernel's BTF"
        try:
            with calling(operation):
                return cls(lib.btf__load_vmlinux_btf(), source="the kernel's BTF")._checked()
        except BpfError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):  # libbpf's word for that
                raise
        hint = "The kernel needs CONFIG_DEBUG_INFO_BTF, and /sys must be mounted."
        raise BpfError(operation, errno.ENOENT, "there is none", hint=hint)

    @classmethod
    def module(cls, name: str, base: Btf | None = None) -> Btf:
        """A loaded module's types, on top of the kernel's.

        Args:
            name: the module's, as modules() lists it.
            base: the kernel's BTF, which must stay open as long; without it one is
                opened, and closed with this.

        Raises: BpfError (ENOENT: not loaded, or without BTF).
        Source: ``btf__load_module_btf`` (libbpf 0.5), Linux 5.11.
        """
        hint = "It is not loaded, or has no BTF: Btf.modules() lists those that have."
        operation = f"read the BTF of module {name}"
        _require_btf(base)
        if not name or "/" in name or "\0" in name:
            raise BpfError(operation, errno.EINVAL, "not the name of a module")

        def load(base: Btf) -> Btf:
            with calling(operation, lambda e: hint if e.errno == errno.ENOENT else ""):
                pointer = lib.btf__load_module_btf(name.encode(), base)
                return cls(pointer, base, source=f"BTF of module {name}")._checked()

        return _on_kernel(load, base)

    @staticmethod
    def modules() -> list[str]:
        """The loaded modules that have BTF.

        Raises: BpfError: /sys is not mounted. Source: /sys/kernel/btf (Linux 5.11).
        """
        if not _KERNEL.parent.exists():
            raise BpfError("list the modules with BTF", errno.ENOENT, "/sys is not mounted")
        if not _KERNEL.exists():
            return []
        return sorted(path.name for path in _KERNEL.iterdir() if path.name != "vmlinux")

    @classmethod
    def of(cls, obj: BpfObject) -> Btf:
        """An object's own types; they belong to the object, and are gone with it.

        Raises: BpfError: it has none. Source: ``bpf_object__btf`` (libbpf 0.0.2).
        """
        from .layout import types_of

        # Its address, or any, would be libbpf's to read. (object.py comes after this module.)
        if not hasattr(type(obj), "kversion"):
            raise TypeError(f"not a BpfObject: {obj!r}")
        return cls(types_of(obj)._pointer, obj, owned=False, source=f"BTF of {obj.source}")

    @classmethod
    def open_id(cls, identity: int, base: Btf | None = None) -> Btf:
        """The BTF with this id in the kernel, as introspection.btfs() lists them.

        Args: base: the kernel's BTF, if it is open, for a module's.
        Raises: BpfError: ENOENT: no such id; EPERM without CAP_SYS_ADMIN.
        Source: ``btf__load_from_kernel_by_id_split`` (libbpf 0.5), Linux 4.18.
        """
        from .info import btf_info

        operation = f"open BTF {identity}"
        _require_btf(base)
        if not 0 <= identity < 1 << 32:  # C would cut it off
            raise BpfError(operation, errno.ENOENT)
        with calling(operation):
            fd = lib.bpf_btf_get_fd_by_id(identity)
        try:
            info = btf_info(fd)
        finally:
            os.close(fd)

        def load(base: Btf | None) -> Btf:
            with calling(operation):
                pointer = lib.btf__load_from_kernel_by_id_split(identity, base)
                return cls(pointer, base, source=f"BTF {identity} of the kernel")._checked()

        of_module = info.kernel_btf and info.name != "vmlinux"
        return _on_kernel(load, base) if of_module else load(None)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], base: Btf | None = None) -> Btf:
        """The types in a file: an ELF file with a section .BTF, or raw BTF.

        Args: base: the BTF that it builds on, for a module's.
        Raises: BpfError: no such file, no BTF in it, or damaged.
        Source: ``btf__parse_split`` (libbpf 0.3).
        """
        operation = f"read BTF from {os.fspath(path)}"
        _require_btf(base)
        if not os.fspath(path) or "\0" in os.fspath(path):
            raise BpfError(operation, errno.EINVAL, "not a path")
        if Path(path).exists() and not Path(path).is_file():
            raise BpfError(operation, errno.EINVAL, "it is no regular file")
        with calling(operation, _file_hint):
            pointer = lib.btf__parse_split(os.fsencode(path), base)
            btf = cls(pointer, base, source=f"BTF of {os.fspath(path)}")
            return btf._checked() if Path(path).resolve().parent == _KERNEL else btf

    @classmethod
    def from_bytes(cls, data: bytes, base: Btf | None = None) -> Btf:
        """The types in raw BTF, as raw_data() gives it; the bytes are copied.

        Args: base: the BTF that it builds on, for a module's.
        Raises: BpfError: damaged; LibraryError: with a base and before libbpf 1.4.
        Source: ``btf__new`` (libbpf 0.0.1), ``btf__new_split`` (libbpf 1.4).
        """
        _require_btf(base)
        data = bytes(memoryview(data))  # a number is no bytes
        with calling("read BTF from bytes", _file_hint):
            if base is None:
                return cls(lib.btf__new(data, len(data)))
            return cls(lib.btf__new_split(data, len(data), base), base)

    @property
    def base(self) -> Btf | None:
        """The BTF that it builds on, if it is a module's."""
        return self._parent if isinstance(self._parent, Btf) else None

    @property
    @reading
    def type_count(self) -> int:
        """How many types it has, those of its base and void among them; ids are below it.

        Source: ``btf__type_cnt`` (libbpf 0.6).
        """
        return int(lib.btf__type_cnt(self))

    @property
    @reading
    def pointer_size(self) -> int:
        """Bytes of a pointer: 4 or 8; 0: not known. Source: ``btf__pointer_size`` (libbpf 0.1)."""
        return int(lib.btf__pointer_size(self))

    @property
    @reading
    def endianness(self) -> str:
        """The byte order that it came in: "little" or "big".

        Source: ``btf__endianness`` (libbpf 0.2).
        """
        return "big" if lib.btf__endianness(self) else "little"

    @reading
    def raw_data(self) -> bytes:
        """It as bytes, in its byte order, without its base. Source: ``btf__raw_data`` (0.6)."""
        with calling("write BTF"):
            return self._raw_data()[1]

    @reading
    def function(self, which: Which) -> Function:
        """A function's parameters, result and prototype.

        Args: which: its name; or an id or entry, as of ``types(Kind.FUNC)``.
        Raises: NotFoundError: no such function here; BpfError: damaged.
        Source: ``btf_dump__emit_type_decl`` (libbpf 0.0.7).
        """
        entry = self.find(which, Kind.FUNC)
        if entry.kind != Kind.FUNC:
            raise BpfError(f"read function {entry.name}", errno.EINVAL, "it is no function")
        identity = self._raw(entry.id).size_or_type
        prototype = self._raw(identity)
        text = self.declaration(identity, entry.name)
        parameters = self._parameters(prototype)
        return Function(entry.name, parameters, self.type(prototype.size_or_type), text)

    @reading
    def layout(self, which: Which) -> CType:
        """A struct, union, enum or another type as it lies in memory.

        Args: which: its id or name (``"struct file"``, ``"list_head"``); a typedef is
            followed.
        Raises: NotFoundError; BpfError: damaged.
        """
        from .layout import Structs

        return Structs(self).layout(self.find(which).id)

    @reading
    def dump(self, *which: Which) -> str:
        """The definitions of types and of all that they need, as C source.

        Args: which: ids or names; none: all that are not the base's.
        Raises: NotFoundError; BpfError: damaged.
        Source: ``btf_dump__dump_type`` (libbpf 0.0.4).
        """
        from .btf_text import Printer

        self._require_sound()
        identities = [self.find(one).id for one in which]
        if not which:
            identities = list(range(self._first_own(), self.type_count))
        printer = Printer(self)  # which prints each type once in its life
        try:
            return printer.definitions(identities, f"write {self.source} as C")
        finally:
            printer.free()

    @reading
    def declaration(self, which: Which, name: str = "", *, strip_modifiers: bool = False) -> str:
        """The declaration of something of this type, as C source: ``const char *name``.

        Args:
            name: the something's; without it the type alone is written.
            strip_modifiers: without const, volatile and restrict.

        Raises: NotFoundError; BpfError: damaged.
        Source: ``btf_dump__emit_type_decl`` (libbpf 0.0.7).
        """
        identity = self.find(which).id
        operation = f"declare BTF type {which}"
        if "\0" in name:
            raise BpfError(operation, errno.EINVAL, "not a name")
        return self._prints().declaration(identity, name, strip_modifiers, operation)

    @reading
    def format_data(
        self,
        which: Which,
        data: bytes,
        *,
        compact: bool = False,
        skip_names: bool = False,
        emit_zeroes: bool = False,
    ) -> str:
        """Bytes as a C initializer of a type: ``(struct pair){ .first = (int)1, }``.

        Args:
            data: at least as many bytes as the type has.
            compact: on one line.
            skip_names: without the members' and types' names.
            emit_zeroes: members that are 0, too.

        Raises: NotFoundError; BpfError: E2BIG: fewer bytes than it has; damaged.
        Source: ``btf_dump__dump_type_data`` (libbpf 0.5).
        """
        identity = self.find(which).id
        size = self.type(identity).size
        operation = f"format {len(data)} bytes as BTF type {which}"
        if len(data) < size:  # libbpf would print the members that are there
            raise BpfError(operation, errno.E2BIG, f"it has {size} bytes")
        settings = {"compact": compact, "skip_names": skip_names, "emit_zeroes": emit_zeroes}
        return self._prints().initializer(identity, bytes(data), settings, operation)

    def _prints(self) -> Printer:
        """What prints declarations and data, made once."""
        from .btf_text import Printer

        self._require_sound()
        with self._lock:
            if self._printer is None:
                self._printer = Printer(self)
            return self._printer

    def _checked(self) -> Btf:
        """It comes from the kernel, which has checked it."""
        self._sound = True
        return self

    def _require_sound(self) -> None:
        """libbpf's printer crashes where ids lead astray."""
        _ = self._as_parameter_  # raises if it is closed
        if self._sound:
            return
        from .btf_check import require_sound

        if self.base is not None:
            self.base._require_sound()
        require_sound(self, self._first_own())
        self._sound = True

    def _release(self, pointer: Any) -> None:
        if self._printer is not None:
            self._printer.free()
        super()._release(pointer)
        if self._own_base is not None:
            self._own_base.close()

    def __del__(self) -> None:
        printer = getattr(self, "_printer", None)
        if printer is not None and not self._owned:  # which nobody has to close
            printer.free()
        super().__del__()


def _require_btf(base: object) -> None:
    """Anything else libbpf would take for the address of one."""
    if base is not None and not isinstance(base, Btf):
        raise TypeError(f"not a Btf: {base!r}")


def _on_kernel(load: Callable[[Btf], Btf], base: Btf | None) -> Btf:
    """A module's BTF on the kernel's: on BASE, or on one that is closed with it."""
    kernel = base or Btf.kernel()
    try:
        btf = load(kernel)
    except BaseException:
        if base is None:
            kernel.close()
        raise
    if base is None:
        btf._own_base = kernel
    return btf


def _file_hint(error: BpfError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODATA):
        return "An object file has BTF if it was built with 'clang -g' ('gcc -g' gives DWARF)."
    return ""
