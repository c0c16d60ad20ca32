"""Events sent to a real collector over HTTP: what arrives, and what is told of what does not."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libbpf_ctypes.cli import otlp, otlp_export, sending
from libbpf_ctypes.cli.account import Account
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.formats import DECIMAL, TEXT, Format, ShownArgument
from libbpf_ctypes.cli.formatters import call_formatter
from libbpf_ctypes.cli.lines import Formatter
from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.cli.style import PLAIN
from libbpf_ctypes.cli.usage import UsageError
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.events import Counters

from ..conftest import lacking
from .calls import NOTHING, OFFSET, OPENAT, ORIGIN, READ, an_open, call, clock, options, sample
from .helpers import TOOL, port_of_our_own, run_tool
from .replaying import record

try:
    from .collector import Collector, attributes_of
except ModuleNotFoundError:
    lacking("needs opentelemetry-exporter-otlp-proto-http")


PIPED: Any = {"stderr": subprocess.PIPE, "text": True}
RECORDINGS = Path(__file__).parent.parent.parent / "fixtures" / "recordings"


class Told(Console):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=False, verbose=False)
        self.texts: list[str] = []

    def _print(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_AGE", 0.02)
    monkeypatch.setattr(sending, "_PAUSE", 0.02)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent at the end has time on a busy machine."""
    monkeypatch.setattr(otlp, "PATIENCE", 120.0)


@pytest.fixture
def told() -> Told:
    return Told()


def formatter_to(url: str, told: Told, *functions: Traced, stacks: Any = None) -> Formatter:
    chosen = options(format="otlp", endpoint=url)
    return call_formatter(chosen, functions or (OPENAT,), clock(), PLAIN, ORIGIN, stacks, told)


def account(events: int) -> Account:
    return Account(Counters(0, events, 0), events, 0, 10**9, False, True)


def test_an_event_is_a_record_with_its_host_and_time(collector: Collector, told: Told) -> None:
    formatter = formatter_to(collector.url, told)
    assert formatter.start() + formatter.format([an_open(timestamp_ns=1_234_567)]) == ""
    assert formatter.end(account(1)) == ""
    record, summary = collector.records
    assert collector.path == "/v1/logs"
    assert record.event_name == "ebpf_tool.call"
    assert record.time_unix_nano == OFFSET + 1_234_567
    assert record.body.string_value == (
        'openat dfd=AT_FDCWD, filename="/etc/passwd", flags=O_CLOEXEC'
    )
    attributes = attributes_of(record)
    assert attributes.pop("log.record.uid") != attributes_of(summary)["log.record.uid"]
    assert attributes == {
        "code.function.name": "openat",
        "cpu.logical_number": 1,
        "process.pid": 10,
        "thread.id": 11,
        "thread.name": "cat",
        "process.real_user.id": 1000,
        "process.real_group.id": 100,
        "process.vpid": 1,
        "ebpf_tool.cgroup_id": 77,
        "ebpf_tool.timestamp_ns": 1_234_567,
        "ebpf_tool.arg.dfd": -100,
        "ebpf_tool.words.dfd": "AT_FDCWD",
        "ebpf_tool.arg.filename": "/etc/passwd",
        "ebpf_tool.arg.flags": 0x80000,
        "ebpf_tool.words.flags": "O_CLOEXEC",
    }
    resource = collector.resource
    assert resource["service.name"] == "ebpf-tool"
    assert resource["host.name"] == "host"
    assert (resource["host.arch"], resource["os.type"]) == ("amd64", "linux")
    assert resource["os.version"] == "6.1.0-test"
    assert resource["ebpf_tool.boot_id"] == ORIGIN.boot_id
    assert not formatter.failed


def test_a_return_has_its_duration_and_its_stacks(collector: Collector, told: Told) -> None:
    class Stacks:
        def kernel(self, key: int) -> tuple[str, ...]:
            return (f"vfs_read+0x{key:x}", "ksys_read+0x5")

        def user(self, key: int, pid: int) -> tuple[str, ...]:
            return (f"read+0x{key:x} ({pid})",)

    formatter = formatter_to(collector.url, told, NOTHING._replace(returns=True), stacks=Stacks())
    formatter.format([call(duration_ns=1500, kernel_stack=2, user_stack=3, timestamp_ns=9)])
    formatter.end(None)
    (record,) = collector.records
    attributes = attributes_of(record)
    assert record.event_name == "ebpf_tool.return"
    assert attributes["ebpf_tool.duration_ns"] == 1500
    assert attributes["ebpf_tool.kernel_stack"] == ["vfs_read+0x2", "ksys_read+0x5"]
    assert attributes["ebpf_tool.user_stack"] == ["read+0x3 (10)"]


def test_values_that_otlp_has_no_room_for_arrive_as_text(collector: Collector, told: Told) -> None:
    u64 = ShownArgument("mask", "unsigned long", 0, -1, Format(DECIMAL, 8))
    path = ShownArgument("path", "const char *", 1, 0, Format(TEXT))
    formatter = formatter_to(collector.url, told, Traced("f", "f", "", (u64, path)), READ)
    formatter.format(
        [
            call(b"a\xff", (2**64 - 1, 3), (b"\xff/x",)),
            call(b"b", (2**63 - 1, 0)),
            call(b"c", (0, 3), unreadable=2),
            call(b"d", (0,), function=1),
            call(b"e", pid=0, tid=0),
        ]
    )
    formatter.end(None)
    odd, null, unreadable, pointer, elsewhere = collector.events()
    assert odd["thread.name"] == "a\ufffd"
    assert odd["ebpf_tool.arg.mask"] == str(2**64 - 1)
    assert odd["ebpf_tool.arg.path"] == "\ufffd/x"
    assert null["ebpf_tool.arg.mask"] == 2**63 - 1
    assert "ebpf_tool.arg.path" not in null
    assert null["ebpf_tool.words.path"] == "NULL"
    assert "ebpf_tool.arg.path" not in unreadable
    assert unreadable["ebpf_tool.words.path"] == "<unreadable>"
    assert pointer["ebpf_tool.arg.file"] == "0x0"
    assert "process.pid" not in elsewhere
    assert (elsewhere["ebpf_tool.host_pid"], elsewhere["ebpf_tool.host_tid"]) == (10, 11)


def test_losses_errors_and_the_account_are_records(collector: Collector, told: Told) -> None:
    formatter = formatter_to(collector.url, told)
    formatter.lost(3, 17)
    formatter.error("the disk is full")
    formatter.end(account(0))
    lost, error, summary = collector.records
    assert (lost.event_name, lost.severity_text) == ("ebpf_tool.lost", "WARN")
    assert attributes_of(lost)["ebpf_tool.lost"] == 17
    assert attributes_of(lost)["cpu.logical_number"] == 3
    assert (error.severity_text, error.body.string_value) == ("ERROR", "the disk is full")
    assert attributes_of(summary)["ebpf_tool.delivered"] == 0
    assert "ebpf_tool.missed" not in attributes_of(summary)  # not known


def test_a_collector_that_goes_away_and_comes_back_misses_nothing(told: Told) -> None:
    collector = Collector()
    formatter = formatter_to(collector.url, told)
    assert isinstance(formatter, otlp.OtlpSender)
    sender = formatter._sender
    formatter.format([an_open(timestamp_ns=1)])
    wait_until(lambda: sender.sent == 1, formatter)
    collector.close()
    formatter.format([an_open(timestamp_ns=2)])
    wait_until(lambda: any("does not take the events" in text for text in told.texts), formatter)
    with Collector(collector.port) as again:
        formatter.format([an_open(timestamp_ns=3)])
        formatter.end(None)
        times = [event["ebpf_tool.timestamp_ns"] for event in again.events()]
    assert [event["ebpf_tool.timestamp_ns"] for event in collector.events()] == [1]
    assert times == [2, 3]
    assert not formatter.failed
    assert any("answers again" in text for text in told.texts)


def wait_until(condition: Any, formatter: Formatter) -> None:
    """As the trace does: the formatter is asked for room again and again."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        formatter.wait(time.monotonic() + 0.01)
        time.sleep(0.01)


def test_an_answer_that_does_not_come_stops_the_reading_until_it_does(
    collector: Collector, told: Told
) -> None:
    formatter = formatter_to(collector.url, told)
    collector.gate.clear()
    formatter.format([an_open(timestamp_ns=at) for at in range(sending.BACKLOG)])
    assert not formatter.wait(time.monotonic() + 0.01)
    collector.gate.set()
    assert formatter.wait(time.monotonic() + 60)
    formatter.end(None)
    times = [event["ebpf_tool.timestamp_ns"] for event in collector.events()]
    assert times == list(range(sending.BACKLOG))


def test_what_cannot_be_sent_in_time_is_counted_and_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "PATIENCE", 0.2)
    gone = Collector()
    gone.close()
    formatter = formatter_to(f"http://me:secret@127.0.0.1:{gone.port}", told)
    assert isinstance(formatter, otlp.OtlpSender)
    sender = formatter._sender
    formatter.format([an_open(), an_open()])
    wait_until(lambda: sender.trouble, formatter)
    formatter.end(account(2))
    assert formatter.failed
    text = "\n".join(told.texts)
    assert f"3 records were not taken by http://127.0.0.1:{gone.port}/v1/logs" in text
    assert "Connection refused" in text
    assert "secret" not in text


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_collector_that_is_busy_is_asked_again(
    collector: Collector, told: Told, status: int
) -> None:
    collector.answers = [(status, {"Retry-After": "0"}, b""), (status, {}, b"busy")]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open()])
    formatter.end(None)
    assert len(collector.events()) == 1
    assert collector.requests == 3
    assert not formatter.failed


@pytest.mark.parametrize(
    ("status", "headers"),
    [(302, {"Location": "/elsewhere"}), (400, {}), (401, {}), (404, {}), (413, {})],
)
def test_what_is_refused_is_counted_and_told(
    collector: Collector, told: Told, status: int, headers: dict[str, str]
) -> None:
    collector.answers = [(status, headers, b"no")]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open(), an_open()])
    formatter.end(None)
    assert collector.requests == 1
    assert formatter.failed
    assert any(f"2 records were refused by {collector.url}" in text for text in told.texts)
    assert any(str(status) in text for text in told.texts)


def test_records_that_a_collector_says_it_rejected_are_not_told_as_sent(
    collector: Collector, told: Told
) -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "too\x1b[31m old"
    protobuf = {"Content-Type": "application/x-protobuf"}
    collector.answers = [(200, protobuf, answer.SerializeToString())]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open()] * 3)
    formatter.end(None)
    assert formatter.failed
    assert any(r"2 records were refused" in t and r"too\x1b[31m old" in t for t in told.texts)


def test_a_collector_may_answer_in_json(collector: Collector, told: Told) -> None:
    partial = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "no"}}
    body = json.dumps(partial).encode()
    collector.answers = [(200, {"Content-Type": "application/json"}, body)]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open()])
    formatter.end(None)
    assert formatter.failed


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"Content-Type": "application/json"}, b"{nope", "makes sense"),
        ({"Content-Type": "application/json"}, b"[1]", "makes sense"),
        ({"Content-Type": "application/x-protobuf"}, b"\xff\xff", "makes sense"),
        ({"Content-Encoding": "gzip"}, b"not gzip", "makes sense"),
        ({"Content-Type": "text/html; charset=utf-8"}, b"<html>", "as no collector does"),
        ({"Content-Type": "text/plain"}, b"x" * 100_000, "more than 65536 bytes"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 24)), "more than 65536 bytes"),
    ],
)
def test_an_answer_that_no_collector_gives_is_not_taken_for_success(
    collector: Collector, told: Told, headers: dict[str, str], body: bytes, reason: str
) -> None:
    collector.answers = [(200, headers, body)]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open(), an_open()])
    formatter.end(None)
    assert formatter.failed
    assert any("2 records were refused" in text and reason in text for text in told.texts)


def test_a_long_reason_is_cut(collector: Collector, told: Told) -> None:
    body = json.dumps({"partialSuccess": {"rejectedLogRecords": 1, "errorMessage": "x" * 9000}})
    collector.answers = [(200, {"Content-Type": "application/json"}, body.encode())]
    formatter = formatter_to(collector.url, told)
    formatter.format([an_open()])
    formatter.end(None)
    assert max(map(len, told.texts)) < 500


@contextlib.contextmanager
def sent(told: Told, port: int) -> Iterator[tuple[Formatter, socket.socket]]:
    """What sent an event, and the connection to it of who listens at that port."""
    with socket.create_server(("127.0.0.1", port)) as server:
        formatter = formatter_to(f"http://127.0.0.1:{port}", told)
        formatter.format([an_open()])
        connection, _ = server.accept()
        with connection:
            yield formatter, connection


def test_an_answer_that_breaks_off_is_none(told: Told) -> None:
    """A collector that ends in the midst of it: what it took is sent again."""
    port = port_of_our_own()
    with sent(told, port) as (formatter, connection):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    with Collector(port) as again:
        formatter.end(None)
        assert len(again.events()) == 1
    assert not formatter.failed


def test_an_answer_that_does_not_end_is_none(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that says a byte now and then: what it was sent is sent again."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    port = port_of_our_own()
    with sent(told, port) as (formatter, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):  # it reads no more
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)
    with Collector(port) as again:
        formatter.end(None)
        assert again.events()  # once more, where an answer takes longer than a request may
    assert not formatter.failed


def test_what_a_damaged_recording_says_of_itself_refuses_nothing(
    collector: Collector, told: Told
) -> None:
    odd = ORIGIN._replace(tool_version="\udcff", host_name="\udcfe", kernel_release="")
    chosen = options(format="otlp", endpoint=collector.url)
    formatter = call_formatter(chosen, (OPENAT,), clock(), PLAIN, odd, None, told)
    formatter.format([an_open(timestamp_ns=2**64 - 1), an_open(timestamp_ns=5)])
    formatter.end(None)
    assert not formatter.failed
    assert [record.time_unix_nano for record in collector.records] == [0, OFFSET + 5]
    assert collector.resource["service.version"] == "\ufffd"


def test_headers_and_the_service_come_from_the_environment(
    collector: Collector, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tracing")
    formatter = formatter_to(collector.url, told)
    formatter.end(account(0))
    assert {name.lower(): value for name, value in collector.headers.items()}[
        "authorization"
    ] == "Bearer s3cret"
    assert collector.resource["service.name"] == "tracing"
    assert collector.resource["deployment.environment.name"] == "lab"
    assert "s3cret" not in "\n".join(told.texts)


def test_the_endpoint_may_come_from_the_environment(collector: Collector) -> None:
    recording = RECORDINGS / "x86_64-6.1-opens.rec"
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    done = run_tool("replay", recording, "--format", "otlp", **where)
    assert done.returncode == 0, done.stderr
    assert collector.events()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/logs"),
        ("http://localhost:4318/", "http://localhost:4318/v1/logs"),
        ("https://otel.example/in/", "https://otel.example/in/v1/logs"),
        ("http://[::1]:4318/v1/logs", "http://[::1]:4318/v1/logs"),
        ("http://h/x?key=1", "http://h/x/v1/logs?key=1"),
    ],
)
def test_the_logs_of_an_endpoint(endpoint: str, url: str) -> None:
    assert otlp_export.logs_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint",
    ["", "localhost:4318", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://[::1"],
)
def test_what_is_no_endpoint_is_wrong_usage(endpoint: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        otlp_export.logs_url(endpoint)


def test_what_may_be_secret_is_not_shown() -> None:
    assert otlp_export.shown_url("https://me:pw@h:1/v1/logs?key=2#x") == "https://h:1/v1/logs"


def test_without_the_sdk_the_error_says_what_to_install(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk._logs", None)
    with pytest.raises(BpfError, match=r"pip install 'libbpf-ctypes\[otlp\]'"):
        formatter_to("http://localhost:4318", told)


def test_a_recording_is_replayed_to_a_collector(collector: Collector) -> None:
    recording = RECORDINGS / "x86_64-6.12-reads.rec"
    lines = run_tool("replay", recording, "--json", "-q").stdout.splitlines()
    expected = [record for record in map(json.loads, lines) if record["type"] == "event"]
    header = json.loads(lines[0])
    done = run_tool("replay", recording, "--format", "otlp", "--endpoint", collector.url)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [event["ebpf_tool.timestamp_ns"] for event in collector.events()] == [
        record["timestamp_ns"] for record in expected
    ]
    assert collector.resource["host.name"] == header["host"]
    assert f"{len(collector.records)} records sent to {collector.url}" in done.stderr


def test_a_replay_that_a_signal_ends_tells_what_was_not_taken(tmp_path: Path) -> None:
    """More events than may wait for a collector that is away: the replay stops among them."""
    recording = tmp_path / "many.rec"
    record(recording, (OPENAT,), [sample(b"cat", (3, 3, 0), (b"/a",))] * 2 * sending.BACKLOG)
    gone = Collector()
    gone.close()
    words = ["replay", str(recording), "--format", "otlp", "--endpoint", gone.url]
    with subprocess.Popen([sys.executable, str(TOOL), *words], **PIPED) as process:
        assert process.stderr is not None
        for sign in ("does not take the events", "Stopped after"):
            assert any(sign in line for line in process.stderr)
            process.send_signal(signal.SIGINT)  # at first of the reading, then of the waiting
        rest = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    (told,) = (line for line in rest.splitlines() if "records were not taken" in line)
    assert int(told.split()[1]) > sending.BATCH
