"""--json: what is printed is as docs/json-schema.json says, and that as docs/json.md says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.account import Account
from libbpf_ctypes.cli.json_lines import JsonLines, error_record
from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.errors import BpfError
from libbpf_ctypes.events import Counters

from .calls import NOTHING, OPENAT, ORIGIN, READ, an_open, call, clock, options
from .helpers import ROOT
from .json_schema import violations

SCHEMA = json.loads((ROOT / "docs" / "json-schema.json").read_text(encoding="utf-8"))


def formatter(*functions: Traced, **given: Any) -> JsonLines:
    return JsonLines(options(format="json", **given), functions or (OPENAT, READ), clock(), ORIGIN)


def records(text: str) -> list[Any]:
    """The objects of whole lines, each checked."""
    assert text.isascii()
    assert text.endswith("\n")
    found = [json.loads(line, object_pairs_hook=once) for line in text.splitlines()]
    for record in found:
        assert violations(record, SCHEMA, SCHEMA) == []
    return found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object no key of which is there twice."""
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def test_the_header_tells_of_host_boot_and_functions() -> None:
    (header,) = records(formatter().start())
    assert header == {
        "type": "header",
        "version": 1,
        "tool": "ebpf-tool 0.1.0",
        "host": "host",
        "boot_id": "0c1d7e9a-0000-4000-8000-000000000000",
        "kernel": "6.1.0-test",
        "machine": "x86_64",
        "functions": [
            {
                "name": "openat",
                "symbol": "__x64_sys_openat",
                "module": "",
                "returns": False,
                "args": [
                    {"name": "dfd", "type": "int"},
                    {"name": "filename", "type": "const char *"},
                    {"name": "flags", "type": "int"},
                ],
            },
            {
                "name": "ext4:ext4_read",
                "symbol": "ext4_read",
                "module": "ext4",
                "returns": False,
                "args": [{"name": "file", "type": "struct file *"}],
            },
        ],
    }


def test_an_event_has_typed_arguments() -> None:
    (event,) = records(formatter().format([an_open(flags=0x80001)]))
    assert event == {
        "type": "event",
        "function": "openat",
        "cpu": 1,
        "timestamp_ns": 10**9,
        "time": "2026-09-21T14:13:21.000000+00:00",
        "pid": 10,
        "tid": 11,
        "comm": "cat",
        "uid": 1000,
        "gid": 100,
        "host_pid": 10,
        "host_tid": 11,
        "ns_pid": 1,
        "ns_tid": 2,
        "cgroup": 77,
        "args": {"dfd": -100, "filename": "/etc/passwd", "flags": 0x80001},
        "words": {"dfd": "AT_FDCWD", "flags": "O_WRONLY|O_CLOEXEC"},
    }
    (read,) = records(formatter().format([call(values=(2**64 - 16,), function=1)]))
    assert read["args"] == {"file": "0xfffffffffffffff0"}
    assert "words" not in read
    (raw,) = records(formatter(raw_args=True).format([an_open()]))
    assert raw["args"] == {"dfd": 0xFFFFFF9C, "filename": "/etc/passwd", "flags": 0x80000}
    assert "words" not in raw


def test_what_is_not_there_is_null_and_said_why() -> None:
    events = [
        call(values=(5, 1, 0)),
        call(values=(5, 0, 0)),
        call(values=(0, 0, 0), unreadable=0b011),
        an_open(b"x" * 300),
    ]
    empty, null, unreadable, long = records(formatter().format(events))
    assert empty["args"]["filename"] == ""
    assert null["args"]["filename"] is None
    assert unreadable["args"] == {"dfd": None, "filename": None, "flags": 0}
    assert unreadable["unreadable"] == ["dfd", "filename"]
    assert "unreadable" not in null
    assert long["args"]["filename"] == "x" * 255
    assert long["cut"] == ["filename"]
    assert "cut" not in empty


def test_numbers_of_processes_that_are_unknown_are_null() -> None:
    elsewhere = an_open(pid=0, tid=0, ns_pid=0, ns_tid=0)
    idle = an_open(pid=0, tid=0, host_pid=0, host_tid=0)
    old = an_open()._replace(uid=None, gid=None, ns_pid=None, ns_tid=None, cgroup=None)  # type: ignore[arg-type]
    first, second, third = records(formatter().format([elsewhere, idle, old]))
    assert [first[name] for name in ("pid", "tid", "host_pid", "ns_pid")] == [None, None, 10, None]
    assert (second["pid"], second["tid"]) == (0, 0)
    assert (third["pid"], third["uid"], third["cgroup"], third["ns_tid"]) == (10, None, None, None)


@given(st.binary(max_size=15), st.binary(max_size=255))
def test_any_bytes_come_back(comm: bytes, path: bytes) -> None:
    comm, path = comm.partition(b"\0")[0], path.partition(b"\0")[0]
    events = [call(comm, values=(1, len(path) + 1, 0), texts=(path,))]
    (record,) = records(formatter().format(events))

    def original(text: str, raw: str | None) -> bytes:
        return text.encode() if raw is None else bytes.fromhex(raw)

    assert original(record["comm"], record.get("comm_bytes")) == comm
    raw = record.get("args_bytes", {}).get("filename")
    assert original(record["args"]["filename"], raw) == path
    assert ("\ufffd" in record["comm"]) >= ("comm_bytes" in record)


def test_an_argument_that_is_shown_twice() -> None:
    dfd = OPENAT.arguments[0]
    twice = OPENAT._replace(arguments=(dfd, dfd, dfd._replace(name="dfd:2")))
    made = formatter(twice)
    (header,) = records(made.start())
    (event,) = records(made.format([an_open()]))
    names = [argument["name"] for argument in header["functions"][0]["args"]]
    assert names == list(event["args"]) == ["dfd", "dfd:2", "dfd:2:2"]


def test_a_function_that_a_damaged_recording_lacks() -> None:
    (event,) = records(formatter().format([call(function=7)]))
    assert (event["function"], event["args"]) == ("function 7", {})


def test_losses_come_at_most_once_a_second_before_the_events_read_with_them() -> None:
    made = formatter(NOTHING)
    text = made.format([call(timestamp_ns=10**9)])
    made.lost(1, 5)
    made.lost(0, 2)
    made.lost(1, 1)
    text += made.format([call(timestamp_ns=2 * 10**9), call(timestamp_ns=3 * 10**9)])
    made.lost(1, 7)
    batch = [call(timestamp_ns=tenths * 10**8) for tenths in (25, 29, 30, 31)]
    text += made.format(batch)
    made.lost(3, 1)
    text += made.end(account(refused=16))
    found = records(text)
    kinds = [record["type"][0] + str(record.get("timestamp_ns", 0) // 10**8) for record in found]
    assert kinds == ["e10", "l0", "e20", "e30", "e25", "e29", "l0", "e30", "e31", "l0", "s0"]
    losses = [(record["events"], record["cpus"]) for record in found if record["type"] == "lost"]
    assert losses == [(8, {"0": 2, "1": 6}), (7, {"1": 7}), (1, {"3": 1})]


def account(refused: int = 0, missed: int | None = None, filtered: int = 0) -> Account:
    counters = Counters(filtered, 3, refused, 0)
    by_cpu = ((0, 1), (9, refused - 1)) if refused else ()
    return Account(counters, 3, refused, 2 * 10**9, False, True, by_cpu, missed)


def test_the_summary_accounts_for_all() -> None:
    (quiet,) = records(formatter().end(account(filtered=4)))
    assert quiet == {
        "type": "summary", "seen": 7, "filtered": 4, "unreadable": 0, "delivered": 3, "beyond": 0,
        "unread": 0, "lost": 0, "lost_in_buffer": 0, "lost_cpus": {}, "missed": None,
        "in_flight": 0, "unmatched": 0, "no_room": 0, "no_stack": 0, "duration_ns": 2 * 10**9,
        "adds_up": True,
    }  # fmt: skip
    (lossy,) = records(formatter().end(account(5, 2)))
    assert (lossy["lost"], lossy["lost_cpus"], lossy["missed"]) == (5, {"0": 1, "9": 4}, 2)
    (wrong,) = records(formatter().end(account()._replace(delivered=2)))
    assert wrong["adds_up"] is False
    early = account(5)._replace(delivered=2, drained=False)
    for one, lost in ((early, 6), (early._replace(reader_left=True), 5)):
        (told,) = records(formatter().end(one))
        assert (told["seen"], told["delivered"], told["unread"], told["lost"]) == (8, 2, 1, lost)


def test_errors_are_records() -> None:
    error = BpfError("attach to x\udcff", 2, "no such function", hint="Look again.")
    (told,) = records(error_record(error))
    assert told["type"] == "error"
    assert told["message"] == str(error).replace("\udcff", "\ufffd")
    assert (told["operation"], told["errno"], told["hint"]) == (
        "attach to x\ufffd",
        2,
        "Look again.",
    )
    (plain,) = records(formatter().error("3 lines were not written"))
    assert plain == {"type": "error", "version": 1, "message": "3 lines were not written"}


def test_the_page_names_every_key_of_the_schema() -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert SCHEMA["oneOf"] == [{"$ref": f"#/$defs/{name}"} for name in KINDS]
    for name in KINDS:
        keys = set(SCHEMA["$defs"][name]["properties"]) - {"type"}
        section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        assert section, name
        told = set(re.findall(r"`(\w+)`", section[1]))
        assert keys <= told, f"docs/json.md does not tell of {keys - told} of {name}"


KINDS = (
    "header", "event", "lost", "error", "summary", "count", "latency", "interval", "total",
    "doctor",
)  # fmt: skip


def test_the_schema_refuses_what_is_wrong() -> None:
    """The check itself can fail: each of these is one change away from a good record."""
    (good,) = records(formatter().format([an_open()]))
    changes: tuple[dict[str, Any], ...] = (
        {"cpu": "1"}, {"cpu": -1}, {"cpu": True}, {"type": "evnt"}, {"time": "yesterday"},
        {"args": []}, {"args": {"a": {}}}, {"more": 1}, {"comm_bytes": "f"},
    )  # fmt: skip
    for change in changes:
        assert violations({**good, **change}, SCHEMA, SCHEMA), change
    for name in SCHEMA["$defs"]["event"]["required"]:
        assert violations({k: v for k, v in good.items() if k != name}, SCHEMA, SCHEMA), name


@pytest.mark.parametrize("name", KINDS)
def test_what_a_schema_requires_it_describes(name: str) -> None:
    schema = SCHEMA["$defs"][name]
    assert set(schema["required"]) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
