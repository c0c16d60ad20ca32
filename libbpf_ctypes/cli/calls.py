"""What the rich programs are told: which functions, which calls of them, what to read."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ..errors import BpfError
from ..events import call_event_schema
from .asked import able_to_fail, all_arguments, all_filters, comm_pattern, find, tell_left_out
from .attaching import attach
from .fetches import NO_COMPARISON, NO_FETCH, Fetch
from .kernel_version import is_since
from .origin import Traced
from .places import machine
from .plan import plan
from .process_ids import process_ids, program_places
from .scope import KernelTypes

if TYPE_CHECKING:
    from ..object import BpfObject
    from .attached import Attached
    from .console import Console
    from .options import Choice, Options
    from .progress import Progress
    from .stacks import LiveStacks

#: The programs of a call's beginning and of its return, by the command: see bpf/.
_PROGRAMS = {
    "kprobe": ("call", ""),
    "kretprobe": ("enter", "return"),
    "uprobe": ("call", ""),
    "uretprobe": ("enter", "return"),
    "tracepoint": ("call", ""),
    "latency": ("enter", "time"),
    "count": ("count", ""),
}

#: So many calls that have not returned are kept, so many stacks.
_IN_FLIGHT, _STACKS = 16384, 8192
#: Of tasks that preempt each other so many may run the program on a CPU: SCRATCHES.
_PREEMPTED = 4

#: bpf/return.bpf.h: what may lie below the return's place on the stack, and since when.
_HANDLER_FRAME, _HANDLER_SINCE = (168 if os.uname().machine == "x86_64" else 0), "6.14"

#: bpf/call_event.h: enum chosen, and the counts of its arrays.
_PID, _TID, _UID, _CPU = 1, 2, 4, 8
_VALUES, _COMPARISONS, _COMM_PATTERN = 8, 4, 4
_UNWRAP, _FIRST, _HIDES = 1, 2, 4
#: bpf/call.bpf.h: SYSCALL_ARGUMENTS, which the program reads of each call of a wrapper.
_UNWRAPPED = 6

#: Of more functions than that the types are looked up by an index.
_MANY = 20


class Calls:
    """A trace by the rich programs, as it is to be loaded.

    Attributes:
        functions: that are traced; their places here are the attach cookies.
        plan: how they are attached to.
        traced: the same, as formatters and recordings take them.
        schema: of the events.
        ids: of processes.
    Raises: UsageError, BpfError: there are no such functions, arguments, users, cgroups.
    """

    def __init__(self, options: Options, console: Console) -> None:
        self._options, self._choice, self._console = options, options.choice, console
        self._entry, self._exit = _PROGRAMS[options.command]
        found = find(options)
        with KernelTypes(many=len(found) > _MANY) as types:
            self.functions, self._filters = all_filters(
                options.choice.filter, found, types, console
            )
            self._arguments = all_arguments(options, self.functions, types)
            if options.failed:
                able = able_to_fail(self.functions, self._arguments, console)
                self.functions = [self.functions[place] for place in able]
                self._filters = [self._filters[place] for place in able]
                self._arguments = [self._arguments[place] for place in able]
            # A recording may be replayed with any fields.
            wants_ids = options.lines.format != "lines" or options.record is not None
            wants_ids = wants_ids or not {"ns_pid", "ns_tid"}.isdisjoint(options.lines.fields)
            self.ids = process_ids(wants_ids, types)
            self._program_places = program_places(types) if options.user_stack else {}
        self.plan = plan(self.functions, returns=options.returns)
        tell_left_out(self.functions, self._arguments, console)
        self.traced = tuple(
            Traced(
                function.label, function.symbol, function.module, arguments.shown, options.returns
            )
            for function, arguments in zip(self.functions, self._arguments)
        )
        shown = [argument for made in self._arguments for argument in made.shown]
        texts = 1 + max((argument.text for argument in shown), default=-1)
        self.schema = call_event_schema(texts)
        self._comms = comm_pattern(options.choice.comms, console)
        self._cgroup = _cgroup(options.choice.cgroup)

    def prepare(self, obj: BpfObject, tracer: int) -> None:
        """Sets what is to be set before the object is loaded.

        Args: tracer: the process that is left out, 0: none.
        """
        options, choice, variables = self._options, self._choice, obj.variables
        wanted = self._programs()
        for name, program in obj.programs.items():
            program.autoload = name in wanted
        chosen = _chosen(choice)
        values: dict[str, int] = {
            "tracer_pid": tracer,
            "target_pid": _one_pid(choice),
            "chosen": sum({what for what, _number in chosen}),
            "sample": choice.sample,
            "event_size": self.schema.size,
            "values_used": max(len(made.fetches) for made in self._arguments),
            "comparisons_used": max(len(made.comparisons) for made in self._filters),
            "cookies": len(self.functions) > 1,
            "comm_chosen": self._comms is not None,
            "cgroup_chosen": self._cgroup is not None,
            "kernel_stacks": options.kernel_stack,
            "user_stacks": options.user_stack,
            "preemptible": options.kind == "uprobe",
            "slower_ns": options.slower_ns,
            "failed_only": options.failed,
            "handler_frame": _HANDLER_FRAME if is_since(_HANDLER_SINCE) else 0,
            "kept_size": self.schema.size,
            "own_ids": bool(self.ids.offsets),
            "pid_namespace": self.ids.namespace if self.ids.offsets else 0,
            **self.ids.offsets,
            **self._program_places,
        }
        for name, value in values.items():
            variables[name].value = value
        variables["until_ns"].value = 0  # all functions begin at once
        obj.maps["FUNCTIONS"].max_entries = len(self.functions)
        obj.maps["CHOSEN"].max_entries = max(1, len(chosen))
        obj.maps["SCRATCH"].max_entries = _PREEMPTED if values["preemptible"] else 1
        if options.kernel_stack or options.user_stack:
            obj.maps["STACKS"].max_entries = _STACKS
        if self._exit:
            obj.maps["SPANS"].max_entries = _IN_FLIGHT
            obj.maps["SPANS"].value_size = self.schema.size

    def fill(self, obj: BpfObject) -> None:
        """Fills the loaded object's maps."""
        functions = obj.maps["FUNCTIONS"]
        for place in range(len(self.functions)):
            functions[_key(place)] = self._packed(place)
        for what, number in _chosen(self._choice):
            obj.maps["CHOSEN"][struct.pack("=II", what, number)] = b"\1"
        patterns = dict(enumerate(self._filters[-1].patterns))
        if self._comms is not None:
            patterns[_COMM_PATTERN] = self._comms
        for place, pattern in patterns.items():
            packed = struct.pack("=256Q3Q", *pattern.table, *pattern[1:])
            obj.maps["PATTERNS"][_key(place)] = packed
        if self._cgroup is not None:
            fd = _open_folder(self._cgroup)
            try:
                obj.maps["CGROUPS"][_key(0)] = _key(fd)
            finally:
                os.close(fd)

    @property
    def noun(self) -> str:
        """What is traced, in a word."""
        return "tracepoint" if self._options.kind == "tracepoint" else "function"

    def _programs(self) -> set[str]:
        """The programs that are loaded."""
        kinds = [kind for kind in (self._entry, self._exit) if kind]
        single = "tracepoint" if self._options.kind == "tracepoint" else "kprobe"
        found = {f"{kind}_{single}" for kind in kinds} if self.plan.single else set()
        return found | ({f"{kind}_kprobe_multi" for kind in kinds} if self.plan.multi else set())

    def attach(
        self, obj: BpfObject, *, progress: Progress, should_stop: Callable[[], bool]
    ) -> Attached:
        """Attaches the programs: see attaching.attach()."""
        pids = self._choice.pids
        return attach(
            obj,
            self.plan,
            entry=self._entry,
            exit=self._exit,
            pid=pids[0] if len(pids) == 1 else -1,
            progress=progress,
            should_stop=should_stop,
        )

    def stacks(self, obj: BpfObject) -> LiveStacks | None:
        """The stacks of the events, for the caller to close, if they were asked for."""
        if not (self._options.kernel_stack or self._options.user_stack):
            return None
        from .stacks import LiveStacks

        return LiveStacks(obj.maps["STACKS"], tell=self._console.warning)

    def work(self) -> list[tuple[str, str]]:
        """What the program does at a call: of every one, and of one that is chosen."""
        choice = self._choice
        looks = [
            name
            for name, wanted in (
                ("pid namespaces", self.ids.offsets),
                ("process", choice.pids),
                ("thread", choice.tids),
                ("user", choice.uids),
                ("CPU", choice.cpus),
                ("cgroup", choice.cgroup),
                ("name", choice.comms),
            )
            if wanted
        ]
        compared = [[each.fetch for each in made.comparisons] for made in self._filters]
        fetched = [made.fetches for made in self._arguments]
        every = [f"looks at its {', '.join(looks)}"] if looks else []
        # Mere counts look at no arguments that nobody asks for.
        looks_at_arguments = self._entry != "count" or any(fetched) or any(compared)
        if looks_at_arguments and any(function.syscall for function in self.functions):
            every.append(f"{_UNWRAPPED} reads of memory for a system call's arguments")
        if any(compared):
            most = max(len(made.comparisons) for made in self._filters)
            every.append(f"up to {most} comparison{'s' * (most > 1)}, {_reads(compared)}")
        options, sent = self._options, f"{_reads(fetched)}, "
        for name, wanted in (("kernel", options.kernel_stack), ("user", options.user_stack)):
            sent += f"its {name} stack, " if wanted else ""
        sent += "kept until it returns, then " if self._exit else ""
        if options.sums:
            sent += "added to its group"
        else:
            sent += f"{self.schema.size} bytes in its CPU's buffer"
        if choice.sample > 1:
            sent += f"; one of {choice.sample}, by chance"
        return [("Every call", "; ".join(every) or "is chosen"), ("A call that is chosen", sent)]

    def _packed(self, place: int) -> bytes:
        """As struct function."""
        function, arguments = self.functions[place], self._arguments[place]
        fetches, chosen = arguments.fetches, self._filters[place]
        flags = _UNWRAP if function.syscall else _at_first(function)
        head = struct.pack("=4I", flags, chosen.truth, arguments.failed, arguments.failed_shift)
        packed = [fetch.pack() for fetch in fetches] + [NO_FETCH] * (_VALUES - len(fetches))
        packed += [comparison.pack() for comparison in chosen.comparisons]
        packed += [NO_COMPARISON] * (_COMPARISONS - len(chosen.comparisons))
        return head + b"".join(packed)


def _at_first(function: Any) -> int:
    """What the program is told of a probe at the first instruction of a program's function."""
    # A place without a name may be anywhere in a function.
    if function.probe != "uprobe" or function.inside or function.symbol.startswith("0x"):
        return 0
    return _FIRST | (_HIDES if hides_caller(function.code, machine()) else 0)


def hides_caller(code: bytes, machine: str) -> bool:
    """Whether the kernel's stack lacks the caller at this first instruction.

    From Linux 6.12 on, and in some before, it looks whether that is push %rbp or endbr64.
    """
    return machine != "x86_64" or not code.startswith((b"\x55", b"\xf3\x0f\x1e\xfa"))


def _reads(functions: Iterable[Sequence[Fetch]]) -> str:
    """How often memory is read for these fetches, of the function that needs most."""
    reads = max(sum(each.steps + bool(each.text) for each in fetches) for fetches in functions)
    return f"{reads} read{'s' * (reads != 1)} of memory"


def _key(number: int) -> bytes:
    return struct.pack("=I", number)


def _one_pid(choice: Choice) -> int:
    """The process, if just one is asked for: compared more quickly than looked up."""
    pids = set(choice.pids)
    return pids.pop() if len(pids) == 1 else 0


def _chosen(choice: Choice) -> list[tuple[int, int]]:
    """The keys of the CHOSEN map."""
    pids = () if _one_pid(choice) else choice.pids
    numbers = ((_PID, pids), (_TID, choice.tids), (_UID, choice.uids), (_CPU, choice.cpus))
    return [(what, number) for what, wanted in numbers for number in sorted(set(wanted))]


def _cgroup(text: str) -> Path | None:
    if not text:
        return None
    from .cgroup import find_cgroup

    return find_cgroup(text)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(f"trace cgroup {path}", error.errno, error.strerror or "") from None
