"""Programs of type KPROBE on functions of the kernel."""

from __future__ import annotations

import errno

from . import kernel
from ._attaching import (
    KPROBE,
    TRACEFS_HINT,
    AttachableBase,
    Cookies,
    Functions,
    cookie_of,
    function_name,
    in_hex,
    kernel_hint,
    mode_of,
    name_of,
    number,
    one_of,
    opts,
    pattern_or_list,
    require_libbpf,
    symbols,
    tracefs,
)
from .errors import BpfError
from .link import Link


class KernelProbeMethods(AttachableBase):
    """attach_kprobe, attach_ksyscall and attach_kprobe_multi."""

    def attach_kprobe(
        self,
        function: str | int,
        *,
        retprobe: bool = False,
        offset: int = 0,
        cookie: int = 0,
        mode: str = "auto",
    ) -> Link:
        """Attaches to a kernel function.

        Args:
            function: its name as in /proc/kallsyms, or ``module:name``; or an address.
            retprobe: run at the function's return, not at its entry.
            offset: bytes from the function's first instruction.
            cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).
            mode: "auto", or how it is done: by "legacy" (tracefs), "perf" (perf_event
                and ioctl) or "link" (Linux 5.15). A choice needs libbpf 1.2.

        Returns: the Link; keep it, the program is detached when it is closed.
        Raises: BpfError, with a hint for each known cause (no such function,
            blacklisted, no kprobes in this kernel, no privilege, lockdown).

        Source: ``bpf_program__attach_kprobe_opts`` (libbpf 0.5, mode 1.2); Linux 4.17
            for kprobes by perf_event.
        """
        place = f"{function:#x}" if isinstance(function, int) else function
        target = f"{place}+{in_hex(offset)}" if offset else f"{place}"
        operation = f"attach {'kretprobe' if retprobe else 'kprobe'} to {target}"
        if isinstance(function, int):
            if offset:
                raise BpfError(operation, errno.EINVAL, "an offset goes with a name")
            name, offset = None, number(operation, "the address", function, 64, least=1)
        else:
            name = function_name(operation, function)
            _check_offset(operation, function, number(operation, "the offset", offset, 64))
        made = opts(
            "bpf_kprobe_opts",
            bpf_cookie=cookie_of(operation, cookie),
            offset=offset,
            retprobe=retprobe,
            attach_mode=mode_of(operation, mode),
        )
        self._require_type(operation, KPROBE, "kprobe")
        return self._attach(
            operation,
            target,
            "bpf_program__attach_kprobe_opts",
            name,
            made,
            hint=lambda error: _kprobe_hint(error, place, mode, cookie),
        )

    def attach_ksyscall(self, syscall: str, *, retprobe: bool = False, cookie: int = 0) -> Link:
        """Attaches to a system call's function in the kernel, whatever that is called there.

        Args:
            syscall: its name as in the manual: ``openat``.
            retprobe: run at its return.
            cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_ksyscall`` (libbpf 1.0).
        """
        operation = f"attach {'kretsyscall' if retprobe else 'ksyscall'} to {syscall}"
        name = name_of(operation, "the name of a system call", syscall)
        made = opts("bpf_ksyscall_opts", bpf_cookie=cookie_of(operation, cookie), retprobe=retprobe)
        self._require_type(operation, KPROBE, "kprobe")

        def hint(error: BpfError) -> str:
            if kernel.has_kprobes() and error.errno == errno.ENOENT:
                return f"This kernel has no system call {syscall}: names are as in the manual."
            return _kprobe_hint(error, syscall, "auto", cookie)

        return self._attach(
            operation, syscall, "bpf_program__attach_ksyscall", name, made, hint=hint
        )

    def attach_kprobe_multi(
        self,
        functions: Functions,
        *,
        retprobe: bool = False,
        session: bool = False,
        cookie: Cookies = None,
        unique_match: bool = False,
    ) -> Link:
        """Attaches to many kernel functions at once.

        Args:
            functions: a pattern with ``*`` and ``?`` (from libbpf 1.3 of names in tracefs'
                available_filter_functions), a list of names, or of addresses.
            retprobe: run at their return.
            session: run at entry and return; the program, of section
                ``kprobe.session``, decides at entry if also at return (libbpf 1.5,
                Linux 6.10).
            cookie: one for all of the list, or one for each; none with a pattern.
            unique_match: the pattern must match one function only (libbpf 1.6).

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_kprobe_multi_opts`` (libbpf 0.8); Linux 5.18 with
            CONFIG_FPROBE.
        """
        kind = "kprobe.session" if session else "kretprobe.multi" if retprobe else "kprobe.multi"
        if isinstance(functions, str) and not unique_match and not set(functions) & set("*?"):
            functions = [functions]  # some libbpf look a pattern up in a list that lacks aliases
        pattern, listed = pattern_or_list(f"attach {kind}", functions)
        target = pattern or (f"{listed[0]}" if len(listed) == 1 else f"{len(listed)} functions")
        operation = f"attach {kind} to {target}"
        if session:
            require_libbpf(operation, "1.5", "kprobe.session")
        if unique_match:
            require_libbpf(operation, "1.6", "unique_match")
            if listed:
                raise BpfError(operation, errno.EINVAL, "unique_match goes with a pattern")
        fields = symbols(operation, pattern, listed, cookie, "syms", "addrs")
        made = opts(
            "bpf_kprobe_multi_opts",
            retprobe=retprobe,
            session=session,
            unique_match=unique_match,
            **fields,
        )
        one_of(operation, retprobe, session)
        self._require_type(operation, KPROBE, kind)

        def hint(error: BpfError) -> str:
            if unique_match and error.errno == errno.EINVAL and kernel.has_kprobes():
                return f"The pattern matches several functions; or the section is not {kind}."
            return _kprobe_multi_hint(error, kind, target)

        name = pattern.encode() if pattern else None
        return self._attach(
            operation, target, "bpf_program__attach_kprobe_multi_opts", name, made, hint=hint
        )


def _check_offset(operation: str, function: str, offset: int) -> None:
    """The kernel would take an offset past the end, and probe the next function."""
    size = kernel.Kallsyms().size(function.rpartition(":")[2]) if offset else 0
    if 0 < size <= offset:
        reason = f"the offset lies past the function's end ({size} bytes)"
        raise BpfError(operation, errno.EINVAL, reason)


def _kprobe_hint(error: BpfError, function: str, mode: str, cookie: int) -> str:
    if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP) and kernel.has_kprobes():
        if cookie and mode in ("legacy", "perf"):
            return f"Mode {mode!r} has no cookies: leave either away."
        if mode != "auto":
            return f"This kernel does not attach by mode {mode!r}: 'auto' takes what there is."
        if cookie and (hint := kernel_hint(error, "a cookie", "5.15")):
            return hint
    if mode == "legacy" and error.errno == errno.ENOENT and not tracefs():
        return TRACEFS_HINT
    return kernel.kprobe_hint(error, function)


def _kprobe_multi_hint(error: BpfError, kind: str, target: str) -> str:
    if not kernel.has_kprobes():
        return kernel.kprobe_hint(error, target)
    if error.errno == errno.ENODEV:
        return kernel.FTRACE_OFF_HINT
    if error.errno == errno.EOPNOTSUPP:
        return "This kernel is built without CONFIG_FPROBE: use attach_kprobe() for each function."
    if error.errno in (errno.ESRCH, errno.ENOENT):
        return "The kernel has no such function, or one of the list is missing or cannot be traced."
    if error.errno == errno.EADDRNOTAVAIL:
        return "A name of the list stands for several functions: give their addresses."
    if error.errno == errno.EINVAL:
        hint = kernel_hint(error, kind, "6.10" if kind == "kprobe.session" else "5.18")
        return hint or f"The program's section must be {kind}, and each function traceable."
    return kernel_hint(error, kind, "5.18")
