"""Programs that are in the kernel, by descriptor: what it tells of them, and test runs."""

from __future__ import annotations

import ctypes
import errno
import os
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

from ._ffi import lib
from ._handle import Descriptor
from ._types import struct_class
from .enums import ProgramType
from .errors import ENOTSUPP, BpfError
from .log import calling

if TYPE_CHECKING:
    from .info import ProgramInfo
    from .maps import Map

_ROOM = 1 << 16  # bytes by which a program may lengthen a packet

# Their test run takes no buffer for the context: it cannot change, or changes in place.
_NO_CTX_OUT = (ProgramType.RAW_TRACEPOINT, ProgramType.SYSCALL)


class RunResult(NamedTuple):
    """What a test run gave.

    Attributes:
        retval: what the program returned, as a number of 32 bits without sign.
        data_out: the packet, as the program left it.
        ctx_out: the context, as the program left it.
        duration: nanoseconds that one run took, on average.
    """

    retval: int
    data_out: bytes
    ctx_out: bytes
    duration: int


class Statistics(NamedTuple):
    """What a program's runs took since it was loaded, counted while enable_stats() is open.

    Attributes:
        run_time_ns: nanoseconds in the program.
        run_cnt: how often it ran.
        recursion_misses: how often it did not, as it was running already (Linux 5.12);
            counted always.
    """

    run_time_ns: int
    run_cnt: int
    recursion_misses: int


class InKernel:
    """What a program in the kernel can do, whoever loaded it."""

    @property
    def fd(self) -> int:
        """Its file descriptor."""
        raise NotImplementedError

    @property
    def info(self) -> ProgramInfo:
        """What the kernel tells of it now.

        Raises: BpfError. Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1); Linux 4.13.
        """
        from .info import program_info

        return program_info(self.fd)

    @property
    def id(self) -> int:
        """Its number in the kernel, unique while it lives. Linux 4.13."""
        return self.info.id

    @property
    def statistics(self) -> Statistics:
        """What its runs took so far, counted while enable_stats() is on.

        Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1); Linux 5.1.
        """
        info = self.info
        return Statistics(info.run_time_ns, info.run_cnt, info.recursion_misses)

    def translated_instructions(self) -> bytes:
        """Its instructions as the verifier left them, 8 bytes each; addresses may be hidden.

        Returns: empty bytes where the kernel hides them from this user.
        Raises: BpfError. Source: ``bpf_obj_get_info_by_fd`` (libbpf 0.0.1); Linux 4.13.
        """
        buffer = ctypes.create_string_buffer(self.info.xlated_prog_len)
        info = struct_class("bpf_prog_info")(
            xlated_prog_len=len(buffer), xlated_prog_insns=ctypes.addressof(buffer)
        )
        size = ctypes.c_uint32(ctypes.sizeof(info))
        with calling("read a program's instructions"):
            lib.bpf_obj_get_info_by_fd(self.fd, ctypes.byref(info), ctypes.byref(size))
        there = info.xlated_prog_insns  # NULL where they are hidden
        return buffer.raw[: info.xlated_prog_len] if there else b""

    def bind_map(self, map: Map[Any, Any]) -> None:
        """Keeps a map as long as the program, which need not use it.

        Raises: BpfError. Source: ``bpf_prog_bind_map`` (libbpf 0.2); Linux 5.10.
        """
        with calling(f"bind {map!r} to {self!r}"):
            lib.bpf_prog_bind_map(self.fd, map.fd, None)

    def test_run(
        self,
        data_in: bytes | None = None,
        *,
        ctx_in: bytes | None = None,
        repeat: int = 0,
        flags: int = 0,
        cpu: int = 0,
        batch_size: int = 0,
        data_size_out: int | None = None,
        ctx_size_out: int | None = None,
    ) -> RunResult:
        """Runs the program in the kernel, on data of yours, attached or not.

        What a run takes depends on the program's type: packets (XDP, SCHED_CLS and their
        kin) need at least 14 bytes of ``data_in``; RAW_TRACEPOINT and SYSCALL a
        ``ctx_in`` alone.

        Args:
            data_in: the packet.
            ctx_in: the context, such as a ``struct __sk_buff`` or ``xdp_md``, or a raw
                tracepoint's arguments.
            repeat: how often; 0 is once.
            flags: BPF_F_TEST_RUN_ON_CPU (1), BPF_F_TEST_XDP_LIVE_FRAMES (2) and so on.
            cpu: where to run it, with BPF_F_TEST_RUN_ON_CPU.
            batch_size: of live XDP frames.
            data_size_out, ctx_size_out: bytes there are room for; by default enough for
                the packet and 64 KiB, and for the context, where the type gives it back.

        Returns: the RunResult; ``duration`` is 0 where the type does not measure it.
        Raises: BpfError: no test run for this type (ENOTSUPP, 524), something that its
            type does not take (EINVAL), too little room (ENOSPC).

        Source: ``bpf_prog_test_run_opts`` (libbpf 0.2); Linux 4.12.
        """
        operation = f"test {self!r}"
        if data_size_out is None:
            # Live frames go out: nothing comes back.
            data_size_out = len(data_in) + _ROOM if data_in is not None and not flags & 2 else 0
        context = _buffer(ctx_in)
        if ctx_size_out is None:
            given_back = context is not None and self.info.type not in _NO_CTX_OUT
            ctx_size_out = len(context or b"") if given_back else 0
        data = _buffer(data_in)
        try:
            data_out = ctypes.create_string_buffer(data_size_out) if data_size_out else None
            ctx_out = ctypes.create_string_buffer(ctx_size_out) if ctx_size_out else None
        except (ValueError, OverflowError, MemoryError) as error:
            raise BpfError(operation, errno.EINVAL, f"no size of a buffer: {error}") from None
        for name, number in {"flags": flags, "cpu": cpu, "batch_size": batch_size}.items():
            check_u32(operation, name, number)
        if not 0 <= repeat < 1 << 31:
            raise BpfError(operation, errno.ERANGE, f"repeat is {repeat}")
        opts = struct_class("bpf_test_run_opts")(
            data_in=_address(data),
            data_size_in=len(data or b""),
            data_out=_address(data_out),
            data_size_out=data_size_out,
            ctx_in=_address(context),
            ctx_size_in=len(context or b""),
            ctx_out=_address(ctx_out),
            ctx_size_out=ctx_size_out,
            repeat=repeat,
            flags=flags,
            cpu=cpu,
            batch_size=batch_size,
        )
        with calling(operation, _test_run_hint):
            lib.bpf_prog_test_run_opts(self.fd, opts)
        # A SYSCALL program's context is changed in place.
        ctx_out, size = (ctx_out, opts.ctx_size_out) if ctx_out else (context, len(context or b""))
        return RunResult(
            opts.retval,
            data_out.raw[: opts.data_size_out] if data_out else b"",
            ctx_out.raw[:size] if ctx_out else b"",
            opts.duration,
        )


class LoadedProgram(Descriptor, InKernel):
    """A program that is in the kernel already, by a file descriptor of our own.

    ``Program.open_pinned()`` and ``Program.open_id()`` make it. close() lets go of it; the
    program lives on as long as others hold it.

    Source: libbpf's calls by file descriptor; Linux 4.4.
    """

    def __init__(self, fd: int, what: str) -> None:
        super().__init__(fd)
        self._what = what

    @property
    def name(self) -> str:
        """Its name: the C function's first 15 bytes. Linux 4.15."""
        return self.info.name

    @property
    def type(self) -> ProgramType:
        """The program type."""
        return self.info.type

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pins it in a BPF file system: it lives on after its last descriptor.

        Raises: BpfError. Source: ``bpf_obj_pin`` (libbpf 0.0.1); Linux 4.4.
        """
        from .pinning import encoded_path, pin_hint

        operation = f"pin {self!r} to {os.fspath(path)}"
        encoded = encoded_path(operation, path)
        with calling(operation, pin_hint):
            lib.bpf_obj_pin(self.fd, encoded)

    def __repr__(self) -> str:
        return f"<LoadedProgram {self._what}{' (closed)' if self.closed else ''}>"


class _Counting(Descriptor):
    def __repr__(self) -> str:
        return f"<statistics of BPF programs{' (closed)' if self.closed else ''}>"


def enable_stats() -> Descriptor:
    """Counts the time and runs of every program in the kernel, until it is closed::

        with enable_stats():
            ...
        print(program.statistics)

    Returns: a handle to close.
    Raises: BpfError. Source: ``bpf_enable_stats`` (libbpf 0.0.9); Linux 5.8.
    """
    from . import kernel

    def hint(error: BpfError) -> str:
        return kernel.privilege_hint() if error.errno == errno.EPERM else ""

    with calling("enable statistics of BPF programs", hint):
        return _Counting(lib.bpf_enable_stats(0))  # BPF_STATS_RUN_TIME


def check_u32(operation: str, name: str, number: int) -> int:
    """The number. Raises: BpfError (ERANGE): ctypes would cut it to 32 bits in silence."""
    return check_unsigned(operation, name, number, 32)


def check_unsigned(operation: str, name: str, number: int, bits: int = 64) -> int:
    """The number of so many bits. Raises: BpfError: ERANGE; EINVAL: it is none."""
    try:
        number = index(number)
    except TypeError:
        raise BpfError(operation, errno.EINVAL, f"{name} is {number!r}, no integer") from None
    if not 0 <= number < 1 << bits:
        raise BpfError(operation, errno.ERANGE, f"{name} is {number}, not 0 to {(1 << bits) - 1}")
    return number


def id_hint(error: BpfError) -> str:
    """What to do next where something of the kernel's could not be opened by its number."""
    from . import kernel

    if error.errno == errno.ENOENT:
        return "It is gone, or never was."
    if error.errno not in (errno.EPERM, errno.EACCES):
        return ""
    if kernel.capabilities() >> kernel.CAP_SYS_ADMIN & 1:
        return kernel.privilege_hint()
    return "By its number the kernel opens it with CAP_SYS_ADMIN only: run as root."


def _buffer(data: bytes | None) -> ctypes.Array[ctypes.c_char] | None:
    """A copy that the kernel may write to."""
    return ctypes.create_string_buffer(bytes(data), len(data)) if data is not None else None


def _address(buffer: Any) -> int | None:
    return ctypes.addressof(buffer) if buffer is not None else None


def _test_run_hint(error: BpfError) -> str:
    if error.errno in (ENOTSUPP, errno.EOPNOTSUPP):
        return "This kernel has no test run for programs of this type: attach it instead."
    if error.errno == errno.EINVAL:
        return "Its type takes no such run: too short a packet, or an argument that it lacks."
    if error.errno == errno.ENOSPC:
        return "What the program made is longer: give data_size_out or ctx_size_out."
    if error.errno in (errno.EPERM, errno.EACCES):
        from . import kernel

        return kernel.privilege_hint()
    return ""
