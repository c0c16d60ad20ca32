"""``--format folded``: stacks and how often each was, for flame graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .lines import Formatter
from .stacks import function_of
from .text import Memo, escape

if TYPE_CHECKING:
    from ..events import CallEvent
    from .account import Account
    from .stacks import Stacks


def fold(parts: Iterable[str], user: Iterable[str], kernel: Iterable[str]) -> str:
    """A stack in a line: "part;outermost;...;innermost", the kernel's frames behind the user's.

    Args:
        parts: whose stack it is, as it is printed.
        user, kernel: frames, innermost first, as Stacks has them.
    """
    frames = [function_of(frame) for frame in (*kernel, *user)]
    return ";".join(part.replace(";", ":") for part in (*parts, *reversed(frames)))


class Folded(Formatter):
    """Counts the calls by their thread's name and their stacks; its text comes at the end.

    Args: stacks: of the trace; None: every call has none.
    """

    def __init__(self, stacks: Stacks | None) -> None:
        def make(key: tuple[str, int, int, int]) -> str:
            comm, kernel, user, pid = key
            if stacks is None:
                return fold((escape(comm),), (), ())
            return fold((escape(comm),), stacks.user(user, pid), stacks.kernel(kernel))

        self._folded = Memo(make)
        self._counts: Counter[str] = Counter()

    def format(self, events: Iterable[CallEvent]) -> str:
        folded = self._folded
        self._counts.update(
            folded[event.comm, event.kernel_stack, event.user_stack, event.pid] for event in events
        )
        return ""

    def end(self, account: Account | None) -> str:
        counts, self._counts = self._counts, Counter()
        return "".join(f"{stack} {count}\n" for stack, count in counts.most_common())
