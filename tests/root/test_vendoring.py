"""Two copies of the package in one tool, under two names, that trace at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from ..pure.helpers import PACKAGE

TOOL = '''
"""Traces its own calls of open64 with a vendored copy, and with one that was there already."""
import ctypes
import json
import logging
import os
import threading

import _bpf
import libbpf_ctypes

MISSING = ctypes.create_string_buffer(b"/nonexistent/vendored")
LIBC = ctypes.CDLL(None)
logged = {"_bpf.libbpf": 0, "libbpf_ctypes.libbpf": 0}


class Count(logging.Handler):
    def emit(self, record):
        logged[record.name] += 1


for name in logged:
    logging.getLogger(name).addHandler(Count())


def count(buffer, wanted):
    """How many of our events came; syscall_nr is the first argument's register."""
    found = 0
    while found < wanted and (events := buffer.poll(10)):
        found += sum(event.syscall_nr == ctypes.addressof(MISSING) for event in events)
    return found


def refused(package):
    """The error of an object that libbpf refuses, with libbpf's log in it."""
    try:
        package.BpfObject.open(b"\\x7fELF\\2\\1\\1" + bytes(100))
    except package.BpfError as error:
        return [type(error).__module__, bool(error.log)]


def main():
    kept, answers = [], {}
    links = []
    readers = []
    for package in (_bpf, libbpf_ctypes):
        obj = package.BpfObject.open(package.KPROBE_OBJECT)
        kept.append(obj)
        obj.variables["target_pid"].value = os.getpid()
        obj.variables["preemptible"].value = True
        obj.load()
        readers.append(package.PerfBuffer(obj.maps["EVENTS"], package.SYSCALL_EVENT))
        links.append(obj.programs["syscall_kprobe"].attach_uprobe("libc.so.6", "open64"))
    counts = {}

    def read(name, buffer):
        counts[name] = count(buffer, 1000)

    threads = [threading.Thread(target=read, args=pair) for pair in zip("ab", readers)]
    for thread in threads:
        thread.start()
    for _ in range(1000):
        LIBC.open64(MISSING, os.O_RDONLY)
    for thread in threads:
        thread.join()
    answers["both"] = [counts["a"], counts["b"]]
    answers["refused"] = [refused(package) for package in (_bpf, libbpf_ctypes)]
    answers["logged"] = [number > 0 for number in logged.values()]
    kept[0].close()  # the other copy goes on
    for _ in range(10):
        LIBC.open64(MISSING, os.O_RDONLY)
    answers["one"] = count(readers[1], 10)
    answers["closed"] = [readers[0].closed, readers[1].closed]
    kept[1].close()
    answers["files"] = [package.__file__ for package in (_bpf, libbpf_ctypes)]
    print(json.dumps(answers))


main()
'''


def test_two_copies_trace_at_once(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("_bpf", "libbpf_ctypes"):
        shutil.copytree(PACKAGE, tmp_path / name, ignore=ignore)
    tool = tmp_path / "tool.py"
    tool.write_text(TOOL, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tool)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers.pop("files") == [
        str(tmp_path / "_bpf" / "__init__.py"),
        str(tmp_path / "libbpf_ctypes" / "__init__.py"),
    ]
    assert answers == {
        "both": [1000, 1000],
        "refused": [["_bpf.errors", True], ["libbpf_ctypes.errors", True]],
        "logged": [True, True],
        "one": 10,
        "closed": [True, False],
    }
    assert done.stderr == ""
