"""A Parquet file that is whole after every step of its writing: a kill leaves all but the last.

A reader finds a Parquet file's footer by its last eight bytes: the footer's length, and "PAR1".
What follows the footer's own end within that length is not looked at. So each row group takes
five steps, after any of which the file can be read:

1. eight bytes are written far behind the end: the same footer, with a gap behind it;
2. a copy of the footer is written before these eight bytes, where the gap was;
3. the length in them is made that of the copy, which is the footer from here on;
4. the row group and the footer that names it are written in the place of the old footer;
5. the file is cut behind them.

Steps 1, 3 and 5 cannot be torn by a signal: they write within one page, or change the size alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from ..errors import BpfError
from .output import open_file
from .parquet_footer import MAGIC, TRAILER, Footer

if TYPE_CHECKING:
    import pyarrow

#: Compressed, a row group may have so much more than the bytes of its table.
_SLACK = 1 << 20


class ParquetFile:
    """Writes row groups. After a BpfError the file has what was in it before: write no more then.

    Args:
        path: what was in it is lost.
        schema: of all row groups.
        statistics: the columns whose smallest and largest values each row group tells.

    Attributes:
        footer_size: bytes of the footer, which grows with each row group.
    """

    def __init__(self, path: str, schema: pyarrow.Schema, statistics: list[str]) -> None:
        self._path, self._schema, self._statistics = path, schema, statistics
        self._row_groups = Footer()
        self._memory = -1
        self._fd = open_file(path)
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                reason = "it is not a file that can be written at any place"
                raise BpfError(f"write to {path}", None, reason, hint="Name a plain file with -o.")
            self._memory = os.memfd_create("row group", os.MFD_CLOEXEC)
            self._footer_at = len(MAGIC)
            self._footer = self._make_footer({})
            self._write(MAGIC + self._footer, 0)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, BpfError):
                raise self._failure(error) from None
            raise

    @property
    def footer_size(self) -> int:
        return len(self._footer)

    def add(self, table: pyarrow.Table, metadata: dict[str, str]) -> None:
        """Writes a row group. Args: metadata: the file's, from here on."""
        try:
            row_group = b""
            if table.num_rows:
                row_group, end = self._encode(table)
                self._row_groups.add(end)
            self._put(row_group, self._make_footer(metadata))
        except OSError as error:
            raise self._failure(error) from None

    def _encode(self, table: pyarrow.Table) -> tuple[bytes, bytes]:
        """A row group as it is where the footer is now, and the end of a file of it alone."""
        import pyarrow
        import pyarrow.parquet

        # Of a file in memory that is empty up to there: so the offsets in it are right.
        start = self._footer_at
        os.ftruncate(self._memory, 0)
        os.ftruncate(self._memory, start + 2 * table.nbytes + _SLACK)
        with pyarrow.memory_map(f"/proc/self/fd/{self._memory}", "r+") as sink:
            with pyarrow.parquet.ParquetWriter(
                sink,
                self._schema,
                compression="zstd",
                write_statistics=self._statistics,
                store_schema=False,
            ) as writer:
                sink.seek(start)
                writer.write_table(table, row_group_size=table.num_rows)
                size = sink.tell() - start
            data = os.pread(self._memory, size, start)
            end = os.pread(self._memory, sink.tell() - start - size, start + size)
        os.ftruncate(self._memory, 0)
        return data, end

    def _make_footer(self, metadata: dict[str, str]) -> bytes:
        import pyarrow
        import pyarrow.parquet

        # Of a file without rows: its metadata are the file's.
        empty = pyarrow.BufferOutputStream()
        with pyarrow.parquet.ParquetWriter(empty, self._schema, store_schema=False) as writer:
            writer.add_key_value_metadata(metadata)
        return self._row_groups.make(empty.getvalue().to_pybytes())

    def _put(self, row_group: bytes, footer: bytes) -> None:
        """Puts a row group and a new footer in the place of the footer: see the module's text."""
        start, old = self._footer_at, self._footer
        end = start + len(row_group) + len(footer)
        copy = max(end, start + len(old))
        copy += -(copy + len(old)) % TRAILER.size  # the trailer lies within one page
        trailer = copy + len(old) - TRAILER.size
        self._write(TRAILER.pack(trailer - start, MAGIC), trailer)
        self._write(memoryview(old)[: -TRAILER.size], copy)
        self._write(old[-TRAILER.size :], trailer)
        self._write(row_group, start)
        self._write(footer, start + len(row_group))
        os.ftruncate(self._fd, end)
        self._footer_at, self._footer = start + len(row_group), footer

    def _write(self, data: bytes | memoryview, at: int) -> None:
        view = memoryview(data)
        while view:
            size = os.pwrite(self._fd, view, at)
            view, at = view[size:], at + size

    def _failure(self, error: OSError) -> BpfError:
        hint = "What was written before can be read."
        reason = error.strerror or str(error)
        return BpfError(f"write to {self._path}", error.errno, reason, hint=hint)

    def close(self) -> None:
        """Closes the file. Twice does no harm."""
        for fd in (self._fd, self._memory):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._memory = -1
