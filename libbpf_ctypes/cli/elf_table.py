"""A symbol table of an ELF file as sorted numbers, and reading files that nobody vouches for."""

from __future__ import annotations

import errno
import os
import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# elf(5)
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_STB_LOCAL = 0
_HIDDEN = 0x8000  # of a version: it is not the one that programs are linked with today
_OLD, _SECTION = 1 << 40, 41

_MOST_SYMBOLS = 1 << 23
_LONGEST_NAME = 4096
#: Symbols taken from the file at a time.
_CHUNK = 1 << 16
#: How far back to look for a function around others.
_NESTING = 8


class ElfFunction(NamedTuple):
    """A function of an ELF file.

    Attributes:
        name: as the linker knows it, without a version.
        address: its virtual address in the file.
        size: bytes; 0: not told.
        is_ifunc: it is no function yet: the code that chooses one when a program starts.
        is_old: kept for programs that were linked with an older version of the library.
    """

    name: str
    address: int
    size: int
    is_ifunc: bool = False
    is_old: bool = False


class Section(NamedTuple):
    """A section's header, as far as it matters."""

    name: int
    type: int
    address: int
    offset: int
    size: int
    link: int


class Table:
    """The functions of a symbol table, sorted by their addresses.

    Args:
        file: stays open for the names.
        symbols, strings: the sections.
        sections: all of the file's.
        is_64: whether the file is of ELFCLASS64.
        versions: the section of the symbols' versions, if there is one.

    Raises: OSError, ValueError, OverflowError, struct.error: it is damaged.
    """

    def __init__(
        self,
        file: BinaryIO,
        symbols: Section,
        strings: Section,
        sections: list[Section],
        is_64: bool,
        versions: Section | None = None,
    ) -> None:
        self._file = file
        self._strings = strings
        self._section_ends = [each.address + each.size for each in sections]
        entry = 24 if is_64 else 16
        values, sizes = array("Q"), array("Q")
        names = array("Q")  # and type and binding, in the bits from 32; _OLD; the section
        of_version = array("H", b"" if versions is None else _versions(file, versions))
        end = symbols.offset + min(symbols.size, entry * _MOST_SYMBOLS)
        for start in range(symbols.offset, end, entry * _CHUNK):
            data = pread(file, start, min(entry * _CHUNK, end - start))
            if not data:  # the table is longer than the file
                break
            data = data[: len(data) // entry * entry]
            first = (start - symbols.offset) // entry
            for place, (name, info, section, value, size) in enumerate(
                _symbols(data, is_64), first
            ):
                # Section 0: it is another file's.
                if info & 15 in (_STT_FUNC, _STT_GNU_IFUNC) and section and value:
                    values.append(value)
                    sizes.append(size)
                    old = place < len(of_version) and of_version[place] & _HIDDEN
                    names.append(name | info << 32 | (_OLD if old else 0) | section << _SECTION)
        order = sorted(range(len(values)), key=values.__getitem__)
        self._values = array("Q", (values[i] for i in order))
        self._sizes = array("Q", (sizes[i] for i in order))
        self._names = array("Q", (names[i] for i in order))

    def __len__(self) -> int:
        return len(self._values)

    def at(self, address: int) -> tuple[str, int] | None:
        """The function of an address, and how far the address lies in it; None: none."""
        values = self._values
        place = bisect_right(values, address)
        following = values[place] if place < len(values) else 1 << 64
        for _ in range(_NESTING):
            if not place:
                break
            value = values[place - 1]
            first = place - 1
            while first and values[first - 1] == value and place - first < 64:
                first -= 1
            size = max(self._sizes[first:place])
            # A function in assembler that does not tell its size goes on to the next one, but
            # not beyond its section, as .init's _init.
            end = value + size if size else min(following, self._end_of_section(first))
            if address < end:
                return min(map(self._candidate, range(first, place)))[-1], address - value
            place, following = first, value
        return None

    def _end_of_section(self, place: int) -> int:
        section = self._names[place] >> _SECTION
        return self._section_ends[section] if section < len(self._section_ends) else 1 << 64

    def _candidate(self, place: int) -> tuple[int, bool, int, str]:
        """The name of a symbol, behind what makes it better than another of its address."""
        name = self._name(place)
        return rank(name, is_local=self._names[place] >> 36 & 15 == _STB_LOCAL)

    def _name(self, place: int) -> str:
        offset = self._names[place] & 0xFFFFFFFF
        if offset >= self._strings.size:
            return ""
        # Most names are short; a read is a system call.
        for length in (96, _LONGEST_NAME):
            raw = pread(self._file, self._strings.offset + offset, length)
            if b"\0" in raw:
                break
        return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape").partition("@")[0]

    def functions(self) -> Iterator[ElfFunction]:
        """All functions, by their addresses."""
        strings = pread(self._file, self._strings.offset, min(self._strings.size, 1 << 30))
        for value, size, name in zip(self._values, self._sizes, self._names):
            start = name & 0xFFFFFFFF
            raw, _, version = strings[start : strings.find(b"\0", start)].partition(b"@")
            yield ElfFunction(
                raw.decode("utf-8", "surrogateescape"),
                value,
                size,
                name >> 32 & 15 == _STT_GNU_IFUNC,
                bool(name & _OLD) or (version != b"" and version[:1] != b"@"),
            )


def _versions(file: BinaryIO, section: Section) -> bytes:
    size = min(section.size, 2 * _MOST_SYMBOLS)
    return pread(file, section.offset, size - size % 2)


def rank(name: str, *, is_local: bool) -> tuple[int, bool, int, str]:
    """What to sort the names of one address by: the best comes first.

    That is the one with the fewest underscores before it, of these a global one, a short one.
    """
    return len(name) - len(name.lstrip("_")) if name else 99, is_local, len(name), name


def _symbols(data: bytes, is_64: bool) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each symbol: name, info, section, value, size (Elf64_Sym, Elf32_Sym)."""
    if is_64:
        return (
            (name, info, section, value, size)
            for name, info, _other, section, value, size in struct.iter_unpack("=IBBHQQ", data)
        )
    return (
        (name, info, section, value, size)
        for name, value, size, info, _other, section in struct.iter_unpack("=IIIBBH", data)
    )


def open_regular(path: str) -> BinaryIO:
    """Opens a file to read; nothing else is opened, for that may wait, or do something.

    Raises: OSError.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    return os.fdopen(fd, "rb", buffering=0)


def pread(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes at an offset; fewer where the file ends. Raises: OSError, ValueError."""
    file.seek(offset)
    return file.read(size) or b""
