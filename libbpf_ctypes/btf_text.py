"""BTF as C source, by libbpf's printer."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._btf import TypeStore
from ._ffi import lib
from ._types import callback_class, struct_class
from .log import calling, format_message


class Printer:
    """libbpf's ``btf_dump`` of one BTF, which must free() it before itself.

    Making one costs milliseconds with the kernel's BTF, a declaration microseconds.
    """

    def __init__(self, btf: TypeStore) -> None:
        pieces: list[str] = []
        raised: list[BaseException] = []

        def take(_context: int, template: bytes, arguments: int) -> None:
            try:
                pieces.append(format_message(template, arguments))
            except BaseException as error:  # no exception may cross C
                raised.append(error)

        self._pieces, self._raised = pieces, raised
        self._lock = threading.Lock()
        self._callback = callback_class("btf_dump_printf_fn_t")(take)  # libbpf holds it
        self._dump = lib.btf_dump__new(btf, self._callback, None, None)

    def free(self) -> None:
        """Gives it back to libbpf."""
        with self._lock:
            dump, self._dump = self._dump, None
        if dump is not None:
            lib.btf_dump__free(dump)

    @contextmanager
    def _printing(self, operation: str) -> Iterator[list[str]]:
        """One user at a time; yields the list that the text comes into."""
        with self._lock:
            self._pieces.clear()
            self._raised.clear()
            with calling(operation):
                yield self._pieces
            if self._raised:
                raise self._raised[0]

    def definitions(self, identities: list[int], operation: str) -> str:
        """The definitions of these types and of all that they need, each once."""
        with self._printing(operation) as pieces:
            for identity in identities:
                lib.btf_dump__dump_type(self._dump, identity)
            return "".join(pieces)

    def declaration(self, identity: int, name: str, strip: bool, operation: str) -> str:
        """The declaration of something of this type: ``const char *name``."""
        # Its own default for a name is taken only where no opts are given.
        opts = struct_class("btf_dump_emit_type_decl_opts")(
            field_name=name.encode(), strip_mods=strip
        )
        with self._printing(operation) as pieces:
            lib.btf_dump__emit_type_decl(self._dump, identity, opts)
            return "".join(pieces)

    def initializer(
        self, identity: int, data: bytes, settings: dict[str, Any], operation: str
    ) -> str:
        """The bytes as a C initializer of this type."""
        opts = struct_class("btf_dump_type_data_opts")(**settings)
        buffer = ctypes.create_string_buffer(data, len(data))
        with self._printing(operation) as pieces:
            lib.btf_dump__dump_type_data(self._dump, identity, buffer, len(data), opts)
            return "".join(pieces)
