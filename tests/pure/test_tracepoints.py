"""Tracepoints by name, their fields, and the names of their values, from files as tracefs has."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import BpfError, kernel
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes.cli.arguments import arguments_of
from libbpf_ctypes.cli.fetches import Fetch
from libbpf_ctypes.cli.formats import DECIMAL, HEXADECIMAL, TEXT, Format
from libbpf_ctypes.cli.print_format import names_in
from libbpf_ctypes.cli.tracepoints import Field, Tracepoint, find_tracepoints, read_format
from libbpf_ctypes.cli.usage import UsageError

COMMON = """name: event
ID: 7
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
SWITCH = """\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:__data_loc char[] path;\toffset:40;\tsize:4;\tsigned:0;
\tfield:__rel_loc char[] tail;\toffset:44;\tsize:4;\tsigned:0;
\tfield:__data_loc u64[] numbers;\toffset:48;\tsize:4;\tsigned:0;
\tfield:unsigned long args[3];\toffset:56;\tsize:24;\tsigned:0;
\tfield:const struct page * page;\toffset:80;\tsize:8;\tsigned:0;
\tfield:some_id_t id;\toffset:88;\tsize:2;\tsigned:1;

print fmt: "%s %s", REC->prev_comm, (REC->prev_state & ((0x1 | 0x2) + 1)) ? \
__print_flags(REC->prev_state & 0xff, "|", { 0x00000001, "S" }, { 0x02UL, "D" }) : "R"
"""
ENTER = """\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int flags;\toffset:32;\tsize:8;\tsigned:0;
\tfield:umode_t mode;\toffset:40;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] __filename_val;\toffset:48;\tsize:4;\tsigned:0;

print fmt: "dfd: 0x%08lx", ((unsigned long)(REC->dfd))
"""
EXIT = """\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;

print fmt: "0x%lx", REC->ret
"""


@pytest.fixture(autouse=True)
def tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracefs of the test's own."""
    formats = {
        "sched/sched_switch": SWITCH,
        "sched/sched_waking": EXIT,
        "syscalls/sys_enter_openat": ENTER,
        "syscalls/sys_exit_openat": EXIT,
        "ftrace/function": EXIT,
    }
    for name, text in formats.items():
        folder = tmp_path / "events" / name
        folder.mkdir(parents=True)
        (folder / "format").write_text(COMMON + text, encoding="ascii")
        (folder / "id").write_text("7\n", encoding="ascii")
    monkeypatch.setattr(kernel, "TRACEFS", (str(tmp_path / "none"), str(tmp_path)))
    return tmp_path / "events"


def labels(*words: str) -> list[str]:
    return [each.label for each in find_tracepoints(list(words))]


def test_by_name_and_pattern() -> None:
    assert labels("sched:sched_switch") == ["sched:sched_switch"]
    assert labels("s*:sys_*", "sched:sched_waking", "syscalls:sys_exit_openat") == [
        "syscalls:sys_enter_openat",
        "syscalls:sys_exit_openat",
        "sched:sched_waking",
    ]
    assert "ftrace:function" not in labels("*:*"), "no tracepoint: nothing can be attached to it"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("sched:sched_swich", "there is no such tracepoint.*There is: sched:sched_switch"),
        ("syscalls:sched_switch", "There is: sched:sched_switch"),
        ("sched:x", "There is: sched:sched_switch, sched:sched_waking"),
        ("nothing:like_it", "events lists what there is"),
        ("sched:x*", "no tracepoint's name matches"),
        ("ftrace:function", "there is no such tracepoint"),
    ],
)
def test_what_there_is_not(word: str, told: str) -> None:
    with pytest.raises(BpfError, match=told) as caught:
        find_tracepoints([word])
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("word", ["sched", ":", "sched:", ":x", "sched:../x", "a/b:c", "a:b\x1b"])
def test_what_is_no_name(word: str) -> None:
    with pytest.raises(UsageError, match=r"is no CATEGORY:NAME, as sched:sched_switch"):
        find_tracepoints([word])


def test_without_tracefs(tracefs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "TRACEFS", (str(tracefs / "none"),))
    with pytest.raises(BpfError, match=r"tracefs is not mounted.*mount -t tracefs"):
        find_tracepoints(["sched:sched_switch"])


def test_a_format_that_makes_no_sense(tracefs: Path) -> None:
    (tracefs / "sched/sched_switch/format").write_text("\x1bnothing", encoding="ascii")
    with pytest.raises(BpfError, match=r"its format makes no sense: '\\x1bnothing'"):
        find_tracepoints(["sched:sched_switch"])


def test_fields() -> None:
    (switch,) = find_tracepoints(["sched:sched_switch"])
    assert switch.fields[0] == Field("prev_comm", "char", 8, 16, False, True, "")
    assert switch.fields[3] == Field("path", "char", 40, 4, False, True, "data")
    assert switch.fields[4].data_loc == "rel"
    assert switch.fields[7] == Field("page", "const struct page *", 80, 8, False, False, "")
    state = Format(HEXADECIMAL, 8, True, switch.words["prev_state"])
    words = [state.words(number) for number in (0, 1, 3, 0x102, 0x100)]
    assert words == ["R", "S", "S|D", "D|0x100", "R|0x100"]


def shown(tracepoint: Tracepoint, *specs: str) -> dict[str, tuple[str, Format, Fetch]]:
    """Of each field that is shown: its type, how it is printed, how it is read."""
    found = arguments_of(tracepoint, Shapes(None), specs=specs)
    assert len(found.shown) == len(found.fetches)
    return {
        one.name: (one.type, one.format, fetch) for one, fetch in zip(found.shown, found.fetches)
    }


def test_where_fields_are() -> None:
    (switch,) = find_tracepoints(["sched:sched_switch"])
    found = shown(switch)
    assert list(found) == ["prev_comm", "prev_pid", "prev_state", "path", "tail", "page", "id"]
    assert found["prev_comm"] == (
        "char[16]",
        Format(TEXT, limit=16),
        Fetch(0, 0, 8, 1, offsets=(8,)),
    )
    pid, state = found["prev_pid"], found["prev_state"]
    assert pid[1:] == (
        Format(DECIMAL, 4, True),
        Fetch(0, 1, 4, 0, 32, 32, is_signed=True, offsets=(24,)),
    )
    assert state[1].words(2) == "D"
    path, tail = found["path"][2], found["tail"][2]
    assert (path.text, path.steps, path.size, path.offsets, path.in_record) == (2, 1, 4, (40, 0), 1)
    assert tail.offsets == (44, 48), "it counts from its field's end"
    assert found["id"][1] == Format(DECIMAL, 2, True), "a type that nobody knows, as it is recorded"
    assert found["page"][0] == "const struct page *"


def test_fields_by_name() -> None:
    (switch,) = find_tracepoints(["sched:sched_switch"])
    found = shown(switch, "args[2]", "prev_comm", "prev_pid:hex", "path:str")
    assert found["args[2]"][2].offsets == (72,)
    assert found["prev_pid"][1].words(2**32 - 1) == "0xffffffff"
    for spec, told in (
        ("args[3]", "it has 3 elements"),
        ("numbers[0]", "is of a type that cannot be read"),
        ("path[0]", "only texts are read"),
        ("prev_pi", "did you mean prev_pid"),
    ):
        with pytest.raises(UsageError, match=told):
            shown(switch, spec)


def test_of_system_calls() -> None:
    enter, leave = find_tracepoints(["syscalls:sys_*_openat"])
    found = shown(enter)
    assert list(found) == ["dfd", "filename", "flags", "mode"], "and nothing that BPF cannot see"
    assert found["dfd"][1].words(2**64 - 100) == "AT_FDCWD"
    assert found["dfd"][2].size == 4, "of the register's 8 bytes"
    assert found["filename"][2] == Fetch(0, 1, 8, 1, offsets=(24, 0))
    assert found["flags"][1].words(0o2000001) == "O_WRONLY|O_CLOEXEC"
    assert found["mode"][1].words(0o644) == "0644"
    result = shown(leave)["ret"][1]
    assert [result.words(number) for number in (3, 2**64 - 2, 2**64 - 5000)] == [
        "3",
        "-ENOENT",
        "-5000",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"%s", __print_symbolic(REC->vec, { 0, "HI" }, { 1, "NET" })', [(0, "HI"), (1, "NET")]),
        ('__print_symbolic(REC->vec & 0xf, { -1, "LAST" })', [(0x1F, "LAST|0x10"), (0x10, "16")]),
        ('__print_symbolic((((REC->vec) >> 8) & (4 - 1)), { 2, "TWO" })', [(0x2AB, "TWO|0xab")]),
        ('__print_flags((unsigned long)REC->vec, "", {(1UL << (3)), "A" })', [(8, "A")]),
        ('__print_flags(REC->vec, "|", {( gfp_t)((((1UL))) << (010)), "B" })', [(256, "B")]),
        ('__print_flags(REC->vec, "|", {0x6 & ~0x2, "C" }, { 0, ((void *)0) })', [(4, "C")]),
        ('__print_flags(REC->vec, "|", { NOT_KNOWN, "D" }, { 2, "E" })', [(3, "E|0x1")]),
        ('__print_symbolic(REC->vec, { 5, "a,\\"}" }, { 6, "F" })', [(6, "F"), (5, "5")]),
        ('(REC->vec) ? __print_flags(REC->vec, "|", { 1, "G" }) : "none"', [(0, "none")]),
    ],
)
def test_names_of_values(text: str, names: list[tuple[int, str]]) -> None:
    found = Format(HEXADECIMAL if "flags" in text or ">>" in text else DECIMAL, 4, True)
    found = found._replace(names=names_in(text)["vec"])
    assert [(number, found.words(number)) for number, _name in names] == names


@pytest.mark.parametrize(
    "text",
    [
        "__print_symbolic(REC->vec, { 1, A })",
        '__print_flags((1 << REC->vec), "|", { 1, "A" })',
        '__print_symbolic(REC->a + REC->b, { 1, "A" })',
        '__print_symbolic(7, { 1, "A" })',
        '__print_symbolic(REC->vec, { 1 << 900, "A" })',
        '__print_symbolic(REC->vec, { 1, "A" }',
        "__print_symbolic(REC->vec, { " + "(" * 5000 + '1, "A" })',
        '__print_symbolic(REC->vec, { __import__("os").getpid(), "A" })',
    ],
)
def test_what_is_not_simple_is_a_number(text: str) -> None:
    assert names_in(text) == {}


@given(st.text(alphabet='{}()[]"\\,;:|&~<>-+?0x1 REC->_afields\n', max_size=80))
def test_any_text_is_read_to_its_end(text: str) -> None:
    fields, _some, printed = read_format(COMMON + text + "\nprint fmt: " + text)
    assert all(field.offset >= 8 for field in fields)
    assert isinstance(names_in(f"__print_flags({printed}"), dict)


@pytest.mark.parametrize(
    "text", ["__print_symbolic(REC->a, " * 5000, f"__print_symbolic(({'a_t' * 200}x, {{ 1, 'x' }})"]
)
def test_no_text_takes_for_ever(text: str) -> None:
    assert names_in(text) == {}
