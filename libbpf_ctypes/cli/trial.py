"""What ``ebpf-tool doctor`` tries: to trace calls of its own, as ``ebpf-tool kprobe`` would."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Callable

from .. import features, kernel
from .._perf_open import PAGE_SIZE, default_pages
from ..errors import BpfError
from ..object import BpfObject
from ..paths import KPROBE_OBJECT
from ..perf_buffer import PerfBuffer
from ..program import Program
from .checks import Check, advice_for, reason

#: What the trial of the plain program consists of, in this order.
STEPS = ("load", "perf buffer", "attach", "event")

#: A system call that is made seldom, and its function in the kernel. Not by attach_ksyscall():
#: where the probe is refused, that one says that there is no such system call.
_CALL = "getppid"
_WRAPPERS = {"x86_64": "__x64_sys_getppid", "aarch64": "__arm64_sys_getppid"}
_FUNCTION = _WRAPPERS.get(os.uname().machine, f"sys_{_CALL}")

_PATIENCE = 5.0  # seconds until an event must have come
_PLACE = 1  # of the function, by its cookie
_COOKIE = slice(40, 44)  # where struct call_event has it
_CAP_IPC_LOCK = 14

_NO_EVENT_HINT = (
    "Probes may be switched off: /sys/kernel/debug/kprobes/enabled and kernel.ftrace_enabled tell. "
    "If they are not, please report it."
)

#: What is found out on the way: a step's words, and its value.
Steps = Iterator[tuple[str, Any]]


def try_out(without: str = "") -> Iterator[Check]:
    """Tries the plain program step by step, then the rich ones. Nothing stays.

    Args: without: what is missing for any trial; "" where nothing is.
    """
    names = list(STEPS)
    try:
        for detail, value in () if without else _trace_plain():
            yield Check("trial", names.pop(0), True, detail, _advice(value), value)
    except BpfError as error:
        without = names.pop(0)
        yield Check("trial", without, False, reason(error), advice_for(error))
    for name in names:
        yield _not_tried(name, without)
    yield _rich("arguments", without, _trace_rich)
    if not without and not _has_kprobe_multi():
        without = "kprobe.multi"
    yield _rich("many functions", without, _trace_many)


def _has_kprobe_multi() -> bool:
    try:
        return features.has_kprobe_multi()
    except BpfError:
        return False


def _not_tried(name: str, without: str) -> Check:
    return Check("trial", name, None, f"not tried, without {without}")


def _rich(name: str, without: str, trace: Callable[[], Steps]) -> Check:
    if without:
        return _not_tried(name, without)
    try:
        *_, (detail, _value) = trace()
    except BpfError as error:
        return Check("trial", name, False, reason(error), advice_for(error))
    return Check("trial", name, True, detail)


def _trace_plain() -> Steps:
    return _trace("syscall_kprobe", lambda program: program.attach_kprobe(_FUNCTION))


def _trace_rich() -> Steps:
    return _trace("call_kprobe", lambda program: program.attach_kprobe(_FUNCTION, cookie=_PLACE))


def _trace_many() -> Steps:
    def attach(program: Program) -> Any:
        return program.attach_kprobe_multi([_FUNCTION], cookie=[_PLACE])

    return _trace("call_kprobe_multi", attach)


def _trace(name: str, attach: Callable[[Program], Any]) -> Steps:
    """Traces a call of ours with this program of our object; yields after each step."""
    rich = name != "syscall_kprobe"
    with BpfObject.open(KPROBE_OBJECT) as obj:
        for program in obj.programs.values():
            program.autoload = program.name == name
        if rich:
            _set_up(obj)
        obj.load()
        yield f"program {name}", None
        with PerfBuffer(obj.maps["EVENTS"], max_latency=0) as buffer:
            size = buffer.pages * PAGE_SIZE
            yield f"{size >> 10} KiB for each of {os.cpu_count()} CPUs; {_limit()}", size
            with attach(obj.programs[name]):
                yield f"to {_FUNCTION}, and off again", None
                os.getppid()
                events = buffer.poll(_PATIENCE)
    operation = f"trace a call of {_CALL}"
    if not events:
        raise BpfError(operation, None, "no event came", hint=_NO_EVENT_HINT)
    if rich and int.from_bytes(events[0][_COOKIE], sys.byteorder) != _PLACE:
        raise BpfError(operation, None, "the event has another function's cookie")
    yield f"{name} saw a call of {_CALL}", None


def _set_up(obj: BpfObject) -> None:
    """Neither filters nor values, and several functions told apart by their cookies."""
    obj.maps["FUNCTIONS"].max_entries = _PLACE + 1
    obj.variables["cookies"].value = True
    obj.variables["values_used"].value = 0
    obj.variables["comparisons_used"].value = 0


def _limit() -> str:
    """What of buffers this process may lock."""
    if kernel.capabilities() >> _CAP_IPC_LOCK & 1:
        return "any size is allowed (CAP_IPC_LOCK)"
    import resource

    together = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if together == resource.RLIM_INFINITY:
        return "any size is allowed (RLIMIT_MEMLOCK)"
    try:
        with open("/proc/sys/kernel/perf_event_mlock_kb", encoding="ascii") as file:  # noqa: PTH123
            each = file.read().strip()
    except OSError:
        each = "?"
    return (
        f"allowed are {each} KiB for each (kernel.perf_event_mlock_kb) and {together >> 10} KiB "
        "more in all (RLIMIT_MEMLOCK)"
    )


def _advice(size: Any) -> str:
    """What to do where the buffers are smaller than usual."""
    if size is None or size >= default_pages() * PAGE_SIZE:
        return ""
    usual = f"That is less than the usual {default_pages() * PAGE_SIZE >> 10} KiB. "
    return usual + kernel.memlock_hint()
