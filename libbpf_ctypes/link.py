"""A program's attachment to the kernel."""

from __future__ import annotations

from typing import Any

from ._ffi import lib
from ._handle import Handle
from .log import calling


class Link(Handle):
    """An attached program; closing it detaches.

    A link that nobody keeps is detached when Python collects it, with a
    ResourceWarning: hold it, or use ``with``.

    Attributes:
        target: what it is attached to, in words.

    Source: libbpf's ``struct bpf_link`` (0.0.4).
    """

    def __init__(self, pointer: Any, parent: object, target: str) -> None:
        super().__init__(pointer, parent)
        self.target = target

    def _release(self, pointer: Any) -> None:
        with calling(f"detach from {self.target}"):
            lib.bpf_link__destroy(pointer)

    def __repr__(self) -> str:
        return f"<Link to {self.target}{' (closed)' if self.closed else ''}>"
