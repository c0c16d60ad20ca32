"""Functions of a shared library, traced by uprobe with the rich program: what it then sends."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

from libbpf_ctypes import KPROBE_OBJECT, BpfObject, PerfBuffer
from libbpf_ctypes.btf import Btf
from libbpf_ctypes.cli.arguments import Arguments
from libbpf_ctypes.cli.fetches import (
    MAX_TEXTS,
    MAX_VALUES,
    NO_COMPARISON,
    NO_FETCH,
    Comparison,
    Fetch,
)
from libbpf_ctypes.cli.filter import MAX_COMPARISONS, Filter
from libbpf_ctypes.cli.formats import format_value
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.pattern import Pattern
from libbpf_ctypes.events import CallEvent, call_event_schema

from ..conftest import need

EVERYTHING = 0xFFFF


class Library(NamedTuple):
    """A shared library of this machine, and the types of its functions."""

    path: Path
    loaded: ctypes.CDLL
    btf: Btf


@contextmanager
def library(source: str, folder: Path) -> Iterator[Library]:
    """A library of a source, with BTF: clang gives it only to programs of the BPF machine."""
    path = folder / "libcalls.so"
    command = [need("gcc"), "-O1", "-gbtf", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, encoding="utf-8", check=True)
    with Btf.from_file(path) as btf:
        yield Library(path, ctypes.CDLL(str(path), use_errno=True), btf)


def function(name: str) -> Function:
    """A function as find_functions() gives it."""
    return Function(name, "", 0, 0, "", name, False, False)


def pack(fetches: tuple[Fetch, ...], truth: int, comparisons: tuple[Comparison, ...]) -> bytes:
    """struct function."""
    values = [fetch.pack() for fetch in fetches] + [NO_FETCH] * (MAX_VALUES - len(fetches))
    compared = [comparison.pack() for comparison in comparisons]
    compared += [NO_COMPARISON] * (MAX_COMPARISONS - len(comparisons))
    return struct.pack("=4I", 0, truth, 0, 0) + b"".join([*values, *compared])


def pack_pattern(pattern: Pattern) -> bytes:
    """struct pattern."""
    return struct.pack("=259Q", *pattern.table, pattern.start, pattern.loops, pattern.accept)


class Tracer:
    """The rich program, loaded once, for this process's calls of one function after another."""

    def __init__(self, obj: Any, buffer: PerfBuffer[Any]) -> None:
        self._obj, self._buffer = obj, buffer

    def trace(
        self,
        path: Path,
        name: str,
        call: Callable[[], object],
        arguments: Arguments,
        chosen: Filter | None = None,
    ) -> tuple[list[CallEvent], tuple[int, ...]]:
        """The events of a call, and what the kernel's counters (struct counters) grew by."""
        maps, before = self._obj.maps, self._counters()
        truth, comparisons = (chosen.truth, chosen.comparisons) if chosen else (EVERYTHING, ())
        maps["FUNCTIONS"][bytes(4)] = pack(arguments.fetches, truth, comparisons)
        for number, pattern in enumerate(chosen.patterns if chosen else ()):
            maps["PATTERNS"][struct.pack("=I", number)] = pack_pattern(pattern)
        with self._obj.programs["call_kprobe"].attach_uprobe(path, name):
            call()
        events: list[CallEvent] = self._buffer.poll(0)
        return events, tuple(after - was for after, was in zip(self._counters(), before))

    def _counters(self) -> tuple[int, ...]:
        rows = self._obj.maps["COUNTERS"].lookup_percpu(bytes(4))
        return tuple(
            sum(column) for column in zip(*(struct.unpack_from("4Q", row) for row in rows))
        )


@contextmanager
def tracer() -> Iterator[Tracer]:
    """A Tracer of this process."""
    with BpfObject.open(KPROBE_OBJECT) as obj:
        obj.programs["syscall_kprobe"].autoload = False
        obj.programs["call_kprobe"].autoload = True
        obj.variables["preemptible"].value = True
        obj.variables["chosen"].value = 1
        obj.load()
        own: Any = obj.maps["CHOSEN"]
        own[struct.pack("=II", 1, os.getpid())] = b"\1"
        with PerfBuffer(obj.maps["EVENTS"], call_event_schema(MAX_TEXTS)) as buffer:
            yield Tracer(obj, buffer)


def shown(arguments: Arguments, event: CallEvent) -> dict[str, str]:
    """Names and words of an event."""
    return {one.name: format_value(one, event) for one in arguments.shown}
