"""What the rich program reads is what was passed: registers, stack, structs, pointers, texts."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from libbpf_ctypes.cli.arguments import Arguments, arguments_of
from libbpf_ctypes.cli.filter import compile_filter

from .calls import Library, Tracer, function, library, shown, tracer

SOURCE = r"""
typedef unsigned short umode_t;
typedef unsigned char u8;
enum color { RED = 1, GREEN = 5, NONE = -2 };
struct small { int number; short half; char letter; };
struct pair { long first; const char *second; };
struct large { long first; long second; int third; };
struct single { unsigned int value; };
struct bits { unsigned low:3; int middle:7; unsigned long high:40; };
struct node {
    struct node *next;
    union { struct { int inner; char name[8]; }; long whole; };
    struct bits bits;
    struct pair pairs[3];
    enum color color;
    unsigned char flag;
};
#define KEEP __attribute__((noinline, used, visibility("default")))
KEEP long ints(char a, unsigned char b, short c, unsigned short d, int e, unsigned int f)
    { return a + b + c + d + e + f; }
KEEP long nine(long a, long b, long c, long d, long e, long f, int g, unsigned short h, long i)
    { return a + b + c + d + e + f + g + h + i; }
KEEP long structs(struct small a, struct pair b, struct large c, struct single d, int e)
    { return a.number + b.first + c.third + d.value + e; }
KEEP long split(long a, long b, long c, long d, long e, struct pair f, int g)
    { return a + b + c + d + e + f.first + g; }
KEEP long others(_Bool yes, enum color color, umode_t mode, void *pointer, const char *text)
    { return yes + color + mode + (long)pointer + (long)text; }
KEEP long data(const char *buf, unsigned long count, const char *name, char *plain)
    { return (long)buf + count + (long)name + (long)plain; }
KEEP long nodes(struct node *node, struct node **array, const char *const *words)
    { return (long)node + (long)array + (long)words; }
KEEP long nothing(void) { return 1; }
"""

c_text = ctypes.c_char_p


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_long), ("second", c_text))


class Small(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("half", ctypes.c_short), ("letter", ctypes.c_char))


class Large(ctypes.Structure):
    _fields_ = (("first", ctypes.c_long), ("second", ctypes.c_long), ("third", ctypes.c_int))


class Single(ctypes.Structure):
    _fields_ = (("value", ctypes.c_uint),)


class Bits(ctypes.Structure):
    _fields_ = (
        ("low", ctypes.c_uint, 3),
        ("middle", ctypes.c_int, 7),
        ("high", ctypes.c_ulong, 40),
    )


class Node(ctypes.Structure):
    pass


Node._fields_ = (
    ("next", ctypes.POINTER(Node)),
    ("inner", ctypes.c_int),
    ("name", ctypes.c_char * 8),
    ("_end", ctypes.c_char * 4),
    ("bits", Bits),
    ("pairs", Pair * 3),
    ("color", ctypes.c_int),
    ("flag", ctypes.c_ubyte),
)


class Calls(NamedTuple):
    """The library, and what traces it."""

    library: Library
    tracer: Tracer

    def arguments(self, name: str, *specs: str) -> Arguments:
        """These arguments of a function, or all."""
        return arguments_of(function(name), self.library.btf, all_of=not specs, specs=specs)

    def trace(self, name: str, values: Sequence[Any], arguments: Arguments) -> dict[str, str]:
        """What one call of a function with these values is shown as."""
        traced = self.library.loaded[name]
        path = self.library.path
        events, counters = self.tracer.trace(path, name, lambda: traced(*values), arguments)
        assert counters == (0, 1, 0, 0)
        (event,) = events
        return shown(arguments, event)

    def filter(self, name: str, values: Sequence[Any], text: str) -> tuple[int, ...]:
        """What becomes of a call with these values: struct counters."""
        chosen = compile_filter(text, function(name), self.library.btf)
        path, call = self.library.path, lambda: self.library.loaded[name](*values)
        events, counters = self.tracer.trace(path, name, call, Arguments((), ()), chosen)
        assert len(events) == counters[1]
        return counters


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with library(SOURCE, tmp_path_factory.mktemp("calls")) as made, tracer() as running:
        yield Calls(made, running)


def seen(calls: Calls, name: str, *values: Any, specs: tuple[str, ...] = ()) -> dict[str, str]:
    """What one call of a function with these values is shown as."""
    arguments = calls.arguments(name, *specs)
    assert not arguments.left_out
    return calls.trace(name, values, arguments)


def test_integers_by_sign_and_width(calls: Calls) -> None:
    dirty = 0x5555555500000000  # what lies above an int in its register is nobody's business
    values = [dirty + v for v in (0xFFFFFF80, 0xFFFFFF80, 0xFFFF8000, 0xFFFF8000, 2**31, 2**31)]
    found = seen(calls, "ints", *map(ctypes.c_ulong, values))
    assert found == {
        "a": "-128", "b": "128", "c": "-32768", "d": "32768", "e": str(-(2**31)), "f": str(2**31),
    }  # fmt: skip


def test_more_arguments_than_registers(calls: Calls) -> None:
    values = [*map(ctypes.c_long, (1, -2, 3, -4, 5, -6)), ctypes.c_int(-7)]
    values += [ctypes.c_ushort(65535), ctypes.c_long(-9)]
    specs = ("a", "f", "g", "h", "i")
    found = seen(calls, "nine", *values, specs=specs)
    assert found == {"a": "1", "f": "-6", "g": "-7", "h": "65535", "i": "-9"}
    assert calls.arguments("nine").left_out == ("i",), "there is room for eight"


def test_structs_by_value(calls: Calls) -> None:
    values: tuple[Any, ...] = (
        Small(-5, -6, b"x"),
        Pair(7, b"seven"),
        Large(8, 9, -10),
        Single(11),
        ctypes.c_int(-12),
    )
    specs = ("a.number", "a.half", "a.letter", "b.first", "b.second", "c.third", "d.value", "e")
    assert seen(calls, "structs", *values, specs=specs) == {
        "a.number": "-5", "a.half": "-6", "a.letter": "120", "b.first": "7",
        "b.second": '"seven"', "c.third": "-10", "d.value": "11", "e": "-12",
    }  # fmt: skip
    values = *map(ctypes.c_long, (1, 2, 3, 4, 5)), Pair(6, b"six"), ctypes.c_int(7)
    assert seen(calls, "split", *values, specs=("e", "f.first", "f.second", "g")) == {
        "e": "5", "f.first": "6", "f.second": '"six"', "g": "7",
    }  # fmt: skip


def test_a_struct_is_shown_by_its_members_and_a_struct_of_one_as_that(calls: Calls) -> None:
    arguments = calls.arguments("structs")
    names = ["a.number", "a.half", "a.letter", "b.first", "b.second", "c.first", "c.second"]
    assert [one.name for one in arguments.shown] == [*names, "c.third"]
    assert arguments.left_out == ("d", "e")


def test_booleans_enums_modes_pointers_and_texts(calls: Calls) -> None:
    values: tuple[Any, ...] = (
        True,
        ctypes.c_int(5),
        0o644,
        ctypes.c_void_p(0x1234),
        c_text(b'a"b\n\xff'),
    )
    assert seen(calls, "others", *values) == {
        "yes": "true", "color": "GREEN", "mode": "0644", "pointer": "0x1234",
        "text": '"a\\"b\\x0a\\xff"',
    }  # fmt: skip
    values = (False, ctypes.c_int(-2), 0, None, None)
    assert seen(calls, "others", *values) == {
        "yes": "false", "color": "NONE", "mode": "0", "pointer": "NULL", "text": "NULL",
    }  # fmt: skip
    values = (False, ctypes.c_int(4), 0, None, c_text(b""))
    found = seen(calls, "others", *values)
    assert (found["color"], found["text"]) == ("4", '""')


def test_a_page_that_is_not_there_is_said_and_never_shown_as_empty(calls: Calls) -> None:
    address = ctypes.c_void_p(8)
    found = seen(calls, "others", True, 1, 2, address, address)
    assert (found["pointer"], found["text"]) == ("0x8", "<unreadable>")
    found = seen(calls, "nodes", address, address, address, specs=("node->inner", "words[1]"))
    assert found == {"node->inner": "<unreadable>", "words[1]": "<unreadable>"}
    assert seen(calls, "nodes", None, None, None, specs=("node->name",)) == {"node->name": "NULL"}


def test_texts_are_cut_at_an_events_room(calls: Calls) -> None:
    for length in (254, 300):
        text = c_text(b"x" * length)
        found = seen(calls, "others", True, 1, 2, None, text)["text"]
        assert found == '"' + "x" * min(length, 255) + ('"...' if length > 255 else '"')


def test_data_of_a_given_length_is_no_text_but_can_be_asked_for(calls: Calls) -> None:
    buffer = ctypes.create_string_buffer(b"data")
    values = (buffer, ctypes.c_ulong(4), c_text(b"name"), c_text(b"plain"))
    address = hex(ctypes.addressof(buffer))
    found = seen(calls, "data", *values)
    assert (found["buf"], found["name"]) == (address, '"name"')
    assert found["plain"].startswith("0x")
    asked = seen(calls, "data", *values, specs=("buf:str", "plain:str", "buf:hex", "count:hex"))
    assert list(asked.items()) == [("buf", address), ("plain", '"plain"'), ("count", "0x4")]


def test_what_pointers_lead_to(calls: Calls) -> None:
    second = Node(None, -3, b"eightish", b"", Bits(5, -64, 2**40 - 1), color=-2, flag=7)
    first = Node(ctypes.pointer(second), -1, b"one", b"", Bits(2, 63, 1), color=1)
    second.pairs[2] = Pair(-22, b"two")
    array = (ctypes.POINTER(Node) * 2)(ctypes.pointer(first), ctypes.pointer(second))
    words = (c_text * 2)(b"alpha", b"beta")
    values = ctypes.byref(first), array, words
    expected = {
        "node->inner": "-1", "node.name": '"one"', "node.next->name": '"eightish"',
        "node->next->bits.low": "5", "node->next.bits.middle": "-64",
        "node->next->bits.high": str(2**40 - 1), "node.color": "RED", "node.next.flag": "7",
    }  # fmt: skip
    assert seen(calls, "nodes", *values, specs=tuple(expected)) == expected
    expected = {
        "array[1].pairs[2].first": "-22", "array[1]->pairs[2].second": '"two"',
        "words[1]": '"beta"', "*words": '"alpha"', "node[0].next[0].color": "NONE",
        "node.bits.middle": "63", "node->next->next": "NULL",
    }  # fmt: skip
    assert seen(calls, "nodes", *values, specs=tuple(expected)) == expected


def test_functions_without_types_and_without_parameters(calls: Calls) -> None:
    name = "ints"
    arguments = arguments_of(function(name), None, all_of=True)
    values = [ctypes.c_ulong(value) for value in range(1, 7)]
    assert calls.trace(name, values, arguments) == {f"arg{n}": hex(n + 1) for n in range(6)}
    assert calls.arguments("nothing") == Arguments((), ())


FILTERS = [
    ("g == -7", True),
    ("g > -8 and g < -6", True),
    ("g < -7 or g > -7", False),
    ("g >= 0", False),
    ("not g >= 0", True),
    ("h == 65535", True),
    ("h & 0x8000 and h & 1 == 1", True),
    ("h & 0xf0 != 0xf0", False),
    ("h > 65534 and i == -9 and a == 1 and b <= -2", True),
    ("h > 65535 or (i == -9 and not (a == 1 and b < -2))", True),
    ("b == 0xfffffffffffffffe", True),
    ("a", True),
    ("!a", False),
]


@pytest.mark.parametrize(("text", "passes"), FILTERS)
def test_filters_of_numbers(calls: Calls, text: str, passes: bool) -> None:
    values = [*map(ctypes.c_long, (1, -2, 3, -4, 5, -6)), ctypes.c_int(-7)]
    values += [ctypes.c_ushort(65535), ctypes.c_long(-9)]
    assert calls.filter("nine", values, text) == (int(not passes), int(passes), 0, 0)


TEXTS = [
    ('text == "/etc/passwd"', True),
    ('text == "/etc/*"', True),
    ('text == "/etc/?asswd"', True),
    ('text == "/etc/[a-p]*[!a-c]"', True),
    ('text != "/etc/*"', False),
    ('text == "/etc/passw"', False),
    ('text == "*/*/*" and color == GREEN', True),
    ("text == '*passwd' and not color == NONE and mode & 0111 == 0", True),
    ('text == "*.conf" or text == "*wd"', True),
    ('pointer:str == "other"', True),
    ('pointer:str == "othe"', False),
]


@pytest.mark.parametrize(("text", "passes"), TEXTS)
def test_filters_of_texts(calls: Calls, text: str, passes: bool) -> None:
    values = (True, ctypes.c_int(5), 0o644, c_text(b"other"), c_text(b"/etc/passwd"))
    assert calls.filter("others", values, text) == (int(not passes), int(passes), 0, 0)


@pytest.mark.parametrize(
    ("text", "counters"),
    [
        ('text == "x"', (0, 0, 0, 1)),
        ('text != "x"', (0, 0, 0, 1)),
        ('text == "x" and yes == false', (1, 0, 0, 0)),
        ('text == "x" or yes == true', (0, 1, 0, 0)),
    ],
)
def test_a_filter_of_what_cannot_be_read(
    calls: Calls, text: str, counters: tuple[int, ...]
) -> None:
    values = (True, ctypes.c_int(5), 0o644, None, ctypes.c_void_p(8))
    assert calls.filter("others", values, text) == counters
