"""libbpf's messages: in the error and in logging, never on stderr, never another's."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, BpfObject

from ..conftest import Compile
from ..pure.helpers import PACKAGE, run_python

# libbpf refuses the map's definition, and prints why.
BAD_MAP = """
struct { int (*wrong)[3]; } bad_map __attribute__((section(".maps"), used));
__attribute__((section("kprobe"), used)) int probe(void *ctx) { return ctx == 0; }
"""


@pytest.fixture(scope="module")
def bad(compile_bpf: Compile) -> Path:
    return compile_bpf(BAD_MAP)


def test_messages_are_in_the_error_and_in_logging(
    bad: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "libbpf_ctypes.libbpf"), pytest.raises(BpfError) as caught:
        BpfObject.open(bad)
    assert "bad_map" in caught.value.log
    assert caught.value.log.startswith("libbpf: ")
    assert caught.value.log.endswith("\n")
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [line for line in warnings if "bad_map" in line]
    assert {record.name for record in caplog.records} == {"libbpf_ctypes.libbpf"}
    debug = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert debug, "libbpf tells its steps"
    assert not [line for line in debug if line in caught.value.log]
    assert not [line for line in debug + warnings if line.endswith("\n")]


def test_the_log_of_one_error_is_not_in_the_next(bad: Path) -> None:
    logs = []
    for _ in range(2):
        with pytest.raises(BpfError) as caught:
            BpfObject.open(bad)
        logs.append(caught.value.log)
    assert logs[0] == logs[1]


def test_threads_do_not_mix_their_messages(compile_bpf: Compile) -> None:
    paths = [compile_bpf(BAD_MAP.replace("bad_map", f"bad_map_{n}")) for n in range(4)]
    logs: dict[int, set[str]] = {}

    def open_often(number: int) -> None:
        logs[number] = set()
        for _ in range(50):
            try:
                BpfObject.open(paths[number])
            except BpfError as error:
                logs[number].add(error.log)

    threads = [threading.Thread(target=open_often, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert len(logs[number]) == 1
        (log,) = logs[number]
        assert f"bad_map_{number}" in log
        assert not [other for other in range(4) if other != number and f"bad_map_{other}" in log]


def test_what_a_logging_handler_raises_comes_out_of_the_call(
    caplog: pytest.LogCaptureFixture, compile_bpf: Compile
) -> None:
    logger = logging.getLogger("libbpf_ctypes.libbpf")

    def fail(_record: logging.LogRecord) -> bool:
        raise KeyboardInterrupt

    logger.addFilter(fail)
    try:
        with caplog.at_level(logging.DEBUG, logger.name), pytest.raises(KeyboardInterrupt):
            BpfObject.open(compile_bpf("int x = 1;\n"))
    finally:
        logger.removeFilter(fail)


def test_nothing_is_on_stderr_by_default(bad: Path) -> None:
    code = """
import sys
from libbpf_ctypes import BpfError, BpfObject
try:
    BpfObject.open(sys.argv[1])
except BpfError as error:
    print("bad_map" in error.log)
"""
    done = run_python(code, bad)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_two_copies_of_the_package_keep_their_messages_apart(bad: Path, tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(PACKAGE, tmp_path / "copied", ignore=ignore)
    code = """
import logging, sys
sys.path.append(sys.argv[2])
import copied, libbpf_ctypes
seen = []
handler = logging.Handler()
handler.emit = lambda record: seen.append(record.name)
logging.getLogger().addHandler(handler)
for package in (copied, libbpf_ctypes, copied, libbpf_ctypes):
    del seen[:]
    try:
        package.BpfObject.open(sys.argv[1])
    except package.BpfError as error:
        assert "bad_map" in error.log, error.log
        print(type(error).__module__, *sorted(set(seen)))
"""
    done = run_python(code, bad, PACKAGE.parent, path=tmp_path)
    assert done.stderr == ""
    assert (
        done.stdout.splitlines()
        == [
            "copied.errors copied.libbpf",
            "libbpf_ctypes.errors libbpf_ctypes.libbpf",
        ]
        * 2
    )


def test_another_users_print_function_gets_its_own_messages(bad: Path) -> None:
    code = """
import ctypes, sys
from pathlib import Path
from libbpf_ctypes import BpfError, BpfObject
from libbpf_ctypes import library_path, raw

theirs = []
function = raw.libbpf_print_fn_t(lambda level, template, arguments: theirs.append(template) or 0)
library = ctypes.CDLL(library_path())
library.libbpf_set_print(function)
try:
    BpfObject.open(sys.argv[1])
except BpfError as error:
    print("bad_map" in error.log, len(theirs))
data = Path(sys.argv[1]).read_bytes()
library.bpf_object__open_mem.restype = ctypes.c_void_p
library.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
assert not library.bpf_object__open_mem(data, len(data), None)
print(len(theirs) > 0)
"""
    done = run_python(code, bad)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["True 0", "True"]


def test_the_default_printing_stays_for_calls_that_are_not_ours(bad: Path) -> None:
    code = """
import ctypes, sys
from pathlib import Path
from libbpf_ctypes import BpfError, BpfObject, library_path

try:
    BpfObject.open(sys.argv[1])
except BpfError:
    print("--", file=sys.stderr, flush=True)
library = ctypes.CDLL(library_path())
data = Path(sys.argv[1]).read_bytes()
library.bpf_object__open_mem.restype = ctypes.c_void_p
library.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
assert not library.bpf_object__open_mem(data, len(data), None)
"""
    done = run_python(code, bad)
    assert done.returncode == 0, done.stderr
    ours, separator, others = done.stderr.partition("--\n")
    assert (ours, separator) == ("", "--\n")
    assert others.startswith("libbpf: ")
    assert "bad_map" in others
