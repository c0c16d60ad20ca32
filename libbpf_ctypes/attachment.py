"""A program attached in a way that has no link."""

from __future__ import annotations

from typing import Callable

from ._handle import Handle
from .log import calling


class Attachment(Handle):
    """An attached program, where the kernel has no link for that; closing it detaches.

    The kernel does not detach by itself when this process ends, as it does with a Link.

    Attributes:
        target: what it is attached to, in words.
    """

    def __init__(self, detach: Callable[[], object], parent: object, target: str) -> None:
        super().__init__(detach, parent)
        self.target = target

    def _release(self, pointer: Callable[[], object]) -> None:
        with calling(f"detach from {self.target}"):
            pointer()

    def __repr__(self) -> str:
        return f"<Attachment to {self.target}{' (closed)' if self.closed else ''}>"
