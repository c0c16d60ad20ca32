"""Stacks of calls: their frames by name."""

from __future__ import annotations

from typing import Protocol


class Stacks(Protocol):
    """Stacks by the keys that events have of them; of key 0: ().

    Frames are innermost first, escaped: "vfs_read+0x1a", "read+0x10 (libc.so.6)".
    """

    def kernel(self, key: int) -> tuple[str, ...]:
        """A stack of the kernel."""
        ...

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        """A stack of a process. Args: pid: as the host numbers it."""
        ...
