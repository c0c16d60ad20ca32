"""Recordings: what is written comes back, and no damage passes for data."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libbpf_ctypes import recording_format as form
from libbpf_ctypes.errors import RecordingError
from libbpf_ctypes.events import SYSCALL_EVENT
from libbpf_ctypes.recording import Item, RecordingReader
from libbpf_ctypes.recording_format import Argument, Clock, End, Field, Header, Lost, Samples
from libbpf_ctypes.recording_writer import RecordingWriter

from .helpers import ROOT, run_python
from .recordings import chunk, end_of, event, header, read, write

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
s64 = st.integers(-(2**63), 2**63 - 1)
texts = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
clocks = st.builds(Clock, s64, st.integers(-86399, 86399))
arguments = st.builds(
    Argument, texts, st.booleans(), st.integers(0, 255), texts, u32, st.booleans(), st.booleans()
)
headers = st.builds(
    Header,
    tool_version=texts,
    function=texts,
    pid=u32,
    machine=texts,
    byte_order=st.sampled_from([form.LITTLE, form.BIG]),
    kernel_release=texts,
    host_name=texts,
    boot_id=texts,
    clock=clocks,
    argument=arguments,
    event=texts,
    size=st.just(40),
    fields=st.just(header().fields),
)
samples = st.builds(
    Samples, st.lists(st.tuples(u32, st.binary(max_size=60)), min_size=1, max_size=4)
)
items = st.lists(
    st.one_of(samples, st.builds(Lost, u32, st.integers(0, 2**60)), clocks), max_size=5
)

#: A small recording with one of everything.
SOME: list[Item] = [
    Samples([(0, event(1, 2, 3, 4, b"a")), (1, event(5, 6, 7, 8, b"b"))]),
    Lost(1, 7),
    Clock(9, 3600),
    Samples([(1, event(9, 9, 9, 9, b"c"))]),
]
SOME.append(end_of(SOME))
WHOLE = write(header(), SOME)


@given(headers, items)
def test_what_is_written_comes_back(head: Header, recorded: list[Item]) -> None:
    recorded.append(end_of(recorded))
    assert read(write(head, recorded)) == (head, recorded, None)


@given(st.lists(st.tuples(u32, st.binary(max_size=60)), max_size=5))
def test_the_fast_reader_and_construct_agree(recorded: list[tuple[int, bytes]]) -> None:
    declared = [{"cpu": cpu, "size": len(data), "data": data} for cpu, data in recorded]
    payload = form.SAMPLES_PAYLOAD.build(declared)
    whole = write(header(), [Samples(recorded)])
    assert whole.endswith(payload)
    parsed = form.SAMPLES_PAYLOAD.parse(payload)
    assert [(sample.cpu, sample.data) for sample in parsed] == recorded


def chunks_of(data: bytes) -> list[Any]:
    """The chunks as docs/recording-format.md tells to read them: by construct alone."""
    stream = io.BytesIO(data)
    assert form.PREAMBLE.parse_stream(stream).version == 1
    found = []
    while (offset := stream.tell()) < len(data):
        head = form.CHUNK.parse_stream(stream)
        payload = stream.read(head.length)
        words = offset.to_bytes(8, "little") + head.type.to_bytes(4, "little")
        assert head.checksum == zlib.crc32(words + head.length.to_bytes(4, "little") + payload)
        found.append((offset, head.type, payload))
    return found


def test_construct_alone_reads_it() -> None:
    found = chunks_of(WHOLE)
    kinds = [form.HEADER, form.SAMPLES, form.LOST, form.CLOCK, form.SAMPLES, form.END]
    assert [kind for _offset, kind, _payload in found] == kinds
    head = form.HEADER_PAYLOAD.parse(found[0][2])
    assert (head.function, head.argument.name, head.size) == ("do_sys_openat2", "dfd", 40)
    assert [field.name for field in head.fields] == list(SYSCALL_EVENT.parse(bytes(40)))[1:]
    assert form.END_PAYLOAD.parse(found[-1][2]).samples == 3


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_documentation_run(number: int) -> None:
    text = (ROOT / "docs" / "recording-format.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 2
    code = f"import os, sys; os.chdir(sys.argv[1])\n{examples[number]}"
    done = run_python(code, ROOT)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 20


def test_a_file_that_ends_anywhere_gives_all_whole_chunks() -> None:
    starts = [offset for offset, _kind, _payload in chunks_of(WHOLE)]
    for length in range(len(WHOLE)):
        head, found, error = read(WHOLE[:length])
        assert error is not None, "no file that was cut passes for whole"
        whole = [start for start in [*starts[1:], len(WHOLE)] if start <= length]
        assert (head is not None) == bool(whole)
        assert found == SOME[: max(0, len(whole) - 1)]
        assert error.offset == (whole[-1] if whole else error.offset)
        assert error.offset <= length
        assert f"byte {error.offset}" in str(error)


@settings(max_examples=500)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_where_it_is(at: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= change
    _head, found, error = read(bytes(damaged))
    assert error is not None
    assert found == SOME[: len(found)]
    starts = [offset for offset, _kind, _payload in chunks_of(WHOLE)]
    assert error.offset == max([0, *(start for start in starts if start <= at)])


def test_missing_doubled_and_swapped_chunks_are_found() -> None:
    bounds = [offset for offset, _kind, _payload in chunks_of(WHOLE)] + [len(WHOLE)]
    start, *parts = [WHOLE[a:b] for a, b in zip([0, *bounds], bounds)]
    for order in ([0, 2, 3, 4, 5], [0, 1, 1, 2, 3, 4, 5], [0, 3, 2, 1, 4, 5], [0, 5], [1], [0, 0]):
        _head, found, error = read(start + b"".join(parts[n] for n in order))
        assert error is not None, order
        assert found == SOME[: len(found)]


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    for beginning in (b"", form.MAGIC, WHOLE[:12], WHOLE[: chunks_of(WHOLE)[1][0]]):
        _head, _items, error = read(beginning + data)
        assert error is not None
        assert str(error).isprintable()


@given(st.data())
def test_any_payload_with_a_right_checksum_does_no_harm(data: st.DataObject) -> None:
    """What a file made on purpose may hold."""
    kind = data.draw(st.integers(0, 6))
    payload = data.draw(st.binary(max_size=200))
    preamble = WHOLE[:12]
    read(preamble + chunk(12, kind, payload))
    at = chunks_of(WHOLE)[1][0]
    read(WHOLE[:at] + chunk(at, kind, payload))


BAD_FIELDS = {
    "overlap": [("a", 0, 8, 0), ("b", 4, 8, 0)],
    "the same name": [("a", 0, 8, 0), ("a", 8, 8, 0)],
    "no name": [("", 0, 8, 0)],
    "a keyword": [("class", 0, 8, 0)],
    "a name that Python takes for another": [("fi", 0, 8, 0), ("ﬁ", 8, 8, 0)],
    "beyond the event": [("a", 36, 8, 0)],
    "far beyond": [("a", 2**32 - 1, 2**32 - 1, 3)],
    "three bytes": [("a", 0, 3, 0)],
    "no bytes": [("a", 0, 0, 3)],
    "no kind": [("a", 0, 8, 9)],
}


@pytest.mark.parametrize("what", BAD_FIELDS)
def test_a_layout_that_is_none(what: str) -> None:
    fields = tuple(Field(*field, False) for field in BAD_FIELDS[what])
    head, _items, error = read(write(header()._replace(fields=fields), []))
    assert head is None
    assert error is not None
    assert "its header makes no sense" in str(error)


def test_gaps_and_the_order_of_fields_do_not_matter() -> None:
    fields = (Field("b", 32, 4, 0, True), Field("a", 8, 8, 1, True), Field("c", 0, 2, 2, False))
    reader = RecordingReader(io.BytesIO(write(header()._replace(fields=fields), [])), "x")
    raw = b"xy".ljust(32, b"\1") + (-5).to_bytes(4, "little", signed=True) + bytes(4)
    record = reader.schema.decode(raw)
    assert (record.b, record.c) == (-5, b"xy")


@pytest.mark.parametrize("length", [form.MAX_PAYLOAD + 1, 2**32 - 1])
def test_a_length_of_gigabytes_is_refused_before_memory_is_taken(length: int) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size <= form.MAX_PAYLOAD
            return super().read(size)

    at = chunks_of(WHOLE)[1][0]
    head = form.CHUNK.build({"type": form.SAMPLES, "length": length, "checksum": 0})
    reader = RecordingReader(Endless(WHOLE[:at] + head + bytes(100)), "x")
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match=f"claims {length} bytes"):
            list(reader)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_many_samples_are_split_into_chunks_that_a_reader_takes() -> None:
    recorded = [(n % 4, bytes([n % 251]) * 1000) for n in range(2500)]
    data = write(header(), [Samples(recorded)])
    found = read(data)[1]
    pieces = [sum(len(s) for _, s in item.samples) for item in found if isinstance(item, Samples)]
    assert max(pieces) <= 1 << 15, "a full disk costs no more than such a piece"
    assert len(pieces) < 100
    assert [s for item in found if isinstance(item, Samples) for s in item.samples] == recorded


def test_an_end_that_does_not_tell_the_truth_is_found() -> None:
    end = end_of(SOME[:-1])
    for wrong in (end._replace(samples=4), end._replace(reported_lost=0)):
        _head, found, error = read(write(header(), [*SOME[:-1], wrong]))
        assert found == SOME[:-1]
        assert error is not None
        assert "its end tells of" in str(error)


def test_chunks_and_header_fields_of_later_versions_are_skipped() -> None:
    (at, _kind, payload), *_ = chunks_of(WHOLE)
    data = WHOLE[:at] + chunk(at, form.HEADER, payload + b"more")
    data += chunk(len(data), 77, b"unknown")
    lost = form.LOST_PAYLOAD.build({"cpu": 3, "events": 4}) + b"more"
    data += chunk(len(data), form.LOST, lost)
    end = End(0, 4, 4, 0, 0, 4, 1, False, True)
    data += chunk(len(data), form.END, form.END_PAYLOAD.build(end._asdict()))
    assert read(data) == (header(), [Lost(3, 4), end], None)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "it is empty"),
        (b"\x89bpf", "ends before its header"),
        (b"hello, this is a text\n", "it is no recording"),
        (form.MAGIC + b"\2\0\0\0", "its format has version 2, and this ebpf-tool reads 1"),
        (form.MAGIC + b"\1\0\0\0", "ends before its header"),
        (WHOLE.replace(b"\n", b"\r\n"), "it is no recording"),
        (WHOLE + b"\0", "more follows the end"),
        (WHOLE + WHOLE, "more follows the end"),
        (WHOLE[: chunks_of(WHOLE)[-1][0]], "without the end of the trace"),
    ],
)
def test_each_refusal_says_what_and_what_next(data: bytes, told: str) -> None:
    error = read(data)[2]
    assert error is not None
    assert told in str(error)
    assert error.hint
    assert isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.offset, copy.hint) == (str(error), error.offset, error.hint)


def test_a_full_disk_raises_and_what_was_written_stays_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fd = os.memfd_create("disk")
    room = len(WHOLE) - 30
    real = os.write

    def write_until_full(to: int, data: Any) -> int:
        left = room - os.lseek(fd, 0, os.SEEK_CUR)
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(to, data[:left])

    monkeypatch.setattr(os, "write", write_until_full)
    writer = RecordingWriter(fd, header())
    for item in SOME[:2]:
        writer.add_samples(item.samples) if isinstance(item, Samples) else writer.add_lost(1, 7)
    with pytest.raises(OSError, match="No space left") as caught:
        for _ in range(100):
            writer.set_clock(Clock(1, 1))
    assert caught.value.errno == errno.ENOSPC
    found = read(os.pread(fd, 10**6, 0))[1]
    assert found[:2] == SOME[:2]
    assert set(found[2:]) == {Clock(1, 1)}
    os.close(fd)
