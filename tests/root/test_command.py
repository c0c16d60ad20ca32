"""ebpf-tool from start to end on the running kernel, its probe moved to libc's open64."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from .tool import (
    LOAD,
    PATIENCE,
    ROOT,
    SLOW_LOAD,
    TOOL,
    Caller,
    Tool,
    overrun,
    rest,
    run,
    start,
    stop,
    trace,
    wait_until,
)

F_SETPIPE_SZ = 1031


def test_it_prints_events_and_a_summary(slow_load: Tool) -> None:
    done = run("-d", "2", "-p", str(slow_load.pid))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    pattern = rf"\[{slow_load.pid}\] python[\w.]*: arg0=\d+, timestamp=\d+"
    assert lines
    assert all(re.fullmatch(pattern, line) for line in lines), lines[0]
    expected = [
        r"\[INFO\] Attaching kprobe to function: open64",
        r"\[INFO\] Duration: 2 seconds \(0 = until Ctrl\+C\)",
        r"\[INFO\] Kprobe attached to open64\. Listening for events\.\.\.",
        r"\[INFO\] Detaching kprobe\.\.\.",
        rf"\[INFO\] \d+ calls seen: \d+ filtered, {len(lines)} delivered, 0 lost; "
        r"0 missed",
        rf"\[INFO\] {len(lines)} events, 0 lost, 2\.0 seconds, \d+\.\d events/s",
    ]
    assert re.fullmatch("\n".join(expected), done.stderr.strip()), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(slow_load: Tool, number: int) -> None:
    process = start("-p", str(slow_load.pid))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    out, err = rest(process)
    assert process.returncode == 0, err
    events = 1 + out.count("\n")
    assert f"[INFO] {events} events, 0 lost," in err
    assert "Traceback" not in err


def test_no_event_comes_after_the_deadline_under_load(load: Tool, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        before = time.monotonic_ns()  # the events' clock
        process = start("-d", "2", stdout=out)
        listening = time.monotonic_ns()
        _, err = rest(process)
        ended = time.monotonic_ns()
    assert process.returncode == 0, err
    lines = (tmp_path / "out").read_text().splitlines()
    last = max(int(line.rpartition("=")[2]) for line in lines)
    assert before < last <= listening + 2e9  # the program itself keeps the deadline
    assert ended - before > 2e9
    assert " 2.0 seconds" in err


def test_losses_are_told_and_the_accounts_add_up(caller: Caller, tmp_path: Path) -> None:
    """A reader that is stopped for a while loses events; each of them is accounted for."""
    path = tmp_path / "out"
    with path.open("w") as out:
        process = start("-p", str(caller.pid), "--buffer=64K", stdout=out)
        err = overrun(process, caller, 5000, path)
    assert process.returncode == 0, err
    lines = path.read_text().count("\n")
    summary = re.search(r"(\d+) events, (\d+) lost", err)
    assert summary
    assert int(summary[1]) == lines
    assert int(summary[2]) == 5001 - lines > 0
    assert re.search(r"\[WARNING\] \d+ events lost", err), err
    assert f"[ERROR] {summary[2]} events were lost" in err
    assert "do not add up" not in err


def test_losses_are_told_while_nobody_reads_the_lines(caller: Caller) -> None:
    """What is not read tells of no loss: the kernel's counters do."""
    process = start("-p", str(caller.pid), "--json")
    assert process.stderr is not None
    while not select.select([process.stderr], [], [], 0.05)[0]:
        caller.open(1000)
    told = next(process.stderr)
    process.send_signal(signal.SIGINT)
    assert re.match(r"\[WARNING\] \d+ events lost on (CPU \d|\d CPUs): ", told), told
    assert process.stdout is not None
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(PATIENCE) == 0, err
    assert "do not add up" not in err


def test_a_closed_pipe_ends_it_quietly(slow_load: Tool) -> None:
    process = start("-p", str(slow_load.pid))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(PATIENCE) == 0, err
    assert "[ERROR]" not in err
    assert "Traceback" not in err


def test_a_reader_that_stops_does_not_hold_up_the_deadline(load: Tool) -> None:
    process = start("-d", "2", "-p", str(load.pid))
    narrow(process)
    assert process.stderr is not None
    err = process.stderr.read()  # its stdout is not read before it ends
    assert process.wait(PATIENCE) == 1
    assert "[INFO] Detaching kprobe..." in err
    unwritten = re.search(r"\[ERROR\] (\d+) lines were not written", err)
    assert unwritten, err
    assert process.stdout is not None
    written = process.stdout.read().count("\n")
    summary = re.search(r"(\d+) events,", err)
    assert summary
    assert int(summary[1]) == written + int(unwritten[1])


def narrow(process: Tool) -> None:
    """Gives its stdout room for 80 lines or so."""
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)


def test_ctrl_c_while_the_reader_does_not_read(load: Tool) -> None:
    process = start("-p", str(load.pid))
    narrow(process)
    written = process.stdout

    def full() -> bool:
        there = fcntl.ioctl(written, termios.FIONREAD, bytes(4))  # type: ignore[arg-type]
        return int.from_bytes(there, sys.byteorder) == 4096

    wait_until(full)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(PATIENCE) == 1
    assert "lines were not written" in err


def test_a_full_disk_is_told(load: Tool) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("-d", "5", "-p", str(load.pid), stdout=full)
        _, err = rest(process)
    assert process.returncode == 1
    assert "[ERROR] write the output: No space left on device" in err
    assert "Traceback" not in err


def test_quiet_and_debug() -> None:
    assert run("-d", "0.2", "-q").stderr == ""
    assert "[DEBUG] libbpf:" in run("-d", "0.2", "-v").stderr
    os.environ["EBPF_TOOL_LOG"] = "debug"
    try:
        assert "[DEBUG] libbpf:" in run("-d", "0.2").stderr
    finally:
        del os.environ["EBPF_TOOL_LOG"]


def test_it_says_why_nothing_came(caller: Caller) -> None:
    err = trace(caller, 0).stderr
    assert "0 events, 0 lost" in err
    assert "No event: open64 was " in err


def test_a_pid_that_is_none_is_refused(slow_load: Tool) -> None:
    slow_load.kill()
    slow_load.wait()
    done = run("-d", "1", "-p", str(slow_load.pid))
    assert done.returncode == 1
    assert f"[ERROR] trace process {slow_load.pid}: there is no process" in done.stderr


def test_a_thread_id_is_not_a_pid() -> None:
    code = "import threading,time; threading.Thread(target=time.sleep,args=(600,)).start()"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        threads: list[str] = []
        while len(threads) < 2:
            threads = sorted(p.name for p in Path(f"/proc/{process.pid}/task").iterdir())
        other = next(t for t in threads if int(t) != process.pid)
        done = run("-d", "1", "-p", other)
    finally:
        process.kill()
        process.wait()
    assert done.returncode == 1
    assert f"Use -p {process.pid}, or --tid {other}." in done.stderr


def test_names_are_escaped() -> None:
    """A traced process may call itself anything; the terminal must not act on it."""
    code = (
        "import ctypes,os\nctypes.CDLL(None).prctl(15, b'\\x1b[31mx\\n\\xff\\\\')\n"
        "for _ in range(20):\n try: os.open('/nonexistent', 0)\n except OSError: pass\n"
    )
    process = start()
    subprocess.run([sys.executable, "-c", code], check=True)
    process.send_signal(signal.SIGINT)
    out, _ = rest(process)
    assert out.count(r"] \x1b[31mx\x0a\xff\\: arg0=") == 20
    assert all(line.isprintable() for line in out.split("\n"))


def test_times_and_thread_ids(slow_load: Tool) -> None:
    pid = str(slow_load.pid)
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    boot = run("-n", "1", "-p", pid, "--time=boot", "--show-tid").stdout.splitlines()[0]
    found = re.fullmatch(rf"\[{pid}/{pid}\] .*, timestamp=(\d+\.\d{{6}})", boot)
    assert found
    assert before < float(found[1]) < time.clock_gettime(time.CLOCK_MONOTONIC)
    now = datetime.now(timezone.utc)
    wall = run("-n", "1", "-p", pid, "--time=wall").stdout.splitlines()[0].rpartition("=")[2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", wall)
    assert now < datetime.fromisoformat(wall) < datetime.now(timezone.utc)


def test_lines_come_at_once_on_a_terminal_and_soon_in_a_pipe(slow_load: Tool) -> None:
    controller, terminal = pty.openpty()
    process = start("-p", str(slow_load.pid), stdout=terminal)
    os.close(terminal)
    assert select.select([controller], [], [], PATIENCE)[0]
    assert b"arg0=" in os.read(controller, 4096)
    process.send_signal(signal.SIGINT)
    rest(process)
    os.close(controller)

    process = start("-p", str(slow_load.pid))
    assert process.stdout is not None
    assert "arg0=" in process.stdout.readline()  # while it still runs
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    rest(process)


def test_a_gone_stderr_does_not_end_the_trace(slow_load: Tool) -> None:
    process = start("-n", "20", "-p", str(slow_load.pid))
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    assert process.stdout.read().count("\n") == 20
    assert process.wait(PATIENCE) == 0


def test_in_a_container_process_ids_are_the_containers() -> None:
    """-p takes the number that the user sees there, and the lines have it, too."""
    tool = shlex.join([*TOOL, "open64", "-n", "20", "--fields", "pid,tid,host_pid,ns_pid"])
    script = f"{shlex.quote(sys.executable)} -c {shlex.quote(SLOW_LOAD)} & echo $!; {tool} -p $!"
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr
    pid, *lines = done.stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    assert len(rows) == 20
    assert {(row[0], row[1], row[3]) for row in rows} == {(pid, pid, pid)}
    assert len({row[2] for row in rows}) == 1
    assert rows[0][2] != pid, "the host has another number"


def test_a_long_duration(slow_load: Tool) -> None:
    process = start("-d", "300000000", "-p", str(slow_load.pid))
    assert process.stdout is not None
    assert "arg0=" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = rest(process)
    assert process.returncode == 0, err


def test_without_stderr_nothing_of_it_is_on_stdout(slow_load: Tool) -> None:
    command = [*TOOL, "open64", "-n", "3", "-p", str(slow_load.pid)]
    script = 'exec "$@" 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *command], capture_output=True, check=False)
    assert done.returncode == 0
    assert b"arg0=" in done.stdout
    assert b"[INFO]" not in done.stdout


@pytest.mark.parametrize("number", [0, signal.SIGTERM])
def test_a_stopped_stderr_does_not_hold_it_up(slow_load: Tool, number: int) -> None:
    """Its pipe is full, as that of a pager nobody pages: the trace ends all the same."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    duration = "300" if number else "3"
    command = [*TOOL, "open64", "-d", duration, "-p", str(slow_load.pid)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True)
    assert process.stdout is not None
    assert "arg0=" in process.stdout.readline()
    if number:
        process.send_signal(number)
    assert process.stdout.read()
    assert process.wait(PATIENCE) == 0
    os.close(reader)
    os.close(writer)


def test_a_reader_that_leaves_an_idle_trace_is_noticed(caller: Caller) -> None:
    process = start("-p", str(caller.pid))
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == 0


def test_ctrl_c_before_it_begins_leaves_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "object"
    os.mkfifo(fifo)  # opening it waits for a writer
    command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), "kprobe", "vfs_read"]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [*command, "--object", str(fifo)], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert "Attaching" in process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(PATIENCE) == -number


def out_of_order(lines: list[str]) -> int:
    """How many lines are of an earlier time than the one before them."""
    times = [int(line.rpartition("=")[2]) for line in lines]
    return sum(later < earlier for earlier, later in zip(times, times[1:]))


def test_lines_of_all_cpus_are_in_the_order_of_their_times(load: Tool) -> None:
    """Two processes on two CPUs: batches of one CPU each, unless they are merged."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU")
    with subprocess.Popen([sys.executable, "-c", LOAD]) as other:
        try:
            os.sched_setaffinity(load.pid, {cpus[0]})
            os.sched_setaffinity(other.pid, {cpus[1]})
            merged = run("-d", "1")
            unsorted = run("-d", "1", "--unsorted")
        finally:
            other.kill()
    for done in (merged, unsorted):
        assert done.returncode == 0, done.stderr
        summary = re.search(r"(\d+) events, ", done.stderr)
        assert summary
        assert int(summary[1]) == done.stdout.count("\n") > 1000
    assert out_of_order(unsorted.stdout.splitlines()) > 0
    # A uprobe's program may be preempted for longer than an event is waited for.
    lines = merged.stdout.splitlines()
    assert out_of_order(lines) <= len(lines) // 1000


def test_the_buffers_size_is_taken(caller: Caller) -> None:
    """A reader that is stopped keeps what its buffer holds."""
    kept = {}
    for size in ("64K", "1M"):
        process = start("-p", str(caller.pid), f"--buffer={size}")
        stop(process)
        caller.open(40_000)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        _, err = rest(process)
        summary = re.search(r"(\d+) events, (\d+) lost", err)
        assert summary, err
        kept[size] = int(summary[1])
        assert int(summary[2]) == 40_000 - kept[size] > 0
    assert kept["1M"] > 4 * kept["64K"] > 0


def test_a_buffer_that_nobody_can_have_is_told() -> None:
    done = run("-d", "1", "--buffer=4G")
    assert done.returncode == 1
    assert done.stderr.count("[ERROR]") == 1
    assert "take fewer pages" in done.stderr or "ewer pages" in done.stderr


def test_a_user_who_may_lock_little_is_told_of_smaller_buffers() -> None:
    """One without CAP_IPC_LOCK, with nothing to lock but what perf gives every user."""
    kept = "+sys_admin,+perfmon,+bpf,+dac_read_search"
    nobody_else = 1_000_000_000 + os.getpid()  # what another process of the user locks counts
    command = ["prlimit", "--memlock=0", "setpriv", f"--reuid={nobody_else}"]
    command += ["--clear-groups", f"--inh-caps=-all,{kept}", f"--ambient-caps=-all,{kept}"]
    command += [*TOOL, "open64", "-d", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("[WARNING] The buffers are smaller than usual") == 1
    asked = [*command, "--buffer=16M"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CAP_IPC_LOCK" in done.stderr
    assert "Traceback" not in done.stderr


#: ebpf-tool, to which a signal comes when its programs are loaded and not attached.
SIGNALLED = """
import os, runpy, sys
sys.path.insert(0, sys.argv[1])
from libbpf_ctypes.object import BpfObject
load, number = BpfObject.load, int(sys.argv[2])
def loaded(self):
    load(self)
    os.kill(os.getpid(), number)
BpfObject.load = loaded
sys.argv = [sys.argv[1] + "/bin/ebpf-tool", *sys.argv[3:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", ["uprobe libc:open64 --json", "latency uprobe:libc:open64"])
def test_a_signal_before_the_first_probe_is_no_trace(number: int, words: str) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(ROOT), str(int(number)), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-number, ""), done.stderr
    assert "[INFO] Attaching " in done.stderr
    assert "Listening" not in done.stderr
