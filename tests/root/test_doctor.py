"""ebpf-tool doctor on the running kernel: what it says in each situation is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libbpf_ctypes import features, kernel, library_path, library_version
from libbpf_ctypes.cli.cgroup import cgroup_root, find_cgroup
from libbpf_ctypes.cli.trial import STEPS

from ..conftest import Compile
from ..pure.helpers import ROOT, run_python, run_tool
from ..pure.json_schema import violations
from ..reports import SCRIPT, Report, reports

SITUATIONS = [
    *("root", "nobody", "tracer", "user_namespace", "pid_namespace", "seccomp"),
    *("no_btf", "no_tracefs", "no_cgroups", "no_libbpf", "no_docopt_and_construct"),
]
TRIAL = {*STEPS, "arguments", "many functions"}
#: What only root may look at.
ROOTS = {"kallsyms", "tracefs", "debugfs"}


@pytest.fixture(scope="module")
def told() -> dict[str, Report]:
    """What it says in each situation."""
    command = [sys.executable, str(SCRIPT), *SITUATIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return reports(done.stdout)


def assert_no_false_no(report: Report, root: Report, *lacking: str) -> None:
    """What root has is there or unknown, but for what the situation lacks, and the trial."""
    for name, line in report.checks.items():
        if name not in TRIAL and name not in lacking:
            assert line["answer"] in (None, root.checks[name]["answer"]), line


def test_root(told: dict[str, Report]) -> None:
    report = told["root"]
    assert report.all["version"] == 1
    assert (report.all["uid"], report.all["kernel"]) == (
        0,
        Path("/proc/sys/kernel/osrelease").read_text().strip(),
    )
    libbpf = {"version": library_version(), "path": library_path()}
    assert report.checks["libbpf"]["value"] == libbpf
    for name, answer in {
        "capabilities": True,
        "kprobes": kernel.has_kprobes(),
        "kprobe.multi": features.has_kprobe_multi(),
        "cookies": features.has_bpf_cookie(),
        "BTF": features.has_btf(),
        "module BTF": features.has_module_btf(),
        "ring buffer": features.has_ring_buffer(),
        "tracefs": kernel.ftraceable() is not None,
        "process ids": kernel.in_initial_pid_namespace(),
        "load": True,
        "perf buffer": True,
        "attach": kernel.has_kprobes(),
    }.items():
        assert report.checks[name]["answer"] is answer, report.checks[name]
    assert report.checks["perf buffer"]["value"] > 0
    assert report.all["works"] is kernel.has_kprobes()
    if not kernel.has_kprobes():
        assert "uprobe and tracepoint need none -> Run it in a kernel" in report.text("kprobes")
        assert "bin/vm -- bin/ebpf-tool" in report.text("kprobes")
        assert {"event", "arguments", "many functions"} <= report.unknown()
        assert report.checks["event"]["detail"] == "not tried, without attach"


def test_an_unprivileged_user(told: dict[str, Report]) -> None:
    report = told["nobody"]
    assert not report.all["works"]
    assert "Missing CAP_BPF and CAP_PERFMON. Run as root, or give" in report.text("capabilities")
    assert report.checks["capabilities"]["value"] == ["CAP_BPF", "CAP_PERFMON"]
    assert {"kprobe.multi", "cookies", "ring buffer"} <= report.unknown()
    assert {"capabilities", "load"} <= report.no()
    assert "Run as root, or with CAP_SYSLOG." in report.text("kallsyms")
    assert_no_false_no(report, told["root"], "capabilities", *ROOTS)


def test_two_capabilities_are_enough(told: dict[str, Report]) -> None:
    report, root = told["tracer"], told["root"]
    assert report.all["uid"] == 65534
    assert report.all["works"] is root.all["works"]
    for name, line in report.checks.items():
        if name not in ROOTS:
            assert line["answer"] is root.checks[name]["answer"], line
    assert "kernel.perf_event_mlock_kb" in report.text("perf buffer")


def test_root_of_a_user_namespace(told: dict[str, Report]) -> None:
    report = told["user_namespace"]
    assert report.all["uid"] == 0
    assert "capabilities do not count for tracing -> Run it outside" in report.text("capabilities")
    assert {"capabilities", "load"} <= report.no()
    assert_no_false_no(report, told["root"], "capabilities", *ROOTS)


def test_a_containers_process_ids(told: dict[str, Report]) -> None:
    assert told["pid_namespace"].all["works"] is told["root"].all["works"]
    assert told["pid_namespace"].checks["process ids"]["value"] == "container"
    assert told["root"].checks["process ids"]["value"] == "host"


def test_a_filter_of_system_calls(told: dict[str, Report]) -> None:
    report = told["seccomp"]
    assert report.checks["seccomp"]["value"] == 2
    assert "seccomp=unconfined" in report.text("seccomp")
    assert report.checks["load"]["answer"] is False
    assert "seccomp filter forbids it" in report.text("load")
    assert_no_false_no(report, told["root"])


def test_no_btf(told: dict[str, Report]) -> None:
    report = told["no_btf"]
    assert {"BTF", "module BTF"} <= report.no()
    assert "plain numbers" in report.text("BTF")
    assert "CONFIG_DEBUG_INFO_BTF," in report.text("BTF")
    assert report.checks["load"]["answer"] is True
    assert report.all["works"] is told["root"].all["works"]
    assert_no_false_no(report, told["root"], "BTF", "module BTF")


def test_no_tracefs(told: dict[str, Report]) -> None:
    report = told["no_tracefs"]
    assert {"tracefs", "debugfs"} <= report.no()
    assert "mount -t tracefs tracefs /sys/kernel/tracing" in report.text("tracefs")
    assert "mount -t debugfs debugfs /sys/kernel/debug" in report.text("debugfs")
    assert report.all["works"] is told["root"].all["works"]
    assert_no_false_no(report, told["root"], "tracefs", "debugfs")


def test_no_cgroups(told: dict[str, Report]) -> None:
    report = told["no_cgroups"]
    assert "no cgroups of version 2 are mounted: no --cgroup" in report.text("cgroups")
    assert "mount -t cgroup2" in report.text("cgroups")
    assert report.all["works"] is told["root"].all["works"]
    assert_no_false_no(report, told["root"], "cgroups")


def test_no_libbpf(told: dict[str, Report]) -> None:
    report, root = told["no_libbpf"], told["root"]
    assert "/nonexistent/libbpf.so.1" in report.text("libbpf")
    assert "apt install libbpf1" in report.text("libbpf")
    assert report.unknown() >= {*TRIAL, "kprobe.multi", "cookies", "BTF", "ring buffer"}
    assert "not tried, without libbpf" in report.text("load")
    assert report.checks["kprobes"]["answer"] is root.checks["kprobes"]["answer"]
    assert_no_false_no(report, root, "libbpf")


def test_a_libbpf_that_lacks_a_function(compile_library: Compile) -> None:
    source = "int libbpf_{}_version(void) {{ return {}; }}"
    path = str(compile_library(source.format("major", 1) + source.format("minor", 0)))
    done = run_tool("doctor", "--json", LIBBPF_CTYPES_LIBRARY=path)
    report = Report(done.returncode, done.stdout, done.stderr)
    assert report.checks["libbpf"]["answer"] is True
    assert f"{path} is libbpf 1.0 -> Install libbpf" in report.text("load")
    assert f"{path} is libbpf 1.0" in report.text("cookies")


@pytest.mark.parametrize("which", ["newer_libbpf", "newest_libbpf"])
def test_another_libbpf(
    which: str, request: pytest.FixtureRequest, told: dict[str, Report]
) -> None:
    path = request.getfixturevalue(which)
    done = run_tool("doctor", "--json", LIBBPF_CTYPES_LIBRARY=path)
    report = Report(done.returncode, done.stdout, done.stderr)
    assert report.checks["libbpf"]["value"]["path"] == path
    answers = {name: line["answer"] for name, line in told["root"].checks.items()}
    answers["debugfs"] = report.checks["debugfs"]["answer"]  # which is not mounted for it
    answers["tracefs"] = report.checks["tracefs"]["answer"]
    answers["lockdown"] = report.checks["lockdown"]["answer"]
    assert {name: line["answer"] for name, line in report.checks.items()} == answers


def test_no_docopt_and_no_construct(told: dict[str, Report]) -> None:
    report = told["no_docopt_and_construct"]
    assert not report.all["works"]
    assert "pip install docopt-ng" in report.text("docopt")
    assert "pip install construct" in report.text("construct")
    assert_no_false_no(report, told["root"], "docopt", "construct")


def test_the_command_runs_without_docopt() -> None:
    code = """
import runpy, sys
sys.modules["docopt"] = None
sys.argv = [sys.argv[1], "doctor"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = run_python(code, "bin/ebpf-tool")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(
        r"^  no  docopt +docopt-ng is missing\n      -> 'pip install", done.stdout, re.M
    )


def test_the_text_says_the_same() -> None:
    text, report = run_tool("doctor"), run_tool("doctor", "--json")
    assert (text.returncode, text.stderr) == (report.returncode, "")
    told = Report(report.returncode, report.stdout, report.stderr)
    lines = text.stdout.splitlines()
    assert all(len(line) <= 80 or "/" in line for line in lines)
    found = re.findall(r"^  (ok|no|\? )  ([\w. ]+?)  ", text.stdout, re.M)
    marks = {True: "ok", False: "no", None: "? "}
    assert found == [(marks[line["answer"]], name) for name, line in told.checks.items()]
    words = " ".join(text.stdout.split())
    for line in told.checks.values():
        assert " ".join(line["detail"].split()) in words
        if line["group"] != "trial":  # whose cause may have been told
            assert " ".join(line["advice"].split()) in words
    needed = [n for n, line in told.checks.items() if line["needed"] and line["answer"] is False]
    if told.all["works"]:
        assert "ebpf-tool kprobe works here" in lines[-1]
    else:
        assert words.endswith(f"does not work here, for want of: {', '.join(needed)}.")


def test_the_report_is_one_line_of_json() -> None:
    done = run_tool("doctor", "--json")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["tool"] == run_tool("--version").stdout.splitlines()[0]


def test_the_report_is_as_documented(told: dict[str, Report]) -> None:
    schema = json.loads((ROOT / "docs" / "json-schema.json").read_text(encoding="utf-8"))
    for report in told.values():
        assert violations(report.all, schema, schema) == []
        assert violations({**report.all, "checks": [{}]}, schema, schema)
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    table = page.partition("| `group` | `name` |")[2]
    names = " ".join(line.split("|")[2] for line in table.splitlines()[2:])
    assert re.findall("`(.*?)`", names) == list(told["root"].checks)


def test_a_cgroup_is_found(cgroup: Path) -> None:
    root = cgroup_root()
    assert find_cgroup(f"/{cgroup.name}") == root / cgroup.name
    assert find_cgroup(str(cgroup)).stat().st_ino == (root / cgroup.name).stat().st_ino
