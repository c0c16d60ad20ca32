"""Known calls by known threads, and what ebpf-tool, strace, opensnoop and bpftrace tell of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter, defaultdict

import pytest

from libbpf_ctypes.cli.merge import PATIENCE

from ..conftest import need
from .conftest import HERE, Guest
from .truth import Call, Event, Truth, bytes_of, c_string, is_register, shown
from .truth_cases import CHOSEN, command_lines

O_LARGEFILE = 0o100000
CUT = 255
OPENS = ("open", "openat", "openat2")
STRACED = ("main", "user", "box", "inner")

#: Opensnoop and bpftrace take a minute to begin.
on_one_kernel = pytest.mark.parametrize("guest", ["6.12"], indirect=True)

_truths: dict[str, Truth] = {}


@pytest.fixture
def truth(guest: Guest) -> Truth:
    """What one process found in the guest, of one kernel."""
    for reference in ("strace", "opensnoop", "bpftrace", "funclatency"):
        need(reference)
    if guest.kernel not in _truths:
        script = str(HERE / "truth_guest.py")
        done = guest.run(sys.executable, script, json.dumps(command_lines()))
        assert done.returncode == 0, done.stderr
        _truths[guest.kernel] = Truth(json.loads(done.stdout))
    return _truths[guest.kernel]


@pytest.mark.parametrize("name", CHOSEN)
def test_it_tells_exactly_the_calls_that_fit(truth: Truth, name: str) -> None:
    run, case = truth.runs[name], CHOSEN[name]
    assert run.status == 0, run.err
    errors = [line for line in run.err.splitlines() if "[ERROR]" in line]
    assert all("could not be read" in line for line in errors), run.err
    expected = truth.made(case.calls, case.which, name)
    pairs = truth.pairs(name, case.calls)
    assert expected
    told = {id(call) for _, call in pairs}
    assert [call for call in expected if id(call) not in told] == [], "not told"
    assert len(pairs) == len(expected), "more than fit"
    for event, call in pairs:
        assert_same_thread(event, call, level=1 if name.startswith("box") else 0)


def assert_same_thread(event: Event, call: Call, level: int) -> None:
    """Who called, in all its numbers; LEVEL is that of the tracer's pid namespace."""
    inside = len(call["pids"]) > level
    expected = {
        "comm": call["comm"],
        "uid": call["uid"],
        "gid": call["gid"],
        "cgroup": call["cgroup"],
        "host_pid": call["pids"][0],
        "host_tid": call["tids"][0],
        "ns_pid": call["pids"][-1],
        "ns_tid": call["tids"][-1],
        "pid": call["pids"][level] if inside else None,
        "tid": call["tids"][level] if inside else None,
    }
    assert {key: event[key] for key in expected} == expected
    assert event["cpu"] in call["cpus"]


@pytest.mark.parametrize("name", [*CHOSEN, "cpu", "sample", "flood", "flood_enough"])
def test_its_account_adds_up(truth: Truth, name: str) -> None:
    records, summary = truth.runs[name].records, truth.runs[name].summary
    assert records[0]["type"] == "header"
    assert records[0]["version"] == 1
    events = [record for record in records if record["type"] == "event"]
    assert summary["adds_up"] is True
    assert summary["delivered"] == len(events)
    parts = ("filtered", "unreadable", "delivered", "lost", "no_room", "in_flight")
    assert summary["seen"] == sum(summary.get(part, 0) for part in parts)
    latest = 0
    for event in events:
        if event["timestamp_ns"] < latest:  # others ran before it was in its buffer
            assert truth.took(event) > PATIENCE * 1e9
        latest = max(latest, event["timestamp_ns"])


def test_what_a_filter_could_not_read_is_counted(truth: Truth) -> None:
    of_paths = truth.made(
        ("openat",), lambda call: "unreadable" in call or "absent" in call, run="paths"
    )
    assert of_paths
    assert truth.runs["paths"].summary["unreadable"] == len(of_paths)
    assert truth.runs["four"].summary["unreadable"] == 0


def test_arguments_are_those_of_the_call(truth: Truth) -> None:
    for event, call in truth.pairs("all"):
        assert event["function"] == call["call"]
        assert len(event["args"]) == len(call["arguments"])
        for (name, value), register in zip(event["args"].items(), call["arguments"]):
            if name in ("filename", "pathname"):
                assert_text(event, name, call)
            else:
                assert is_register(value, register), (name, event, call)


def assert_text(event: Event, name: str, call: Call) -> None:
    """A text is the call's, or it is said why not."""
    unreadable = "unreadable" in call or "absent" in call
    assert (name in event.get("unreadable", [])) == unreadable
    text = call.get("path")
    if unreadable or text is None:
        assert event["args"][name] is None
    else:
        assert bytes_of(event, name) == os.fsencode(text)[:CUT]
        length = len(os.fsencode(text))
        assert (name in event.get("cut", [])) == (length > CUT) or length == CUT


def test_numbers_keep_sign_and_width(truth: Truth) -> None:
    for event, call in truth.pairs("numbers", ("lseek", "mmap")):
        values, registers = list(event["args"].values()), call["arguments"]
        assert len(values) == len(registers)
        assert all(is_register(value, word) for value, word in zip(values, registers))
        if call["call"] == "lseek":
            fd, offset, whence = registers
            assert values == [fd, offset - 2**64 if offset >= 2**63 else offset, whence]
            words = {os.SEEK_SET: "SEEK_SET", os.SEEK_CUR: "SEEK_CUR", os.SEEK_END: "SEEK_END"}
            assert event["words"]["whence"] == words[whence]
        else:
            protection = "PROT_READ|PROT_WRITE" if registers[2] == 3 else "PROT_READ"
            flags = "MAP_PRIVATE" if registers[3] == 2 else "MAP_PRIVATE|MAP_ANONYMOUS"
            assert (event["words"]["prot"], event["words"]["flags"]) == (protection, flags)


def test_arguments_on_the_stack(truth: Truth) -> None:
    """do_mmap() has more arguments than registers: pgoff is there in one of the kernels."""
    pairs = truth.pairs("maps", ("mmap",))
    assert len(pairs) == len(truth.made(("mmap",), run="maps"))
    for event, call in pairs:
        arguments = event["args"]
        assert len(arguments) == 8
        assert arguments["len"] == call["arguments"][1]
        assert arguments["pgoff"] == call["arguments"][5] // 4096
        assert int(arguments["populate"], 16) > 2**63
        # Where it has nine, there is room for eight.
        assert "uf" in arguments or "uf" in truth.runs["maps"].err


def test_enums_signals_and_other_words(truth: Truth) -> None:
    for event, _ in truth.pairs("signals"):
        assert event["args"]["sig"] == signal.SIGWINCH
        assert event["words"]["type"] == "PIDTYPE_TGID"
    for event, call in truth.pairs("all"):
        if call["call"] == "kill":
            assert event["words"]["sig"] == "SIGWINCH"
        if call["call"] == "unlinkat":
            removed = call["arguments"][2]
            assert event["words"]["dfd"] == "AT_FDCWD"
            assert event["words"].get("flag", "0") == ("AT_REMOVEDIR" if removed else "0")


def test_members_are_followed(truth: Truth) -> None:
    pairs = truth.pairs("names")
    assert pairs
    for event, call in pairs:
        name, count, flags = event["args"].values()
        opened = next(
            one
            for one in truth.calls
            if one["call"] == "openat"
            and (one["act"], one["pids"]) == (call["act"], call["pids"])
            and one["result"] == call["arguments"][0]
        )
        assert name == (opened["path"].rpartition("/")[2] or "/")
        assert count == call["arguments"][2]
        assert flags & os.O_ACCMODE == opened["arguments"][2] & os.O_ACCMODE


def test_an_event_for_each_open_as_the_kernel_sees_it(truth: Truth) -> None:
    for event, call in truth.pairs("kernel"):
        assert_text(event, "filename", call)
        flags = event["args"]["how.flags"]
        if call["call"] == "openat2":
            assert flags == call["how"][0]
        else:
            assert flags == call["arguments"][-2] | O_LARGEFILE


def test_strace_sees_the_calls_that_were_made(truth: Truth) -> None:
    seen = truth.strace()
    made = truth.made(OPENS)
    for tid in [who["tids"][0] for name in STRACED for who in truth.cast[name]]:
        mine = [call for call in made if call["tids"][0] == tid]
        told = seen[tid]
        assert [name for name, _ in told] == [call["call"] for call in mine]
        for (name, arguments), call in zip(told, mine):
            path = arguments[0 if name == "open" else 1]
            if call.get("path") is not None:
                assert c_string(path) == os.fsencode(call["path"])


@on_one_kernel
def test_opensnoop_tells_the_opens_that_were_made(truth: Truth) -> None:
    made = Counter(
        (call["uid"], call["pids"][0], call["comm"], call["result"] >= 0, _seen_path(call)[:254])
        for call in truth.made(("open", "openat"))
    )
    told = Counter(
        (uid, pid, comm, errno == 0, path)
        for uid, pid, comm, errno, path in truth.opensnoop()
        if comm.startswith("gt-")
    )
    assert told == made


def _seen_path(call: Call) -> str:
    """The path as a tool reads it when the call ends."""
    return shown(call.get("path") or call.get("absent") or "")


@on_one_kernel
def test_bpftrace_tells_the_opens_that_were_made(truth: Truth) -> None:
    made = Counter(
        (call["pids"][0], call["tids"][0], call["uid"], call["cgroup"], call["comm"])
        for call in truth.made(OPENS)
    )
    told = Counter(
        (int(pid), int(tid), int(uid), int(cgroup), comm)
        for pid, tid, uid, _cpu, cgroup, comm, _dfd, _path in truth.bpftrace("open")
        if comm.startswith("gt-")
    )
    assert told == made


def test_strace_and_ebpf_tool_tell_the_same_opens(truth: Truth) -> None:
    """Thread by thread, in the same order, with the same arguments in the same words."""
    seen = truth.strace()
    events: dict[int, list[Event]] = defaultdict(list)
    for event, call in truth.pairs("all"):
        if call["call"] in OPENS and call["comm"] != "gt-absent":
            events[event["host_tid"]].append(event)
    assert set(events) == set(seen)
    for tid, told in events.items():
        assert [event["function"] for event in told] == [name for name, _ in seen[tid]]
        for event, (_, arguments) in zip(told, seen[tid]):
            assert_as_strace(event, arguments)


def assert_as_strace(event: Event, arguments: list[str]) -> None:
    """An open has the arguments that strace wrote."""
    words = {**{key: str(value) for key, value in event["args"].items()}, **event["words"]}
    values = list(words.items())
    for (name, word), seen in zip(values, arguments):
        if name == "filename":
            if seen == "NULL" or "filename" in event.get("unreadable", []):
                assert event["args"]["filename"] is None
            else:
                assert bytes_of(event, "filename") == c_string(seen)[:CUT]
        elif name == "flags":
            assert set(word.split("|")) == set(seen.split("|"))
        elif name != "how":
            assert word == seen


@on_one_kernel
def test_opensnoop_and_ebpf_tool_tell_the_same_opens(truth: Truth) -> None:
    theirs = Counter(
        (uid, pid, comm, path)
        for uid, pid, comm, _errno, path in truth.opensnoop()
        if comm.startswith("gt-") and comm != "gt-absent"
    )
    ours = Counter(
        (event["uid"], event["host_pid"], event["comm"], told_path(event)[:254])
        for event, call in truth.pairs("all")
        if call["call"] in ("open", "openat") and event["comm"] != "gt-absent"
    )
    assert ours == theirs


def told_path(event: Event) -> str:
    """The path as the reading of a reference's output shows it."""
    return (bytes_of(event, "filename") or b"").decode(errors="backslashreplace")


@on_one_kernel
def test_bpftrace_and_ebpf_tool_tell_the_same_opens(truth: Truth) -> None:
    theirs = Counter(
        (*map(int, words[:5]), words[5], int(words[6]), words[7][:150])
        for words in truth.bpftrace("open")
        if words[5].startswith("gt-")
    )
    ours = Counter(
        (
            *(event[name] for name in ("host_pid", "host_tid", "uid", "cpu", "cgroup", "comm")),
            event["args"]["dfd"],
            told_path(event)[:150],
        )
        for event, _ in truth.pairs("kernel")
    )
    assert ours == theirs


@on_one_kernel
def test_bpftrace_and_ebpf_tool_tell_the_same_large_writes(truth: Truth) -> None:
    theirs = Counter(tuple(int(word) for word in words[:3]) for words in truth.bpftrace("write"))
    ours = [
        (event["host_pid"], event["host_tid"], event["args"]["count"])
        for event, _ in truth.pairs("written")
    ]
    assert ours
    assert Counter(ours) == Counter({key: n for key, n in theirs.items() if key in set(ours)})
