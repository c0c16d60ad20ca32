"""What ``ebpf-tool doctor`` asks of the kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from .. import features, kernel
from ..btf import Btf
from ..errors import BpfError
from .attached import MISSED_SINCE, counts_missed
from .cgroup import cgroup_root
from .checks import Check, advice_for, number_in, why_unknown
from .kernel_version import is_since

_PROBES = Path("/sys/kernel/debug/kprobes")
_KALLSYMS = Path("/proc/kallsyms")

#: What each feature is for: with it, without it.
_MULTI = ("many functions by one link", "many functions are attached one by one, which takes long")
_COOKIES = ("several functions at once", "one function at a time")
_MODULE_BTF = ("named arguments in modules", "functions of modules have no named arguments")
_RING_BUFFER = ("for programs of your own", "kprobe does without: it has perf buffers")
_BTF_ADVICE = "It takes a kernel with CONFIG_DEBUG_INFO_BTF, as those of distributions."
_BTF_OPTION = "CONFIG_DEBUG_INFO_BTF_MODULES"


def look_at_kernel() -> Iterator[Check]:
    """Asks for what ``ebpf-tool kprobe`` uses."""
    yield _kprobes()
    yield _feature("kprobe.multi", features.has_kprobe_multi, _MULTI, "5.18", "CONFIG_FPROBE")
    yield _feature("cookies", features.has_bpf_cookie, _COOKIES, "5.15")
    yield _btf()
    if kernel.BTF.exists():
        yield _feature("module BTF", features.has_module_btf, _MODULE_BTF, "5.11", _BTF_OPTION)
    else:
        yield Check("kernel", "module BTF", False, _MODULE_BTF[1], _BTF_ADVICE)
    yield _kallsyms()
    yield _tracefs()
    yield _debugfs()
    yield _missed_calls()
    yield _feature("ring buffer", features.has_ring_buffer, _RING_BUFFER, "5.8")
    yield _cgroups()
    yield _process_ids()


def _kprobes() -> Check:
    if not Path("/sys/bus/event_source").exists():
        return Check("kernel", "kprobes", None, "/sys is not mounted", kernel.NO_SYS_HINT)
    if not kernel.has_kprobes():
        detail = "this kernel has none (CONFIG_KPROBES); uprobe and tracepoint need none"
        return Check("kernel", "kprobes", False, detail, kernel.VM_HINT)
    switch = kernel.switched_off()
    if switch:
        advice = f"'echo 1 > {switch}'."
        return Check("kernel", "kprobes", False, "they are switched off", advice)
    return Check("kernel", "kprobes", True, "CONFIG_KPROBES")


def _feature(
    name: str, ask: Callable[[], bool], uses: tuple[str, str], since: str, option: str = ""
) -> Check:
    try:
        there = ask()
    except BpfError as error:
        return Check("kernel", name, None, why_unknown(error), advice_for(error))
    if there:
        return Check("kernel", name, True, uses[0])
    if option and is_since(since):
        advice = f"It takes a kernel that is built with {option}: this one is not."
    else:
        advice = f"It takes Linux {since} or newer."
    return Check("kernel", name, False, uses[1], advice)


def _btf() -> Check:
    if not kernel.BTF.exists():
        detail = f"no {kernel.BTF}: arguments are plain numbers, without names"
        return Check("kernel", "BTF", False, detail, _BTF_ADVICE)
    try:
        with Btf.kernel() as types:
            count = types.type_count
    except BpfError as error:
        return Check("kernel", "BTF", None, why_unknown(error), advice_for(error))
    return Check("kernel", "BTF", True, f"{count} types: arguments have names", value=count)


def _kallsyms() -> Check:
    try:
        hidden = _hides_addresses()
    except OSError as error:
        detail = f"{_KALLSYMS}: {error.strerror}: functions are not looked up"
        return Check("kernel", "kallsyms", False, detail, "It takes a kernel with CONFIG_KALLSYMS.")
    restrict = number_in(Path("/proc/sys/kernel/kptr_restrict"))
    if not hidden:
        detail = "names and addresses of all functions"
        return Check("kernel", "kallsyms", True, detail, value=restrict)
    detail = "addresses are hidden: --address, and a name of several functions, do not work"
    advice = "Run as root, or with CAP_SYSLOG."
    if restrict == 2:
        advice = "'sysctl kernel.kptr_restrict=1' shows them to root and CAP_SYSLOG."
    return Check("kernel", "kallsyms", False, detail, advice, restrict)


def _hides_addresses() -> bool:
    with _KALLSYMS.open("rb") as lines:
        for line in lines:
            if not line.startswith(b"00000000"):
                return False
            if line.split()[2:3] in ([b"_text"], [b"_stext"]):  # others may really lie at 0
                return True
    return True


def _tracefs() -> Check:
    uses = "'list' and --dry-run know less"
    reason, advice = "not mounted", f"'mount -t tracefs tracefs {kernel.TRACEFS[0]}'."
    for folder in kernel.TRACEFS:
        try:
            if "events" not in os.listdir(folder):  # noqa: PTH208  # Path fails later
                continue
        except PermissionError:
            reason, advice = "for root only", "Run as root to have it."
            continue
        except OSError:
            continue
        try:
            with Path(folder, "available_filter_functions").open("rb") as functions:
                functions.read(1)
        except OSError as error:
            detail = f"{folder}, but available_filter_functions: {error.strerror}"
            if error.errno == errno.ENOENT:
                detail = f"{folder} without available_filter_functions (CONFIG_FUNCTION_TRACER)"
            return Check("kernel", "tracefs", False, f"{detail}: {uses}", value=folder)
        return Check("kernel", "tracefs", True, folder, value=folder)
    return Check("kernel", "tracefs", False, f"{reason}: {uses}", advice)


def _debugfs() -> Check:
    uses = "why a function is refused is not always told"
    try:
        with (_PROBES / "blacklist").open("rb") as functions:
            functions.read(1)
    except PermissionError:
        advice = "Run as root to have it."
        return Check("kernel", "debugfs", False, f"for root only: {uses}", advice)
    except OSError:
        if os.path.ismount(_PROBES.parent):
            return Check("kernel", "debugfs", False, f"it has no kprobes/blacklist: {uses}")
        advice = f"'mount -t debugfs debugfs {_PROBES.parent}'."
        return Check("kernel", "debugfs", False, f"not mounted: {uses}", advice)
    return Check("kernel", "debugfs", True, f"{_PROBES}/blacklist")


def _missed_calls() -> Check:
    if counts_missed():
        return Check("kernel", "missed calls", True, "the kernel counts the calls that it misses")
    detail = "the kernel does not tell which calls it misses"
    advice = f"It takes Linux {MISSED_SINCE} or newer."
    return Check("kernel", "missed calls", False, detail, advice)


def _cgroups() -> Check:
    try:
        root = cgroup_root()
    except BpfError as error:
        return Check("kernel", "cgroups", False, f"{error.strerror}: no --cgroup", error.hint)
    return Check("kernel", "cgroups", True, f"version 2, at {root}", value=str(root))


def _process_ids() -> Check:
    """BPF programs see the host's; in a container they are translated, with BTF's help."""
    if kernel.in_initial_pid_namespace():
        return Check("kernel", "process ids", True, "the host's", value="host")
    if kernel.BTF.exists():
        detail = "a container's, in the events and for -p"
        return Check("kernel", "process ids", True, detail, value="container")
    detail = "a container's, but without BTF those in the events are the host's"
    advice = "Run it on the host."
    return Check("kernel", "process ids", False, detail, advice, "container")
