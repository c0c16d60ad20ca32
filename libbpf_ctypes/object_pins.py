"""Pinning all maps and programs of an object."""

from __future__ import annotations

import errno
import os

from ._ffi import lib
from ._handle import Handle
from .errors import BpfError
from .log import calling


class Pinnable(Handle):
    """What an object can do with a BPF file system."""

    source: str
    loaded: bool

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pins its maps and programs, each by its name, in a folder of a BPF file system.

        Raises: BpfError: not loaded, something is there; then nothing is pinned.
        Source: ``bpf_object__pin`` (libbpf 0.0.1).
        """
        self._call_pinning("pin", path)

    def unpin(self, path: str | os.PathLike[str]) -> None:
        """Removes these pins. Raises: BpfError; LibraryError: libbpf is older.

        Source: ``bpf_object__unpin`` (libbpf 1.3).
        """
        self._call_pinning("unpin", path)

    def pin_maps(self, path: str | os.PathLike[str] | None = None) -> None:
        """Pins its maps; None: each where its pin path says.

        Source: ``bpf_object__pin_maps`` (libbpf 0.0.1).
        """
        self._call_pinning("pin_maps", path)

    def unpin_maps(self, path: str | os.PathLike[str] | None = None) -> None:
        """Removes its maps' pins. Source: ``bpf_object__unpin_maps`` (libbpf 0.0.1)."""
        self._call_pinning("unpin_maps", path)

    def pin_programs(self, path: str | os.PathLike[str]) -> None:
        """Pins its programs. Source: ``bpf_object__pin_programs`` (libbpf 0.0.1)."""
        self._call_pinning("pin_programs", path)

    def unpin_programs(self, path: str | os.PathLike[str]) -> None:
        """Removes its programs' pins. Source: ``bpf_object__unpin_programs`` (libbpf 0.0.1)."""
        self._call_pinning("unpin_programs", path)

    def _call_pinning(self, what: str, path: str | os.PathLike[str] | None) -> None:
        from .pinning import encoded_path, pin_hint

        operation = f"{what.replace('_', ' ')} of {self.source}"
        encoded = encoded_path(operation, path) if path is not None else None
        _ = self._as_parameter_
        if not self.loaded:
            reason = "the object is not loaded"
            raise BpfError(operation, errno.ENOENT, reason, hint="Call load() first.")
        function = getattr(lib, f"bpf_object__{what}")
        with calling(operation, pin_hint):
            function(self, encoded)
