"""Attaching programs to many functions: by kprobe.multi, or one by one."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Callable, cast

from .. import kernel
from ..errors import ENOTSUPP, BpfError
from .attached import Attached
from .plan import DESCRIPTORS, Plan

if TYPE_CHECKING:
    from ..link import Link
    from ..object import BpfObject
    from ..program import Program
    from .functions import Function
    from .progress import Progress
    from .tracepoints import Probed, Tracepoint
    from .user_functions import UserFunction

#: Errors of one function, which leave the others their probes.
_OF_ONE = (
    *(errno.ENOENT, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EILSEQ, errno.EOPNOTSUPP),
    ENOTSUPP,  # of an instruction that no uprobe can step over
)
#: What kprobe.multi says where a function of its list is missing or cannot be traced.
_OF_LIST = (*_OF_ONE[:3], errno.ESRCH)
#: Of so many the kernel is not asked one by one any more.
_REFUSED_MAX = 100
#: Descriptors beside those of the probes.
_RESERVE = 64

_logger = logging.getLogger(__name__)

_Refused = tuple["Probed", BpfError]
#: Programs, and whether they go to the return; and what they are attached by.
_Programs = list[tuple["Program", bool]]
_Links = list[tuple["Program", "Link", bool]]


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
    needed = count * DESCRIPTORS + _RESERVE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        reason = f"{count} single probes need {needed} open files, and this user may have {hard}"
        hint = "Raise the limit ('ulimit -Hn', LimitNOFILE=), or name fewer functions."
        raise BpfError("attach", errno.EMFILE, reason, hint=hint)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
