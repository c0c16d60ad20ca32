"""What ``ebpf-tool doctor`` looks at first: what the command needs, and what it may do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import kernel
from .._ffi import library_path, library_version
from ..errors import BpfError, LibraryError
from ..paths import KPROBE_OBJECT

#: Where the namespaces' inodes are those of the host: include/linux/proc_ns.h (Linux 3.8).
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD


class Check(NamedTuple):
    """One answer.

    Attributes:
        group: "command", "privileges", "kernel" or "trial".
        name: of what was looked at; it stays the same in later versions.
        answer: whether it is there, or does not stand in the way; None: unknown.
        detail: what was found, in words.
        advice: what to do about it; "" where there is nothing to do.
        value: what was found, for programs; None where the answer says all.
    """

    group: str
    name: str
    answer: bool | None
    detail: str
    advice: str = ""
    value: Any = None


#: What ``ebpf-tool kprobe`` cannot do without; the trial has more of it.
NEEDED = ("docopt", "construct", "libbpf", "object", "capabilities", "kprobes")


def look_at_command() -> Iterator[Check]:
    """Looks for what the command needs, and at what this process may do."""
    yield _docopt()
    yield _construct()
    yield _libbpf()
    yield _object()
    yield _capabilities()
    yield _paranoia()
    yield _lockdown()
    yield _seccomp()


def _docopt() -> Check:
    advice = "'pip install docopt-ng'."
    try:
        import docopt
    except ImportError:
        return Check("command", "docopt", False, "docopt-ng is missing", advice)
    version = getattr(docopt, "__version__", "")
    if "default_help" not in docopt.docopt.__code__.co_varnames:
        return Check("command", "docopt", False, f"docopt {version} is not docopt-ng", advice)
    return Check("command", "docopt", True, f"docopt-ng {version}".strip(), value=version)


def _construct() -> Check:
    try:
        import construct
    except ImportError:
        advice = "'pip install construct'."
        return Check("command", "construct", False, "construct is missing", advice)
    version = getattr(construct, "__version__", "")
    return Check("command", "construct", True, f"construct {version}".strip(), value=version)


def _libbpf() -> Check:
    try:
        version, path = library_version(), library_path()
    except BpfError as error:
        return Check("command", "libbpf", False, reason(error), error.hint)
    value = {"version": version, "path": path}
    return Check("command", "libbpf", True, f"{version} ({path})", value=value)


def _object() -> Check:
    machine = os.uname().machine
    if KPROBE_OBJECT.exists():
        return Check("command", "object", True, f"shipped for {machine}", value=str(KPROBE_OBJECT))
    advice = "Add the machine to bpf/Makefile, or name an object of yours with --object."
    return Check("command", "object", False, f"none is shipped for {machine}", advice)


def _capabilities() -> Check:
    if not _lines(Path("/proc/self/status")):
        advice = "'mount -t proc proc /proc' first."
        return Check("privileges", "capabilities", None, "/proc is not mounted", advice)
    missing = kernel.missing_capabilities()
    user = f"user {os.geteuid()}"
    if missing:
        advice = kernel.privilege_hint()
        if not kernel.in_initial_pid_namespace():
            advice += " In a container: 'docker run --cap-add=BPF --cap-add=PERFMON', or the like."
        detail = f"{user}, without {' and '.join(missing)}"
        return Check("privileges", "capabilities", False, detail, advice, missing)
    if not _is_initial(Path("/proc/self/ns/user"), _INITIAL_USER_NAMESPACE):
        detail = f"{user} of a user namespace, whose capabilities do not count for tracing"
        advice = "Run it outside, as the host's root or with CAP_BPF and CAP_PERFMON there."
        return Check("privileges", "capabilities", False, detail, advice, missing)
    detail = f"{user}, with CAP_BPF and CAP_PERFMON"
    return Check("privileges", "capabilities", True, detail, value=missing)


def _is_initial(namespace: Path, number: int) -> bool:
    try:
        return namespace.stat().st_ino == number
    except OSError:
        return True


def _paranoia() -> Check:
    name = "perf_event_paranoid"
    level = number_in(Path("/proc/sys/kernel/perf_event_paranoid"))
    if level is None:
        return Check("privileges", name, None, "/proc/sys/kernel does not tell")
    if level < 3 or kernel.capabilities() >> kernel.CAP_SYS_ADMIN & 1:
        return Check("privileges", name, True, f"{level}", value=level)
    # Only the kernels of some distributions know a 3: the trial tells.
    detail = f"{level}: some kernels then demand CAP_SYS_ADMIN"
    advice = "'sysctl kernel.perf_event_paranoid=2', if the trial below fails."
    return Check("privileges", name, None, detail, advice, level)


def _lockdown() -> Check:
    mode = kernel.lockdown()
    if mode == "confidentiality":
        advice = kernel.lockdown_hint()
        return Check("privileges", "lockdown", False, mode, advice, mode)
    if mode:
        return Check("privileges", "lockdown", True, mode, value=mode)
    return Check("privileges", "lockdown", None, "/sys/kernel/security/lockdown does not tell")


def _seccomp() -> Check:
    mode = None
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("Seccomp:"):
            mode = int(line.split()[1])
    if not mode:
        detail = "no filter" if mode == 0 else "/proc/self/status does not tell"
        return Check("privileges", "seccomp", None if mode is None else True, detail, value=mode)
    advice = (
        "If the trial below fails with EPERM: run it with a profile that allows bpf(2) and "
        "perf_event_open(2), as 'docker run --security-opt seccomp=unconfined'."
    )
    detail = "a filter decides on system calls, as in most containers"
    return Check("privileges", "seccomp", None, detail, advice, mode)


def reason(error: BpfError) -> str:
    """What was refused and why, without what to do."""
    return str(error).removesuffix(f". {error.hint}")


def advice_for(error: BpfError) -> str:
    """What to do, unless an earlier check has told it."""
    forbidden = error.errno in (errno.EPERM, errno.EACCES)
    told = _without_libbpf(error) or (forbidden and not _capabilities().answer)
    return "" if told else error.hint


def why_unknown(error: BpfError) -> str:
    """Why a question has no answer, in a few words."""
    return "not known without libbpf" if _without_libbpf(error) else error.strerror or ""


def _without_libbpf(error: BpfError) -> bool:
    return isinstance(error, LibraryError) and not _libbpf().answer


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def number_in(file: Path) -> int | None:
    """The number that a file holds; None: it cannot be read."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
