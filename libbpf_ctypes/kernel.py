"""Facts about the running kernel, read from /proc and /sys; used to explain refusals."""

from __future__ import annotations

import errno
import re
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .errors import BpfError

# include/uapi/linux/capability.h; CAP_PERFMON and CAP_BPF since Linux 5.8
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39

#: Where tracefs may be mounted, and libbpf looks for it.
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")

_KALLSYMS = Path("/proc/kallsyms")
#: The kernel's types, with CONFIG_DEBUG_INFO_BTF.
BTF = Path("/sys/kernel/btf/vmlinux")
#: Symbols of the bytes before a function's first instruction.
_PREFIX = "__pfx_|__cfi_"
_BLACKLIST = Path("/sys/kernel/debug/kprobes/blacklist")
#: What switches kprobes on and off, and ftrace, by which most of them come.
_SWITCHES = (Path("/sys/kernel/debug/kprobes/enabled"), Path("/proc/sys/kernel/ftrace_enabled"))

NO_SYS_HINT = "/sys is not mounted: 'mount -t sysfs sysfs /sys' first."
VM_HINT = (
    "Run it in a kernel that has them, from a checkout of this project: "
    "bin/vm -- bin/ebpf-tool kprobe FUNCTION"
)
_ONLINE = Path("/sys/devices/system/cpu/online")
CPU_0_HINT = (
    "CPU 0 is offline, and probes are opened there: 'echo 1 > /sys/devices/system/cpu/cpu0/online'."
)
#: Of ENODEV. Source: ftrace_disabled in kernel/trace/ftrace.c.
FTRACE_OFF_HINT = (
    "The kernel's ftrace has given up after an error of its own, which the kernel's log (dmesg) "
    "tells: until the next boot no function can be probed at its beginning."
)


class Symbol(NamedTuple):
    """A line of /proc/kallsyms."""

    kind: str  # as nm prints it: t or T for code
    name: str
    module: str  # "" for the kernel itself
    address: int = 0  # 0: hidden

    @property
    def is_function(self) -> bool:
        """Whether it is code."""
        return self.kind in "tTwW"


class Kallsyms:
    """The symbols of the kernel and its modules, as they are when this is made.

    Some 200,000 lines: they are searched as one text, not taken apart. Empty
    where /proc/kallsyms is unreadable.
    """

    def __init__(self) -> None:
        try:
            self._text = _KALLSYMS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            self._text = ""

    def __len__(self) -> int:
        """Bytes of the list; 0 where it cannot be read."""
        return len(self._text)

    def find(self, name: str) -> list[Symbol]:
        """The symbols of this name."""
        found, text, begin = [], self._text, self._text.find(f" {name}")
        while begin >= 0:
            end = begin + 1 + len(name)
            if text[end : end + 1] in ("\n", "\t", "") and text[begin - 2 : begin - 1] == " ":
                module = (
                    text[end : text.find("\n", end)][2:-1] if text[end : end + 1] == "\t" else ""
                )
                found.append(self._symbol(begin - 2, name, module))
            begin = text.find(f" {name}", end)
        return found

    def search(self, pattern: str, module: str = "") -> list[Symbol]:
        """The symbols whose whole name matches a regular expression, which matches no space.

        Args: module: only this one's; "": of the kernel and all modules.
        """
        tail = rf"\t\[({re.escape(module)})\]$" if module else r"(?:\t\[(\S+)\])?$"
        found = re.finditer(rf" \S ({pattern}){tail}", self._text, re.M)
        return [self._symbol(each.start(), each[1], each[2] or "") for each in found]

    def _symbol(self, place: int, name: str, module: str) -> Symbol:
        """The symbol of the line whose address ends at this place."""
        address = self._text[self._text.rfind("\n", 0, place) + 1 : place]
        return Symbol(self._text[place + 1], name, module, int(address, 16))

    def size(self, name: str) -> int:
        """Bytes from this function to the next symbol; 0 where addresses are hidden."""
        start = next((each.address for each in self.find(name) if each.is_function), 0)
        return self.size_at(start)

    def size_at(self, start: int) -> int:
        """Bytes from this address to the next symbol; 0 where there is none, or of address 0."""
        if not start:
            return 0
        addresses = (int(text, 16) for text in re.findall(r"^[0-9a-f]+", self._text, re.M))
        return min((a for a in addresses if a > start), default=start) - start

    def before(self, addresses: list[int]) -> list[str]:
        """The global function next before each address, often of the same source file, or ""."""
        pattern = rf"^([0-9a-f]+) T (?!{_PREFIX})(\S+)"
        found = sorted((int(at, 16), name) for at, name in re.findall(pattern, self._text, re.M))
        places = [bisect_left(found, (address, "")) for address in addresses]
        return [found[place - 1][1] if place else "" for place in places]

    def init_code(self) -> range:
        """Where the code lay that was freed after boot; nowhere where addresses are hidden."""
        ends = ("_sinittext", "_einittext")
        return range(*(max((s.address for s in self.find(end)), default=0) for end in ends))

    def code(self) -> list[str]:
        """The lines of functions, as they are: address, kind, name, and module in brackets."""
        return re.findall(r"^\S+ [tTwW] .*", self._text, re.M)

    def functions(self) -> set[str]:
        """The names of all functions."""
        return set(re.findall(rf"^\S+ [tTwW] (?!{_PREFIX})(\S+)", self._text, re.M))


def nearest_functions(name: str, functions: set[str], limit: int = 4) -> list[str]:
    """The function names nearest to NAME: the compiler's variants of it, then look-alikes."""
    stem = name.split(".")[0]
    variants = sorted(f for f in functions if f.startswith(stem + ".") and f != name)
    # A rough sieve first: difflib alone takes seconds over so many names.
    low, high, letters = len(name) - 3, len(name) + 3, set(name)
    similar = [
        f
        for f in sorted(functions)
        if low <= len(f) <= high
        and (f[:4] == name[:4] or f[-4:] == name[-4:])
        and len(letters.symmetric_difference(f)) <= 4
    ]
    import difflib

    near = difflib.get_close_matches(name, similar, limit, 0.7)
    longer = sorted((f for f in sorted(functions) if name in f and f != name), key=len)
    return list(dict.fromkeys(variants + near + longer))[:limit]


@lru_cache(maxsize=1)
def has_kprobes() -> bool:
    """Whether this kernel has CONFIG_KPROBES (its perf unit "kprobe", since Linux 4.17)."""
    return Path("/sys/bus/event_source/devices/kprobe").exists()


def _lacks_cpu_0() -> bool:
    """Whether CPU 0, on which libbpf opens the perf events of probes, is offline."""
    try:
        return re.match(r"0\b", _ONLINE.read_text(encoding="ascii")) is None
    except (OSError, ValueError):
        return False


def switched_off() -> str:
    """The file that kprobes are switched off by, whoever attaches them; "" where none tells so."""
    for file in _SWITCHES:
        try:
            if file.read_text(encoding="ascii").strip() == "0":
                return str(file)
        except (OSError, ValueError):
            pass
    return ""


def capabilities() -> int:
    """The effective capabilities of this process, as a bit mask."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return 0


_CAPABILITIES = {
    "CAP_BPF": CAP_BPF,
    "CAP_PERFMON": CAP_PERFMON,
    "CAP_NET_ADMIN": CAP_NET_ADMIN,
    "CAP_SYS_ADMIN": CAP_SYS_ADMIN,
}


def missing_capabilities(wanted: tuple[str, ...] = ("CAP_BPF", "CAP_PERFMON")) -> list[str]:
    """Which of these this process lacks; CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON."""
    held = capabilities()
    if held >> CAP_SYS_ADMIN & 1:
        held |= 1 << CAP_BPF | 1 << CAP_PERFMON
    return [name for name in wanted if not held >> _CAPABILITIES[name] & 1]


def lockdown() -> str:
    """The lockdown mode: "none", "integrity", "confidentiality", or "" where unknown.

    Source: kernel_lockdown(7), Linux 5.4.
    """
    try:
        text = Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]


def in_initial_pid_namespace() -> bool:
    """Whether process ids here are those that BPF programs see; not so in most containers.

    Source: PROC_PID_INIT_INO, include/linux/proc_ns.h (Linux 3.8).
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC
    except OSError:
        return True


def blacklist() -> list[str] | None:
    """The functions that the kernel forbids kprobes on; None where debugfs does not tell."""
    try:
        lines = _BLACKLIST.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return [words[1] for words in map(str.split, lines) if len(words) > 1]


def is_blacklisted(function: str) -> bool | None:
    """Whether the kernel forbids kprobes on FUNCTION; None where debugfs does not tell."""
    names = blacklist()
    return None if names is None else function in names


def ftraceable() -> dict[str, list[int]] | None:
    """The functions that ftrace can trace: "name" or "name [module]", and where its calls lie.

    The addresses are 0 before Linux 6.5. None where tracefs cannot be read.

    Source: tracefs' available_filter_functions_addrs (Linux 6.5), available_filter_functions.
    """
    for file in ("available_filter_functions_addrs", "available_filter_functions"):
        for folder in TRACEFS:
            try:
                text = Path(folder, file).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            found: dict[str, list[int]] = {}
            for line in text.splitlines():
                address, name = line.split(" ", 1) if file.endswith("addrs") else ("0", line)
                found.setdefault(name.replace("\t", " "), []).append(int(address, 16))
            return found
    return None


def lockdown_hint() -> str:
    """What to do about lockdown; "" where it is not the cause."""
    if lockdown() != "confidentiality":
        return ""
    return (
        "The kernel is locked down (mode confidentiality), which forbids tracing even to root. "
        "Boot without lockdown=confidentiality."
    )


def _paranoia() -> int:
    """kernel.perf_event_paranoid; Debian and Ubuntu know a 3 that refuses all but CAP_SYS_ADMIN."""
    try:
        return int(Path("/proc/sys/kernel/perf_event_paranoid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2  # the kernel's default


def privilege_hint() -> str:
    """What to do about EPERM and EACCES."""
    missing = missing_capabilities()
    paranoia = _paranoia()
    demand = (
        f"kernel.perf_event_paranoid is {paranoia}, and this kernel then demands CAP_SYS_ADMIN: "
        "'sysctl kernel.perf_event_paranoid=2' lifts that"
    )
    if missing:
        enough = "they are enough" if paranoia < 3 else f"but {demand}"
        return (
            f"Missing {' and '.join(missing)}. Run as root, or give the process CAP_BPF and "
            f"CAP_PERFMON (Linux 5.8): {enough}."
        )
    if paranoia >= 3 and not capabilities() >> CAP_SYS_ADMIN & 1:
        return f"CAP_BPF and CAP_PERFMON are there, but {demand}; or run as root."
    return lockdown_hint() or (
        "All capabilities are there, but the kernel or a container's seccomp filter forbids it: "
        "see the kernel's log and the container's security options."
    )


def memlock_hint() -> str:
    """What to do when perf_event's mmap exceeds the locked-memory limit."""
    try:
        limit = Path("/proc/sys/kernel/perf_event_mlock_kb").read_text(encoding="ascii").strip()
    except OSError:
        limit = "?"
    return (
        f"The buffers exceed what this user may lock (kernel.perf_event_mlock_kb = {limit} per "
        "CPU, plus RLIMIT_MEMLOCK, 'ulimit -l'). Raise either, ask for fewer pages, or hold "
        "CAP_IPC_LOCK."
    )


def function_hint(function: str) -> str:
    """Why FUNCTION, ``name`` or ``module:name``, cannot be probed; from kallsyms."""
    module, _, name = function.rpartition(":")
    if "+" in name:
        return "FUNCTION is a name alone, without an offset."
    if module and not Path("/sys/module", module).exists():
        return f"Module {module} is not loaded: 'modprobe {module}' first."
    kallsyms = Kallsyms()
    same = kallsyms.find(name)
    if module and not any(symbol.module == module for symbol in same):
        return f"Module {module} has no function {name}."
    if same and not any(symbol.is_function for symbol in same):
        return f"{name} is data, not a function."
    if same:
        return f"{name} is in /proc/kallsyms, but the kernel does not let it be probed."
    near = nearest_functions(name, kallsyms.functions())
    if near:
        return f"The kernel has no function of that name. Did you mean: {', '.join(near)}?"
    return (
        "The kernel has no function of that name or like it: it may be inlined, or in a module "
        "that is not loaded. /proc/kallsyms lists what there is."
    )


def kprobe_hint(error: BpfError, function: str) -> str:
    """Why a kprobe on FUNCTION was refused with this error, and what to do next."""
    if not Path("/sys/bus/event_source").exists():
        return NO_SYS_HINT
    if not has_kprobes():
        return f"This kernel has no kprobes (CONFIG_KPROBES). {VM_HINT}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return privilege_hint()
    if error.errno == errno.ENOENT:
        return function_hint(function)
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"Several functions are called {function}, and the kernel does not choose among "
            "them: probe one of their callers."
        )
    if error.errno == errno.EILSEQ:
        return "The offset is not the beginning of an instruction."
    if error.errno == errno.ENODEV:
        return CPU_0_HINT if _lacks_cpu_0() else FTRACE_OFF_HINT
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        kallsyms = Kallsyms()
        same, freed = kallsyms.find(function.rpartition(":")[2]), kallsyms.init_code()
        if same and not any(symbol.is_function for symbol in same):
            return f"{function} is data, not a function."
        if same and all(symbol.address in freed for symbol in same):
            return f"The code of {function} was freed after boot: it is called no more."
        if is_blacklisted(function):
            return f"{function} is on the kernel's kprobe blacklist: probe one of its callers."
        return (
            f"{function} exists but cannot be probed (noinstr, notrace or on the kprobe "
            "blacklist): probe one of its callers."
        )
    return ""
