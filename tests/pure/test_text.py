"""How events become text: escaping, times, arguments."""

from __future__ import annotations

import ctypes
import re
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.btf import Kind, Type
from libbpf_ctypes.cli import text as text_module
from libbpf_ctypes.cli.argument import argument_formatter
from libbpf_ctypes.cli.text import WallClock, escape, format_boot

# Anything a kernel name may become, lone surrogates included.
any_text = st.one_of(
    st.text(st.characters()),
    st.text(st.sampled_from("\\x80u0a\x80\xad\udc80\x1b\n\U000e0001")),
    st.binary(max_size=16).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


def unescape(text: str) -> str:
    """What escape() was given."""

    def character(match: re.Match[str]) -> str:
        escaped = match[1]
        if escaped == "\\":
            return escaped
        code = int(escaped[1:], 16)
        # \x80 and above are bytes that were not UTF-8.
        return chr(code + 0xDC00) if escaped[0] == "x" and code >= 0x80 else chr(code)

    return re.sub(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", character, text)


@given(any_text)
def test_escaped_text_is_printable_and_can_be_read_back(text: str) -> None:
    escaped = escape(text)
    assert escaped.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in escaped)
    escaped.encode("utf-8")  # raises for a lone surrogate
    assert unescape(escaped) == text, "two names must never look the same"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")))
def test_plain_names_stay_as_they_are(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kworker/0:1-events", "kworker/0:1-events"),
        ("café 火", "café 火"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("two\nlines\t\r", r"two\x0alines\x09\x0d"),
        ("back\\slash", r"back\\slash"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), r"\xff\xfe"),
        ("\x9b31m", r"\u009b31m"),  # CSI in one character: a terminal would act on it
        ("\u202eright to left", r"\u202eright to left"),
        ("\U000e0001", r"\U000e0001"),
        ("", ""),
    ],
)
def test_known_names(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_a_byte_is_told_from_the_character_of_its_number() -> None:
    byte = b"\x80".decode("utf-8", "surrogateescape")
    assert escape(byte) == r"\x80"
    assert escape("\x80") != escape(byte)


@given(st.integers(0, 2**64 - 1))
def test_boot_time_is_cut_to_microseconds(nanoseconds: int) -> None:
    seconds, _, fraction = format_boot(nanoseconds).partition(".")
    assert len(fraction) == 6
    assert int(seconds) * 10**6 + int(fraction) == nanoseconds // 1000


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        text_module._local_second.cache_clear()
        yield
    time.tzset()
    text_module._local_second.cache_clear()


# Around the end of summer time 2024 in Berlin, when one hour came twice, and at other times.
MOMENTS = [0, 1_729_987_200, 1_729_990_800, 1_729_994_400, 1_719_792_000, 1_795_000_000]


@pytest.mark.parametrize("second", MOMENTS)
@pytest.mark.parametrize("rest", [0, 999, 1000, 123_456_789, 999_999_999])
@pytest.mark.usefixtures("local_zone")
def test_wall_clock_agrees_with_datetime(second: int, rest: int) -> None:
    clock = WallClock()
    clock._offset = 0  # the given number is then one of CLOCK_REALTIME
    text = clock.format(second * 10**9 + rest)
    moment = datetime.fromisoformat(text)
    expected = datetime.fromtimestamp(second, timezone.utc) + timedelta(microseconds=rest // 1000)
    assert moment == expected
    assert moment.utcoffset() == expected.astimezone().utcoffset()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", text)


def test_wall_clock_counts_from_now() -> None:
    clock = WallClock()
    before = datetime.now(timezone.utc)
    moment = datetime.fromisoformat(clock.format(time.monotonic_ns()))
    after = datetime.now(timezone.utc)
    margin = timedelta(seconds=1)  # the two clocks are read one after the other
    assert before - margin <= moment <= after + margin


def test_wall_clock_is_looked_at_again_if_another_task_ran_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monotonic, wall = iter([0, 10**9, 2 * 10**9, 2 * 10**9 + 100]), iter([5, 2 * 10**9 + 57])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(monotonic))
    monkeypatch.setattr(time, "time_ns", lambda: next(wall))
    assert WallClock()._offset == 7


def test_wall_clock_follows_a_clock_that_was_set() -> None:
    clock = WallClock()
    right = clock._offset
    clock._offset += 10**12
    clock.adjust()
    assert abs(clock._offset - right) < 10**9
    clock._offset = kept = clock._measure() + 1
    clock.adjust()
    assert clock._offset == kept, "a difference of nanoseconds is the measurement's own"


registers = st.integers(0, 2**64 - 1)

INTEGERS: list[tuple[int, bool, type[ctypes._SimpleCData[int]]]] = [
    (1, True, ctypes.c_int8),
    (2, True, ctypes.c_int16),
    (4, True, ctypes.c_int32),
    (8, True, ctypes.c_int64),
    (1, False, ctypes.c_uint8),
    (2, False, ctypes.c_uint16),
    (4, False, ctypes.c_uint32),
    (8, False, ctypes.c_uint64),
]


@pytest.mark.parametrize("kind", [Kind.INT, Kind.ENUM, Kind.ENUM64])
@pytest.mark.parametrize(("size", "signed", "c_type"), INTEGERS)
@given(register=registers)
def test_integers_are_cut_as_c_cuts_them(
    kind: Kind, size: int, signed: bool, c_type: type[ctypes._SimpleCData[int]], register: int
) -> None:
    show = argument_formatter(Type(kind, "t", size, signed))
    assert show(register) == str(c_type(register).value)


@given(registers)
def test_booleans_pointers_and_unknown_types(register: int) -> None:
    boolean = argument_formatter(Type(Kind.INT, "_Bool", 1, False, True))
    assert boolean(register) == ("true" if ctypes.c_uint8(register).value else "false")
    for kind, size in ((Kind.PTR, 8), (Kind.STRUCT, 8), (Kind.INT, 16), (Kind.FLOAT, 8)):
        assert int(argument_formatter(Type(kind, "t", size))(register), 16) == register
    assert argument_formatter(None)(register) == str(register)
