"""How latency and count wait for their intervals, and for who reads them."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import pytest

from libbpf_ctypes.cli import aggregate
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.output import Output
from libbpf_ctypes.cli.probing import NEVER
from libbpf_ctypes.events import Counters

from .test_reports import read


def test_a_signal_at_the_very_end_does_no_harm() -> None:
    wait = aggregate._Wait()
    wait.wake()
    wait.wait(60)
    wait.close()
    taken = os.pipe()  # the same numbers, now others'
    wait.wake()
    os.set_blocking(taken[0], False)
    with pytest.raises(BlockingIOError):
        os.read(taken[0], 1)
    for fd in taken:
        os.close(fd)


class Stalled(Output):
    """Its reader is too slow for two intervals of three."""

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))
        self.answers = itertools.cycle([True, True, False])
        self.asked = 0

    def blocked(self) -> bool:
        self.asked += 1
        return next(self.answers)


def test_an_interval_that_nobody_takes_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what waits for a reader that stopped would grow for ever."""
    monkeypatch.setattr(aggregate, "read_tallies", lambda _groups: {})
    run: Any = aggregate._Run(read("count f -i 0.001"), Console(quiet=True, verbose=False))
    printed = []

    def take(_tallies: Any, now: int) -> None:
        printed.append(now)
        run._probing.stopping = len(printed) == 3

    monkeypatch.setattr(run, "_print", take)
    monkeypatch.setattr(run, "_counted", lambda: Counters(0, 0, 0))
    run._groups = None
    output = Stalled()
    wait = aggregate._Wait()
    assert run._listen(output, wait, time.monotonic_ns(), NEVER)
    assert output.asked == 9
    wait.close()
    os.close(output.fd)
