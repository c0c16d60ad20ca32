"""Filters: what they compile to, and how a mistake in one is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import Btf
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes.cli.fetches import (
    EQUAL,
    GREATER,
    LESS,
    MATCHES,
    NOT_EQUAL,
    SIGNED,
    Comparison,
    Fetch,
)
from libbpf_ctypes.cli.filter import Filter, compile_filter
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.scope import MissingArgument
from libbpf_ctypes.cli.usage import UsageError

MAP = Function("__x64_sys_mmap", "", 0, 0, "mmap", "mmap", False, False)
OPEN = Function("__x64_sys_openat", "", 0, 0, "openat", "openat", False, False)
READ = Function("vfs_read", "", 0, 0, "", "vfs_read", False, False)
ALL = 2**64 - 1

needs_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF"
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Shapes]:
    with Btf.kernel() as btf:
        yield Shapes(btf)


def one(text: str, function: Function = OPEN) -> Comparison:
    """The only comparison of a filter, which holds where that does."""
    truth, (comparison,), _patterns = compile_filter(text, function, None)
    assert truth == 0xAAAA
    return comparison


INT = Fetch(0, left=32, right=32, is_signed=True)
WORD = Fetch(0)


@pytest.mark.parametrize(
    ("text", "comparison"),
    [
        ("dfd == AT_FDCWD", Comparison(INT, ALL, ALL - 99, EQUAL)),
        ("dfd == -100", Comparison(INT, ALL, ALL - 99, EQUAL)),
        ("dfd == 0xffffff9c", Comparison(INT, ALL, ALL - 99, EQUAL)),
        ("dfd < 0", Comparison(INT, ALL, 0, LESS + SIGNED)),
        ("dfd & 0x80000000", Comparison(INT, 1 << 31, 0, NOT_EQUAL)),
        ("dfd&3 != 1|2", Comparison(INT, 3, 3, NOT_EQUAL)),
        ("dfd > 2147483646", Comparison(INT, ALL, 2**31 - 2, GREATER + SIGNED)),
        ("dfd", Comparison(INT, ALL, 0, NOT_EQUAL)),
    ],
)
def test_comparisons(text: str, comparison: Comparison) -> None:
    assert one(text) == comparison


@pytest.mark.parametrize(
    ("text", "value"), [("0x10", 16), ("020", 16), ("0o20", 16), ("0b1_0000", 0), ("16", 16),
                        ("MAP_FIXED", 16), ("NULL", 0), ("true", 1), ("O_RDONLY|O_RDWR", 2)]
)  # fmt: skip
def test_constants(text: str, value: int) -> None:
    if "_0" in text:
        with pytest.raises(UsageError, match="this is no number"):
            one(f"len == {text}", MAP)
        return
    comparison = one(f"addr == {text}", MAP)
    assert (comparison.fetch, comparison.value) == (WORD, value)
    assert one(f"addr > {text}", MAP).operator == GREATER, "a pointer has no sign"


def test_flags_have_this_machines_numbers() -> None:
    assert one("flags & O_DIRECTORY").mask == os.O_DIRECTORY
    assert one("flags & O_TMPFILE == O_TMPFILE").value == os.O_TMPFILE


def test_texts_become_patterns() -> None:
    truth, comparisons, (pattern,) = compile_filter(
        'filename == "/etc/*.conf" and not filename == "/etc/*.conf"', OPEN, None
    )
    assert (truth, [one.operator for one in comparisons]) == (0, [MATCHES])
    assert pattern.matches(b"/etc/a.conf") and not pattern.matches(b"/etc/a.con")
    truth, _, patterns = compile_filter(r"filename != 'it\'s \*'", OPEN, None, (pattern,))
    assert truth == 0x5555
    assert patterns[0] == pattern, "those before come first"
    assert patterns[1].matches(b"it's *") and not patterns[1].matches(b"it's x")
    again = compile_filter('filename == "/etc/*.conf"', OPEN, None, patterns)
    assert again.patterns == patterns and again.comparisons[0].pattern == 0


NAMES = ("addr", "len", "prot", "flags")
leaves = st.sampled_from([f"{name} == 1" for name in NAMES])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "&&", "||"]), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not ({text})"),
        inner.map(lambda text: f"!({text})"),
    ),
    max_leaves=8,
)


@given(expressions)
def test_the_truth_is_pythons(text: str) -> None:
    python = text.replace("&&", "and").replace("||", "or").replace("!(", "not (")
    found = compile_filter(text, MAP, None)
    order = [NAMES[comparison.fetch.source] for comparison in found.comparisons]
    assert len(set(order)) == len(order)
    for results in range(16):
        values = dict.fromkeys(NAMES, 0)
        values.update({name: results >> bit & 1 for bit, name in enumerate(order)})
        assert bool(found.truth >> results & 1) == bool(eval(python, values)), (text, results)


MISTAKES = [
    ("cont > 4", "^~~~", r"vfs_read: there is no argument cont \(did you mean count\?\)"),
    ("count > -1", "        ^~", "size_t has values from 0 to 18446744073709551615"),
    ("count = 1", "      ^", "a comparison is written =="),
    ("(count == 1", "^", r"there is no \) to this \("),
    ("count == 1)", "          ^", r"there is no \( to this \)"),
    ("(count == 1 2)", "            ^", "is missing before this"),
    ("count == 1 count", "           ^~~~~", "'and' or 'or' is missing before this"),
    ("4 < count", "^", "the argument comes first"),
    ("count ==", "        ^", "here it ends, and a constant is missing"),
    ("count", "", ""),
    ("count and", "         ^", "here it ends, and a comparison is missing"),
    ("count == and", "         ^~~", "a number or the name of a constant is missing"),
    ("or count", "^~", "a comparison is missing before this"),
    ("count 4", "      ^", "an operator is missing before this"),
    ("count == 12x", "         ^~~", "this is no number"),
    ("count == 08", "         ^~", "this is no number"),
    (f"count == {'9' * 5000}", "         ^" + "~" * 4999, "this is no number"),
    ('file == "x"', "^~~~", r"struct file \* is no text: write file:str if it is one"),
    ('count == "x"', "^~~~~", "size_t is no text"),
    ('buf < "x"', "    ^", "a text is compared with == or !="),
    ("buf:str == 1", "           ^", "a text is compared with one"),
    ("buf:str", "^~~~~~~", "a text is compared with one"),
    ('buf == "x', "       ^~", "this string has no end"),
    (f'buf == "{"x" * 64}"', "       ^" + "~" * 65, "is too long"),
    ("count == O_CREATE", "         ^~~~~~~~", r"no constant O_CREATE \(did you mean O_CREAT\?\)"),
    ("count == PAGE_SIZE", "         ^~~~~~~~~", "PAGE_SIZE; a macro .* is written as its number"),
    ("count & 0 == 1", "        ^", "a mask has at least one bit"),
    ("count & 1 == 2", "             ^", "bits outside of the mask 0x1"),
    ("file.f_path == 1", "^~~~~~~~~~~", "struct path is no number"),
    ("file.f_path.dentr == 1", "           ^~~~~~", "has no member dentr"),
    ("count @ 1", "      ^", "'@' has no meaning here"),
    ("", "^", "there is no comparison"),
    ("  ", "^", "there is no comparison"),
    (" and ".join(f"count == {n}" for n in range(5)), " " * 60 + "^~~~~", "more than 4 compar"),
    ("(" * 60 + "count", " " * 50 + "^", "nested too deep"),
    ("count\x1b == 1", "     ^~~~", "has no meaning here"),
    ('buf == "日本" and x', "                  ^", "there is no argument x"),
]


@needs_btf
@pytest.mark.parametrize(("text", "marks", "told"), MISTAKES)
def test_a_caret_is_under_the_mistake(kernel: Shapes, text: str, marks: str, told: str) -> None:
    if not told:
        assert isinstance(compile_filter(text, READ, kernel), Filter)
        return
    with pytest.raises(UsageError, match=told) as caught:
        compile_filter(text, READ, kernel)
    first, shown, below = str(caught.value).split("\n")
    assert first.startswith("--filter: ")
    assert shown == "  " + text.replace("\x1b", "\\x1b")
    assert below == "  " + marks


@needs_btf
def test_an_argument_that_a_function_lacks_is_told_apart(kernel: Shapes) -> None:
    for text in ("nope == 1", "file->nope == 1"):
        with pytest.raises(MissingArgument):
            compile_filter(text, READ, kernel)
    with pytest.raises(UsageError) as caught:
        compile_filter("count == nope", READ, kernel)
    assert not isinstance(caught.value, MissingArgument)


@pytest.mark.parametrize(
    ("text", "comparison"),
    [
        ("arg0:int < 0", Comparison(INT, ALL, 0, LESS + SIGNED)),
        ("arg0:uint > 5", Comparison(Fetch(0, left=32, right=32), ALL, 5, GREATER)),
        ("arg0:long < -1", Comparison(WORD._replace(is_signed=True), ALL, ALL, LESS + SIGNED)),
        ("arg0:ulong & 4", Comparison(WORD, 4, 0, NOT_EQUAL)),
        ("arg0:int == -1", Comparison(INT, ALL, ALL, EQUAL)),
    ],
)
def test_what_a_register_holds(text: str, comparison: Comparison) -> None:
    """Of a function without types, whose ints leave half of their register as it was."""
    assert one(text, READ) == comparison


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("arg0:int == 0x100000000", "int has values from -2147483648 to 2147483647"),
        ("arg0:uint == -1", "unsigned int has values from 0 to 4294967295"),
        ('arg0:int == "x"', "int is no text"),
        ("arg0:short == 1", "':' has no meaning here"),
    ],
)
def test_what_a_register_cannot_hold(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        compile_filter(text, READ, None)
    with pytest.raises(UsageError, match="int is no long"):
        compile_filter("dfd:long == 1", OPEN, None)


def test_a_register_of_unknown_type_may_be_a_text() -> None:
    truth, comparisons, _patterns = compile_filter('arg1:str == "/etc/*"', READ, None)
    assert (truth, comparisons[0].fetch) == (0xAAAA, Fetch(1, text=1, offsets=(0,)))
    with pytest.raises(UsageError, match=r"void \* is no text: write arg1:str"):
        compile_filter('arg1 == "/etc/*"', READ, None)


@needs_btf
def test_constants_of_the_kernels_enums(kernel: Shapes) -> None:
    found = compile_filter("count == BPF_PROG_LOAD", READ, kernel)
    assert found.comparisons[0].value == 5


@given(st.text(st.sampled_from("acdn ot()=!<>&|\"'\\x0719-.[]:*_\x00é"), max_size=30))
def test_whatever_is_written_is_compiled_or_refused_with_a_caret(text: str) -> None:
    try:
        found = compile_filter(text, OPEN, None)
    except UsageError as error:
        assert str(error).split("\n")[-1].strip("~").strip() == "^"
    else:
        assert found.comparisons
