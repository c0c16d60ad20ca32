"""Groups as they are called: what --by asks for, in words and for JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .by import ARGUMENT, KERNEL_STACK, KEYS, USER_STACK
from .formats import format_value, is_cut, json_value
from .json_text import hex_bytes
from .json_text import text as json_text
from .lines import label_of
from .origin import traced_at
from .tally import Tally, decode_group
from .text import escape

if TYPE_CHECKING:
    from .by import By
    from .origin import Traced
    from .tally import Group, Tallies

_STACKS = KERNEL_STACK | USER_STACK


class Row(NamedTuple):
    """A group with what was counted in it.

    Attributes:
        cells: what the group is, in words, in the order of --by, without stacks.
        kernel, user: names of its stacks' functions, innermost first.
        json: what it is as JSON has it, and what else is to be said of that.
        tally: what was counted.
    """

    cells: tuple[str, ...]
    kernel: tuple[str, ...]
    user: tuple[str, ...]
    json: dict[str, Any]
    tally: Tally


class Labels:
    """Makes rows of groups.

    Args:
        by: what the groups are by.
        functions: of the trace.
        stacks: names of the stacks' functions, where --by asks for stacks.
        in_container: a process of number 0 is one of another pid namespace.
    """

    def __init__(
        self,
        by: By,
        functions: tuple[Traced, ...],
        stacks: Any = None,
        *,
        in_container: bool = False,
    ) -> None:
        self._by, self._functions = by, functions
        self._stacks, self._in_container = stacks, in_container
        self._made: dict[bytes, Row] = {}
        self.headings = tuple(
            by.argument_name if name == ARGUMENT else name
            for name in by.names
            if not KEYS.get(name, 0) & _STACKS
        )

    def rows(self, tallies: Tallies) -> list[Row]:
        """The groups as they are called; those that are called the same are one."""
        found: dict[Any, Row] = {}
        for raw, tally in tallies.items():
            row = self._made.get(raw)
            if row is None:
                row = self._made[raw] = self._row(decode_group(raw))
            same = found.get(row[:3])
            found[row[:3]] = row._replace(tally=tally if same is None else same.tally.plus(tally))
        return list(found.values())

    def _row(self, group: Group) -> Row:
        cells: list[str] = []
        by: dict[str, Any] = {}
        notes: dict[str, Any] = {}
        names = iter(self.headings)
        for key in self._by.names:
            if KEYS.get(key, 0) & _STACKS:
                continue
            name = next(names)
            if key == ARGUMENT:
                cell, value = self._argument(group, name, notes)
            elif key == "comm":
                cell, value = escape(group.comm), group.comm
            elif key == "function":
                cell = label_of(self._functions, group.function)
                value = traced_at(self._functions, group.function).label
            elif key in ("pid", "tid") and self._in_container and not getattr(group, key):
                cell, value = "?", None
            else:
                value = getattr(group, key)
                cell = str(value)
            if isinstance(value, str):
                if raw := hex_bytes(value):
                    notes.setdefault("by_bytes", {})[name] = raw
                value = json_text(value)
            cells.append(cell)
            by[name] = value
        kernel, user = self._frames(group, by)
        return Row(tuple(cells), kernel, user, {"by": by, **notes}, Tally(0))

    def _frames(self, group: Group, by: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        kernel: tuple[str, ...] = ()
        user: tuple[str, ...] = ()
        if self._by.bits & KERNEL_STACK:
            kernel = self._stacks.kernel(group.kernel_stack)
            by["kernel_stack"] = list(kernel)
        if self._by.bits & USER_STACK:
            user = self._stacks.user(group.user_stack, group.pid)
            by["user_stack"] = list(user)
        return kernel, user

    def _argument(self, group: Group, name: str, notes: dict[str, Any]) -> tuple[str, Any]:
        """The argument in words, and as JSON has it; NOTES takes what is to be said of that."""
        arguments = traced_at(self._functions, group.function).arguments
        if not arguments:
            return "-", None
        shown, event = arguments[0], _AsEvent([group.value], [group.text])
        words, value = format_value(shown, event), json_value(shown, event)
        if is_cut(shown, event):
            notes["cut"] = [name]
        if shown.text < 0 and words != json.dumps(value).strip('"'):
            notes["words"] = {name: words}
        return words, value


class _AsEvent(NamedTuple):
    """What the formats of arguments look at in an event."""

    values: list[int]
    texts: list[str]
    unreadable: int = 0  # such calls are in no group
