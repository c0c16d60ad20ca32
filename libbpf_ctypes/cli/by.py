"""``--by``: what calls are grouped by, in the kernel."""

from __future__ import annotations

from typing import NamedTuple

from .columns import PREFIX
from .usage import UsageError

#: struct group's parts, as the variable group_by has them.
FUNCTION, PID, TID, CPU, UID, COMM, VALUE, KERNEL_STACK, USER_STACK = (1 << bit for bit in range(9))

#: What --by takes beside an argument. A user's stack is addresses of its process.
KEYS = {
    "function": FUNCTION, "comm": COMM, "pid": PID, "tid": TID, "uid": UID, "cpu": CPU,
    "stack": KERNEL_STACK | USER_STACK | PID,
    "kernel-stack": KERNEL_STACK,
    "user-stack": USER_STACK | PID,
}  # fmt: skip

#: Stands for the argument among the names of By. What its value means the function says.
ARGUMENT = "arg"
_ARGUMENT = VALUE | FUNCTION


class By(NamedTuple):
    """What calls are grouped by.

    Attributes:
        names: in order; of KEYS, and ARGUMENT.
        argument: the argument as --arg takes it, "" for none.
    """

    names: tuple[str, ...] = ()
    argument: str = ""

    @property
    def bits(self) -> int:
        """For the variable group_by."""
        bits = 0
        for name in self.names:
            bits |= KEYS.get(name, _ARGUMENT)
        return bits

    @property
    def argument_name(self) -> str:
        """What the argument is called; "arg:pid" where --by has that name for something else."""
        name = self.argument.partition(":")[0]
        return PREFIX + name if name in KEYS else name

    @property
    def stacks(self) -> bool:
        """Whether stacks are kept."""
        return bool(self.bits & (KERNEL_STACK | USER_STACK))

    @property
    def of_processes(self) -> bool:
        """Whether stacks of processes are, which must be named before these end."""
        return bool(self.bits & USER_STACK)


def read_by(text: str | None, arguments: tuple[str, ...]) -> By:
    """What --by and --arg ask for. Raises: UsageError.

    Args: text: of --by. arguments: of --arg.
    """
    words = () if text is None else tuple(text.split(","))
    known = ", ".join(KEYS)
    if "" in words:
        raise UsageError(f"--by takes {known} or an argument, with commas between, not {text!r}")
    named = [*(word for word in words if word not in KEYS), *arguments]
    if len(named) > 1:
        raise UsageError(
            f"--by: one argument at a time, not {' and '.join(named[:2])}; else there is {known}"
        )
    names = [
        *(word if word in KEYS else ARGUMENT for word in words),
        *(ARGUMENT for _ in arguments),
    ]
    if len(set(names)) < len(names):
        raise UsageError(f"--by {text}: one of them is there twice")
    if "stack" in names and {"kernel-stack", "user-stack"} & set(names):
        raise UsageError(f"--by {text}: stack is both, the kernel's and the user's")
    return By(tuple(names), "".join(named).removeprefix(PREFIX))
