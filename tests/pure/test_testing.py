"""The strategies for users' own schemas, and the documentation's example of them."""

from __future__ import annotations

import re
from typing import Any

import construct
import pytest
from construct import Struct
from hypothesis import find, given, settings
from hypothesis import strategies as st

from libbpf_ctypes import SYSCALL_EVENT, BpfError, Schema
from libbpf_ctypes.events import SYSCALL_EVENT_SCHEMA
from libbpf_ctypes.testing import events, records

from .declarations import declarations, expected
from .helpers import ROOT, run_python


@given(declarations, st.data())
def test_events_of_any_schema_are_what_it_decodes(declaration: Any, data: st.DataObject) -> None:
    schema: Schema[Any] = Schema(declaration)
    event = data.draw(events(schema))
    assert schema.size <= len(event.sample) <= schema.size + 7
    assert type(event.record) is schema.record
    assert expected(schema.decode(event.sample)) == expected(event.record)


@given(events(SYSCALL_EVENT), records(SYSCALL_EVENT_SCHEMA))
def test_a_struct_will_do(event: Any, record: Any) -> None:
    assert event.record == SYSCALL_EVENT_SCHEMA.decode(event.sample)
    assert type(record) is type(event.record)


INTERESTING = {
    "padding": lambda event: len(event.sample) == 47 and event.sample[40] != 0,
    "no padding": lambda event: len(event.sample) == 40,
    "a control character": lambda event: "\x1b" in event.record.comm,
    "a line break": lambda event: "\n" in event.record.comm,
    "no UTF-8": lambda event: any(0xDC80 <= ord(c) <= 0xDCFF for c in event.record.comm),
    "garbage behind the NUL": lambda event: event.sample[24] == 0 and any(event.sample[25:40]),
    "the largest number": lambda event: event.record.syscall_nr == 2**64 - 1,
    "another letter than ASCII": lambda event: any(
        0x7F < ord(c) < 0xDC00 for c in event.record.comm
    ),
}


@pytest.mark.parametrize("what", INTERESTING)
def test_what_breaks_tools_is_among_them(what: str) -> None:
    assert find(events(SYSCALL_EVENT), INTERESTING[what])


def test_what_only_construct_parses_is_drawn_too() -> None:
    schema: Schema[Any] = Schema(Struct("a" / construct.OneOf(construct.Int8ul, range(128))))
    assert not schema.derived
    assert find(records(schema), lambda record: record.a > 3).a < 128
    with pytest.raises(BpfError, match="their size varies"):
        events(Struct("a" / construct.VarInt))


def examples() -> list[str]:
    """The Python blocks of the documentation."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_documented_example_passes_and_can_fail() -> None:
    tool, tests = examples()
    run = "\nfor name in [n for n in globals() if n.startswith('test_')]:\n    globals()[name]()\n"
    done = run_python(tool + tests + run)
    assert (done.returncode, done.stderr) == (0, "")
    escaping = 'return "".join(c if c.isprintable() else f"\\\\u{ord(c):04x}" for c in text)'
    assert escaping in tool
    done = run_python(tool.replace(escaping, "return text") + tests + run)
    assert done.returncode == 1
    assert "event=Opened(pid=0, comm=" in done.stderr


def test_only_this_module_needs_hypothesis() -> None:
    code = """
import sys, pkgutil, importlib
sys.modules["hypothesis"] = None
import libbpf_ctypes
for module in pkgutil.walk_packages(libbpf_ctypes.__path__, "libbpf_ctypes."):
    if module.name != "libbpf_ctypes.testing":
        importlib.import_module(module.name)
try:
    import libbpf_ctypes.testing
except ImportError:
    print("it needs it")
"""
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("it needs it\n", "")


@pytest.mark.parametrize(
    "declaration",
    [
        construct.Struct("path" / construct.PaddedString(4096, "utf8")),
        construct.Struct("data" / construct.Bytes(4096)),
        construct.Struct(
            "magic" / construct.Const(b"ABCD"),
            "a" / construct.Int32ul,
            "b" / construct.Computed(construct.this.a),
        ),
    ],
)
def test_large_fields_and_constants_beside_what_construct_parses(declaration: Any) -> None:
    schema: Schema[Any] = Schema(declaration)

    @given(events(schema))
    @settings(max_examples=20)
    def every_event_decodes(event: Any) -> None:
        assert schema.size <= len(event.sample) <= schema.size + 7
        schema.decode(event.sample)

    every_event_decodes()
