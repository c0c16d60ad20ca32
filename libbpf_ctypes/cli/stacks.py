"""Stacks of calls by name: of a live trace, and of a recorded one."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import NotFoundError

if TYPE_CHECKING:
    from ..maps import Map
    from .kernel_symbols import KernelSymbols

#: struct stack of bpf/call_event.h.
_STACK_FRAMES = 127
_STACK = struct.Struct(f"={2 + _STACK_FRAMES}Q")
_KEY = struct.Struct("=Q")
#: No process has anything there, on any machine, nor in the first page.
_USER_END, _FIRST = 1 << 56, 1 << 12
#: How many stacks of processes are remembered.
_MOST = 1 << 17
_HIDDEN = (
    "The kernel hides from this user where its functions lie: kernel stacks are shown as "
    "addresses. Run as root, or hold CAP_SYSLOG (kernel.kptr_restrict=1)."
)
#: What follows a function's name in a frame.
_PLACE = re.compile(r"\+0x[0-9a-f]+(?: \(.*\)| \[.*\])?$")


class Stacks(Protocol):
    """The names of a stack's functions, the innermost first, fit to be printed.

    Each is ``vfs_read+0x1a``, ``ext4_file_open+0x10 [ext4]``, ``read+0x10 (libc.so.6)``, where
    no function is known ``[libc.so.6]+0x1f00a``, and where nothing is ``0x7f5a1c2f``.
    """

    def kernel(self, key: int) -> tuple[str, ...]:
        """A call's ``kernel_stack``; of 0, and of one that is not there, nothing."""

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        """A call's ``user_stack``, and its ``pid``: what processes have at an address differs."""


def function_of(frame: str) -> str:
    """The function's name in one of Stacks' frames: without place, file and module."""
    name = _PLACE.sub("", frame)
    return "[unknown]" if name.startswith("0x") else name


class LiveStacks:
    """The stacks of a trace that runs, each looked at once, at first sight.

    A process may end, and its mappings go with it: ask for a call's stack when it comes.

    Args:
        stacks: the object's map STACKS.
        tell: told once of each thing that keeps names from being shown.
    """

    def __init__(self, stacks: Map[Any, Any], *, tell: Callable[[str], None]) -> None:
        from .user_symbols import UserSymbols  # which a replay does without

        self._stacks = stacks
        self._tell = tell
        self._told: set[str] = set()
        self._kernel_symbols: KernelSymbols | None = None
        self._user_symbols = UserSymbols()
        self._kernel: dict[int, tuple[str, ...]] = {0: ()}
        self._user: dict[tuple[int, int], tuple[str, ...]] = {}
        self._by_key: dict[int, tuple[str, ...]] = {}

    def kernel(self, key: int) -> tuple[str, ...]:
        """The stack's functions in the kernel."""
        found = self._kernel.get(key)
        if found is None:
            found = self._kernel[key] = self._kernel_names(key)
        return found

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        """The stack's functions in the process: by its number in the tracer's pid namespace."""
        if not key:
            return ()
        found = self._user.get((key, pid))
        if found is None:
            if len(self._user) >= _MOST:
                self._user.clear()
            found = self._user[key, pid] = self._user_names(key, pid)
        return found

    def close(self) -> None:
        """Closes the files that names were read from."""
        self._user_symbols.close()

    def _frames(self, key: int, end: int = 1 << 64) -> tuple[tuple[int, ...], int]:
        """Up to what is no address, END or beyond: of a function that keeps no frame pointer.

        And by what the program that made the stack is told from others; 0: it is not known.
        """
        try:
            count, program, *frames = _STACK.unpack(self._stacks.lookup(_KEY.pack(key)))
        except NotFoundError:
            return (), 0
        there = takewhile(lambda at: _FIRST <= at < end, frames[: min(count, _STACK_FRAMES)])
        return tuple(there), program

    def _kernel_names(self, key: int) -> tuple[str, ...]:
        from .kernel_symbols import KernelSymbols

        frames, _program = self._frames(key)
        symbols = self._kernel_symbols
        if symbols is None or not symbols.are_current():
            symbols = self._kernel_symbols = KernelSymbols()
        if symbols.hidden:
            self._tell_once("hidden", _HIDDEN)
        # A caller's address is that of its next instruction, which another function may begin.
        return tuple(symbols.name(at, at - (n > 0)) for n, at in enumerate(frames))

    def _user_names(self, key: int, pid: int) -> tuple[str, ...]:
        (frames, program), symbols = self._frames(key, _USER_END), self._user_symbols
        names = symbols.names(pid, frames, program)
        if names is None:
            if key in self._by_key:  # a child's that went on where its parent was
                return self._by_key[key]
            why = symbols.refusal
            self._tell_once(
                why,
                f"Where process {pid} had its functions cannot be read: {why}. "
                "Its user stacks, and those of others like it, are shown as addresses.",
            )
            return tuple(map(hex, frames))
        if symbols.mangled:
            from .demangle import HINT

            self._tell_once(
                "mangled", f"C++ and Rust names are shown as the linker knows them: {HINT}"
            )
        if len(self._by_key) >= _MOST:
            self._by_key.clear()
        self._by_key[key] = names
        return names

    def _tell_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell(text)


class RecordedStacks:
    """The stacks of a recording, by what it holds."""

    def __init__(self) -> None:
        self._kernel: dict[int, tuple[str, ...]] = {}
        self._user: dict[tuple[int, int], tuple[str, ...]] = {}

    def add_kernel(self, key: int, names: tuple[str, ...]) -> None:
        """Takes a stack in the kernel."""
        self._kernel[key] = names

    def add_user(self, key: int, pid: int, names: tuple[str, ...]) -> None:
        """Takes a stack in a process."""
        self._user[key, pid] = names

    def kernel(self, key: int) -> tuple[str, ...]:
        """The stack's functions in the kernel."""
        return self._kernel.get(key, ())

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        """The stack's functions in the process."""
        return self._user.get((key, pid), ())
