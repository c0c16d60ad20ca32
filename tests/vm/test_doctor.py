"""ebpf-tool doctor on real kernels: where it says that tracing works, a call was really traced."""

from __future__ import annotations

import pytest

from ..reports import SCRIPT, Report, reports
from .conftest import TOOL, Guest

SITUATIONS = ("root", "nobody", "tracer", "paranoid_tracer", "no_btf", "no_tracefs", "no_libbpf")
#: What only root may look at.
ROOTS = {"kallsyms", "tracefs", "debugfs"}

_told: dict[str, dict[str, Report]] = {}


@pytest.fixture
def told(guest: Guest) -> dict[str, Report]:
    """What it says in each situation, asked once."""
    if guest.kernel not in _told:
        done = guest.run(TOOL[0], str(SCRIPT), *SITUATIONS)
        assert done.returncode == 0, done.stderr
        _told[guest.kernel] = reports(done.stdout)
    return _told[guest.kernel]


@pytest.fixture
def lacking(guest: Guest) -> set[str]:
    """What this kernel has not: Debian's 6.1 is built without CONFIG_FPROBE."""
    return {"kprobe.multi", "missed calls"} if guest.kernel == "6.1" else set()


def test_root(guest: Guest, told: dict[str, Report], lacking: set[str]) -> None:
    report = told["root"]
    assert report.all["works"]
    assert report.all["kernel"] == guest.release
    assert report.no() == lacking
    assert report.unknown() == ({"many functions"} if lacking else set())
    assert "syscall_kprobe saw a call of getppid" in report.text("event")
    assert "call_kprobe saw a call of getppid" in report.text("arguments")
    if lacking:
        assert "CONFIG_FPROBE: this one is not" in report.text("kprobe.multi")
        assert "It takes Linux 6.7 or newer" in report.text("missed calls")
    else:
        assert "call_kprobe_multi saw a call of getppid" in report.text("many functions")


def test_an_unprivileged_user(told: dict[str, Report], lacking: set[str]) -> None:
    report = told["nobody"]
    assert not report.all["works"]
    assert report.no() == {"capabilities", "load", *ROOTS, *(lacking - {"kprobe.multi"})}
    assert {"kprobe.multi", "cookies", "ring buffer", "event"} <= report.unknown()
    assert "Missing CAP_BPF and CAP_PERFMON" in report.text("capabilities")
    assert "for root only" in report.text("tracefs")
    assert "for root only" in report.text("debugfs")


def test_two_capabilities_are_enough(told: dict[str, Report], lacking: set[str]) -> None:
    report = told["tracer"]
    assert report.all["works"]
    assert report.no() == ROOTS | lacking
    assert report.unknown() == told["root"].unknown()


def test_debians_paranoia(told: dict[str, Report], lacking: set[str]) -> None:
    """Debian's kernels have a level 3, where CAP_PERFMON does not suffice."""
    report = told["paranoid_tracer"]
    assert not report.all["works"]
    assert report.no() == {"perf buffer", *ROOTS, *lacking}
    assert report.checks["perf_event_paranoid"]["answer"] is None
    assert "sysctl kernel.perf_event_paranoid=2" in report.text("perf buffer")


def test_no_btf(told: dict[str, Report], lacking: set[str]) -> None:
    report = told["no_btf"]
    assert report.all["works"]
    assert report.no() == {"BTF", "module BTF"} | lacking


def test_no_tracefs(told: dict[str, Report], lacking: set[str]) -> None:
    report = told["no_tracefs"]
    assert report.all["works"]
    assert report.no() == {"tracefs", "debugfs"} | lacking
    assert "mount -t tracefs tracefs /sys/kernel/tracing" in report.text("tracefs")


def test_no_libbpf(told: dict[str, Report], lacking: set[str]) -> None:
    report = told["no_libbpf"]
    assert report.no() == {"libbpf", *(lacking - {"kprobe.multi"})}
    assert {"kprobe.multi", "BTF", "load"} <= report.unknown()
    assert report.checks["kprobes"]["answer"] is True
