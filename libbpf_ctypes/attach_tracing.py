"""Programs at events of the kernel: tracepoints, functions by BTF, LSM hooks, iterators."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import kernel
from ._attaching import (
    TRACEFS_HINT,
    AttachableBase,
    cookie_of,
    expecting,
    fd_of,
    kernel_hint,
    name_of,
    number,
    opts,
    require_libbpf,
    tracefs,
)
from .enums import ProgramType
from .errors import BpfError
from .link import Link
from .log import logger

if TYPE_CHECKING:
    from .perf_event import PerfEvent


class TracingMethods(AttachableBase):
    """attach_tracepoint, attach_trace and their kin."""

    def attach_tracepoint(self, category: str, name: str, *, cookie: int = 0) -> Link:
        """Attaches to a tracepoint, with its fields as tracefs lists them.

        Args:
            category, name: as of a folder below /sys/kernel/tracing/events:
                ``sched``, ``sched_process_exec``.
            cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).

        Returns: the Link. Raises: BpfError, with a hint (tracefs must be mounted).
        Source: ``bpf_program__attach_tracepoint_opts`` (libbpf 0.5); Linux 4.7.
        """
        target = f"{category}:{name}"
        operation = f"attach tracepoint to {target}"
        words = [name_of(operation, "the name of a tracepoint", each) for each in (category, name)]
        made = opts("bpf_tracepoint_opts", bpf_cookie=cookie_of(operation, cookie))
        return self._attach(
            operation,
            target,
            "bpf_program__attach_tracepoint_opts",
            *words,
            made,
            hint=lambda error: tracepoint_hint(error, self, category, name),
        )

    def attach_raw_tracepoint(self, name: str, *, cookie: int = 0) -> Link:
        """Attaches to a tracepoint of the kernel, with its arguments as the kernel passes them.

        Args:
            name: the event's name, without its subsystem (``sys_enter``, ``sched_switch``).
            cookie: what bpf_get_attach_cookie() gives the program (libbpf 1.4, Linux 6.9).

        Returns: the Link; keep it, the program is detached when it is closed.
        Raises: BpfError, with a hint: no such tracepoint, not loaded, no privilege,
            a program of another type (EINVAL).

        Source: ``bpf_program__attach_raw_tracepoint`` (libbpf 0.0.4), with a cookie
            ``bpf_program__attach_raw_tracepoint_opts`` (1.4); Linux 4.17.
        """
        operation = f"attach raw tracepoint to {name}"
        function, arguments = (
            "bpf_program__attach_raw_tracepoint",
            [name_of(operation, "the name of a tracepoint", name)],
        )
        if cookie_of(operation, cookie):
            function += "_opts"
            arguments.append(opts("bpf_raw_tracepoint_opts", cookie=cookie))
        return self._attach(
            operation,
            name,
            function,
            *arguments,
            hint=lambda error: _raw_tracepoint_hint(error, self, cookie),
        )

    def attach_trace(self, *, cookie: int = 0) -> Link:
        """Attaches a fentry, fexit, fmod_ret or tp_btf program to what its section names.

        Args: cookie: what bpf_get_attach_cookie() gives the program (Linux 5.19).
        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_trace_opts`` (libbpf 0.8); Linux 5.5.
        """
        operation = f"attach {self.name} to {self.section}"
        made = opts("bpf_trace_opts", cookie=cookie_of(operation, cookie))
        kinds = (ProgramType.TRACING, ProgramType.EXT, ProgramType.LSM)

        def hint(error: BpfError) -> str:
            return expecting(self, kinds, "fentry, fexit, fmod_ret or tp_btf") or kernel_hint(
                error, "a cookie" if cookie else "a trace by BTF", "5.19" if cookie else "5.5"
            )

        return self._attach(
            operation, self.section, "bpf_program__attach_trace_opts", made, hint=hint
        )

    def attach_lsm(self) -> Link:
        """Attaches an LSM program to the hook that its section names.

        A program of section ``lsm_cgroup`` is attached by attach_cgroup().

        Returns: the Link; a warning is logged where the kernel was not booted with
            "bpf" among its security modules: the program is then never run.
        Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_lsm`` (libbpf 0.0.8); Linux 5.7.
        """
        operation = f"attach {self.name} to {self.section}"
        warn_of_lsm(operation)

        def hint(error: BpfError) -> str:
            told = expecting(self, [ProgramType.LSM], "lsm")
            return told or kernel_hint(error, "BPF LSM", "5.7")

        return self._attach(operation, self.section, "bpf_program__attach_lsm", hint=hint)

    def attach_perf_event(
        self, event: PerfEvent | int, *, cookie: int = 0, enable: bool = True
    ) -> Link:
        """Attaches to a perf event: the program runs at each overflow.

        Args:
            event: a PerfEvent, or a descriptor of perf_event_open(2); the link has a
                copy of it, close yours when you like.
            cookie: what bpf_get_attach_cookie() gives the program (Linux 5.15).
            enable: start the event; False leaves it as it is (libbpf 1.7).

        Returns: the Link. Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_perf_event_opts`` (libbpf 0.5); Linux 4.9.
        """
        target = str(getattr(event, "name", f"perf event of descriptor {event}"))
        operation = f"attach to {target}"
        made = opts("bpf_perf_event_opts", bpf_cookie=cookie_of(operation, cookie))
        if not enable:
            require_libbpf(operation, "1.7", "an event that is not started")
            made.dont_enable = True
        fd = fd_of(operation, "the event", event)
        try:
            copy = os.dup(fd)
        except OSError as error:
            raise BpfError(operation, error.errno) from None
        try:
            return self._attach(
                operation,
                target,
                "bpf_program__attach_perf_event_opts",
                copy,
                made,
                hint=lambda error: _perf_hint(error, self),
            )
        except BpfError:  # else it is the link's
            os.close(copy)
            raise

    def attach_freplace(self, program: Any = None, function: str = "") -> Link:
        """Replaces a function of another loaded program.

        Args:
            program: the loaded Program, or its descriptor; None: that of set_attach_target().
            function: its global function that is replaced.

        Returns: the Link; closing it brings the function back.
        Raises: BpfError, with a hint.
        Source: ``bpf_program__attach_freplace`` (libbpf 0.2); Linux 5.6.
        """
        target = function or "the target of its load"
        operation = f"replace {target} by {self.name}"
        if (program is None) == bool(function):
            raise BpfError(operation, errno.EINVAL, "name both a program and its function, or none")
        name = name_of(operation, "a function name", function) if function else None

        def hint(error: BpfError) -> str:
            told = expecting(self, [ProgramType.EXT], "freplace")
            if not told and error.errno == errno.EINVAL:
                return "The function must be global, of the same parameters, and its program's."
            return told or kernel_hint(error, "freplace", "5.6")

        fd = program_fd(operation, program)
        return self._attach(operation, target, "bpf_program__attach_freplace", fd, name, hint=hint)


def program_fd(operation: str, program: Any) -> int:
    """The descriptor of a loaded program, 0 for None. Raises: BpfError."""
    if program is None:
        return 0
    if isinstance(program, int):
        return number(operation, "the program's descriptor", program, 31, least=1)
    if isinstance(program, AttachableBase):
        return program._require_load(operation)
    return fd_of(operation, "the program", program)


def warn_of_lsm(operation: str) -> None:
    """Warns where the kernel takes LSM programs but never runs them."""
    try:
        modules = Path("/sys/kernel/security/lsm").read_text(encoding="ascii")
    except OSError:
        return  # securityfs is not mounted: nobody knows
    if "bpf" not in modules.strip().split(","):
        logger.warning(
            "%s: the program will never run: 'bpf' is not among the kernel's security modules "
            "(%s). Boot with lsm=%s,bpf.",
            operation,
            modules.strip(),
            modules.strip(),
        )


def tracepoint_hint(error: BpfError, program: Any, category: str, name: str) -> str:
    """Why a tracepoint could not be attached to."""
    if error.errno == errno.EINVAL:  # a kprobe that was made in tracefs takes another type
        return expecting(program, [ProgramType.TRACEPOINT], "tp")
    if error.errno != errno.ENOENT:
        return kernel_hint(error, "a tracepoint", "4.7")
    if not tracefs():
        return TRACEFS_HINT
    for folder in kernel.TRACEFS:
        events = Path(folder, "events", category)
        if events.is_dir():
            there = {each.name for each in events.iterdir() if each.is_dir()}
            near = kernel.nearest_functions(name, there)
            also = f" Did you mean: {', '.join(near)}?" if near else ""
            return f"{category} has no event {name}.{also}"
    return f"There is no category {category} in /sys/kernel/tracing/events."


def _raw_tracepoint_hint(error: BpfError, program: Any, cookie: int) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOENT:
        return "It is a tracepoint's name without its subsystem: sys_enter, not raw_syscalls:…"
    if error.errno == errno.EINVAL and "RAW_TRACEPOINT" not in program.type.name:
        return f"The program is of type {program.type.name}: its section must be raw_tp."
    return kernel_hint(error, "a cookie", "6.9") if cookie else ""


def _perf_hint(error: BpfError, program: Any) -> str:
    kinds = (ProgramType.PERF_EVENT, ProgramType.KPROBE, ProgramType.TRACEPOINT)
    told = expecting(program, kinds, "perf_event")
    if not told and error.errno == errno.EBADF:
        return "The descriptor is none of a perf event."
    return told or kernel_hint(error, "a program at a perf event", "4.9")
