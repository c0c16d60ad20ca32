"""bin/vm runs commands in a virtual machine as if they ran here (three boots)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
VM = str(ROOT / "bin/vm")
STDIN = os.urandom(1_000_000)
ARGUMENTS = ["a b", "'\"\\", "$HOME `id`", "two\nlines", "", "é*"]
# Reports on stdout; the first words are the host's file that it tries to change.
SCRIPT = r"""
uname -r
pwd
sha256sum | cut -d " " -f 1
( : >"$1" ) 2>/dev/null && echo changed || echo read-only
echo to-be-lost >>"$2"
shift 2
printf '%s\0' "$@"
printf 'err\377\n' >&2
exit 73
"""


class Ran(NamedTuple):
    """What became of the command, and how long it took with its machine."""

    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: int


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [VM, *arguments], input=stdin, capture_output=True, cwd=ROOT, timeout=3600, check=False
    )


@pytest.fixture(scope="module")
def enough(ran: Ran) -> int:
    """Seconds in which a command begins and ends, by those that one just took."""
    return 60 + 4 * ran.seconds


@pytest.fixture(scope="module")
def hanging(enough: int) -> Iterator[subprocess.Popen[bytes]]:
    """A machine whose command does not end in time."""
    missing = "no-such-command-here || echo $?; exec sleep 10000"
    command = [VM, "--timeout", str(enough), "sh", "-c", missing]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        yield process
        process.terminate()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vm") / "written"
    path.write_text("before\n")
    return path


@pytest.fixture(scope="module")
def ran(written: Path) -> Ran:
    changed = str(ROOT / "bin/vm-test-was-here")
    words = ["sh", "-c", SCRIPT, "sh", changed, str(written), *ARGUMENTS]
    began = time.monotonic()
    done = run("-q", "--", *words, stdin=STDIN)
    return Ran(done.returncode, done.stdout, done.stderr, round(time.monotonic() - began))


def test_exit_status_is_the_commands(ran: Ran) -> None:
    assert ran.returncode == 73


def test_stderr_is_apart_from_stdout(ran: Ran) -> None:
    assert ran.stderr == b"err\377\n"


def test_kernel_is_6_12_by_default(ran: Ran) -> None:
    assert ran.stdout.startswith(b"6.12.")


def test_working_directory_is_the_callers(ran: Ran) -> None:
    assert ran.stdout.split(b"\n")[1] == os.fsencode(ROOT)


def test_stdin_arrives_whole_and_ends(ran: Ran) -> None:
    assert ran.stdout.split(b"\n")[2].decode() == hashlib.sha256(STDIN).hexdigest()


def test_host_files_cannot_be_changed(ran: Ran, written: Path) -> None:
    assert ran.stdout.split(b"\n")[3] in (b"read-only", b"changed")  # the latter in an overlay
    assert not (ROOT / "bin/vm-test-was-here").exists()
    assert written.read_text() == "before\n"


def test_arguments_arrive_as_they_are(ran: Ran) -> None:
    words = ran.stdout.split(b"\n", 4)[4].split(b"\0")
    assert words == [*map(os.fsencode, ARGUMENTS), b""]


@pytest.mark.usefixtures("hanging")  # which takes its time
def test_dialogue_and_ctrl_c_on_kernel_6_1() -> None:
    answer = 'uname -r; while read -r line; do echo "<$line>"; done'
    on_signal = "trap 'echo summary; exit 5' INT"
    with subprocess.Popen(
        [VM, "--kernel", "6.1", "sh", "-c", f"{on_signal}; {answer}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().startswith(b"6.1.")
        for number in range(100):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            assert process.stdout.readline() == b"<%d>\n" % number
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"summary\n"
        assert process.wait(900) == 5


def test_time_out_and_missing_command(hanging: subprocess.Popen[bytes], enough: int) -> None:
    out, err = hanging.communicate()
    assert hanging.returncode == 124
    assert out == b"127\n"
    assert f"did not end within {enough} s".encode() in err


def test_time_out_before_the_command_begins() -> None:
    done = run("--timeout", "1", "true")
    assert done.returncode == 124
    assert b"did not even begin within 1 s" in done.stderr


def test_sigterm_ends_the_boot_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([VM, "true"], cwd=ROOT) as process:
        while not any(name.startswith("qemu") for name in descendants(process.pid)):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(900) == 143
    assert list(tmp_path.iterdir()) == []


def descendants(pid: int) -> Iterator[str]:
    """The names of the processes that a process started, and of those that they did."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for child in path.read_text().split():
                yield Path(f"/proc/{child}/comm").read_text()
                yield from descendants(int(child))


def test_unknown_kernel() -> None:
    done = run("--kernel", "5.19", "true")
    assert done.returncode == 125
    assert b"unknown kernel 5.19" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    "arguments",
    [[], ["--"], ["--no-such-option", "true"], ["--timeout", "soon", "true"], ["--cpus", "0", "x"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: vm ")
