"""The live status line: where it is shown, what it says, and that it garbles nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

import pytest

from libbpf_ctypes.cli import status as status_module
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.output import Output
from libbpf_ctypes.cli.status import Status, same_terminal, status_for

_MARK = b"\0mark\0"


class Terminal:
    """A pseudo-terminal of 80 columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._controller, self.fd = os.openpty()
        tty.setraw(self.fd)
        resize(self.fd, 80)
        self._file = os.fdopen(self.fd, "w")

    def as_stderr(self) -> Console:
        """Makes it stderr, within the test: pytest sets its own one before; a Console on it."""
        self._monkeypatch.setattr(sys, "stderr", self._file)
        return Console(quiet=False, verbose=False)

    def written(self) -> str:
        """What was written to it, and not read yet: all before a mark that is written now."""
        os.write(self.fd, _MARK)  # a terminal hands on what it has some time later
        read = b""
        while not read.endswith(_MARK):
            assert select.select([self._controller], [], [], 30)[0], "nothing was written"
            read += os.read(self._controller, 1 << 16)
        return read[: -len(_MARK)].decode()

    def close(self) -> None:
        os.close(self._controller)
        with contextlib.suppress(OSError):
            self._file.close()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal(monkeypatch)
    yield made
    made.close()


def resize(fd: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def screen(written: str) -> list[str]:
    """The lines that a terminal shows of this: what \\r and the erasing of a line make of it."""
    rows, column = [""], 0
    for part in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+", written):
        if part == "\x1b[K":
            rows[-1] = rows[-1][:column]
        elif part == "\r":
            column = 0
        elif part == "\n":
            rows.append("")
            column = 0
        else:
            rows[-1] = rows[-1][:column] + part + rows[-1][column + len(part) :]
            column += len(part)
    return rows


def test_it_tells_how_long_how_many_and_how_many_lost(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    status = Status(terminal.fd, time.monotonic(), 90)
    written = status.update(0, 0)
    now += 2
    written += status.update(500, 3)
    assert screen(written) == ["[0:02 of 1:30] 500 events, 250/s, 3 lost"]
    now += 3600
    written += status.update(500, 3)
    assert screen(written) == ["[1:00:02 of 1:30] 500 events, 0/s, 3 lost"]
    assert Status(terminal.fd, now, 0).text(now + 61) == "[1:01] 0 events, 0/s, 0 lost"


def test_the_first_rate_is_of_all_the_time_since_the_beginning(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    written = Status(terminal.fd, 999.5, 0).update(25, 0)  # they came while much was imported
    assert screen(written) == ["[0:00] 25 events, 50/s, 0 lost"]


def test_it_is_drawn_a_few_times_a_second(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    status = Status(terminal.fd, time.monotonic(), 0)
    drawn = 0
    for number in range(1000):
        drawn += bool(status.update(number, 0))
        now += 0.01
    assert 20 <= drawn <= 50
    assert 0 < status.due() <= 0.25


@pytest.mark.parametrize("columns", [1, 5, 20, 80, 200])
def test_it_is_never_wider_than_the_terminal(terminal: Terminal, columns: int) -> None:
    resize(terminal.fd, columns)
    status = Status(terminal.fd, time.monotonic(), 86400)
    (row,) = screen(status.update(10**12, 10**12))
    assert len(row) < columns or row == ""
    resize(terminal.fd, 10)
    (row, *rest) = screen(status.around("line\n"))
    assert row == "line"
    assert all(len(row) < 10 for row in rest)


def test_lines_are_above_it_and_whole(terminal: Terminal) -> None:
    console, output = terminal.as_stderr(), Output(terminal.fd)
    console.start_status(output, time.monotonic(), 0)
    written, expected = "", []
    for number in range(20):
        console.update_status(number, 0)
        line = f"a line of {number} that is {'much ' * (number % 7)}longer"
        output.add(line + "\n")
        output.flush(time.monotonic() + 9)
        expected.append(line)
        if number % 5 == 0:
            console.warning(f"message {number}")
            expected.append(f"[WARNING] message {number}")
        written += terminal.written()
    rows = screen(written)
    assert rows[:-1] == expected
    assert re.fullmatch(r"\[\d+:\d\d\] \d+ events, \d+/s, 0 lost", rows[-1])
    console.end_status()
    console.update_status(99, 0)
    output.add("the last\n")
    output.flush(time.monotonic() + 9)
    console.info("the end")
    written += terminal.written()
    assert screen(written) == [*expected, "the last", "[INFO] the end", ""]


def test_lines_to_a_file_leave_it_alone(terminal: Terminal, tmp_path: Any) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        output = Output(file.fileno())
        console = terminal.as_stderr()
        console.start_status(output, time.monotonic(), 5)
        console.update_status(1, 0)
        output.add("a line\n")
        output.flush(time.monotonic() + 9, force=True)
    assert path.read_text() == "a line\n"
    assert re.match(r"\[\d+:\d\d of 0:05\] 1 events, ", screen(terminal.written())[0])


def test_where_there_is_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A pipe's reader may write to the terminal at any time; others cannot erase a line."""
    fd = terminal.fd
    terminal.as_stderr()
    read, write = os.pipe()
    with (tmp_path / "out").open("wb") as file:
        assert status_for(fd, 0.0, 0) is not None
        assert status_for(file.fileno(), 0.0, 0) is not None
        assert status_for(write, 0.0, 0) is None
        monkeypatch.setenv("TERM", "dumb")
        assert status_for(fd, 0.0, 0) is None
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", file)
        assert status_for(fd, 0.0, 0) is None
        monkeypatch.setattr(sys, "stderr", None)
        assert status_for(fd, 0.0, 0) is None
    assert same_terminal(fd, fd)
    assert not same_terminal(fd, write)
    assert not same_terminal(write, write)
    os.close(read)
    os.close(write)


def test_quiet_has_none(terminal: Terminal) -> None:
    terminal.as_stderr()
    console, output = Console(quiet=True, verbose=False), Output(terminal.fd)
    console.start_status(output, time.monotonic(), 0)
    assert console.status_due() is None
    console.update_status(5, 5)
    output.add("x\n")
    output.flush(time.monotonic() + 9)
    assert terminal.written() == "x\n"


def test_in_the_background_it_is_not_drawn(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal is the shell's then."""
    status = Status(terminal.fd, time.monotonic(), 0)
    assert status.update(1, 0)
    monkeypatch.setattr(status_module, "_in_foreground", lambda fd: False)
    assert screen("\r" + status.around("line\n")) == ["line", ""]
    assert status.around("line\n") == "line\n"


def test_a_stopped_terminal_does_not_hold_it_up(terminal: Terminal) -> None:
    """Its line is given up until the terminal takes what waits for it."""
    console, output = terminal.as_stderr(), Output(terminal.fd)
    console.start_status(output, time.monotonic(), 0)
    output.add("x" * 99 + "\n")
    output.add(("x" * 99 + "\n") * 1000)
    output.flush(time.monotonic() + 0.01)
    assert output.waiting()
    for _ in range(5):
        console.update_status(1, 0)
        console.info("message")
    assert output.waiting()
