"""Returns of the running kernel as a trace for viewers and as a table, while they are traced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import lacking
from ..pure import trace_events
from .tool import PATIENCE, ROOT, await_listening, wait_until

#: A recursive function, traced at each of its levels, in two threads.
_DEPTH, _ROUNDS = 4, 5
_SOURCE = """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#define DEPTH %d
#define ROUNDS %d

__attribute__((noinline)) int descend(int depth)
{
	usleep(500);
	int found = depth ? descend(depth - 1) : 0;
	return found + 1;
}

static void *run(void *unused)
{
	for (int round = 0; round < ROUNDS; round++)
		descend(DEPTH - 1);
	return unused;
}

int main(void)
{
	pthread_t threads[2];

	getchar();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	getchar();
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recursion") / "recursion"
    source = _SOURCE % (_DEPTH, _ROUNDS)
    command = ["cc", "-O1", "-fno-optimize-sibling-calls", "-pthread", "-x", "c", "-"]
    subprocess.run([*command, "-o", path], input=source, text=True, check=True)
    return path


def traced(program: Path, *options: str, kill: bool = False) -> None:
    """Traces the program's calls of descend() by the command."""
    command = [sys.executable, str(ROOT / "bin" / "ebpf-tool"), "uretprobe", f"{program}:descend"]
    calls = 2 * _ROUNDS * _DEPTH
    command += ["-n", str(calls)] if not kill else []
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        tool = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert tool.stderr is not None
        await_listening(tool)
        process.stdin.write(b"\n")
        process.stdin.flush()
        if kill:
            return_after_rows(Path(options[-1]), calls)
            tool.send_signal(signal.SIGKILL)
        told = tool.stderr.read()
        status = tool.wait(PATIENCE)
        tool.stderr.close()
    assert status == (-signal.SIGKILL if kill else 0), told


def return_after_rows(path: Path, rows: int) -> None:
    """Waits until the file has so many rows: it can be read while it is written."""
    pq = parquet()

    def has_rows() -> bool:
        if not path.exists() or not path.stat().st_size:
            return False
        with contextlib.suppress(ValueError):  # it changed between two looks at it
            return bool(pq.read_metadata(path).num_rows >= rows)
        return False

    wait_until(has_rows)


def parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        lacking(f"{error}: pip install pyarrow")
    return pyarrow.parquet


def test_recursive_calls_of_two_threads_are_slices_in_slices(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    traced(program, "--ret=int", "--format", "chrome-trace", "-o", str(path))
    events = trace_events.read(path.read_text(encoding="utf-8"))  # which checks that they nest
    slices = [event for event in events if event["ph"] == "X"]
    threads = {event["tid"] for event in slices}
    assert len(threads) == 2
    for tid in threads:
        returned = [event["args"]["ret"] for event in slices if event["tid"] == tid]
        assert returned == [*range(1, _DEPTH + 1)] * _ROUNDS
        for event in slices:  # each level sleeps, and so do those within
            assert event["dur"] >= 500 * event["args"]["ret"]
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert named >= threads


def test_the_same_calls_are_rows_of_a_table(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    traced(program, "--ret=int", "--format", "parquet", "-o", str(path))
    table = parquet().read_table(path)
    assert sorted(table["arg_ret"].to_pylist()) == sorted([1, 2, 3, 4] * 2 * _ROUNDS)
    pairs = zip(table["arg_ret"].to_pylist(), table["duration_ns"].to_pylist())
    assert all(took >= 500_000 * depth for depth, took in pairs)
    assert set(table["host"].to_pylist()) == {os.uname().nodename}
    assert b"summary" in parquet().read_metadata(path).metadata


def test_a_kill_leaves_the_rows_that_were_written(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    traced(program, "--ret=int", "--format", "parquet", "-o", str(path), kill=True)
    table = parquet().read_table(path)
    assert sorted(table["arg_ret"].to_pylist()) == sorted([1, 2, 3, 4] * 2 * _ROUNDS)
    assert b"summary" not in parquet().read_metadata(path).metadata
