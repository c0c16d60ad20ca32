"""Groups as they are called: what --by asks for, in words and for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .by import ARGUMENT, KERNEL_STACK, KEYS, USER_STACK
from .formats import format_value, is_cut, is_readable, json_value
from .json_text import hex_bytes
from .json_text import text as json_text
from .lines import label_of
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
    """

    def __init__(self, by: By, functions: tuple[Traced, ...], stacks: Any = None) -> None:
        self._by, self._functions = by, functions
        self._stacks = stacks
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
        cells, by, notes = [], {}, {}
        for name in self._by.names:
            if name == ARGUMENT:
                text, value, note = self._argument(group)
                cells.append(text)
                by[self._by.argument_name] = value
                notes.update(note)
            elif name == "function":
                label = self._label(group.function)
                cells.append(escape(label))
                by[name] = json_text(label)
            elif name == "comm":
                cells.append(escape(group.comm))
                by[name] = json_text(group.comm)
                if raw := hex_bytes(group.comm):
                    notes["comm_bytes"] = raw
            elif not KEYS[name] & _STACKS:
                number = getattr(group, name)
                cells.append(str(number))
                by[name] = number
        kernel, user = self._frames(group, by)
        return Row(tuple(cells), kernel, user, {"by": by, **notes}, Tally(0))

    def _label(self, function: int) -> str:
        known = function < len(self._functions)
        return self._functions[function].label if known else label_of(self._functions, function)

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

    def _argument(self, group: Group) -> tuple[str, Any, dict[str, Any]]:
        """The argument in words, and as JSON has it, with what is to be said of that."""
        functions = self._functions
        arguments = functions[group.function].arguments if group.function < len(functions) else ()
        shown = next(iter(arguments), None)
        if shown is None:
            return "-", None, {}
        name = self._by.argument_name
        event = _AsEvent([group.value], [group.text], int(bool(group.unreadable)))
        words, value = format_value(shown, event), json_value(shown, event)
        notes: dict[str, Any] = {}
        if not is_readable(shown, event):
            notes["unreadable"] = [name]
        elif is_cut(shown, event):
            notes["cut"] = [name]
        if shown.text < 0 and words not in (str(value), str(value).lower()):
            notes["words"] = {name: words}
        if isinstance(value, str):
            if raw := hex_bytes(value):
                notes["by_bytes"] = {name: raw}
            value = json_text(value)
        return words, value, notes


class _AsEvent(NamedTuple):
    """What the formats of arguments look at in an event."""

    values: list[int]
    texts: list[str]
    unreadable: int
