"""What the kernel counted: --by, groups and tallies, and what they are called."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from libbpf_ctypes.cli.by import ARGUMENT, By, read_by
from libbpf_ctypes.cli.formats import Format, ShownArgument
from libbpf_ctypes.cli.origin import Traced
from libbpf_ctypes.cli.rows import Labels
from libbpf_ctypes.cli.tally import Tally, decode_group, read_tallies, since
from libbpf_ctypes.cli.usage import UsageError

from .calls import AT, OPENAT, READ


def group(
    function: int = 0,
    comm: bytes = b"",
    text: bytes | None = None,
    **numbers: int,
) -> bytes:
    """The bytes of a struct group, with a text or without."""
    fields = dict.fromkeys(("pid", "tid", "cpu", "uid", "padding", "value", "kernel", "user"), 0)
    assert set(numbers) <= set(fields)
    packed = struct.pack("=6I3Q16s", function, *{**fields, **numbers}.values(), comm)
    return packed if text is None else packed + text.ljust(256, b"\0")


class Stacks:
    """Stacks with names made of their keys."""

    def kernel(self, key: int) -> tuple[str, ...]:
        return (f"inner{key}+0x1", "outer+0x2") if key else ()

    def user(self, key: int, pid: int) -> tuple[str, ...]:
        return ("read+0x10 (libc.so.6)", f"main{pid // 100}+0x1") if key else ()


class Groups:
    """A per-CPU map of two CPUs."""

    def __init__(self, value_size: int, entries: dict[bytes, list[bytes]]) -> None:
        self.value_size, self._entries = value_size, entries

    def typed(self, **_types: Any) -> Groups:
        return self

    def lookup_batch(self) -> Any:
        pairs = list(self._entries.items())
        yield pairs[:1]
        yield pairs[1:]


def tally(calls: int, total_ns: int, max_ns: int, **slots: int) -> bytes:
    """The bytes of a struct tally."""
    counted = [slots.get(f"s{slot}", 0) for slot in range(64)]
    return struct.pack("=67Q", calls, total_ns, max_ns, *counted)


# --- --by


@pytest.mark.parametrize(
    ("text", "arguments", "by", "bits"),
    [
        (None, (), By(), 0),
        ("comm", (), By(("comm",)), 32),
        ("cpu,function", (), By(("cpu", "function")), 8 | 1),
        ("uid,tid,pid", (), By(("uid", "tid", "pid")), 16 | 4 | 2),
        # What the value of an argument means its function says.
        ("filename", (), By((ARGUMENT,), "filename"), 64 | 1),
        ("comm,how.flags:hex", (), By(("comm", ARGUMENT), "how.flags:hex"), 32 | 64 | 1),
        ("comm", ("arg0:str",), By(("comm", ARGUMENT), "arg0:str"), 32 | 64 | 1),
        ("pid,arg:pid", (), By(("pid", ARGUMENT), "pid"), 2 | 64 | 1),
        ("kernel-stack", (), By(("kernel-stack",)), 128),
        # Addresses of a process mean nothing without it.
        ("user-stack", (), By(("user-stack",)), 256 | 2),
        ("comm,stack", (), By(("comm", "stack")), 32 | 128 | 256 | 2),
    ],
)
def test_keys_are_read(text: str | None, arguments: tuple[str, ...], by: By, bits: int) -> None:
    found = read_by(text, arguments)
    assert found == by
    assert found.bits == bits


@pytest.mark.parametrize(
    ("text", "arguments", "wrong"),
    [
        ("", (), "with commas between"),
        ("comm,", (), "with commas between"),
        ("comm,comm", (), "there twice"),
        ("dfd,filename", (), "one argument at a time, not dfd and filename"),
        ("dfd", ("flags",), "one argument at a time"),
        (None, ("dfd", "flags"), "one argument at a time"),
        ("stack,user-stack", (), "stack is both"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    text: str | None, arguments: tuple[str, ...], wrong: str
) -> None:
    with pytest.raises(UsageError, match=wrong):
        read_by(text, arguments)


# --- tallies


def test_the_cpus_tallies_are_one() -> None:
    groups: Any = Groups(
        536,
        {
            group(pid=1): [tally(2, 30, 20, s4=2), tally(1, 5, 5, s2=1)],
            group(pid=2): [bytes(536), tally(1, 7, 7, s2=1)],
            group(pid=3): [bytes(536), bytes(536)],  # made, and not yet counted in
            group(pid=4): [tally(1, 0, 0), tally(3, 9, 9, s1=2)],  # the program is at it
        },
    )
    found = read_tallies(groups)
    slots = [0] * 64
    slots[4], slots[2] = 2, 1
    assert found[group(pid=1)] == Tally(3, 35, 20, tuple(slots))
    assert found[group(pid=2)].calls == 1
    assert found[group(pid=4)].calls == 2
    assert set(found) == {group(pid=1), group(pid=2), group(pid=4)}


def test_counts_are_summed_up_too() -> None:
    values = [struct.pack("=Q", 3), struct.pack("=Q", 4)]
    assert read_tallies(Groups(8, {group(): values})) == {group(): Tally(7)}  # type: ignore[arg-type]


def test_an_interval_is_the_difference_of_two_readings() -> None:
    old = {b"a": Tally(2, 30, 20, (1, 1)), b"b": Tally(1, 9, 9, (1, 0))}
    new = {
        b"a": Tally(5, 60, 25, (1, 4)),
        b"b": Tally(1, 9, 9, (1, 0)),
        b"c": Tally(1, 3, 3, (1, 0)),
    }
    assert since(new, {}) == new
    assert since(new, old) == {b"a": Tally(3, 30, 25, (0, 3)), b"c": Tally(1, 3, 3, (1, 0))}


def test_the_longest_of_an_interval_is_unknown_if_one_before_was_longer() -> None:
    before, now = Tally(1, 50, 50, (1,)), Tally(2, 60, 50, (2,))
    assert now.since(before).max_ns is None
    assert now.since(before).plus(before).max_ns is None
    assert Tally(2, 60, 60, (2,)).since(before).plus(before).max_ns == 60


# --- what groups are called


def test_a_group_is_decoded_with_its_text_and_without() -> None:
    raw = group(1, b"cat", b"/etc/\xff", pid=2, tid=3, cpu=4, uid=5, value=7, kernel=8, user=9)
    assert decode_group(raw) == (1, 2, 3, 4, 5, 7, 8, 9, "cat", "/etc/\udcff")
    assert decode_group(raw[:64])[-2:] == ("cat", "")


def test_each_key_has_its_words_and_its_json() -> None:
    by = read_by("function,comm,pid,tid,uid,cpu", ())
    labels = Labels(by, (OPENAT, READ))
    assert labels.headings == ("function", "comm", "pid", "tid", "uid", "cpu")
    raw = group(1, b"a\x1b\xff", pid=10, tid=11, uid=12, cpu=13)
    (row,) = labels.rows({raw: Tally(3)})
    assert row.cells == ("ext4:ext4_read", "a\\x1b\\xff", "10", "11", "12", "13")
    assert row.json == {
        "by": {
            "function": "ext4:ext4_read", "comm": "a\x1b\ufffd",
            "pid": 10, "tid": 11, "uid": 12, "cpu": 13,
        },
        "by_bytes": {"comm": "611bff"},
    }  # fmt: skip
    assert row.tally == Tally(3)


def of(*shown: ShownArgument) -> tuple[Traced, ...]:
    """Functions with one argument each."""
    return tuple(OPENAT._replace(arguments=(each,)) for each in shown)


DFD = OPENAT.arguments[0]
PATH = OPENAT.arguments[1]._replace(value=0)


def test_a_process_that_a_container_does_not_have_is_no_process_0() -> None:
    by, found = read_by("pid,tid,uid", ()), {group(0): Tally(1)}
    (row,) = Labels(by, (OPENAT,), in_container=True).rows(found)
    assert row.cells == ("?", "?", "0")
    assert row.json == {"by": {"pid": None, "tid": None, "uid": 0}}
    (row,) = Labels(by, (OPENAT,)).rows(found)
    assert row.cells == ("0", "0", "0")


def test_a_number_has_its_name() -> None:
    labels = Labels(read_by("dfd", ()), of(DFD))
    rows = labels.rows({group(value=0xFFFFFF9C): Tally(2), group(value=7): Tally(1)})
    assert [row.cells for row in rows] == [("AT_FDCWD",), ("7",)]
    assert [row.json for row in rows] == [
        {"by": {"dfd": -100}, "words": {"dfd": "AT_FDCWD"}},
        {"by": {"dfd": 7}},
    ]


def test_a_text_is_quoted_and_escaped() -> None:
    labels = Labels(read_by("filename", ()), of(PATH))
    found = {
        group(text=b"/etc/\xff", value=7): Tally(1),
        group(text=b"", value=1): Tally(1),
        group(text=b"", value=0): Tally(1),
        group(text=b"x" * 255, value=256): Tally(1),
    }
    rows = labels.rows(found)
    cells = [('"/etc/\\xff"',), ('""',), ("NULL",), (f'"{"x" * 255}"...',)]
    assert [row.cells for row in rows] == cells
    assert [row.json for row in rows] == [
        {"by": {"filename": "/etc/\ufffd"}, "by_bytes": {"filename": "2f6574632fff"}},
        {"by": {"filename": ""}},
        {"by": {"filename": None}},
        {"by": {"filename": "x" * 255}, "cut": ["filename"]},
    ]


def test_an_argument_is_read_as_its_function_has_it() -> None:
    """The same number is another word in another function; where the word is one, so is the row."""
    functions = (*of(DFD), *of(DFD._replace(format=Format(size=8))), OPENAT._replace(arguments=()))
    labels = Labels(read_by("dfd", ()), functions)
    number = 0xFFFFFF9C
    found = {
        group(0, value=number): Tally(1),
        group(1, value=number): Tally(2),
        group(0, value=5): Tally(3),
        group(1, value=5): Tally(4),
        group(2): Tally(5),
    }
    rows = {row.cells: row.tally.calls for row in labels.rows(found)}
    assert rows == {("AT_FDCWD",): 1, (str(number),): 2, ("5",): 7, ("-",): 5}
    assert DFD.format == AT


def test_stacks_of_processes_that_are_called_the_same_are_one() -> None:
    labels = Labels(read_by("comm,stack", ()), (OPENAT,), Stacks())
    assert labels.headings == ("comm",)
    found = {
        group(comm=b"a", pid=100, kernel=1, user=2): Tally(1, 5, 5, (1,)),
        group(comm=b"a", pid=101, kernel=1, user=2): Tally(2, 9, 8, (2,)),
        group(comm=b"a", pid=200, kernel=1, user=2): Tally(4, 9, 8, (4,)),
    }
    one, other = labels.rows(found)
    assert one.tally == Tally(3, 14, 8, (3,))
    assert other.tally.calls == 4
    assert one.kernel == ("inner1+0x1", "outer+0x2")
    assert (one.user[1], other.user[1]) == ("main1+0x1", "main2+0x1")
    assert one.json == {
        "by": {
            "comm": "a",
            "kernel_stack": ["inner1+0x1", "outer+0x2"],
            "user_stack": ["read+0x10 (libc.so.6)", "main1+0x1"],
        }
    }


def test_a_function_that_the_trace_does_not_have_is_called_by_its_number() -> None:
    (row,) = Labels(read_by("function", ()), (OPENAT,)).rows({group(9): Tally(1)})
    assert row.cells == ("function 9",)


@pytest.mark.parametrize(
    ("label", "cell"), [("a\\x09b:f", "a\\x09b:f"), ("a\tb:f", "a\\x09b:f"), ("é:f", "é:f")]
)
def test_the_name_of_a_function_is_escaped_once(label: str, cell: str) -> None:
    """It was when the function was found, but not if a recording is damaged."""
    functions = (OPENAT._replace(label=label),)
    (row,) = Labels(read_by("function", ()), functions).rows({group(0): Tally(1)})
    assert row.cells == (cell,)
