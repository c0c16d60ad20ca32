"""How functions are attached to: by kprobe.multi, or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from .. import kernel

if TYPE_CHECKING:
    from .functions import Function
    from .tracepoints import Probed

#: Descriptors of a single probe: the perf event's and the link's.
DESCRIPTORS = 2


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
        return times * (len(self.single) * DESCRIPTORS + bool(self.multi))


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
