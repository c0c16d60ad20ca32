"""Attaching a program to many functions, and detaching it: by kprobe.multi, or one by one."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Callable, NamedTuple, cast

from .. import kernel
from ..errors import ENOTSUPP, BpfError

if TYPE_CHECKING:
    from ..link import Link
    from ..object import BpfObject
    from ..program import Program
    from .console import Console
    from .functions import Function
    from .tracepoints import Probed, Tracepoint
    from .user_functions import UserFunction

#: Since this version the kernel counts the calls that its probes missed.
#: Source: "missed" in struct bpf_link_info, trace_call_bpf(); Linux 6.7.
MISSED_SINCE = "6.7"

#: So many are closed at a time: the kernel lets each wait, and some of them together.
_CLOSERS = 8
#: Errors of one function, which leave the others their probes.
_OF_ONE = (
    *(errno.ENOENT, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EILSEQ, errno.EOPNOTSUPP),
    ENOTSUPP,  # of an instruction that no uprobe can step over
)
#: What kprobe.multi says where a function of its list is missing or cannot be traced.
_OF_LIST = (*_OF_ONE[:3], errno.ESRCH)
#: Of so many the kernel is not asked one by one any more.
_REFUSED_MAX = 100
#: Descriptors of a single probe: the perf event's and the link's; and what else is opened.
_DESCRIPTORS, _RESERVE = 2, 64

_logger = logging.getLogger(__name__)

#: Is told how many of how many are done.
Progress = Callable[[int, int], object]


_Refused = tuple["Probed", BpfError]
#: Programs, and whether they go to the return; and what they are attached by.
_Programs = list[tuple["Program", bool]]
_Links = list[tuple["Program", "Link", bool]]


class Plan(NamedTuple):
    """How functions are attached to.

    Attributes:
        functions: all; the place in this list is the cookie of each.
        multi: the places of those that one link of type kprobe.multi takes.
        single: of those that get a probe each.
        returns: of their returns as well as of their calls.
    """

    functions: Sequence[Probed]
    multi: list[int]
    single: list[int]
    returns: bool = False

    @property
    def method(self) -> str:
        """In words: ``kprobe.multi``, ``kprobe``, or both; ``uprobe``; ``tracepoint``."""
        used = [("kprobe.multi", self.multi), (self.functions[0].probe, self.single)]
        return " and ".join(self.word(name) for name, places in used if places)

    def word(self, method: str) -> str:
        """A method's name; of returns it is another."""
        return method.replace("probe", "retprobe") if self.returns else method

    @property
    def descriptors(self) -> int:
        """How many files the probes keep open."""
        times = 2 if self.returns else 1
        return times * (len(self.single) * _DESCRIPTORS + bool(self.multi))


def plan(functions: Sequence[Probed], *, returns: bool = False) -> Plan:
    """How to attach to these: by kprobe.multi where several can be, on a kernel that has it.

    Args: returns: as in Plan.
    """
    if functions[0].probe != "kprobe":
        return Plan(functions, [], list(range(len(functions))), returns)
    wanted = _plan_kprobes(cast("Sequence[Function]", functions))
    return wanted._replace(returns=returns)


def _plan_kprobes(functions: Sequence[Function]) -> Plan:
    from .. import features

    places = range(len(functions))
    able = [place for place in places if functions[place].ftraceable]
    if not able and len(functions) > 1 and kernel.ftraceable() is None:  # the kernel will tell
        able = [place for place in places if not functions[place].offset]
    if len(able) < 2 or not features.has_kprobe_multi():
        return Plan(functions, [], list(places))
    return Plan(functions, able, sorted(set(places) - set(able)))


def counts_missed() -> bool:
    """Whether this kernel tells which calls its probes missed."""
    running, since = (
        [int(part) for part in re.findall(r"\d+", version)[:2]]
        for version in (os.uname().release, MISSED_SINCE)
    )
    return running >= since


class Attached:
    """Programs attached to functions; close() detaches them from all.

    Attributes:
        method: "kprobe.multi", "kprobe", or both.
        count: how many functions they were attached to.
    """

    def __init__(self) -> None:
        self.method = ""
        self.count = 0
        self._programs: list[Program] = []
        self._links: list[Link] = []
        self._missed: int | None = None

    def add(self, program: Program, link: Link, method: str, count: int) -> None:
        """A link of this program to so many functions."""
        self._links.append(link)
        self.count += count
        if program not in self._programs:
            self._programs.append(program)
        if method not in self.method.split(" and "):
            self.method += f" and {method}" if self.method else method

    def missed(self) -> int | None:
        """Calls that the kernel did not run the program for, until now or until close().

        A probe that is hit within another is not run, nor a program while this CPU runs one.
        They are counted of all processes, whatever the filters. None: this kernel does not
        count them, see MISSED_SINCE.
        """
        if self._links and counts_missed():
            self._missed = sum(program.statistics.recursion_misses for program in self._programs)
            self._missed += sum(getattr(link.info.details, "missed", 0) for link in self._links)
        return self._missed

    def close(self, progress: Progress | None = None) -> None:
        """Detaches; many at a time, since the kernel makes each wait for all CPUs."""
        if not self._links:
            return
        try:
            self.missed()
        finally:
            links, self._links = self._links, []
            if len(links) < _CLOSERS:
                for link in links:
                    link.close()
            else:
                _close_all(links, progress)

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _close_all(links: list[Link], progress: Progress | None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_CLOSERS) as pool:
        for done, _ in enumerate(pool.map(lambda link: link.close(), links), 1):
            if progress is not None:
                progress(done, len(links))


def attach(
    obj: BpfObject,
    wanted: Plan,
    *,
    entry: str = "call",
    exit: str = "",
    pid: int = -1,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Attached:
    """Attaches programs to functions.

    Args:
        obj: loaded, with the programs that the plan needs.
        entry, exit: what the names of the programs at the calls and at their returns begin
            with: NAME_kprobe, for uprobes, too; NAME_kprobe_multi; NAME_tracepoint. "": none.
            Those at returns are attached before the others: what begins is seen to end.
        pid: functions of programs are probed in this process alone; -1: in all.
        progress: is told of each single probe.
        should_stop: is asked before each; the rest is left out then.

    Returns: the Attached, for the caller to close. Functions of several that the kernel
        refuses are left out, with a warning.
    Raises: BpfError: it refuses all, no privilege, not enough file descriptors.
    """
    attached = Attached()
    refused: list[_Refused] = []
    names = [(name, name == exit) for name in (exit, entry) if name]
    try:
        if wanted.multi:
            programs = [(obj.programs[f"{name}_kprobe_multi"], at) for name, at in names]
            _attach_multi(attached, programs, wanted, wanted.multi, refused)
        if wanted.single:
            kind = "tracepoint" if wanted.functions[0].probe == "tracepoint" else "kprobe"
            programs = [(obj.programs[f"{name}_{kind}"], at) for name, at in names]
            _attach_singly(attached, programs, wanted, pid, refused, progress, should_stop)
        if refused and (not attached.count or len(refused) > _REFUSED_MAX):
            raise refused[0][1]
    except BaseException:
        attached.close()
        raise
    if refused:
        name, count = refused[0][0].label, f"{len(refused)} of {len(wanted.functions)}"
        text = "%s functions could not be probed, as %s: %s"
        _logger.warning(text, count, name, refused[0][1])
    return attached


def _attach_multi(
    attached: Attached,
    programs: _Programs,
    wanted: Plan,
    places: list[int],
    refused: list[_Refused],
) -> None:
    """By one link; by several, without those that the kernel refuses, where it refuses some."""
    functions = [cast("Function", wanted.functions[place]) for place in places]
    names: list[int] | list[str] = [each.address for each in functions]
    if not all(names):  # hidden
        names = [each.symbol for each in functions]
    try:
        links = _attach_each(
            programs,
            lambda program, is_return: program.attach_kprobe_multi(
                names, cookie=places, retprobe=is_return
            ),
        )
    except BpfError as error:
        # It does not say which one.
        if error.errno not in _OF_LIST or len(refused) > _REFUSED_MAX:
            raise
        if len(places) == 1:
            refused.append((functions[0], error))
            return
        half = len(places) // 2
        _attach_multi(attached, programs, wanted, places[:half], refused)
        _attach_multi(attached, programs, wanted, places[half:], refused)
    else:
        for program, link, is_return in links:
            count = 0 if is_return else len(places)
            attached.add(program, link, wanted.word("kprobe.multi"), count)


def _attach_each(programs: _Programs, attach_one: Callable[[Program, bool], Link]) -> _Links:
    """Links of all of the programs, or of none."""
    links: _Links = []
    try:
        for program, is_return in programs:
            links.append((program, attach_one(program, is_return), is_return))
    except BaseException:
        for _program, link, _is_return in links:
            link.close()
        raise
    return links


def _attach_singly(
    attached: Attached,
    programs: _Programs,
    wanted: Plan,
    pid: int,
    refused: list[_Refused],
    progress: Progress | None,
    should_stop: Callable[[], bool],
) -> None:
    _allow_descriptors(len(wanted.single) * len(programs))
    for done, place in enumerate(wanted.single):
        if should_stop():
            return
        if progress is not None:
            progress(done, len(wanted.single))
        function = wanted.functions[place]
        try:
            links = _attach_each(programs, _attacher(function, place, pid))
        except BpfError as error:
            if error.errno not in _OF_ONE or len(wanted.functions) == 1:
                raise
            refused.append((function, error))
        else:
            for program, link, is_return in links:
                attached.add(program, link, wanted.word(function.probe), int(not is_return))
    if progress is not None:
        progress(len(wanted.single), len(wanted.single))


def _attacher(probed: Probed, cookie: int, pid: int) -> Callable[[Program, bool], Link]:
    """A function that attaches a program, at the call or at its return."""
    if probed.probe == "uprobe":
        place = cast("UserFunction", probed)
        return lambda program, is_return: program.attach_uprobe(
            place.path, offset=place.offset, pid=pid, retprobe=is_return, cookie=cookie
        )
    if probed.probe == "tracepoint":
        point = cast("Tracepoint", probed)
        return lambda program, _is_return: program.attach_tracepoint(
            point.category, point.name, cookie=cookie
        )
    function = cast("Function", probed)
    return lambda program, is_return: _attach_kprobe(program, function, cookie, is_return)


def _attach_kprobe(program: Program, function: Function, cookie: int, is_return: bool) -> Link:
    """A probe of its own; by address where the name is not enough."""
    name = f"{function.module}:{function.symbol}" if function.module else function.symbol
    if not function.address or not (function.ambiguous or function.offset):
        return program.attach_kprobe(
            name, offset=function.offset, cookie=cookie, retprobe=is_return
        )
    try:
        address = function.address + function.offset
        return program.attach_kprobe(address, cookie=cookie, retprobe=is_return)
    except BpfError as error:
        operation = f"attach kprobe to {function.label}"
        hint = kernel.kprobe_hint(error, name)
        raise BpfError(operation, error.errno, error.strerror or "", hint=hint) from None


def _allow_descriptors(count: int) -> None:
    """Raises this process's limit of open files, for so many probes. Raises: BpfError."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count * _DESCRIPTORS + _RESERVE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        reason = f"{count} single probes need {needed} open files, and this user may have {hard}"
        hint = "Raise the limit ('ulimit -Hn', LimitNOFILE=), or name fewer functions."
        raise BpfError("attach", errno.EMFILE, reason, hint=hint)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Counter:
    """Tells how far it has come: one line written over on a terminal, else one every 2 seconds.

    Args:
        what: is done: "Attaching", "Detaching".
        quiet: tell nothing.
    """

    def __init__(self, console: Console, what: str, *, quiet: bool) -> None:
        self._console, self._what, self._quiet = console, what, quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 2.0
        self._next = time.monotonic() + self._every
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if self._shown and done == total:
            self._write("\r\x1b[K")
        if self._quiet or now < self._next or done == total:
            return
        self._next = now + self._every
        text = f"{self._what}: {done} of {total} probes"
        if self._terminal:
            self._shown = True
            self._write(f"\r[INFO] {text}")
        else:
            self._console.info(text)

    def _write(self, text: str) -> None:
        """Writes to the terminal, unless it is stopped."""
        if select.select([], [sys.stderr], [], 0)[1]:
            print(text, end="", file=sys.stderr, flush=True)
