"""The names that tracepoints themselves print their values by, from "print fmt" in tracefs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from .formats import Name
from .text import escape

_ALL = 2**64 - 1
_CALL = re.compile(r"__print_(flags|symbolic)\(")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: A name for 0: REC->state ? __print_flags(REC->state, …) : "R".
_ELSE = re.compile(r'\s*\)*\s*:\s*"([^"\\]*)"')
_PAIR = re.compile(r'\{(?P<value>.*),\s*"(?P<name>[^"\\]*)"\s*\}', re.DOTALL)
_CAST = re.compile(
    r"\(\s*(?:(?:unsigned|signed|const|long|int|short|char)\s*|\w+_t\b\s*|(?:__)?[us](?:8|16|32|64)\s*"
    r"|enum\s+\w+\s*)+\)"
)
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")
_OCTAL = re.compile(r"(?<![\w.])0([0-7]+)\b")
#: Longer ones are no constants that people wrote.
_LONGEST = 4096


class _Value(NamedTuple):
    """(field >> shift) & mask."""

    field: str
    shift: int = 0
    mask: int = _ALL

    @property
    def in_place(self) -> int:
        """The mask of the field's own bits."""
        return self.mask << self.shift & _ALL


class _NotSimpleError(Exception):
    """An expression that is more than constants, and bits of one field."""


def names_in(text: str) -> dict[str, tuple[Name, ...]]:
    """By a field's name: the names of its values, as Format has them.

    Args: text: what follows "print fmt:".

    What is not simple is left out: those values are shown as numbers.
    """
    found: dict[str, dict[Name, None]] = {}
    end = 0
    for call in _CALL.finditer(text):
        if call.start() < end:  # within another
            continue
        words, end = _arguments(text, call.end())
        try:
            value = _evaluate(words[0]) if words else 0
        except _NotSimpleError:
            continue
        if not isinstance(value, _Value):
            continue
        names = found.setdefault(value.field, {})
        is_flags = call[1] == "flags"
        for word in words[2 if is_flags else 1 :]:
            for name in _pair(word, value, is_flags):
                names.setdefault(name)
        otherwise = _ELSE.match(text, end)
        if is_flags and otherwise:
            names.setdefault((value.in_place, 0, escape(otherwise[1])))
    return {field: tuple(names) for field, names in found.items() if names}


def _arguments(text: str, at: int) -> tuple[list[str], int]:
    """The words between a call's parentheses, and where it ends. Args: at: behind its "("."""
    words, depth, start = [], 0, at
    while at < len(text):
        character = text[at]
        if character == '"':
            string = _STRING.match(text, at)
            at = string.end() if string else len(text)
            continue
        if character in "({[":
            depth += 1
        elif character in ")}]":
            depth -= 1
        if depth < 0 or (character == "," and not depth):
            words.append(text[start:at].strip())
            start = at + 1
        at += 1
        if depth < 0:
            return words, at
    return [], at  # it has no end


def _pair(word: str, value: _Value, is_flags: bool) -> Iterator[Name]:
    """The name in {number, "name"}, if there is one."""
    pair = _PAIR.fullmatch(word)
    if pair is None:
        return
    try:
        number = _evaluate(pair["value"])
    except _NotSimpleError:
        return
    if isinstance(number, _Value):
        return
    bits = (number & value.mask) << value.shift & _ALL
    mask = bits if is_flags else value.in_place
    if mask:  # a flag without a bit would always be there
        yield mask, bits, escape(pair["name"])


@lru_cache(maxsize=4096)
def _evaluate(text: str) -> int | _Value:
    """A C expression. Raises: _NotSimpleError."""
    if len(text) > _LONGEST:
        raise _NotSimpleError
    before = ""
    while before != text:
        before, text = text, _CAST.sub("", text)
    text = _OCTAL.sub(r"0o\1", _SUFFIX.sub(r"\1", text)).replace("REC->", "")
    try:
        return _value_of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        raise _NotSimpleError from None


def _value_of(node: ast.expr) -> int | _Value:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return _Value(node.id)
    if isinstance(node, ast.UnaryOp):
        operand = _value_of(node.operand)
        if isinstance(operand, int) and isinstance(node.op, (ast.Invert, ast.USub, ast.UAdd)):
            return {ast.Invert: ~operand, ast.USub: -operand}.get(type(node.op), operand)
    if isinstance(node, ast.BinOp):
        return _result(node.op, _value_of(node.left), _value_of(node.right))
    raise _NotSimpleError


def _result(operator: ast.operator, left: int | _Value, right: int | _Value) -> int | _Value:
    if not isinstance(right, int):
        raise _NotSimpleError
    if isinstance(operator, (ast.LShift, ast.RShift)) and not 0 <= right < 64:
        raise _NotSimpleError
    if isinstance(left, _Value):
        if isinstance(operator, ast.BitAnd):
            return left._replace(mask=left.mask & right)
        if isinstance(operator, ast.RShift):
            return left._replace(shift=left.shift + right, mask=left.mask >> right)
        raise _NotSimpleError
    if isinstance(operator, ast.BitOr):
        return left | right
    if isinstance(operator, ast.BitAnd):
        return left & right
    if isinstance(operator, ast.LShift):
        return left << right
    if isinstance(operator, ast.RShift):
        return left >> right
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    raise _NotSimpleError
