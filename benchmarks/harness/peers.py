"""The readers of the load: ours and the peers', each at its defaults and at its best."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from .process import WRITES_AND_READS, FailedError, Load, Reader, count_lines
from .setup import ROOT, SYSTEM_PYTHON, Setup

_READERS = ROOT / "benchmarks" / "readers"
_BPFTRACE_LINE = r'printf("[%d] %s: nr=%d, timestamp=%lu\n", pid, comm, args->id, nsecs);'

#: What our command prints is the first argument of this function, by name, as bpftrace's line.
_FUNCTION = "do_sys_openat2"

#: Nothing of a call crosses to the reader: it is added up in the kernel.
OUR_SUMS = {
    "command, count": ["count", "tracepoint:raw_syscalls:sys_enter", "--json"],
    "command, latency": ["latency", "uprobe:libc:syscall", "--json"],
}
THEIR_SUMS = {
    "bpftrace, count": "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @ = count(); }}",
    "bpftrace, latency": """
        uprobe:{libc}:syscall /pid == {pid}/ {{ @began[tid] = nsecs; }}
        uretprobe:{libc}:syscall /@began[tid]/ {{
            @ = hist(nsecs - @began[tid]); delete(@began[tid]);
        }}""",
}

#: Printed to stderr by bpftrace, for its own tests, once the probes are attached.
_BPFTRACE_READY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


class Peers:
    """All readers by name; ``missing`` says why one is not there."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.missing = setup.missing
        self.load = setup.load_object()
        self.load_openat = setup.load_object("-DONLY_SYSCALL=__NR_openat", name="openat.bpf.o")

    def get(self, name: str) -> Reader:
        """A reader. Raises: FailedError: it is not there."""
        family = name.split(",")[0]
        if family in self.missing:
            raise FailedError(f"{family} is not available: {self.missing[family]}")
        reader: Reader = getattr(self, f"_{family.lower()}")(name)
        return reader

    def _ours(self, name: str) -> Reader:
        options = {
            "ours": [],
            "ours, looped over": ["--loop"],
            "ours, batches": ["--batches"],
            "ours, max_latency=0": ["--max-latency", "0"],
            "ours, busy thread": ["--busy-thread"],
            "ours, batches, busy thread": ["--batches", "--busy-thread"],
            "ours, memory": ["--memory-at", *MEMORY_AT],
            "ours, batches, memory": ["--batches", "--memory-at", *MEMORY_AT],
        }[name]
        return self._python(name, "ours.py", *options)

    def _python(self, name: str, script: str, *options: str) -> Reader:
        def command(pid: int, _scratch: Path) -> list[str]:
            script_path = str(_READERS / script)
            return [self.setup.python, script_path, str(self.load), str(pid), *options]

        return Reader(name, command, never_idle="--busy-thread" in options)

    def command(self, name: str, *options: str, openat: bool = False) -> Reader:
        """The command ebpf-tool itself, its lines to a file."""
        obj = self.load_openat if openat else self.load

        def command(pid: int, _scratch: Path) -> list[str]:
            words = [self.setup.python, str(_READERS / "ebpf_tool.py"), "sys_enter", "kprobe"]
            return [*words, _FUNCTION, "-p", str(pid), "--object", str(obj), *options]

        return Reader(name, command, "Listening for events", _tool_counts)

    def _command(self, name: str) -> Reader:
        if name in OUR_SUMS:
            tool = [self.setup.python, str(ROOT / "bin" / "ebpf-tool"), *OUR_SUMS[name]]
            ready = "Listening for events"
            return Reader(name, lambda pid, _: [*tool, "-p", str(pid)], ready, _tool_total)
        return self.command(name)

    def _c(self, name: str) -> Reader:
        # Batched as ours is: 4096 events, 4 MiB for each CPU.
        options = {"C": [], "C, batched": ["4096", "1024"]}[name]
        return self.c_reader(name, self.load, *options)

    def c_reader(self, name: str, obj: Path, *options: str) -> Reader:
        """The reader in C on an object."""
        return Reader(name, lambda pid, _: [str(self.setup.c_reader), str(obj), str(pid), *options])

    def _bcc(self, name: str) -> Reader:
        options = {
            "BCC": [],
            "BCC, best": ["--best"],
            "BCC, best, busy thread": ["--best", "--busy-thread"],
        }[name]
        script = str(_READERS / "bcc_reader.py")
        return Reader(
            name,
            lambda pid, _: [SYSTEM_PYTHON, script, *options, str(pid)],
            environment=self.setup.bcc_environment,
            never_idle="--busy-thread" in options,
        )

    def _bpftrace(self, name: str) -> Reader:
        environment = {_BPFTRACE_READY: "1"}
        if name in THEIR_SUMS:

            def sums(pid: int, _scratch: Path) -> list[str]:
                script = THEIR_SUMS[name].format(pid=pid, libc=_libc_of(pid))
                return ["bpftrace", "-f", "json", "-e", script]

            return Reader(name, sums, _BPFTRACE_READY, _bpftrace_total, environment)
        options: list[str] = []
        if name == "bpftrace, best":
            environment["BPFTRACE_PERF_RB_PAGES"] = "1024"
            options = ["-B", "full"]

        def command(pid: int, scratch: Path) -> list[str]:
            probe = f"tracepoint:raw_syscalls:sys_enter /pid == {pid}/"
            program = f"{probe} {{ {_BPFTRACE_LINE} }}"
            return ["bpftrace", *options, "-o", str(scratch / "lines"), "-e", program]

        return Reader(name, command, _BPFTRACE_READY, _bpftrace_counts, environment)

    def _opensnoop(self, name: str) -> Reader:
        def command(pid: int, _scratch: Path) -> list[str]:
            return ["/usr/sbin/opensnoop", "-p", str(pid)]

        return Reader(name, command, _polls_a_perf_buffer, _opensnoop_counts)

    def _pylibbpf(self, name: str) -> Reader:
        def command(pid: int, _scratch: Path) -> list[str]:
            obj = self.setup.load_object(f"-DTARGET_PID={pid}", name="pylibbpf.bpf.o")
            return [self.setup.python, str(_READERS / "pylibbpf_reader.py"), str(obj)]

        return Reader(name, command)

    def starts(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        """The commands that put a uprobe on the library's function, and their environments."""
        target = f"{self.setup.library}:target"
        tool = [self.setup.python, str(_READERS / "ebpf_tool.py"), target, "kprobe", "target"]
        script = f'uprobe:{target} {{ printf("[%d] %s: timestamp=%lu\\n", pid, comm, nsecs); }}'
        bcc = [SYSTEM_PYTHON, str(_READERS / "bcc_reader.py"), "--uprobe", target]
        commands: dict[str, tuple[list[str], dict[str, str]]] = {
            "command": (tool, {}),
            "bpftrace": (["bpftrace", "-e", script], {}),
            "BCC": (bcc, self.setup.bcc_environment),
        }
        return {name: it for name, it in commands.items() if name not in self.missing}


#: Events at which our reader notes its resident memory; it does at the end, too.
MEMORY_AT = ("100000", "1000000", "2000000", "5000000", "10000000", "20000000")


def getppid(*arguments: object, cpus: tuple[int, ...] = ()) -> Load:
    """The usual load."""
    return Load(tuple(str(word) for word in arguments), "getppid", cpus, WRITES_AND_READS)


def by_uprobe(*arguments: object) -> Load:
    """The same, for readers on libc's syscall(), by which it is called."""
    return getppid(*arguments)._replace(beside=0)


def openat(*arguments: object) -> Load:
    """Opens of a file that is not there."""
    return Load(tuple(str(word) for word in arguments), "openat")


def _tool_counts(scratch: Path) -> dict[str, Any]:
    with (scratch / "stdout").open("rb") as file:
        lines = count_lines(file, b": ")
    errors = (scratch / "stderr").read_text(encoding="utf-8", errors="replace")
    account = re.search(r"(\d+) events, (\d+) lost", errors)
    if account is None:
        raise FailedError(f"ebpf-tool gave no account: {errors.strip()[-200:]}")
    return {"events": lines, "lost": int(account[2])}


def _bpftrace_counts(scratch: Path) -> dict[str, Any]:
    lost = 0
    for name in ("stdout", "stderr", "lines"):
        with (scratch / name).open("rb") as file:
            lost += sum(
                int(found[1]) for line in file if (found := re.match(rb"Lost (\d+) events", line))
            )
    with (scratch / "lines").open("rb") as file:
        return {"events": count_lines(file, b"timestamp="), "lost": lost}


def _tool_total(scratch: Path) -> dict[str, Any]:
    """What ebpf-tool counted; it says itself where it could not."""
    lines = (scratch / "stdout").read_text(encoding="utf-8").splitlines()
    total = json.loads(lines[-1])
    if total["type"] != "total" or not total["adds_up"]:
        raise FailedError(f"ebpf-tool gave no account: {lines[-1]}")
    return {"events": total["counted"], "lost": total["no_room"]}


def _bpftrace_total(scratch: Path) -> dict[str, Any]:
    """What bpftrace counted: a number, or the buckets of a histogram."""
    events = 0
    for line in (scratch / "stdout").read_text(encoding="utf-8").splitlines():
        record = json.loads(line) if line else {}
        if record.get("type") == "map":
            events += record["data"].get("@", 0)
        elif record.get("type") == "hist":
            events += sum(bucket["count"] for bucket in record["data"]["@"])
    return {"events": events, "lost": 0}


def _libc_of(pid: int) -> str:
    """The libc of a process that has just begun, and may not have loaded it yet."""
    maps = Path(f"/proc/{pid}/maps")
    for _ in range(100):
        found = re.search(r"/\S*/libc\.so\.6$", maps.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return found[0]
        time.sleep(0.01)
    raise FailedError("the producer has no libc.so.6")


def _opensnoop_counts(scratch: Path) -> dict[str, Any]:
    errors = (scratch / "stderr").read_text(encoding="utf-8", errors="replace")
    lost = sum(int(number) for number in re.findall(r"[Ll]ost (\d+) events", errors))
    with (scratch / "stdout").open("rb") as file:
        return {"events": count_lines(file, b"/nonexistent/producer"), "lost": lost}


def _polls_a_perf_buffer(pid: int) -> bool:
    """Whether a process has an epoll descriptor and sleeps: opensnoop does not tell when."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "S" and any("eventpoll" in link for link in links)
