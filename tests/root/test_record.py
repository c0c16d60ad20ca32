"""ebpf-tool --record on the running kernel, and replay of what it wrote."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, BpfObject, PerfBuffer
from libbpf_ctypes.events import SYSCALL_EVENT
from libbpf_ctypes.recording import RecordingReader
from libbpf_ctypes.recording_format import Lost

from .tool import TOOL, Caller, Tool, overrun, rest, run, start, trace, wait_until

REPLAY = [sys.executable, str(Path(__file__).parents[2] / "bin" / "ebpf-tool"), "replay"]

OPTIONS = ["", "--show-tid", "--time=boot", "--time=wall --show-tid", "--raw-args -q"]


def replay(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*REPLAY, str(path), *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("options", OPTIONS)
def test_a_replay_prints_what_the_live_command_printed(
    slow_load: Tool, tmp_path: Path, options: str
) -> None:
    path = tmp_path / "trace.rec"
    live = run("-n", "50", *options.split(), f"--record={path}")
    assert live.returncode == 0, live.stderr
    again = replay(path, *options.split())
    assert again.returncode == 0, again.stderr
    assert again.stdout == live.stdout
    assert live.stdout.count("\n") == 50
    summaries = [
        [line for line in err.splitlines() if " events, " in line]
        for err in (live.stderr, again.stderr)
    ]
    assert summaries[0] == summaries[1]
    assert len(summaries[0]) == (0 if "-q" in options else 1)
    one = [line for line in live.stdout.splitlines(True) if re.match(rf"\[{slow_load.pid}\D", line)]
    only = replay(path, *options.split(), "-p", str(slow_load.pid))
    assert only.stdout == "".join(one)


def test_the_header_tells_where_it_was_made(caller: Caller, tmp_path: Path) -> None:
    import os
    import platform

    path = tmp_path / "trace.rec"
    assert trace(caller, 15, f"--record={path}").returncode == 0
    with path.open("rb") as file:
        reader = RecordingReader(file, "trace")
        head = reader.header
        items = list(reader)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (head.function, head.pid, head.boot_id) == ("open64", caller.pid, boot_id)
    machine = os.uname()
    assert (head.machine, head.kernel_release, head.host_name) == (
        platform.machine(), machine.release, machine.nodename,
    )  # fmt: skip
    now = time.time_ns() - time.monotonic_ns()
    assert abs(head.clock.offset_ns - now) < 10**9
    samples = [sample for item in items[:-1] for sample in item.samples]  # type: ignore[union-attr]
    assert len(samples) == 15
    for cpu, data in samples:
        assert 0 <= cpu < os.cpu_count()  # type: ignore[operator]
        assert len(data) == 44, "as they come, padding included"
        assert SYSCALL_EVENT.parse(data[:40]).pid == caller.pid


def test_sigkill_leaves_a_replayable_file(load: Tool, tmp_path: Path) -> None:
    path, out = tmp_path / "trace.rec", tmp_path / "out"
    with out.open("w") as stdout:
        process = start("-p", str(load.pid), f"--record={path}", stdout=stdout)
        wait_until(lambda: out.stat().st_size >= 100_000)
        process.kill()
        rest(process)
    again = replay(path)
    assert again.returncode == 1
    assert "without the end of the trace" in again.stderr or "ends within" in again.stderr
    live = out.read_text()
    assert again.stdout.startswith(live[: live.rindex("\n") + 1]), "no printed line is missing"
    assert re.fullmatch(rf"(\[{load.pid}\] .*: arg0=\d+, timestamp=\d+\n)+", again.stdout)


def test_losses_are_recorded(caller: Caller, tmp_path: Path) -> None:
    path, out = tmp_path / "trace.rec", tmp_path / "out"
    words = ("-p", str(caller.pid), "--buffer=64K", f"--record={path}")
    with out.open("w") as stdout:
        process = start(*words, stdout=stdout)
        err = overrun(process, caller, 5000, out)
    assert process.returncode == 0, err
    again = replay(path)
    assert again.stdout == out.read_text()
    told = [line for line in err.splitlines() if "events were lost" in line]
    assert len(told) == 1
    assert told[0] in again.stderr
    with path.open("rb") as file:
        items = list(RecordingReader(file, "trace"))
    lost = sum(item.events for item in items if isinstance(item, Lost))
    assert 0 < lost <= int(told[0].split()[1])
    assert out.read_text().count("\n") + int(told[0].split()[1]) == 5001


def test_a_disk_that_is_full_from_the_start_refuses_the_trace(slow_load: Tool) -> None:
    done = run("-d", "1", "-p", str(slow_load.pid), "--record=/dev/full")
    assert done.returncode == 1
    assert "[ERROR] record to /dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up_while_it_records(load: Tool, tmp_path: Path) -> None:
    """The file may have 100 kB: RLIMIT_FSIZE stands for the disk's end."""
    path, out = tmp_path / "trace.rec", tmp_path / "out"
    code = (
        "import resource, signal, sys, os; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *TOOL, "open64", "-n", "20000", "-p", str(load.pid)]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out.open("w")) as cat:
        done = subprocess.run(
            [*command, f"--record={path}"],
            stdout=cat.stdin,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert cat.stdin is not None
        cat.stdin.close()
    assert done.returncode == 1
    assert done.stderr.count("[ERROR] record to ") == 1
    assert "File too large. The recording ends after" in done.stderr
    summary = re.search(r"(\d+) events, ", done.stderr)
    assert summary
    lines = out.read_text()
    assert int(summary[1]) == lines.count("\n"), "the lines went on"
    again = replay(path)
    assert again.returncode == 1
    assert again.stdout
    assert lines.startswith(again.stdout)
    assert len(again.stdout) < len(lines)


@pytest.mark.parametrize("path", ["/nonexistent/x", "/", "/proc/version\x1b"])
def test_a_file_that_cannot_be_written(path: str) -> None:
    done = run("-d", "1", "--record", path)
    assert done.returncode == 1
    assert "[ERROR] record to /" in done.stderr
    assert "Name a file that can be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


def test_a_refused_probe_leaves_the_older_recording(tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    path.write_bytes(b"older")
    done = subprocess.run(
        [*TOOL, "no_such_function_here", f"--record={path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert path.read_bytes() == b"older"


def test_without_stdout_it_only_records(slow_load: Tool, tmp_path: Path) -> None:
    path = tmp_path / "trace.rec"
    command = f"exec {' '.join(TOOL)} open64 -n 20 -p {slow_load.pid}"
    done = subprocess.run(
        f"{command} --record={path} >&-", shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    events = re.search(r"(\d+) events, 0 lost", done.stderr)
    assert events
    assert replay(path).stdout.count("\n") == int(events[1]) == 20
    refused = subprocess.run(
        f"{command} >&-", shell=True, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "stdout is closed. Leave it open, or write to a file with -o" in refused.stderr


def test_a_buffer_gives_cpus_only_without_a_schema(loaded: BpfObject) -> None:
    with pytest.raises(BpfError, match="with_cpu is for events without a schema"):
        PerfBuffer(loaded.maps["EVENTS"], SYSCALL_EVENT, with_cpu=True)
