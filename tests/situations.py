"""Runs `ebpf-tool doctor --json` in several situations; prints what each said, as JSON.

    python situations.py [SITUATION...]

Each is a forked child that gives up or hides what the situation lacks. In one process, since
in an emulated machine the imports alone take seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).parent.parent))

# Before the process becomes a user who may not read where they are.
import encodings.ascii  # noqa: F401
import resource  # noqa: F401

import construct  # noqa: F401
import docopt  # noqa: F401

from libbpf_ctypes import layout  # noqa: F401
from libbpf_ctypes._probes import _SYSCALLS
from libbpf_ctypes.cli import doctor
from libbpf_ctypes.kernel import CAP_BPF, CAP_PERFMON

NEW_MOUNTS, NEW_PIDS, NEW_USER = 0x20000, 0x20000000, 0x10000000  # CLONE_NEW…
BIND, PRIVATE = 0x1000, 0x44000  # MS_BIND; MS_PRIVATE | MS_REC
DETACH = 2
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _unshare(what: int) -> None:
    _done(_libc.unshare(what))


def _mount(source: str, place: str, kind: str, flags: int = 0) -> None:
    _done(_libc.mount(source.encode(), place.encode(), kind.encode(), flags, None))


def _own_mounts() -> None:
    _unshare(NEW_MOUNTS)
    _mount("none", "/", "", PRIVATE)


def become_nobody(*capabilities: int) -> None:
    """Goes on as user nobody, with these capabilities."""
    _done(_libc.prctl(8, 1, 0, 0, 0))  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    mask = sum(1 << number for number in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _done(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def root() -> None:
    """All that root can have: what cannot be mounted is there, or not in this kernel."""
    _own_mounts()
    for name, kind in (("debug", "debugfs"), ("tracing", "tracefs"), ("security", "securityfs")):
        with contextlib.suppress(OSError):
            _mount("none", f"/sys/kernel/{name}", kind)


def nobody() -> None:
    """An ordinary user."""
    root()
    become_nobody()


def tracer() -> None:
    """A user with CAP_BPF and CAP_PERFMON."""
    root()
    become_nobody(CAP_BPF, CAP_PERFMON)


def paranoid_tracer() -> None:
    """The same where Debian's kernels demand more, as they do by default."""
    PARANOID.write_text("3")
    tracer()


def user_namespace() -> None:
    """Root of a user namespace only."""
    root()
    _unshare(NEW_USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("0 0 1")


def pid_namespace() -> None:
    """A container's process ids; its first process waits for the second one."""
    root()
    _unshare(NEW_PIDS)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def no_btf() -> None:
    """Without the kernel's BTF."""
    root()
    _mount(tempfile.mkdtemp(), "/sys/kernel/btf", "", BIND)


def no_tracefs() -> None:
    """Without tracefs, and the debugfs that has it, too."""
    root()
    for place in (b"/sys/kernel/tracing", b"/sys/kernel/debug"):
        while _libc.umount2(place, DETACH) == 0:
            pass


def no_cgroups() -> None:
    """Without the cgroups of version 2."""
    root()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            _done(_libc.umount2(line.split()[1].encode(), DETACH))


def no_libbpf() -> None:
    """Without libbpf."""
    root()
    os.environ["LIBBPF_CTYPES_LIBRARY"] = "/nonexistent/libbpf.so.1"


def seccomp() -> None:
    """A container's filter that refuses bpf(2) with EPERM, whatever the capabilities."""
    root()
    number = _SYSCALLS[platform.machine()]
    rules = [
        (0x20, 0, 0, 0),  # load seccomp_data.nr
        (0x15, 0, 1, number),  # is it this one? else skip
        (0x06, 0, 0, 0x50000 | errno.EPERM),  # SECCOMP_RET_ERRNO
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = struct.pack("@HP", len(rules), ctypes.addressof(code))
    _done(_libc.prctl(22, 2, program, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def no_docopt_and_construct() -> None:
    """Without the two packages."""
    root()
    for name in ("docopt", "construct"):
        sys.modules[name] = None  # type: ignore[assignment]


def _ask(situation: Callable[[], None], out: int, err: int) -> int:
    """The doctor's exit status; -1: the situation could not be made."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.dup2(out, 1)
            os.dup2(err, 2)
            situation()
            status = doctor.run({"--json": True})
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _report(situation: Callable[[], None]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = _ask(situation, out.fileno(), err.fileno())
        told = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (out, err)]
    return {"status": status, "out": told[0], "err": told[1]}


def main() -> None:
    """Asks in each situation that is named."""
    before = PARANOID.read_text()
    PARANOID.write_text("2")
    try:
        reports = {}
        for name in sys.argv[1:]:
            reports[name] = _report(globals()[name])
            PARANOID.write_text("2")
    finally:
        PARANOID.write_text(before)
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
