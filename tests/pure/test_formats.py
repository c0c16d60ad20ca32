"""Values as words: signs, bases, names of constants and flags, texts."""

from __future__ import annotations

import ctypes
import errno
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli import flags
from libbpf_ctypes.cli.formats import (
    BOOLEAN,
    DECIMAL,
    ERROR,
    ERROR_POINTER,
    HEXADECIMAL,
    OCTAL,
    POINTER,
    TEXT,
    Format,
    ShownArgument,
    format_value,
    is_cut,
    json_value,
    named,
)

MACHINES = ("x86_64", "aarch64")
TYPES = {
    (size, signed): getattr(ctypes, f"c_{'int' if signed else 'uint'}{8 * size}")
    for size in (1, 2, 4, 8)
    for signed in (False, True)
}
values = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(("size", "signed"), TYPES)
@given(value=values)
def test_numbers_are_cut_as_c_cuts_them(size: int, signed: bool, value: int) -> None:
    expected = TYPES[size, signed](value).value
    form = Format(DECIMAL, size, signed)
    assert (form.words(value), form.number(value)) == (str(expected), expected)
    bits = value & (1 << 8 * size) - 1
    assert int(Format(HEXADECIMAL, size, signed).words(value), 16) == bits
    assert int(Format(OCTAL, size, signed).words(value), 8) == bits
    boolean = Format(BOOLEAN, size)
    assert (boolean.words(value), boolean.number(value)) == (str(bool(bits)).lower(), bool(bits))


def test_pointers() -> None:
    form = Format(POINTER, 8)
    assert (form.words(0xFFFF888100000000), form.number(4096)) == ("0xffff888100000000", "0x1000")
    assert (form.words(0), form.number(0)) == ("NULL", "0x0")


@pytest.mark.parametrize("base", [ERROR, ERROR_POINTER])
@given(number=st.integers(1, 133))
def test_errors_by_name(base: int, number: int) -> None:
    form, value = Format(base, 8, base == ERROR), 2**64 - number
    if number in errno.errorcode:
        name = form.words(value)
        assert name.startswith("-E")
        assert getattr(errno, name[1:]) == number
    assert form.number(value) == (-number if base == ERROR else hex(value))
    assert form.words(number) == (str(number) if base == ERROR else hex(number))


def test_errors_of_the_kernel_alone_and_what_is_none() -> None:
    form = Format(ERROR, 4, True)
    assert form.words(2**32 - 512) == "-ERESTARTSYS"
    assert form.words(2**32 - 4096) == "-4096"
    assert (form.words(0), Format(ERROR_POINTER, 8).words(0)) == ("0", "NULL")
    assert Format(ERROR, 8).words(2**64 - 12) == "-ENOMEM", "an unsigned long"


@pytest.mark.parametrize(
    ("table", "number", "words"),
    [
        ("open_flags", 0, "O_RDONLY"),
        ("open_flags", 0o2000000, "O_RDONLY|O_CLOEXEC"),
        ("open_flags", 0o1101, "O_WRONLY|O_CREAT|O_TRUNC"),
        ("open_flags", 0o4010000, "O_RDONLY|O_SYNC"),
        ("open_flags", 0o10002, "O_RDWR|O_DSYNC"),
        ("open_flags", 1 << 30, "O_RDONLY|0x40000000"),
        ("open_flags", 3, "0x3"),
        ("at_fd", -100, "AT_FDCWD"),
        ("at_fd", 3, "3"),
        ("at_fd", -1, "-1"),
        ("access_mode", 0, "F_OK"),
        ("access_mode", 5, "R_OK|X_OK"),
        ("mmap_prot", 0, "PROT_NONE"),
        ("mmap_prot", 3, "PROT_READ|PROT_WRITE"),
        ("mmap_flags", 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("clone_flags", 0x1200011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        ("clone_flags", 0x100, "CLONE_VM"),
        ("socket_type", 0x80001, "SOCK_STREAM|SOCK_CLOEXEC"),
        ("socket_family", 10, "AF_INET6"),
        ("signal", 9, "SIGKILL"),
        ("signal", 0, "0"),
        ("signal", 64, "64"),
        ("whence", 2, "SEEK_END"),
        ("unlink_flags", 0x200, "AT_REMOVEDIR"),
        ("unlink_flags", 0, "0"),
        ("mode", 0o644, "0644"),
        ("hex", 0, "0x0"),
    ],
)
def test_flags_and_constants_in_words(table: str, number: int, words: str) -> None:
    form = flags.table_format(table, "x86_64", 4, True)
    assert form is not None
    assert form.words(number & 2**64 - 1) == words
    assert form.number(number & 2**64 - 1) == number


def test_the_same_word_is_another_number_on_another_machine() -> None:
    words = {}
    for machine in MACHINES:
        form = flags.table_format("open_flags", machine, 4, True)
        assert form is not None
        words[machine] = form.words(0o200000), form.words(0o40000)
    assert words == {
        "x86_64": ("O_RDONLY|O_DIRECTORY", "O_RDONLY|O_DIRECT"),
        "aarch64": ("O_RDONLY|O_DIRECT", "O_RDONLY|O_DIRECTORY"),
    }


@pytest.mark.parametrize("machine", MACHINES)
@given(st.data())
def test_words_tell_all_of_a_number(machine: str, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(flags.table_names()))
    number = data.draw(st.integers(0, 2**32 - 1))
    form = flags.table_format(table, machine, 4, False)
    assert form is not None
    known = {name: value for _mask, value, name in flags.names_of(table, machine)}
    if table == "mode":
        assert int(form.words(number), 8) == number
        return
    total = 0
    for word in form.words(number).split("|"):
        total |= known[word] & 2**32 - 1 if word in known else int(word, 0)
    assert total == number


def test_an_unknown_table() -> None:
    assert flags.table_format("no_such", "x86_64", 4, True) is None


def test_the_names_of_enums() -> None:
    form = Format(DECIMAL, 4, True, named((("LOW", -1), ("ONE", 1), ("ALSO_ONE", 1)), 4))
    assert [form.words(value) for value in (1, 2**64 - 1, 2**32 - 1, 2)] == [
        "ONE",
        "LOW",
        "LOW",
        "2",
    ]
    assert form.number(2**64 - 1) == -1
    assert Format(DECIMAL, 4, True, named((("a\x1b", 1),), 4)).words(1) == "a\\x1b"


def event(value: int, text: str = "", *, unreadable: int = 0) -> SimpleNamespace:
    return SimpleNamespace(values=[0, value], texts=["", text], unreadable=unreadable)


def test_texts_of_events() -> None:
    argument = ShownArgument("name", "const char *", 1, 1, Format(TEXT))
    assert format_value(argument, event(4, 'a"\x1b')) == '"a\\"\\x1b"'
    assert json_value(argument, event(4, 'a"\x1b')) == 'a"\x1b'
    assert (format_value(argument, event(1)), json_value(argument, event(1))) == ('""', "")
    assert (format_value(argument, event(0)), json_value(argument, event(0))) == ("NULL", None)
    unread = event(0, unreadable=2)
    assert (format_value(argument, unread), json_value(argument, unread)) == ("<unreadable>", None)
    assert not is_cut(argument, event(255, "x"))
    assert is_cut(argument, event(256, "x"))
    assert format_value(argument, event(256, "x")) == '"x"...'


def test_a_character_array_may_lack_its_nul() -> None:
    argument = ShownArgument("comm", "char[4]", 1, 1, Format(TEXT, limit=4))
    assert format_value(argument, event(9, "four and more")) == '"four"'
    assert json_value(argument, event(9, "aä\udcffxy")) == "aä\udcff"
    assert format_value(argument, event(256, "x" * 255)) == '"xxxx"', "it is not cut"


def test_numbers_of_events() -> None:
    argument = ShownArgument("count", "int", 1, -1, Format(DECIMAL, 4, True))
    assert (format_value(argument, event(5)), json_value(argument, event(2**32 - 1))) == ("5", -1)
    assert format_value(argument, event(5, unreadable=2)) == "<unreadable>"
    assert format_value(argument, event(5, unreadable=1)) == "5", "another value's bit"
