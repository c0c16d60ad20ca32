"""Lines to real pipes and terminals: whole, in order, and never beyond a deadline."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from libbpf_ctypes.cli.output import BACKLOG, MAX_AGE, Output, OutputClosedError, open_file
from libbpf_ctypes.errors import BpfError

from .helpers import run_python


class Ends(NamedTuple):
    """The two ends of a pipe or a pseudo-terminal."""

    read: int
    write: int


def _ends(pair: tuple[int, int], stack: ExitStack) -> Ends:
    for fd in pair:
        stack.enter_context(closing(os.fdopen(fd, "rb", 0, closefd=True)))
    return Ends(*pair)


@pytest.fixture
def pipe() -> Iterator[Ends]:
    with ExitStack() as stack:
        yield _ends(os.pipe(), stack)


@pytest.fixture
def terminal() -> Iterator[Ends]:
    with ExitStack() as stack:
        ends = _ends(os.openpty(), stack)
        tty.setraw(ends.write)  # as it is: no carriage returns
        yield ends


def lines(count: int, start: int = 0) -> str:
    return "".join(f"line {number:07d} {'x' * 80}\n" for number in range(start, start + count))


def soon() -> float:
    """A deadline that is reached only where something hangs."""
    return time.monotonic() + 60


def test_a_slow_reader_gets_every_line_in_order(pipe: Ends) -> None:
    text = lines(5000)
    received = bytearray()

    def read_slowly() -> None:
        while len(received) < len(text):
            received.extend(os.read(pipe.read, 8192))
            time.sleep(0.001)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    output = Output(pipe.write)
    for start in range(0, 5000, 100):
        output.add(lines(100, start))
        output.flush(time.monotonic() + 0.01)
    output.flush(soon(), force=True)
    reader.join()
    assert received.decode() == text
    assert output.unwritten() == 0
    assert output.due() is None


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_stopped_reader_does_not_hold_flush_beyond_its_deadline(kind: str) -> None:
    # In a process of its own: a flush that hangs is ended from outside.
    code = """
import os, sys, time
from libbpf_ctypes.cli.output import Output
read, write = os.pipe() if sys.argv[1] == "pipe" else os.openpty()
output = Output(write)
output.add("x" * 99 + chr(10))
output.add(("x" * 99 + chr(10)) * 9999)
for _ in range(3):
    output.flush(time.monotonic() + 0.05, force=True)
print(output.unwritten(), flush=True)
taken = b""
os.set_blocking(read, False)
try:
    while piece := os.read(read, 65536):
        taken += piece
except BlockingIOError:
    pass
print(taken.count(b"\\n"))
"""
    done = run_python(code, kind)
    assert done.returncode == 0, done.stderr
    unwritten, taken = map(int, done.stdout.split())
    assert 0 < unwritten < 10000
    assert unwritten + taken in (10000, 10001), "a line in two pieces counts as not written"


def test_what_a_stopped_reader_left_is_written_when_it_reads_again(pipe: Ends) -> None:
    output = Output(pipe.write)
    text = lines(2000)
    output.add(text)
    output.flush(time.monotonic(), force=True)
    assert output.unwritten() > 0
    received = b""
    while output.unwritten():
        received += os.read(pipe.read, 65536)
        output.flush(time.monotonic(), force=True)
    while len(received) < len(text):
        received += os.read(pipe.read, 65536)
    assert received.decode() == text


def test_a_reader_that_left_is_reported(pipe: Ends) -> None:
    output = Output(pipe.write)
    output.add("lost\n")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, pipe.read)  # closes the pipe's only reader
    os.close(null)
    with pytest.raises(OutputClosedError):
        output.flush(soon(), force=True)
    assert output.unwritten() == 1


def test_lines_to_a_pipe_wait_for_others(pipe: Ends) -> None:
    output = Output(pipe.write)
    assert output.due() is None
    output.add("first\n")
    due = output.due()
    assert due is not None
    assert 0 <= due <= MAX_AGE
    output._oldest = time.monotonic() + 1000  # as if it had come just now
    output.flush(soon())
    assert output.unwritten() == 1
    output._oldest = time.monotonic() - MAX_AGE  # as if that time had passed
    assert output.due() == 0
    output.flush(soon())
    assert output.unwritten() == 0
    assert os.read(pipe.read, 100) == b"first\n"


def test_lines_that_may_not_wait_are_written_at_once_to_a_pipe_too(pipe: Ends) -> None:
    output = Output(pipe.write, immediate=True)
    output.add("first\n")
    output._oldest = time.monotonic() + 1000  # its time is far away
    output.flush(soon())
    assert output.unwritten() == 0
    assert os.read(pipe.read, 100) == b"first\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    os.close(open_file(str(tmp_path / "new")))
    os.mkfifo(tmp_path / "fifo")  # which nobody reads
    for path, told in (
        ("/nonexistent/x", "No such file"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "fifo"), "No such device"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(BpfError, match=f"^write to .*{told}.* Name a file that"):
            open_file(path)


def test_a_full_batch_does_not_wait(pipe: Ends) -> None:
    output = Output(pipe.write)
    output.add("x" * 65535 + "\n")
    output._oldest = time.monotonic() + 1000  # its time is far away
    output.flush(time.monotonic())
    assert output.unwritten() == 0
    assert len(os.read(pipe.read, 1 << 17)) == 65536


def test_a_terminal_gets_each_line_at_once(terminal: Ends) -> None:
    output = Output(terminal.write)
    output.add("first\n")
    output.flush(soon())
    assert os.read(terminal.read, 100) == b"first\n"
    assert output.unwritten() == 0


def test_output_to_a_terminal_leaves_it_blocking_for_others(terminal: Ends) -> None:
    Output(terminal.write)
    assert os.get_blocking(terminal.write)


def test_a_file_gets_everything_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with path.open("wb") as file:
        output = Output(file.fileno())
        output.add(lines(3000))
        output.flush(time.monotonic(), force=True)
    assert path.read_text(encoding="utf-8") == lines(3000)


def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        output = Output(full.fileno())
        output.add("line\n")
        with pytest.raises(OSError, match="No space left"):
            output.flush(soon(), force=True)
    assert output.unwritten() == 1


def test_characters_that_the_reader_lacks_are_escaped(pipe: Ends) -> None:
    output = Output(pipe.write, "ascii")
    output.add("café 火\n")
    output.flush(soon(), force=True)
    assert os.read(pipe.read, 100) == b"caf\\xe9 \\u706b\n"


def test_a_pipe_that_its_reader_made_non_blocking(pipe: Ends) -> None:
    os.set_blocking(pipe.write, False)
    output = Output(pipe.write)
    output.add(lines(2000))
    output.flush(time.monotonic() + 0.05, force=True)
    assert 0 < output.unwritten() < 2000


def test_no_more_is_taken_for_a_reader_that_is_far_behind(pipe: Ends) -> None:
    output = Output(pipe.write)
    output.add("x" * (BACKLOG // 2) + "\n")
    output.flush(time.monotonic(), force=True)
    assert not output.blocked()
    output.add("x" * BACKLOG + "\n")
    output.flush(time.monotonic(), force=True)
    assert output.blocked()
