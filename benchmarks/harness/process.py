"""One run: a producer on one core, a reader on another, and what each took."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Callable, NamedTuple

#: Of the producer, beside those that it is asked for: see load/producer.c.
WRITES_AND_READS = 4

_READY_SECONDS = 30.0
_END_SECONDS = 20.0

#: A reader is done when it took less CPU than this for so long: longer than any
#: reader here keeps events back (0.1 s).
_IDLE_SECONDS = 0.16
_IDLE_NS = 1_500_000
_DRAIN_SECONDS = 20.0


Watch = Callable[[int, str], None]


class FailedError(Exception):
    """A process did not do its part; the text says why."""


class Reader(NamedTuple):
    """How a peer is started, and how its results are read.

    ``command`` takes the traced process and a scratch folder; ``ready`` is text
    that it writes to stdout or stderr when it is attached (or a function that
    knows by the process's number); ``counts`` reads events and losses from the
    scratch folder after its end.
    """

    name: str
    command: Callable[[int, Path], list[str]]
    ready: str | Callable[[int], bool] = "attached"
    counts: Callable[[Path], dict[str, Any]] | None = None
    environment: Mapping[str, str] = MappingProxyType({})
    never_idle: bool = False


class Load(NamedTuple):
    """What the producer does: its arguments, and the cores of its threads.

    ``beside``: calls of its that a reader sees beside them.
    """

    arguments: tuple[str, ...]
    syscall: str = "getppid"
    cpus: tuple[int, ...] = ()
    beside: int = 0


def say(text: str) -> None:
    """Progress, for who waits."""
    print(f"[benchmark] {text}", file=sys.stderr, flush=True)


class Machine:
    """The cores, and all processes started: none of them outlives it."""

    def __init__(self, producer: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise FailedError("the producer and the reader need a core each, and there is one")
        self.producer_cpu, self.reader_cpu = cores[0], cores[1]
        self._producer = producer
        self._running: list[subprocess.Popen[Any]] = []

    def start(
        self,
        command: list[str],
        cpu: int,
        environment: Mapping[str, str] | None = None,
        **pipes: Any,
    ) -> subprocess.Popen[Any]:
        """Starts a process on one core."""
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})},
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
                **pipes,
            )
        except OSError as error:
            raise FailedError(f"{command[0]}: {error.strerror}") from None
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[Any]) -> int:
        """Ends a process as Ctrl-C does, or by force."""
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            return process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise FailedError(f"it did not end within {_END_SECONDS:.0f} seconds") from None
        finally:
            self.kill(process)

    def kill(self, process: subprocess.Popen[Any]) -> None:
        """Ends a process by force, if it still runs."""
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if process in self._running:
            self._running.remove(process)

    def close(self) -> None:
        """Ends all that still runs."""
        for process in list(self._running):
            self.kill(process)

    @contextlib.contextmanager
    def producer(self, load: Load) -> Iterator[subprocess.Popen[str]]:
        """A producer that waits for its start."""
        cpus = ",".join(str(cpu) for cpu in load.cpus or (self.producer_cpu,))
        process = self.start(
            [str(self._producer), cpus, load.syscall, *load.arguments],
            self.producer_cpu,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            self.kill(process)

    @contextlib.contextmanager
    def reader(self, reader: Reader, pid: int) -> Iterator[tuple[subprocess.Popen[Any], Path]]:
        """A reader that is attached, and its scratch folder."""
        scratch = Path(tempfile.mkdtemp(prefix="benchmark-"))
        process = None
        try:
            with (scratch / "stdout").open("wb") as out, (scratch / "stderr").open("wb") as err:
                command = reader.command(pid, scratch)
                process = self.start(
                    command, self.reader_cpu, reader.environment, stdout=out, stderr=err
                )
            _await_ready(process, reader, scratch)
            yield process, scratch
        finally:
            if process is not None:
                self.kill(process)
            shutil.rmtree(scratch, ignore_errors=True)

    def run(
        self,
        load: Load,
        reader: Reader | None = None,
        *,
        pid: int | None = None,
        watch: Watch | None = None,
        delivers: bool = True,
    ) -> dict[str, Any]:
        """One run; its raw figures.

        Args:
            reader: None: the producer alone.
            pid: the process that is traced, if not the producer.
            watch: called with the reader's number and "begin", "end" while it is attached.
            delivers: whether an event is to come for each call.
        """
        with self.producer(load) as producer:
            if reader is None:
                _warm_up(producer)
                return _produce(producer)
            with self.reader(reader, producer.pid if pid is None else pid) as (process, scratch):
                warm = _warm_up(producer)
                before = cpu_ns(process.pid) if reader.never_idle else _await_idle(process)
                if watch:
                    watch(process.pid, "begin")
                result = _produce(producer)
                if not reader.never_idle:
                    result["cpu_ns"] = _await_idle(process) - before
                if watch:
                    watch(process.pid, "end")
                result["hwm_kib"] = memory_kib(process.pid, "VmHWM")
                status = self.end(process)
                if status not in (0, -signal.SIGINT, 130):
                    raise FailedError(f"it ended with status {status}: {last_words(scratch)}")
                counts = (reader.counts or json_counts)(scratch)
        result.update(counts)
        if delivers:
            result["events"] -= warm + load.beside
            result["missing"] = result["calls"] - result["events"]
        return result


def _next(producer: subprocess.Popen[str]) -> list[int]:
    """Lets the producer go on; the numbers that it prints then."""
    assert producer.stdin is not None
    assert producer.stdout is not None
    producer.stdin.write("s")
    producer.stdin.flush()
    numbers = [int(word) for word in producer.stdout.readline().split()]
    if not numbers:
        raise FailedError("the producer ended without its result")
    return numbers


def _warm_up(producer: subprocess.Popen[str]) -> int:
    """A few events, which are not measured: imports and first times are no cost per event."""
    return _next(producer)[0]


def _produce(producer: subprocess.Popen[str]) -> dict[str, Any]:
    stolen = _stolen_seconds()
    calls, elapsed, busy = _next(producer)
    stolen = _stolen_seconds() - stolen
    result = {"calls": calls, "elapsed_ns": elapsed, "busy_ns": busy}
    return {**result, "stolen_share": stolen * 1e9 / elapsed / (os.cpu_count() or 1)}


def _stolen_seconds() -> float:
    """CPU time that the hypervisor gave to others: what was measured then is worth less."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return int(words[8]) / os.sysconf("SC_CLK_TCK")


def _await_ready(process: subprocess.Popen[Any], reader: Reader, scratch: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if callable(reader.ready):
            if reader.ready(process.pid):
                return
        elif reader.ready in "".join(_texts(scratch)):
            return
        if process.poll() is not None:
            raise FailedError(last_words(scratch) or f"it ended with status {process.returncode}")
        time.sleep(0.002)
    raise FailedError(f"it was not attached after {_READY_SECONDS:.0f} seconds")


def _texts(scratch: Path) -> Iterator[str]:
    for name in ("stdout", "stderr"):
        yield (scratch / name).read_text(encoding="utf-8", errors="replace")


def last_words(scratch: Path) -> str:
    """The last line a process wrote to stderr: why it ended."""
    lines = (scratch / "stderr").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _await_idle(process: subprocess.Popen[Any]) -> int:
    """Waits until the reader has nothing to do; the CPU time it took by then."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    used = cpu_ns(process.pid)
    while time.monotonic() < deadline:
        time.sleep(_IDLE_SECONDS)
        before, used = used, cpu_ns(process.pid)
        if used - before < _IDLE_NS:
            return used
        if process.poll() is not None:
            raise FailedError(f"it ended by itself with status {process.returncode}")
    raise FailedError(f"it was still busy {_DRAIN_SECONDS:.0f} seconds after the last event")


def cpu_ns(pid: int) -> int:
    """Nanoseconds of CPU, user and system, that the threads of a process took."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total


def memory_kib(pid: int, field: str) -> int:
    """A field of /proc/PID/status: VmHWM is the peak, VmRSS what is resident now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def json_counts(scratch: Path) -> dict[str, Any]:
    """The counts of a reader of ours: the last line of stdout."""
    lines = (scratch / "stdout").read_text(encoding="utf-8").splitlines()
    try:
        return dict(json.loads(lines[-1]))
    except (IndexError, ValueError):
        raise FailedError(last_words(scratch) or "it told no counts") from None


def count_lines(file: IO[bytes], mark: bytes) -> int:
    """How many lines contain MARK."""
    return sum(mark in line for line in file)
