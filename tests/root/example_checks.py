"""What each example must have printed of the load that example_load.py makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..conftest import need
from ..pure.helpers import ROOT
from .example_load import LOOKUPS, PACKETS, PROTOCOL, SLEEPS, SYSCALLS, WRITES

RUNS = Path(__file__).with_name("example_runs.py")


def build(folder: Path) -> Path:
    """Copies the examples to a folder and builds them there, as a user does."""
    need("make")
    need("clang")
    copy = folder / "examples"
    shutil.copytree(ROOT / "examples", copy, ignore=shutil.ignore_patterns("*.o", "__pycache__"))
    done = subprocess.run(["make", "-C", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return copy


def lines_of(process: dict[str, int] | int, out: str) -> list[str]:
    """The lines about a process."""
    pid = process if isinstance(process, int) else process["pid"]
    return [line for line in out.splitlines() if line.startswith(f"{pid:>7} ")]


def histogram_total(out: str) -> int:
    """The total of a histogram, which is the sum of its rows."""
    rows = [int(row) for row in re.findall(r"^ *\d+ - +\d+ +(\d+)(?: #+)?$", out, re.M)]
    total = re.search(r"^(\d+) in all$", out, re.M)
    assert total is not None, out
    assert sum(rows) == int(total[1])
    return sum(rows)


def opensnoop(load: dict[str, Any], out: str) -> None:
    lines = lines_of(load["pid"], out)
    who = f"{load['pid']:>7} {load['uid']:>6} "
    there = [line for line in lines if line.endswith(rf" {load['folder']}/a file\x1b[31m")]
    assert len(there) == 2 + (os.uname().machine == "x86_64"), "created, opened, by open(2), too"
    assert all(line.startswith(who) and f" {load['fd']} " in line for line in there)
    missing = [line for line in lines if line.endswith(f" ENOENT {load['folder']}/missing")]
    assert len(missing) == 1
    assert len(lines) == len(out.splitlines()) - 1, "nobody else's"


def execsnoop(load: dict[str, Any], out: str) -> None:
    (line,) = lines_of(load["exited"], out)
    assert line.split()[:4] == [
        str(load["exited"]["pid"]), str(load["pid"]), str(load["uid"]), "sh"
    ]  # fmt: skip
    assert line.endswith(" /bin/sh -c exit 7 first word ''")
    (killed,) = lines_of(load["killed"], out)
    assert killed.endswith(" /bin/sh -c kill -15 $$")


def exitsnoop(load: dict[str, Any], out: str) -> None:
    (line,) = lines_of(load["exited"], out)
    assert load["exited"]["status"] == 7
    assert line.endswith(" status 7")
    assert line.split()[1:3] == [str(load["pid"]), "sh"]
    assert 0 < float(line.split()[3]) < 60
    (killed,) = lines_of(load["killed"], out)
    assert load["killed"]["status"] == -15
    assert killed.endswith(" SIGTERM")


def tcpconnect(load: dict[str, Any], out: str) -> None:
    by_ipv4, by_ipv6 = load["ports"]
    expected = [(str(by_ipv4), "127.0.0.1")] + ([(str(by_ipv6), "::1")] if by_ipv6 else [])
    told = [tuple(line.split()[-2:]) for line in lines_of(load["pid"], out)]
    assert sorted(told) == sorted(expected)  # each CPU's come in order
    assert len(out.splitlines()) == 1 + len(expected)


def syscount(load: dict[str, Any], out: str) -> None:
    (line,) = lines_of(load["pid"], out)
    assert f"  getppid {SYSCALLS}, " in line, "the most frequent one"
    assert f" pwrite64 {WRITES}, " in line
    assert f" sendto {PACKETS}, " in line
    assert int(line.split()[2]) > SYSCALLS + WRITES + PACKETS
    assert len(out.splitlines()) == 2, "nobody else's"


def runqlat(_load: dict[str, Any], out: str) -> None:
    assert histogram_total(out) >= SLEEPS


def xdpcount(_load: dict[str, Any], out: str) -> None:
    (line,) = [line for line in out.splitlines() if line.startswith(f"ip {PROTOCOL} ")]
    assert line.split()[2:] == [str(PACKETS), str(PACKETS * (14 + 20 + 16))]
    assert re.search(r"^tcp +\d+ +\d+$", out, re.M)


def gethostlatency(load: dict[str, Any], out: str) -> None:
    lines = lines_of(load["pid"], out)
    assert len(lines) == len(out.splitlines()) - 1, "nobody else's"
    asked = [line.rpartition(" ")[2] for line in lines[:LOOKUPS]]
    assert asked == [f"127.0.0.{number}" for number in range(LOOKUPS)]
    assert all(" 0 127" in line and float(line.split()[2]) > 0 for line in lines[:LOOKUPS])
    assert lines[LOOKUPS].endswith(" -2 no address"), "EAI_NONAME"


def biolatency(load: dict[str, Any], out: str) -> None:
    assert re.findall(r"^(\S+):$", out, re.M) == [load["device"]]
    assert histogram_total(out) >= WRITES


CHECKS: dict[str, Callable[[dict[str, Any], str], None]] = {
    check.__name__: check
    for check in (
        opensnoop,
        execsnoop,
        exitsnoop,
        tcpconnect,
        syscount,
        runqlat,
        xdpcount,
        gethostlatency,
        biolatency,
    )
}


def check(name: str, ran: dict[str, Any]) -> None:
    """Asserts that an example ended well and printed what the load did."""
    result = ran["examples"][name]
    assert result["status"] == 0, result["err"]
    assert re.fullmatch(rf"\d programs of {name} attached; Ctrl-C ends it\.\n", result["err"])
    CHECKS[name](ran["load"], result["out"])
