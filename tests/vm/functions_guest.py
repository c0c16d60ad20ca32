"""Runs in the guest: finds functions, attaches to them, detaches; prints what came of it, as JSON.

``python functions_guest.py OBJECT``: OBJECT is compiled by test_functions.py. Of each case: what
it returned, or the error's class, number and text.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from libbpf_ctypes import BpfError, BpfObject, kernel
from libbpf_ctypes.cli import functions
from libbpf_ctypes.cli import list as listing
from libbpf_ctypes.cli.attached import Attached
from libbpf_ctypes.cli.attaching import attach
from libbpf_ctypes.cli.costs import costs
from libbpf_ctypes.cli.functions import Finder, Function, find_functions
from libbpf_ctypes.cli.plan import plan
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.features import has_kprobe_multi

TRACEFS, KPROBES = Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/kprobes")
CALLS = ["getppid", "getuid", "__x64_sys_getgid"]
#: How many the slow way: the emulated kernel takes a while for each.
MANY = 10

# The same lists for all cases: the emulated kernel takes seconds to write them.
kernel.Kallsyms = functions.Kallsyms = functools.cache(kernel.Kallsyms)  # type: ignore
kernel.ftraceable = functools.cache(kernel.ftraceable)

_cases: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    _cases[function.__name__] = function
    return function


def find(*words: str, address: str | None = None, all_of: bool = False) -> list[Function]:
    return find_functions(list(words), address=address, all_of=all_of)


OBJECT = BpfObject.open(sys.argv[1])
if not has_kprobe_multi():
    OBJECT.programs["on_kprobe_multi"].autoload = False
OBJECT.variables["pid"].value = os.getpid()
OBJECT.load()


def attached(found: list[Function], **options: Any) -> Attached:
    return attach(OBJECT, plan(found), entry="on", **options)


def hits() -> list[int]:
    """The runs for each cookie, since the last time."""
    counts = OBJECT.maps["HITS"]
    found = [counts[place] for place in range(8)]
    for place in range(8):
        counts[place] = 0
    return found


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: not record.getMessage().startswith("libbpf: "))
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("libbpf_ctypes")
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)


def ftraceable() -> list[str]:
    """The lines of tracefs' list, as they are."""
    return (TRACEFS / "available_filter_functions").read_text().splitlines()


def once(name: str) -> bool:
    """Whether one symbol has this name, as far as a plain look tells."""
    return NAMES[name] == 1


KALLSYMS = Path("/proc/kallsyms").read_text()
NAMES = Counter(re.findall(r"^\S+ \S (\S+)", KALLSYMS, re.M))


def plain() -> list[str]:
    """Functions that ftrace knows, of names that nothing else has, and seldom called."""
    names = [line for line in ftraceable() if re.match(r"(ext4|tcp|nfs|inet|xfrm)_\w+$", line)]
    return [name for name in dict.fromkeys(names) if once(name)]


@case
def system_call() -> Any:
    return [each[:2] + each[3:7] for each in find("openat", "syscall:read", "__x64_sys_write")]


@case
def glob() -> Any:
    """Against the list that tracefs has: the same, each attached to under its own name."""
    expected = sorted(line for line in ftraceable() if line.startswith("vfs_"))
    return sorted(each.symbol for each in find("vfs_*")) == expected and len(expected) > 50


@case
def of_a_module() -> Any:
    line = next(line for line in ftraceable() if line.endswith("]") and once_in_module(line))
    name, module = line.split(" [")
    (found,) = find(f"{module[:-1]}:{name}")
    with attached([found]) as one:
        listed = (KPROBES / "list").read_text()
        return [found.module == module[:-1], one.count, f"{name}+0x" in listed]


def once_in_module(line: str) -> bool:
    return KALLSYMS.count(f" {line.replace(' [', chr(9) + '[')}\n") == 1


@case
def by_cookie() -> Any:
    """Three system calls at once: each counted under its own place in the list."""
    found = find(*CALLS)
    with attached(found) as several:
        for _ in range(3):
            os.getppid()
        os.getuid()
        os.getgid()
        os.getgid()
        seen, method = hits(), several.method
    os.getppid()
    return [method, seen[:4], hits()[:4]]


@case
def several_addresses() -> Any:
    """One of several of a name, by its address: the kernel's own list of probes has it."""
    finder = Finder()
    several = [each for each in finder.search("[h-k]\\w+", "vmlinux") if each.ambiguous]
    which = [finder.with_ftrace(each) for each in several]
    one = [each for each in which if each.ftraceable and not finder.why_not(each)][-1]
    try:
        find(one.symbol)
        refused = ""
    except BpfError as error:
        refused = str(error)
    (chosen,) = find(one.symbol, address=f"{one.address:x}")
    every = find(one.symbol, all_of=True)
    with attached([chosen]):
        probes = re.findall(r"^([0-9a-f]+)", (KPROBES / "list").read_text(), re.M)
    with attached(every) as all_of_them:
        count = all_of_them.count
    return {
        "listed": f"{one.address:#x}" in refused and "--address" in refused,
        "probed": int(probes[0], 16) - one.address in (0, 4) and len(probes) == 1,
        "all": count == len(every) > 1,
    }


@case
def offsets() -> Any:
    """Within a function: at an instruction's beginning, within one, and behind the end."""
    results: dict[str, Any] = {}
    for offset in (1, 5, 9):
        try:
            with attached(find(f"vfs_read+{offset}")):
                results[(KPROBES / "list").read_text().split()[2]] = "attached"
        except BpfError as error:
            results[f"{offset}"] = [error.errno, str(error)]
    try:
        find("vfs_read+0x100000")
    except BpfError as error:
        results["behind"] = str(error)
    return results


@case
def variants() -> Any:
    """A function that there is only as the compiler's variant: offered, and taken by --all."""
    name = next(
        line.split(".")[0]
        for line in ftraceable()
        if re.fullmatch(r"\w+\.(isra|constprop)\.\d", line)
        and once(line)
        and line.split(".")[0] not in NAMES
    )
    try:
        find(name)
        offered = ""
    except BpfError as error:
        offered = str(error)
    with attached(find(name, all_of=True)) as all_of_them:
        return [f"{name}." in offered and "--all" in offered, all_of_them.count > 0]


@case
def refusals() -> Any:
    """Of several, what the kernel refuses is left out with a warning; all: an error."""
    traced = set(ftraceable())  # kprobe.multi takes blacklisted ones that ftrace knows
    blacklisted = next(
        line.split()[1]
        for line in (KPROBES / "blacklist").read_text().splitlines()
        if once(line.split()[1]) and line.split()[1] not in traced
    )
    with warnings() as told, attached(find("vfs_read", blacklisted)) as several:
        count = several.count
    try:
        attached(find(blacklisted)).close()
        alone = ""
    except BpfError as error:
        alone = str(error)
    return [count, [text.replace(blacklisted, "IT") for text in told], "blacklist" in alone]


@case
def a_stop_in_between() -> Any:
    """Ctrl-C after the fifth: five probes, all gone afterwards; progress is told of each."""
    told: list[tuple[int, int]] = []
    found = [each._replace(ftraceable=False) for each in find(*plain()[:MANY])]
    with attached(
        found,
        progress=lambda done, total: told.append((done, total)),
        should_stop=lambda: len(told) == 5,
    ) as some:
        result = [some.count, told, len((KPROBES / "list").read_text().splitlines())]
    return [*result, (KPROBES / "list").read_text()]


@case
def one_by_one() -> Any:
    """So many that eight threads detach, and more files than this process may have so far."""
    found = [each._replace(ftraceable=False) for each in find(*plain()[:MANY])]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    told: list[tuple[int, int]] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))
        try:
            attached(found).close()
            limited = ""
        except BpfError as error:
            limited = str(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (70, limits[1]))
        many = attached(found)
        count, probes = many.count, len((KPROBES / "list").read_text().splitlines())
        many.close(lambda done, total: told.append((done, total)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    return [limited, many.method, count, probes, told, (KPROBES / "list").read_text()]


@case
def a_thousand() -> Any:
    """At once where kprobe.multi is; elsewhere it would take minutes here."""
    if not has_kprobe_multi():
        return None
    found = find("[aipt]c*", "usb_*", "inet*", "getppid")
    with attached(found) as many:
        os.getppid()
        seen = OBJECT.variables["total"].value != 0
        return [many.method, many.count == len(found), len(found) >= 1000, seen]


@case
def missed() -> Any:
    """A probe that is hit while the program runs: once for each call of ours."""
    results = []
    for ftrace in (False, True):
        found = find("getppid", "htab_map_update_elem")
        found = [each._replace(ftraceable=each.ftraceable and ftrace) for each in found]
        with attached(found) as both:
            before = both.missed()
            for _ in range(5):
                os.getppid()
            after = both.missed()
        hits()
        told = None if before is None or after is None else after - before
        results.append([both.method, told, both.missed() == after])
    return results


@case
def what_calls_cost() -> Any:
    return [
        costs(plan(find(*CALLS))),
        costs(plan(find("vfs_read+5"))),
        costs(plan(find("vfs_read"))),
    ]


@case
def listed() -> Any:
    """What list says can be probed can be, and what not, not: a sample of each reason."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        statuses = [listing.run({"PATTERN": each}) for each in ("vfs_read*", "openat")]
    finder = Finder()
    wrong: list[str] = []
    reasons: dict[str, int] = {}
    for each in finder.search("(?:do_|vfs_|start_k|restore_)\\w+", "vmlinux"):
        reason = finder.why_not(each)
        reasons[reason] = reasons.get(reason, 0) + 1
        if reasons[reason] <= 2:
            try:
                attached([each]).close()
                if reason:
                    wrong.append(f"{each.label} was attached to, though {reason}")
            except BpfError as error:
                if not reason:
                    wrong.append(str(error))
    return [statuses, out.getvalue(), wrong, sorted(reasons)]


def main() -> None:
    for kind, place in (("tracefs", TRACEFS), ("debugfs", KPROBES.parent)):
        subprocess.run(["mount", "-t", kind, kind, str(place)], check=False, capture_output=True)
    results: dict[str, Any] = {}
    for name, function in _cases.items():
        began = time.monotonic()
        try:
            results[name] = function()
        except (BpfError, UsageError) as error:
            results[name] = [type(error).__name__, getattr(error, "errno", None), str(error)]
        except Exception as error:  # the test of this case shall fail, not all
            results[name] = [type(error).__name__, None, str(error)]
        print(name, round(time.monotonic() - began, 1), results[name], file=sys.stderr)
    OBJECT.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
