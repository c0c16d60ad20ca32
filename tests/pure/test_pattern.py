"""Patterns: what they match, against Python's own, run as the BPF program runs them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.pattern import compile_patterns, is_glob, least_length
from libbpf_ctypes.cli.usage import UsageError

letters = st.sampled_from("ab/.-]")
parts = st.one_of(
    letters, st.just("*"), st.just("?"), st.sampled_from(["[ab]", "[!a]", "[a-b/]", "[^.]", "[]a]"])
)
globs = st.lists(parts, max_size=12).map("".join)
texts = st.text(letters, max_size=12)


def as_expression(glob: str) -> str:
    """The same as a regular expression."""
    made = ""
    for found in re.finditer(r"\[([!^]?)(\]?[^]]*)\]|.", glob):
        if found[2] is not None:
            inner = found[2].replace("]", "\\]")
            made += f"[{'^' if found[1] else ''}{inner}]"
        else:
            made += {"*": ".*", "?": "."}.get(found[0], re.escape(found[0]))
    return made


@given(st.lists(globs, min_size=1, max_size=4), texts)
def test_a_text_matches_as_in_a_shell(many: list[str], text: str) -> None:
    expected = any(re.fullmatch(as_expression(glob), text) for glob in many)
    assert compile_patterns(many).matches(text.encode()) == expected
    assert not expected or len(text) >= min(map(least_length, many))


@given(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=15))
def test_a_text_without_special_characters_matches_itself_alone(text: str) -> None:
    pattern = compile_patterns([re.sub(r"([\\*?[])", r"\\\1", text)])
    assert pattern.matches(text.encode())
    assert not pattern.matches(text.encode() + b"x")
    assert not pattern.matches(b"x" + text.encode())
    assert pattern.matches(text.encode() + b"\0x"), "a text ends at its NUL"


def test_bytes_that_are_no_text() -> None:
    pattern = compile_patterns([b"a\xff*".decode(errors="surrogateescape")])
    assert pattern.matches(b"a\xff\xfe") and not pattern.matches(b"a\xfe")
    assert compile_patterns(["?"]).matches(b"\xff")
    assert compile_patterns(["[!a]"]).matches(b"\xff")


def test_what_has_no_end_is_taken_as_it_is() -> None:
    assert compile_patterns(["a[b"]).matches(b"a[b")
    assert compile_patterns(["a\\"]).matches(b"a\\")
    assert compile_patterns([""]).matches(b"")
    assert not compile_patterns([""]).matches(b"a")


def test_there_is_room_for_63_characters_in_one_pattern() -> None:
    assert compile_patterns(["x" * 63 + "*"]).matches(b"x" * 64)
    assert not compile_patterns(["x" * 63]).matches(b"x" * 64)
    with pytest.raises(UsageError, match="is too long; there is room for 63 characters"):
        compile_patterns(["x" * 64])
    sixteen = [f"{number:x}xx" for number in range(16)]
    pattern = compile_patterns(sixteen)
    assert all(pattern.matches(text.encode()) for text in sixteen)
    assert not pattern.matches(b"0xx1xx") and not pattern.matches(b"xx")
    with pytest.raises(UsageError, match="the 17 patterns are too long"):
        compile_patterns([*sixteen, ""])


@pytest.mark.parametrize(
    ("glob", "told"),
    [("a[]", "nothing"), ("[ä-ö]", "no ASCII"), ("[b-a]", "ends before it begins")],
)
def test_sets_that_cannot_be(glob: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        compile_patterns([glob])


def test_what_is_a_pattern() -> None:
    assert [is_glob(text) for text in ("a*", "a?", "[a]", "\\*", "a", "")] == [True] * 4 + [
        False
    ] * 2
