"""Which function of the kernel an address belongs to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path

from ..kernel import Kallsyms
from .elf_table import rank
from .text import escape

_MODULES = Path("/proc/modules")
#: No function of the kernel is as long: behind the last symbol before a gap there is none.
_LONGEST = 1 << 20


class KernelSymbols:
    """The functions of the kernel, its modules and BPF programs, as they are when this is made.

    Attributes: hidden: the kernel does not tell this user where they lie.
    """

    def __init__(self) -> None:
        # All addresses have the same width: sorted as text the lines are sorted by address.
        self._lines = sorted(Kallsyms().code())
        self._modules = _modules()
        self._width = self._lines[0].find(" ") if self._lines else 0
        self.hidden = not self._lines or int(self._address(-1), 16) == 0

    def are_current(self) -> bool:
        """Whether the same modules are loaded at the same places."""
        return self._modules == _modules()

    def _address(self, place: int) -> str:
        return self._lines[place][: self._width]

    def name(self, address: int, within: int) -> str:
        """``vfs_read+0x1a``, ``ext4_file_open+0x10 [ext4]``; without a symbol the address.

        Args: within: an address in the function: of a caller's it may be the byte before.
        """
        lines = self._lines
        place = bisect_right(lines, f"{within:0{self._width}x}~")  # "~": behind " "
        if self.hidden or not place:
            return f"{address:#x}"
        start = self._address(place - 1)
        distance = address - int(start, 16)
        if distance >= _LONGEST:
            return f"{address:#x}"
        candidates = map(str.split, lines[bisect_left(lines, start, 0, place) : place])
        _rank, (_at, _kind, name, *module) = min(
            (rank(words[2], is_local=words[1] in "tw"), words) for words in candidates
        )
        return escape(" ".join([f"{name}+{distance:#x}", *module]))


def _modules() -> list[tuple[str, str]]:
    """The names and places of the loaded modules; none where they cannot be read."""
    try:
        lines = _MODULES.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [(words[0], words[5]) for words in map(str.split, lines) if len(words) > 5]
