"""The functions that an ELF file names, and which of them a place in the file belongs to.

pyelftools and its kin make an object of each symbol, which takes minutes for a big binary.
Here the tables are sorted as numbers, and a name is read from the file when it is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import BpfError
from .elf_table import ElfFunction, Section, Table, open_regular, pread
from .text import escape

# elf(5)
_MAGIC = b"\x7fELF"
_PT_LOAD, _PT_NOTE = 1, 4
_PF_X = 1
_SHT_SYMTAB, _SHT_PROGBITS, _SHT_DYNSYM, _SHT_GNU_VERSYM = 2, 1, 11, 0x6FFFFFFF
_NT_GNU_BUILD_ID = 3

_MOST_HEADERS = 1 << 16
_MOST_EMBEDDED = 1 << 27  # bytes of the symbols that .gnu_debugdata packs

#: What reading a damaged file ends in.
_DAMAGE = (OSError, ValueError, OverflowError, struct.error, EOFError)

_DEBUG = Path("/usr/lib/debug/.build-id")


class _Segment(NamedTuple):
    type: int
    offset: int
    address: int
    size: int  # in the file
    is_code: bool


class ElfSymbols:
    """The functions of an ELF file, read once; the file stays open for their names.

    Taken are .symtab, or where it was stripped .dynsym, .gnu_debugdata (MiniDebugInfo) and the
    file of debug symbols with the same build id. What is read is bounded, whatever the file says.

    Args:
        file: the file; close() closes it.
        name: for errors.

    Raises: BpfError: it is no ELF file of this machine's byte order, or damaged.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._files = [file]
        self._name = name
        try:
            self._read(file)
        except BpfError:
            self.close()
            raise
        except _DAMAGE as error:
            self.close()
            raise self._error(f"it is damaged: {error}") from None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ElfSymbols:
        """Those of the file at this path. Raises: BpfError."""
        name = os.fspath(path)
        operation = f"read the symbols of {escape(name)}"
        try:
            file = open_regular(name)
        except OSError as error:
            raise BpfError(operation, error.errno, error.strerror or str(error)) from None
        except ValueError as error:  # a NUL in the name
            raise BpfError(operation, errno.EINVAL, str(error)) from None
        return cls(file, name)

    def _error(self, reason: str) -> BpfError:
        return BpfError(f"read the symbols of {escape(self._name)}", errno.ENOEXEC, reason)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()

    def _read(self, file: BinaryIO) -> None:
        head = pread(file, 0, 64)
        if head[:4] != _MAGIC or len(head) < 52:
            raise self._error("it is not an ELF file")
        if head[5] != (1 if sys.byteorder == "little" else 2):
            raise self._error("it is built for a machine of the other byte order")
        self.is_64 = head[4] == 2
        (self._names,) = struct.unpack_from("=H", head, 62 if self.is_64 else 50)
        self._segments = list(self._program_headers(file, head))
        sections = list(self._sections(file, head))
        self._all_sections = sections
        self._tables = list(self._symbol_tables(file, sections, _SHT_SYMTAB))
        self._stripped = list[Section]()
        if not any(map(len, self._tables)):
            self._tables = list(self._symbol_tables(file, sections, _SHT_DYNSYM))
            self._stripped = sections

    def _complete(self) -> list[Table]:
        """All tables: of a stripped file those that lie elsewhere, too, which takes a while."""
        sections, self._stripped = self._stripped, []
        for add in (self._add_debug_file, self._add_debug_data) if sections else ():
            with contextlib.suppress(ImportError, *_DAMAGE):
                add(self._files[0], sections)
        return self._tables

    def _program_headers(self, file: BinaryIO, head: bytes) -> Iterator[_Segment]:
        if self.is_64:
            layout, (start,) = struct.Struct("=IIQQQQQQ"), struct.unpack_from("=Q", head, 32)
            size, count = struct.unpack_from("=HH", head, 54)
        else:
            layout, (start,) = struct.Struct("=IIIIIIII"), struct.unpack_from("=I", head, 28)
            size, count = struct.unpack_from("=HH", head, 42)
        if count and size != layout.size:
            raise ValueError(f"its program headers have {size} bytes each")
        data = pread(file, start, size * count)
        for at in range(0, size * count, layout.size):
            words = layout.unpack_from(data, at)
            if self.is_64:
                yield _Segment(words[0], words[2], words[3], words[5], bool(words[1] & _PF_X))
            else:
                yield _Segment(words[0], words[1], words[2], words[4], bool(words[6] & _PF_X))

    def _sections(self, file: BinaryIO, head: bytes) -> Iterator[Section]:
        if self.is_64:
            layout, (start,) = struct.Struct("=IIQQQQII16x"), struct.unpack_from("=Q", head, 40)
            size, count = struct.unpack_from("=HH", head, 58)
        else:
            layout, (start,) = struct.Struct("=IIIIIIII8x"), struct.unpack_from("=I", head, 32)
            size, count = struct.unpack_from("=HH", head, 46)
        if not start or size != layout.size:
            return
        if not count:  # too many for the header's field: the first section tells
            count = min(layout.unpack_from(pread(file, start, size))[5], _MOST_HEADERS)
        data = pread(file, start, size * count)
        for at in range(0, size * count, size):
            name, kind, _flags, address, offset, length, link, _info = layout.unpack_from(data, at)
            yield Section(name, kind, address, offset, length, link)

    def _symbol_tables(self, file: BinaryIO, sections: list[Section], kind: int) -> Iterator[Table]:
        for place, section in enumerate(sections):
            if section.type == kind and section.link < len(sections):
                versions = (
                    each for each in sections if each.type == _SHT_GNU_VERSYM and each.link == place
                )
                strings = sections[section.link]
                yield Table(file, section, strings, sections, self.is_64, next(versions, None))

    def _add_debug_data(self, file: BinaryIO, sections: list[Section]) -> None:
        """The symbols that Fedora and its kin leave in stripped files, packed."""
        import lzma  # a Python may be built without

        for section in sections:
            if section.type != _SHT_PROGBITS or self._section_name(section) != b".gnu_debugdata":
                continue
            unpack = lzma.LZMADecompressor(memlimit=_MOST_EMBEDDED)
            packed = pread(file, section.offset, min(section.size, _MOST_EMBEDDED))
            try:
                symbols = unpack.decompress(packed, _MOST_EMBEDDED)
            except lzma.LZMAError:
                continue
            self._add(io.BytesIO(symbols))

    def _section_name(self, section: Section) -> bytes:
        if self._names >= len(self._all_sections):
            return b""
        names = self._all_sections[self._names]
        return pread(self._files[0], names.offset + section.name, 64).partition(b"\0")[0]

    def _add_debug_file(self, file: BinaryIO, _sections: list[Section]) -> None:
        build_id = self._build_id(file)
        if len(build_id) > 2:
            with_symbols = _DEBUG / build_id[:2] / f"{build_id[2:]}.debug"
            if with_symbols.is_file():
                self._add(open_regular(str(with_symbols)))

    def _add(self, file: BinaryIO) -> None:
        """The symbols of another file that lies beside this one: same addresses, no code."""
        self._files.append(file)
        head = pread(file, 0, 64)
        if head[:6] != pread(self._files[0], 0, 6):
            raise ValueError("its debug symbols are no ELF file of its kind")
        self._tables += self._symbol_tables(file, list(self._sections(file, head)), _SHT_SYMTAB)

    def _build_id(self, file: BinaryIO) -> str:
        for segment in self._segments:
            if segment.type != _PT_NOTE:
                continue
            notes = pread(file, segment.offset, min(segment.size, 1 << 16))
            at = 0
            while at + 12 <= len(notes):
                owner, size, kind = struct.unpack_from("=III", notes, at)
                body = at + 12 + (owner + 3 & ~3)
                if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
                    return notes[body : body + size].hex()
                at = body + (size + 3 & ~3)
        return ""

    def address_of(self, offset: int) -> int | None:
        """The virtual address of a byte of the file; None: none of its code."""
        for segment in self._segments:
            if segment.type == _PT_LOAD and 0 <= offset - segment.offset < segment.size:
                return offset - segment.offset + segment.address
        return None

    def offset_of(self, address: int) -> int | None:
        """Where in the file the code at a virtual address lies; None: there is none."""
        for segment in self._segments:
            if (
                segment.type == _PT_LOAD
                and segment.is_code
                and 0 <= address - segment.address < segment.size
            ):
                return address - segment.address + segment.offset
        return None

    def code(self, offset: int, size: int) -> bytes:
        """So many bytes of the file, fewer at its end. Raises: BpfError: they cannot be read."""
        try:
            return pread(self._files[0], offset, size)
        except _DAMAGE as error:
            raise self._error(f"it is damaged: {error}") from None

    def has_section(self, name: str) -> bool:
        """Whether it has a section of this name. Raises: BpfError: they cannot be read."""
        try:
            return any(self._section_name(each) == name.encode() for each in self._all_sections)
        except _DAMAGE as error:
            raise self._error(f"it is damaged: {error}") from None

    def at(self, offset: int) -> tuple[str, int] | None:
        """The function of a byte of the file, and how far the byte lies in it; None: none."""
        address = self.address_of(offset)
        if address is None:
            return None
        found = []
        for table in self._complete():
            with contextlib.suppress(*_DAMAGE):  # the names are read only now
                found.append(table.at(address))
        return min(filter(None, found), key=lambda each: each[1], default=None)

    def functions(self, *, own: bool = False) -> Iterator[ElfFunction]:
        """All functions, by their addresses; one of several names comes by each of them.

        Args: own: only those that the file itself names.
        Raises: BpfError: it is damaged.
        """
        try:
            for table in self._tables if own else self._complete():
                yield from table.functions()
        except _DAMAGE as error:
            raise self._error(f"it is damaged: {error}") from None
