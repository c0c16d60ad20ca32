"""Programs of type KPROBE on functions of programs and libraries."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import kernel
from ._attaching import (
    KPROBE,
    TRACEFS_HINT,
    AttachableBase,
    Cookies,
    Functions,
    cookie_of,
    in_hex,
    kernel_hint,
    mode_of,
    name_of,
    number,
    numbers,
    one_of,
    opts,
    pattern_or_list,
    pid_of,
    require_libbpf,
    symbols,
    tracefs,
)
from ._ffi import libbpf_has, library_version
from .errors import BpfError
from .link import Link
from .log import logger

if TYPE_CHECKING:
    from .object import BpfObject

_FORMAT = 4001  # LIBBPF_ERRNO__FORMAT
_SPEC, _SPEC_OF_1_7 = 208, 304  # bytes of struct __bpf_usdt_spec


class UserProbeMethods(AttachableBase):
    """attach_uprobe, attach_uprobe_multi and attach_usdt."""

    def attach_uprobe(
        self,
        binary: str | os.PathLike[str],
        function: str = "",
        *,
        offset: int = 0,
        pid: int = -1,
        retprobe: bool = False,
        cookie: int = 0,
        ref_ctr_offset: int = 0,
        mode: str = "auto",
    ) -> Link:
        """Attaches to a function of a program or shared library.

        Args:
            binary: its path, or a name that is looked up in the usual folders:
                ``libc.so.6``, ``libc``, ``bash``.
            function: the symbol; "" if OFFSET alone says where.
            offset: bytes from the symbol, or from the file's beginning.
            pid: only in this process; 0: in this one; -1: in every one.
            retprobe: run at the function's return.
            cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).
            ref_ctr_offset: where in the file a counter of attached probes lies
                (a USDT semaphore); 0 for none (Linux 4.20).
            mode: as for attach_kprobe().

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_uprobe_opts`` (libbpf 0.5, symbols 0.8, mode 1.2).
        """
        target = f"{os.fsdecode(binary)}:{function or in_hex(offset)}"
        operation = f"attach {'uretprobe' if retprobe else 'uprobe'} to {target}"
        made = opts(
            "bpf_uprobe_opts",
            ref_ctr_offset=number(operation, "the counter's offset", ref_ctr_offset, 63),
            bpf_cookie=cookie_of(operation, cookie),
            retprobe=retprobe,
            func_name=name_of(operation, "a symbol", function) if function else None,
            attach_mode=mode_of(operation, mode),
        )
        number(operation, "the offset", offset, 63)
        if not function and not offset:
            raise BpfError(operation, errno.EINVAL, "neither a symbol nor an offset says where")
        self._require_type(operation, KPROBE, "uprobe")
        return self._attach(
            operation,
            target,
            "bpf_program__attach_uprobe_opts",
            pid_of(operation, pid),
            find_binary(operation, binary),
            offset,
            made,
            hint=lambda error: _uprobe_hint(error, mode),
        )

    def attach_uprobe_multi(
        self,
        binary: str | os.PathLike[str],
        functions: Functions,
        *,
        pid: int = -1,
        retprobe: bool = False,
        session: bool = False,
        cookie: Cookies = None,
        ref_ctr_offsets: Sequence[int] | None = None,
    ) -> Link:
        """Attaches to many functions of a program or shared library at once.

        Args:
            binary: as for attach_uprobe().
            functions: a pattern with ``*`` and ``?``, a list of symbols, or of offsets
                from the file's beginning.
            pid: only in this process; 0: in this one; -1: in every one.
            retprobe: run at their return.
            session: run at entry and return (libbpf 1.6, Linux 6.13); the section is
                ``uprobe.session``.
            cookie: one for all of the list, or one for each; none with a pattern.
            ref_ctr_offsets: of each its counter's offset in the file; none with a pattern.

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_uprobe_multi`` (libbpf 1.3); Linux 6.6.
        """
        kind = "uprobe.session" if session else "uretprobe.multi" if retprobe else "uprobe.multi"
        pattern, listed = pattern_or_list(f"attach {kind}", functions)
        target = f"{os.fsdecode(binary)}:{pattern or f'{len(listed)} functions'}"
        operation = f"attach {kind} to {target}"
        if session:
            require_libbpf(operation, "1.6", "uprobe.session")
        fields = symbols(operation, pattern, listed, cookie, "syms", "offsets")
        if ref_ctr_offsets is not None:
            if len(ref_ctr_offsets) != len(listed):
                reason = f"{len(ref_ctr_offsets)} counters for {len(listed)} functions"
                raise BpfError(operation, errno.EINVAL, reason)
            fields["ref_ctr_offsets"] = numbers(operation, "a counter's offset", ref_ctr_offsets)
        made = opts("bpf_uprobe_multi_opts", retprobe=retprobe, session=session, **fields)
        one_of(operation, retprobe, session)
        self._require_type(operation, KPROBE, kind)

        def hint(error: BpfError) -> str:
            since = "6.13" if session else "6.6"
            if error.errno == errno.ENOENT and "syms" in fields:
                return STRIPPED_HINT
            return kernel_hint(error, kind, since) or _uprobe_hint(error)

        return self._attach(
            operation,
            target,
            "bpf_program__attach_uprobe_multi",
            pid_of(operation, pid),
            find_binary(operation, binary),
            pattern.encode() if pattern else None,
            made,
            hint=hint,
        )

    def attach_usdt(
        self,
        binary: str | os.PathLike[str],
        provider: str,
        name: str,
        *,
        pid: int = -1,
        cookie: int = 0,
    ) -> Link:
        """Attaches to a static probe that a program or library was built with.

        Args:
            binary: as for attach_uprobe().
            provider: the first part of the probe's name, ``libc`` of ``libc:setjmp``.
            name: the second part.
            pid: only in this process; 0: in this one; -1: in every one.
            cookie: what bpf_usdt_cookie() gives the program.

        Returns: the Link.
        Raises: BpfError, with a hint; the object needs <bpf/usdt.bpf.h> and its maps, which
            have a layout in common with the libbpf that attaches. That of libbpf 1.7 is another
            than before: a warning is logged where cookie and arguments would be misread.
        Source: ``bpf_program__attach_usdt`` (libbpf 0.8).
        """
        target = f"{os.fsdecode(binary)}:{provider}:{name}"
        operation = f"attach usdt to {target}"
        words = [name_of(operation, "a name of USDT", each) for each in (provider, name)]
        made = opts("bpf_usdt_opts", usdt_cookie=cookie_of(operation, cookie))
        self._require_type(operation, KPROBE, "usdt")
        _warn_of_layout(operation, self._parent)
        return self._attach(
            operation,
            target,
            "bpf_program__attach_usdt",
            pid_of(operation, pid),
            find_binary(operation, binary),
            *words,
            made,
            hint=lambda error: _usdt_hint(error, target),
        )


STRIPPED_HINT = (
    "No such file or symbol; or the file is stripped, and libbpf (as of 1.7) takes a pattern "
    "or offsets of it, but no list of symbols."
)


def find_binary(operation: str, binary: str | os.PathLike[str]) -> bytes:
    """The path of a program or library: a bare name is looked up where such files are.

    libbpf looks it up too, but not for a list of symbols, and not ``libc``.
    """
    path = os.fsdecode(binary)
    if not path or "\0" in path:
        raise BpfError(operation, errno.EINVAL, f"{path!r} is not a path")
    if "/" in path:
        return os.fsencode(path)
    if path.startswith("lib") and ".so" not in path:
        from ctypes.util import find_library

        path = find_library(path[3:]) or path
    if ".so" not in path:
        import shutil  # it brings compressors

        return os.fsencode(shutil.which(path) or path)
    multiarch = getattr(sys.implementation, "_multiarch", "")
    usual = [f"/lib/{multiarch}", f"/usr/lib/{multiarch}", "/lib64", "/usr/lib64", "/lib"]
    usual += ["/usr/lib", "/usr/local/lib"]
    for folder in [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *usual]:
        if folder and (found := Path(folder, path)).is_file():
            return os.fsencode(found)
    return os.fsencode(path)  # libbpf knows a few more places


def _uprobe_hint(error: BpfError, mode: str = "auto") -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return "No such file, symbol or process: 'nm -D FILE' lists a library's symbols."
    if error.errno == _FORMAT:
        return "The file is neither a program nor a shared library (ELF)."
    if mode == "legacy" and not tracefs():
        return TRACEFS_HINT
    if mode == "legacy" and error.errno == errno.EINVAL:
        return "libbpf may name the event, in 63 characters, after the path: take a shorter one."
    if error.errno == errno.EINVAL:
        return "The offset must lie in the file's code; the section of uprobe.multi says so."
    return ""


def _warn_of_layout(operation: str, obj: BpfObject) -> None:
    """Warns where the object's <bpf/usdt.bpf.h> is not of libbpf's layout; none is told of 1.8."""
    specs = obj.maps.get("__bpf_usdt_specs")
    wanted = _SPEC_OF_1_7 if libbpf_has("1.7") else _SPEC
    if specs and not libbpf_has("1.8") and specs.value_size in {_SPEC, _SPEC_OF_1_7} - {wanted}:
        logger.warning(
            "%s: the program will misread cookie and arguments: its <bpf/usdt.bpf.h> is %s "
            "libbpf 1.7, whose layout is another, and this is libbpf %s. Compile it anew.",
            operation,
            "older than" if wanted == _SPEC_OF_1_7 else "that of",
            library_version(),
        )


def _usdt_hint(error: BpfError, target: str) -> str:
    if error.errno == errno.ENOENT:
        return f"The file has no probe of the name {target}: 'readelf -n FILE' lists them."
    if error.errno == errno.ESRCH:
        return "The object lacks USDT's maps: its source must include <bpf/usdt.bpf.h>."
    return _uprobe_hint(error)
