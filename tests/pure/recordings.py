"""Recordings made up, of either byte order, and read back."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.errors import RecordingError
from libbpf_ctypes.events import SYSCALL_EVENT
from libbpf_ctypes.recording import Item, RecordingReader
from libbpf_ctypes.recording_format import Argument, Clock, End, Header, Lost, Samples
from libbpf_ctypes.recording_layout import layout_of
from libbpf_ctypes.recording_writer import RecordingWriter

INT = Argument("dfd", True, 1, "int", 4, True, False)
PADDING = b"\xa5\xa5\xa5\xa5"


def header(byte_order: int = form.LITTLE, argument: Argument = INT) -> Header:
    """The header of a trace of do_sys_openat2."""
    _order, size, fields = layout_of(SYSCALL_EVENT)
    where = ("6.1.0-test", "host", "0c1d7e9a-0000-4000-8000-000000000000")
    return Header(
        "0.1.0", "do_sys_openat2", 0, "any", byte_order, *where, Clock(0, 0), argument,
        "syscall_event", size, fields,
    )  # fmt: skip


def event(
    pid: int, tid: int, register: int, ns: int, comm: bytes, byte_order: int = form.LITTLE
) -> bytes:
    """A sample of struct syscall_event, padded as the kernel pads it."""
    order = ">" if byte_order == form.BIG else "<"
    return struct.pack(order + "IIQQ16s", pid, tid, register, ns, comm) + PADDING


def end_of(items: Iterable[Item], refused: int = 0) -> End:
    """The account that belongs to these items."""
    items = list(items)
    samples = sum(len(item.samples) for item in items if isinstance(item, Samples))
    lost = sum(item.events for item in items if isinstance(item, Lost))
    return End(samples, lost, samples + refused, 0, samples, refused, 2 * 10**9, False, True)


def write(head: Header, items: Iterable[Item]) -> bytes:
    """The recording of these items."""
    fd = os.memfd_create("recording")
    try:
        writer = RecordingWriter(fd, head)
        for item in items:
            if isinstance(item, Samples):
                writer.add_samples(item.samples)
            elif isinstance(item, Lost):
                writer.add_lost(*item)
            elif isinstance(item, Clock):
                writer.set_clock(item)
            else:
                assert isinstance(item, End)
                writer.end(item)
        assert writer.offset == os.lseek(fd, 0, os.SEEK_CUR)
        return os.pread(fd, writer.offset, 0)
    finally:
        os.close(fd)


def read(data: bytes) -> tuple[Header | None, list[Item], RecordingError | None]:
    """What can be read, and the error that ended it."""
    head: Header | None = None
    items: list[Item] = []
    try:
        reader = RecordingReader(io.BytesIO(data), "test")
        head = reader.header
        items.extend(reader)
    except RecordingError as error:
        return head, items, error
    return head, items, None


def chunk(offset: int, kind: int, payload: bytes) -> bytes:
    """A chunk with the right checksum, whatever is in it."""
    fields = {
        "type": kind,
        "length": len(payload),
        "checksum": form.checksum(offset, kind, payload),
    }
    return bytes(form.CHUNK.build(fields)) + payload
