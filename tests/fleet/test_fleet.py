"""examples/fleet: one question of three hosts' traces, to DuckDB and to a Spark cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ..conftest import lacking, need
from ..pure.helpers import port_of_our_own, run_tool
from .conftest import ANSWER, EXAMPLE, HOSTS, RECORDINGS, START, answer, partition, record

try:
    import pyarrow
    from pyarrow import parquet
except ModuleNotFoundError:
    lacking("needs pyarrow")

Found = TypeVar("Found")

#: Seconds for a step that a busy machine takes its time for.
PATIENCE = 600


def test_each_trace_is_in_the_partition_of_its_host_and_day(fleet: Path) -> None:
    found = sorted(str(path.relative_to(fleet)) for path in fleet.rglob("*") if path.is_file())
    days = ["2026-11-23", "2026-11-23", "2026-11-24"]  # 0, 0.8 and 1.6 seconds after START
    assert found == sorted(
        f"host={host.name}/date={'2026-11-23' if number == RECORDINGS - 1 else day}/"
        f"{host.name}-{number}.parquet"
        for host in HOSTS
        for number, day in enumerate(days)
    )


def test_a_trace_that_is_there_is_not_replaced(fleet: Path, recordings: list[Path]) -> None:
    ran = partition(fleet, recordings[0])
    assert ran.status == 1
    assert "File exists" in ran.err
    assert not [path for path in fleet.iterdir() if path.name.startswith(".")]


def test_a_parquet_file_is_put_there_as_it_is(fleet: Path, tmp_path: Path) -> None:
    (file,) = fleet.glob("host=db1/date=*/db1-0.parquet")
    ran = partition(tmp_path / "calls", file)
    copy = tmp_path / "calls" / file.relative_to(fleet)
    assert (ran.status, ran.out) == (0, f"{copy}\n"), ran.err
    assert copy.read_bytes() == file.read_bytes()


def test_of_a_recording_that_was_cut_there_is_what_can_be_read(
    recordings: list[Path], tmp_path: Path
) -> None:
    whole = recordings[0].read_bytes()
    (tmp_path / "cut.rec").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.rec").write_bytes(b"nothing")
    ran = partition(tmp_path / "calls", tmp_path / "broken.rec", tmp_path / "cut.rec")
    assert ran.status == 1
    (file,) = (tmp_path / "calls").glob("host=web1/date=2026-11-23/cut.parquet")
    assert f"{file}\n" == ran.out
    assert "cut.rec" in ran.err
    rows = parquet.read_table(file, columns=["timestamp_ns"]).num_rows
    assert 0 < rows < 300


def test_what_is_no_trace_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.rec").write_bytes(b"nothing")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    parquet.write_table(pyarrow.table({"host": ["web1"]}), tmp_path / "others.parquet")
    names = ("broken.rec", "broken.parquet", "others.parquet", "nowhere.rec", "nowhere.parquet")
    ran = partition(tmp_path / "calls", *(tmp_path / name for name in names))
    assert ran.status == 1
    assert [name for name in names if f"{tmp_path / name}: " not in ran.err] == []
    assert "Traceback" not in ran.err


def test_a_host_without_a_name_has_a_partition(tmp_path: Path) -> None:
    record(tmp_path / "a.rec", HOSTS[0]._replace(name=""), 0)
    ran = partition(tmp_path / "calls", tmp_path / "a.rec")
    assert ran.status == 0, ran.err
    assert list((tmp_path / "calls").glob("host=%28none%29/date=*/a.parquet"))


def test_a_trace_without_a_time_has_a_partition(tmp_path: Path) -> None:
    column = pyarrow.array([None], pyarrow.int64())
    known = {"host": "web1", "clock_offset_ns": "5"}
    table = pyarrow.table({"timestamp_ns": column}).replace_schema_metadata(known)
    parquet.write_table(table, tmp_path / "a.parquet")
    ran = partition(tmp_path / "calls", tmp_path / "a.parquet")
    assert ran.status == 0, ran.err
    assert list((tmp_path / "calls").glob("host=web1/date=1970-01-01/a.parquet"))


def test_the_trace_of_the_readme_has_what_the_question_asks_for() -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ebpf-tool (.*) --record=", text, re.MULTILINE)
    done = run_tool(*shlex.split(command), "--dry-run")
    assert done.returncode == 0, done.stderr
    (function,) = (line for line in done.stdout.splitlines() if " = " in line)
    asked = re.findall(r"arg_(\w+)", (EXAMPLE / "question.sql").read_text(encoding="utf-8"))
    assert asked
    assert [name for name in asked if not re.search(rf"\b{name}\b", function)] == []


def test_duckdb_answers(fleet: Path, python: str) -> None:
    command = [python, str(EXAMPLE / "ask.py"), "duckdb", str(fleet)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert answer(done.stdout) == ANSWER, done.stderr


def test_duckdb_answers_with_times(fleet: Path, python: str, tmp_path: Path) -> None:
    query = tmp_path / "times.sql"
    query.write_text("SELECT host, epoch_us(min(time)) AS us, min(time) FROM calls GROUP BY host")
    command = [python, str(EXAMPLE / "ask.py"), "duckdb", str(fleet), str(query)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert {row[0]: int(row[1]) for row in answer(done.stdout)[1:]} == {
        host.name: START // 1000 for host in HOSTS
    }, done.stderr


@pytest.mark.parametrize("query", ["SELECT nothing FROM calls", None])
def test_what_cannot_be_asked_is_told(
    query: str | None, fleet: Path, python: str, tmp_path: Path
) -> None:
    file = tmp_path / "query.sql"
    if query is not None:
        file.write_text(query, encoding="utf-8")
    command = [python, str(EXAMPLE / "ask.py"), "duckdb", str(fleet), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ask.py: ")
    assert "Traceback" not in done.stderr


def test_by_their_own_clocks_the_answer_would_be_wrong(
    fleet: Path, python: str, tmp_path: Path
) -> None:
    query = (EXAMPLE / "question.sql").read_text(encoding="utf-8")
    assert " + clock_offset_ns" in query
    wrong = tmp_path / "wrong.sql"
    wrong.write_text(query.replace(" + clock_offset_ns", ""), encoding="utf-8")
    command = [python, str(EXAMPLE / "ask.py"), "duckdb", str(fleet), str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert [row[3] for row in answer(done.stdout)[1:]] == ["web1", "web1"], done.stderr


def test_spark_answers_the_same_though_a_worker_is_killed(
    fleet: Path, python: str, tmp_path: Path
) -> None:
    need("java")
    with _cluster(python, fleet, tmp_path) as (process, url):
        # Stopped, it takes a task and does not do it: the kill surely comes in its midst.
        number, pid = _until(lambda: _some_executor(process.pid, url), "an executor", process)
        os.kill(pid, signal.SIGSTOP)
        _until(lambda: _active_tasks(url, number), "a task on the stopped executor", process)
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
    assert answer(out) == ANSWER, err
    events = _events(tmp_path / "events")
    removed = [e["Executor ID"] for e in events if e["Event"] == "SparkListenerExecutorRemoved"]
    assert number in removed
    ended = [event for event in events if event["Event"] == "SparkListenerTaskEnd"]
    lost = [e for e in ended if e["Task End Reason"]["Reason"] == "ExecutorLostFailure"]
    assert {event["Task Info"]["Executor ID"] for event in lost} == {number}
    done = [event for event in ended if event["Task End Reason"]["Reason"] == "Success"]
    assert len({event["Task Info"]["Executor ID"] for event in done}) > 1


@contextlib.contextmanager
def _cluster(python: str, fleet: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """ask.py with three workers of its own, and the address of its driver's REST interface."""
    (folder / "events").mkdir()
    port = port_of_our_own()
    settings = {
        # It begins when all three are there: none does all of the work before another comes.
        "spark.cores.max": "3",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": f"{PATIENCE}s",
        "spark.network.timeout": f"{PATIENCE}s",
        "spark.executor.memory": "512m",
        "spark.sql.files.minPartitionNum": "9",  # a task for each file
        "spark.ui.port": str(port),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (folder / "events").as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
    }
    options = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    home = subprocess.check_output(
        [python, "-c", "import pyspark; print(pyspark.__path__[0])"], text=True
    ).strip()
    environment = {
        **os.environ,
        "PYSPARK_SUBMIT_ARGS": f"--master local-cluster[3,1,512] {options} pyspark-shell",
        "SPARK_HOME": home,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # starts sooner
    }
    process = subprocess.Popen(
        [python, str(EXAMPLE / "ask.py"), "spark", str(fleet)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process, f"http://127.0.0.1:{port}/api/v1/applications"
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended, and its JVM with it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until(found: Callable[[], Found | None], what: str, process: subprocess.Popen[str]) -> Found:
    """What is found at last."""
    end = time.monotonic() + PATIENCE
    while True:
        result = found()
        if result:
            return result
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.02)


def _some_executor(ancestor: int, url: str) -> tuple[str, int] | None:
    """The number and the process of an executor that has been given a task."""
    known = [executor["id"] for executor in _executors(url) if executor["totalTasks"]]
    for number in known:
        for pid in _descendants(ancestor):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--executor-id" in words and words[words.index("--executor-id") + 1] == number:
                    return number, pid
    return None


def _active_tasks(url: str, number: str) -> int:
    return sum(executor["activeTasks"] for executor in _executors(url) if executor["id"] == number)


def _executors(url: str) -> list[dict[str, Any]]:
    """What the driver knows of its executors; nothing while it has not begun."""
    try:
        (application,) = _get(url)
        return list(_get(f"{url}/{application['id']}/executors"))
    except (OSError, ValueError):
        return []


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return json.load(response)


def _descendants(ancestor: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found = []
    for path in Path(f"/proc/{ancestor}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _events(folder: Path) -> list[Any]:
    """What the driver wrote of its run."""
    (log,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
