"""A libbpf that tells what no header knows yet, and one that looks at errno after it printed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libbpf_ctypes import library_path

from ..conftest import need
from ..pure.helpers import PACKAGE, run_python

SHIPPED = PACKAGE / "data" / "x86_64" / "kprobe.bpf.o"

#: Stands before the real library: what it does not have, that has.
SOURCE = """
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

typedef int (*print_fn)(int level, const char *format, va_list arguments);
static print_fn print;

print_fn libbpf_set_print(print_fn function)
{
	print_fn before = print;

	print = function;
	return before;
}

static void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(0, format, arguments);
	va_end(arguments);
}

void *bpf_object__open_mem(const void *data, size_t size, const void *opts);

int bpf_program__type(const void *program) { return program ? 4711 : 0; }
int bpf_program__expected_attach_type(const void *program) { return program ? 4712 : 0; }
int bpf_map__type(const void *map) { return map ? 4713 : 0; }
int bpf_object__load(void *object)
{
	(void)object;
	errno = EXDEV;
	say("libbpf: load failed\\n");
	return -errno;
}
void *bpf_object__find_map_by_name(const void *object, const char *name)
{
	(void)object;
	errno = EXDEV;
	say("libbpf: no map %s\\n", name);
	return NULL;
}
"""


@pytest.fixture(scope="module")
def strange_libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "libbpf-strange.so"
    command = [need("cc"), "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(path)]
    command += ["-Wl,--no-as-needed", library_path()]
    subprocess.run(command, input=SOURCE, encoding="utf-8", check=True)
    return path


def told(library: Path, code: str) -> list[str]:
    done = run_python(code, SHIPPED, LIBBPF_CTYPES_LIBRARY=str(library))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_types_of_a_newer_libbpf_have_a_number_for_a_name(strange_libbpf: Path) -> None:
    code = """
import sys
from libbpf_ctypes import BpfError, BpfObject, PerfBuffer, RingBuffer, UserRingBuffer
with BpfObject.open(sys.argv[1]) as obj:
    program, map = obj.programs["syscall_kprobe"], obj.maps["EVENTS"]
    print(program, int(program.type))
    print(int(program.expected_attach_type))
    print(map, int(map.type))
    for reader in (PerfBuffer, RingBuffer, UserRingBuffer):
        try:
            reader(map)
        except BpfError as error:
            print(error.strerror)
    try:
        map[b"1234"]
    except BpfError as error:
        print(type(error).__name__)
"""
    program, attach_type, map_, *refused, last = told(strange_libbpf, code)
    assert program == "<Program syscall_kprobe (UNKNOWN_4711)> 4711"
    assert attach_type == "4712"
    assert map_ == "<Map EVENTS (UNKNOWN_4713)> 4713"
    wanted = ("PERF_EVENT_ARRAY", "RINGBUF", "USER_RINGBUF")
    assert refused == [f"it is of type UNKNOWN_4713, not {name}" for name in wanted]
    assert last == "BpfError"


def test_a_handler_of_messages_leaves_errno_to_libbpf(strange_libbpf: Path) -> None:
    """It opens files that are not there, and calls libbpf, between C's error and its return."""
    code = """
import ctypes, logging, sys
from pathlib import Path
from libbpf_ctypes import BpfError, BpfObject, raw
from libbpf_ctypes._ffi import lib
from libbpf_ctypes.log import calling

class Disturb(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())
        Path("/nonexistent").exists()
        ctypes.CDLL(None, use_errno=True).close(-1)
        ctypes.set_errno(7)
        try:
            lib.bpf_program__set_type(obj.programs["syscall_kprobe"], 1)
            raw.btf__parse(b"/nonexistent", None)
        except BpfError as error:
            assert error.errno == 2, error

messages = []
obj = BpfObject.open(sys.argv[1])
logging.getLogger("libbpf_ctypes.libbpf").addHandler(Disturb())
for call in (obj.load, lambda: lib.bpf_object__find_map_by_name(obj, b"no")):
    del messages[:]
    try:
        with calling("try"):
            call()
    except BpfError as error:
        print(error.errno, messages[:1])
obj.close()
"""
    assert told(strange_libbpf, code) == [
        "18 ['libbpf: load failed']",
        "18 ['libbpf: no map no']",
    ]
