"""Which functions of a process addresses belong to."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import BpfError
from .demangle import can_demangle, demangle, is_mangled
from .elf_symbols import ElfSymbols
from .elf_table import open_regular
from .perf_map import PerfMap
from .text import escape

#: A line of /proc/PID/maps: the address range of code, where in the file, which file.
_LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) (\S+) (\d+) *(.*)$", re.M)
_DELETED, _VDSO = " (deleted)", "[vdso]"
#: How many processes, files and places are remembered.
_PROCESSES, _FILES, _NAMES = 1024, 128, 1 << 16
#: Of a name so much is shown: a perf map may hold any.
_LONGEST = 4096


class _Mapping(NamedTuple):
    start: int
    end: int
    offset: int
    device: str
    inode: int
    path: str

    @property
    def file(self) -> str:
        """Where the file is, or was."""
        return self.path[: -len(_DELETED)] if self.path.endswith(_DELETED) else self.path

    @property
    def label(self) -> str:
        """The file's name, or what stands for one: "[vdso]"."""
        return self.file.rpartition("/")[2]


class _Process:
    """A process's mappings and its JIT's functions; they outlive it.

    Args: pid: as this process's pid namespace numbers it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.refusal = ""  # why its mappings are not known
        self.program = 0  # whose mappings they are, see _program(); 0: not known
        self._text = ""
        self._mappings: list[_Mapping] = []
        self._starts: list[int] = []
        self._changed = True
        self._perf_source: tuple[str, tuple[int, ...]] = ("", ())
        self._perf_map: PerfMap | None = None
        #: Frames of its files that were named before, by their addresses and those looked up.
        self.named: dict[tuple[int, int], str] = {}

    def refresh(self) -> None:
        """Looks whether it mapped other files, or became another program."""
        try:
            text = Path(f"/proc/{self.pid}/maps").read_text("utf-8", "surrogateescape")
        except OSError as error:
            self.refusal = "" if self._text else error.strerror or str(error)
            return
        # It is empty of a process that has ended and is not waited for.
        self.refusal = "" if text or self._text else "it has ended"
        if text and text != self._text:
            self._text, self._changed = text, True
            self.named.clear()
            self._mappings = [
                _Mapping(int(a, 16), int(b, 16), int(offset, 16), device, int(inode), path)
                for a, b, offset, device, inode, path in _LINE.findall(text)
            ]
            self._starts = [each.start for each in self._mappings]
        self.program = _program(self.pid) if text else self.program
        with contextlib.suppress(OSError, ValueError):
            self._refresh_perf_map()

    def _refresh_perf_map(self) -> None:
        """Its JIT's file: in its /tmp, by its own number, which a container's process takes."""
        if self._changed:  # it may be another user's now, or another process of the same number
            text = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace")
            status = dict(line.partition(":")[::2] for line in text.splitlines())
            own = status.get("NSpid", str(self.pid)).split()[-1]
            owners = (0, int(status["Uid"].split()[1]))
            source = f"/proc/{self.pid}/root/tmp/perf-{own}.map", owners
            if source != self._perf_source:
                self._perf_source, self._perf_map = source, None
            self._changed = False
        if self._perf_map is None and os.path.exists(self._perf_source[0]):  # noqa: PTH110 - of each stack
            self._perf_map = PerfMap(*self._perf_source)
        if self._perf_map is not None:
            self._perf_map.refresh()

    def mapping(self, address: int) -> _Mapping | None:
        """What is mapped at an address; None: no code."""
        place = bisect_right(self._starts, address)
        found = self._mappings[place - 1] if place else None
        return found if found is not None and address < found.end else None

    def has(self, address: int) -> bool:
        """Whether it has code there."""
        return self.mapping(address) is not None or self.jitted(address) is not None

    def jitted(self, address: int) -> tuple[str, int] | None:
        """The function of an address that its JIT names."""
        return None if self._perf_map is None else self._perf_map.at(address)


class UserSymbols:
    """The functions of processes, by their addresses: of ELF files, the vDSO and JITs.

    Attributes:
        mangled: whether a C++ or Rust name came that could not be made readable.
        refusal: why the mappings of the last process that was asked for are not known, or "".
    """

    def __init__(self) -> None:
        self.mangled = False
        self.refusal = ""
        self._processes: dict[int, _Process] = {}
        self._files: dict[tuple[str, int], ElfSymbols | None] = {}
        self._found: dict[tuple[str, int, int], tuple[str, int] | None] = {}

    def names(
        self, pid: int, addresses: tuple[int, ...], program: int = 0
    ) -> tuple[str, ...] | None:
        """The functions of a stack, the innermost first; None: the process is gone, and unknown.

        Args:
            pid: as this process's pid namespace numbers it.
            addresses: where it was, and where its callers will go on.
            program: where its stack began then; 0: not known.
        """
        process = self._process(pid)
        process.refresh()
        self.refusal = process.refusal
        is_another = program and process.program and program != process.program
        if not process.refusal and addresses and (is_another or not process.has(addresses[0])):
            self.refusal = "it runs another program now"
        if self.refusal:
            return None
        # A caller's address is that of the next instruction: its function may end before.
        return tuple(self._name(process, at, at - (n > 0)) for n, at in enumerate(addresses))

    def _process(self, pid: int) -> _Process:
        found = self._processes.pop(pid, None) or _Process(pid)
        if len(self._processes) >= _PROCESSES:
            del self._processes[next(iter(self._processes))]
        self._processes[pid] = found  # the last one: those of long ago are forgotten first
        return found

    def _name(self, process: _Process, address: int, within: int) -> str:
        """The name of one frame, whose code lies at an address, or right before it."""
        known = process.named.get((address, within))
        if known is not None:
            return known
        # What a probe of a return puts in an address's place lies at its mapping's beginning.
        mapping = process.mapping(within) or process.mapping(address)
        label = "" if mapping is None else escape(mapping.label)
        found, place = None, 0
        if mapping is not None:
            place = address - mapping.start + mapping.offset
            found = self._in_file(process, mapping, within - mapping.start + mapping.offset)
            if found is None and within < address:
                # A signal's handler returns to the first instruction of a function.
                found = self._in_file(process, mapping, place)
                found = found and (found[0], within - address)
        if found is None:
            found = process.jitted(within)
            if found is not None:
                label = "JIT"
        if found is not None:
            name, distance = found
            readable = escape(self._readable(name))[:_LONGEST]
            text = f"{readable}+{distance + address - within:#x} ({label})"
            if label != "JIT":  # which may make other code of it
                process.named[address, within] = text
            return text
        return f"[{label.strip('[]')}]+{place:#x}" if label else f"{address:#x}"

    def _in_file(self, process: _Process, mapping: _Mapping, offset: int) -> tuple[str, int] | None:
        """The function at an offset in a mapped file, and how far that lies in it."""
        place = mapping.device, mapping.inode, offset
        if not mapping.inode:  # no file; the vDSO of programs of 32 bits is another one
            if mapping.path != _VDSO:
                return None
            place = _VDSO, mapping.start >> 32 == 0, offset
        if place not in self._found:
            if len(self._found) >= _NAMES:
                self._found.clear()
            try:
                symbols = self._symbols(process, mapping, place[:2])
            except OSError:  # another process may lead to it
                return None
            self._found[place] = None if symbols is None else symbols.at(offset)
        return self._found[place]

    def _symbols(
        self, process: _Process, mapping: _Mapping, file: tuple[str, int]
    ) -> ElfSymbols | None:
        """The symbols of a mapped file, which stays open: no other gets its inode meanwhile."""
        if file in self._files:
            found = self._files.pop(file)
        else:
            found = _open_symbols(process.pid, mapping)
            if len(self._files) >= _FILES:
                oldest = self._files.pop(next(iter(self._files)))
                if oldest is not None:
                    oldest.close()
        self._files[file] = found  # the last one: those of long ago are closed first
        return found

    def _readable(self, name: str) -> str:
        if is_mangled(name) and not can_demangle():
            self.mangled = True
        return demangle(name)

    def close(self) -> None:
        """Closes the files."""
        for symbols in self._files.values():
            if symbols is not None:
                symbols.close()
        self._files.clear()


def _program(pid: int) -> int:
    """Where a process's stack began, elsewhere after each exec; 0: not known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(text.rpartition(")")[2].split()[25])
    except (OSError, ValueError, IndexError):
        return 0


def _open_symbols(pid: int, mapping: _Mapping) -> ElfSymbols | None:
    """The symbols of what a process has mapped; None: it has none. Raises: OSError."""
    file = io.BytesIO(_memory(pid, mapping)) if not mapping.inode else _open_file(pid, mapping)
    try:
        return ElfSymbols(file, mapping.path)
    except BpfError:
        return None


def _open_file(pid: int, mapping: _Mapping) -> BinaryIO:
    paths = (
        # The very file, replaced and deleted ones too; it takes CAP_CHECKPOINT_RESTORE.
        f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}",
        f"/proc/{pid}/root{mapping.file}",
        mapping.file,  # the process has ended
    )
    for name in paths:
        with contextlib.suppress(OSError, ValueError):
            file = open_regular(name)
            # overlayfs with xino adds bits that /proc/PID/maps lacks, before Linux 6.8.
            if not (os.fstat(file.fileno()).st_ino ^ mapping.inode) & 0xFFFFFFFF:
                return file
            file.close()
    raise OSError(errno.ENOENT, "it is not there any more", mapping.file)


def _memory(pid: int, mapping: _Mapping) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(mapping.start)
        return memory.read(min(mapping.end - mapping.start, 1 << 20)) or b""
