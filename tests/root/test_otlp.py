"""--format otlp while it traces: all that is delivered arrives; a slow collector costs no more."""

from __future__ import annotations

import re

import pytest

from ..conftest import lacking
from .tool import Tool, rest, start

try:
    from ..pure.collector import Collector, attributes_of
except ModuleNotFoundError:
    lacking("needs opentelemetry-exporter-otlp-proto-http")


def test_all_that_was_delivered_arrives(slow_load: Tool) -> None:
    with Collector() as collector:
        to = ["--format", "otlp", "--endpoint", collector.url]
        process = start("-n", "40", "-p", str(slow_load.pid), "--args", *to)
        out, err = rest(process)
        assert (process.returncode, out) == (0, ""), err
        events = collector.events()
        summary = attributes_of(collector.records[-1])
    assert len(events) == 40
    assert {event["process.pid"] for event in events} == {slow_load.pid}
    times = [event["ebpf_tool.timestamp_ns"] for event in events]
    assert times == sorted(times)
    assert summary["ebpf_tool.delivered"] - summary["ebpf_tool.beyond"] == 40
    assert f"41 records sent to {collector.url}" in err


def test_a_collector_that_does_not_answer_fills_the_buffers_and_losses_are_counted(
    load: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")  # what times out is sent again
    with Collector() as collector:
        collector.gate.clear()
        to = ["--format", "otlp", "--endpoint", collector.url, "--buffer=64K"]
        process = start("-d", "4", "-p", str(load.pid), "--args", *to)
        assert process.stderr is not None
        told = ""
        for line in process.stderr:  # it ends in time, whatever the collector does
            told += line
            if "Detaching" in line:
                break
        collector.gate.set()
        _out, err = rest(process)
        told += err
        summary = attributes_of(collector.records[-1])
        events = len(collector.events())
    assert process.returncode == 0, told
    lost = re.search(r"(\d+) events were lost: (\d+) found the buffer full", told)
    assert lost is not None, told
    assert summary["ebpf_tool.lost"] == int(lost[1]) > 0
    assert summary["ebpf_tool.delivered"] == events
    chosen = summary["ebpf_tool.seen"] - summary["ebpf_tool.filtered"]
    assert chosen == events + int(lost[1])
