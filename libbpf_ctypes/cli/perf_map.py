"""perf-PID.map: how a JIT tells the names of the functions that it made.

Source: tools/perf/Documentation/jit-interface.txt of the kernel.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO

from .elf_table import open_regular, pread

#: Bytes of a map that are read, and of one reading.
_LARGEST, _READING = 1 << 28, 1 << 20
#: Bytes that tell whether a file is still the one that was read.
_COMPARED = 64


class PerfMap:
    """The map of one process, read on as it grows.

    Args:
        path: of the file.
        owners: users whose file is believed: whoever can write to /tmp can write one.
    """

    def __init__(self, path: str, owners: tuple[int, ...]) -> None:
        self._path = path
        self._owners = owners
        self._read = 0  # bytes
        self._end = self._rest = b""  # the last bytes that were read; the line that they begin
        # By start: the end; how many lines came before it; the name.
        self._functions: dict[int, tuple[int, int, str]] = {}
        self._lines = 0
        self._starts: list[int] = []

    def refresh(self) -> None:
        """Reads what was added; what was there stays if the file, or the process, is gone."""
        try:
            status = Path(self._path).stat()
            if status.st_uid not in self._owners:
                return
            if status.st_size == self._read:
                return
            with open_regular(self._path) as file:
                self._read_on(file)
        except OSError:
            pass
        self._starts = self._last_ones()

    def _read_on(self, file: BinaryIO) -> None:
        if pread(file, self._read - len(self._end), len(self._end)) != self._end:
            # Java writes it anew; or it is of another process that has the same number.
            self._functions.clear()
            self._read, self._end, self._rest = 0, b"", b""
            file.seek(0)
        while self._read < _LARGEST:
            data = file.read(_READING)
            if not data:
                break
            self._read += len(data)
            self._end = data[-_COMPARED:]
            self._take(self._rest + data)

    def _take(self, data: bytes) -> None:
        lines = data.split(b"\n")
        self._rest = lines.pop()[-_READING:]  # not yet whole
        for line in lines:
            words = line.split(None, 2)
            try:
                start, size = int(words[0], 16), int(words[1], 16)
                name = words[2].decode("utf-8", "surrogateescape")
            except (ValueError, IndexError):
                continue
            self._lines += 1
            self._functions[start] = start + size, self._lines, name

    def _last_ones(self) -> list[int]:
        """Where functions begin, in order; what others were written over is forgotten."""
        functions, found = self._functions, list[int]()
        for start in sorted(functions):
            line = functions[start][1]
            while found and start < functions[found[-1]][0]:
                if functions[found[-1]][1] > line:
                    del functions[start]
                    break
                del functions[found.pop()]
            else:
                found.append(start)
        return found

    def at(self, address: int) -> tuple[str, int] | None:
        """The function of an address, and how far the address lies in it; None: none."""
        place = bisect_right(self._starts, address)
        if place:
            start = self._starts[place - 1]
            end, _line, name = self._functions[start]
            if address < end:
                return name, address - start
        return None
