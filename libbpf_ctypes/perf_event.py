"""Counters and samplers of the kernel, opened to run a program at each overflow."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from . import kernel
from ._handle import Descriptor
from ._types import struct_class
from .enums import Tolerant
from .errors import BpfError

#: The number of the system call; it is 241 where an architecture came after 2012.
_SYSCALLS = {
    "x86_64": 298,
    "i686": 336,
    "armv7l": 364,
    "ppc64le": 319,
    "ppc64": 319,
    "s390x": 331,
}
_FD_CLOEXEC = 1 << 3


class PerfType(Tolerant):
    """enum perf_type_id"""

    HARDWARE = 0
    SOFTWARE = 1
    TRACEPOINT = 2
    HW_CACHE = 3
    RAW = 4
    BREAKPOINT = 5


class SoftwareEvent(Tolerant):
    """enum perf_sw_ids: ``config`` of PerfType.SOFTWARE"""

    CPU_CLOCK = 0
    TASK_CLOCK = 1
    PAGE_FAULTS = 2
    CONTEXT_SWITCHES = 3
    CPU_MIGRATIONS = 4
    PAGE_FAULTS_MIN = 5
    PAGE_FAULTS_MAJ = 6
    ALIGNMENT_FAULTS = 7
    EMULATION_FAULTS = 8
    DUMMY = 9
    BPF_OUTPUT = 10
    CGROUP_SWITCHES = 11


class HardwareEvent(Tolerant):
    """enum perf_hw_id: ``config`` of PerfType.HARDWARE"""

    CPU_CYCLES = 0
    INSTRUCTIONS = 1
    CACHE_REFERENCES = 2
    CACHE_MISSES = 3
    BRANCH_INSTRUCTIONS = 4
    BRANCH_MISSES = 5
    BUS_CYCLES = 6
    STALLED_CYCLES_FRONTEND = 7
    STALLED_CYCLES_BACKEND = 8
    REF_CPU_CYCLES = 9


class PerfEvent(Descriptor):
    """An open perf event, for Program.attach_perf_event(); closing it ends it."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd)
        self.name = name

    @classmethod
    def open(
        cls,
        type: int,
        config: int,
        *,
        period: int = 0,
        frequency: int = 0,
        pid: int = -1,
        cpu: int = -1,
    ) -> PerfEvent:
        """Opens an event that counts nothing before a program is attached to it.

        Args:
            type: a PerfType, or the number of a unit under /sys/bus/event_source/devices.
            config: which event of it: a SoftwareEvent, a HardwareEvent, or the unit's code.
            period: counts (of a clock: nanoseconds) after which the program runs.
            frequency: or how often a second it shall run, about.
            pid: of this process only; 0: of this one; -1: of all, which needs a CPU.
            cpu: on this CPU only; -1: on all, which needs a process.

        Returns: the PerfEvent. One event is of one process or of one CPU: open one
            for each CPU to sample all.
        Raises: BpfError, with a hint.
        Source: perf_event_open(2), Linux 2.6.31; programs at an overflow, Linux 4.9.
        """
        for each in (type, config, period, frequency, pid, cpu):
            if not isinstance(each, int):
                raise BpfError("open a perf event", errno.EINVAL, f"{each!r} is not a number")
        name = f"perf event {int(type)}:{int(config):#x}"
        operation = f"open {name}"
        if pid < -1 or cpu < -1 or (pid == -1 and cpu == -1):
            reason = f"process {pid} and CPU {cpu}: name a process, a CPU or both"
            raise BpfError(operation, errno.EINVAL, reason)
        if (period > 0) == (frequency > 0) or period < 0 or frequency < 0:
            raise BpfError(operation, errno.EINVAL, "name a period or a frequency, above 0")
        too_large = max(type, pid, cpu) >> 31 or max(config, period, frequency) >> 64
        if too_large or min(type, config) < 0:
            raise BpfError(operation, errno.EINVAL, "a number is too large, or below 0")
        attr_class = struct_class("perf_event_attr")
        attr = attr_class(type=type, size=ctypes.sizeof(attr_class), config=config)
        attr.sample_period = period or frequency
        attr.freq = frequency > 0
        attr.disabled = True
        number = _SYSCALLS.get(platform.machine(), 241)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        arguments = (ctypes.byref(attr), pid, cpu, -1, ctypes.c_ulong(_FD_CLOEXEC))
        fd = libc.syscall(ctypes.c_long(number), *arguments)
        if fd < 0:
            code = ctypes.get_errno()
            raise BpfError(operation, code, hint=_hint(code))
        return cls(fd, name)

    def __repr__(self) -> str:
        return f"<PerfEvent {self.name}{' (closed)' if self.closed else ''}>"


def _hint(code: int) -> str:
    if code in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if code in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return "This machine has no such event: virtual ones often lack those of the hardware."
    if code == errno.ESRCH:
        return "There is no such process."
    if code == errno.EINVAL and os.cpu_count():
        return "No such event, or no such CPU."
    return ""
