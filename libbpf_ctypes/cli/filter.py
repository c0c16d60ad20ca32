"""``--filter``: comparisons of arguments, for the BPF program to make at each call.

count > 4096 and (flags & O_CREAT or filename == "/etc/*") and not dfd == AT_FDCWD
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .._btf import Kind
from .._shapes import Shapes
from ..errors import BpfError
from . import flags
from .fetches import (
    EQUAL,
    GREATER,
    GREATER_OR_EQUAL,
    LESS,
    LESS_OR_EQUAL,
    MATCHES,
    NOT_EQUAL,
    SIGNED,
    Comparison,
    Fetch,
)
from .filter_text import Mistake, Token, number, point, tokens, unquote
from .pattern import Pattern, compile_patterns
from .places import PathError, Place, follow, machine, nearest
from .scope import MissingArgument, Scope, scope_of, text_kind
from .text import escape
from .usage import UsageError

if TYPE_CHECKING:
    from ..btf import Btf
    from .tracepoints import Probed

MAX_COMPARISONS = 4
_MAX_DEPTH = 50
_ALL = 2**64 - 1

_OPERATORS = {
    "==": EQUAL,
    "!=": NOT_EQUAL,
    "<": LESS,
    "<=": LESS_OR_EQUAL,
    ">": GREATER,
    ">=": GREATER_OR_EQUAL,
}
#: What is said of a number, as of --arg.
_TYPES = {"int": "int", "uint": "unsigned int", "long": "long", "ulong": "unsigned long"}
_WORDS = {"&&": "and", "||": "or", "!": "not"}

#: A result of the filter by the comparisons' results, bit i those of the i-th.
_Truth = Callable[[int], bool]


class Filter(NamedTuple):
    """A filter, compiled.

    Attributes:
        truth: bit i is the result where the bits of i are the comparisons' results.
        comparisons: up to four.
        patterns: what their ``pattern`` counts.
    """

    truth: int
    comparisons: tuple[Comparison, ...]
    patterns: tuple[Pattern, ...]


def compile_filter(
    text: str, function: Probed, btf: Btf | Shapes | None, patterns: tuple[Pattern, ...] = ()
) -> Filter:
    """A filter for a function's calls.

    Args:
        btf: the kernel's types, or those of the function's module; None: there are none.
        patterns: of the same filter for the trace's functions before this one; they
            come first in the result's.

    Raises: UsageError: what is wrong, the filter, and a caret under the mistake;
        MissingArgument: this function has no such argument.
    """
    try:
        return _Parser(text, scope_of(function, btf), patterns).parse()
    except Mistake as mistake:
        kind = MissingArgument if isinstance(mistake.__cause__, PathError) else UsageError
        raise kind(point(text, mistake)) from None


class _Parser:
    """Reads a filter from left to right: or, and, not, comparison."""

    def __init__(self, text: str, scope: Scope, patterns: tuple[Pattern, ...]) -> None:
        self._scope = scope
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0
        self._comparisons: list[Comparison] = []
        self._patterns = list(patterns)

    def parse(self) -> Filter:
        if self._next.kind == "end":
            raise Mistake("there is no comparison, as count > 4096", 0, 1)
        truth = self._either()
        if self._next.kind != "end":
            token = self._next
            if token.text == ")":
                raise self._wrong("there is no ( to this )", token)
            raise self._wrong("'and' or 'or' is missing before this", token)
        bits = sum(1 << i for i in range(16) if truth(i))
        return Filter(bits, tuple(self._comparisons), tuple(self._patterns))

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._at += 1
        return token

    def _is(self, word: str) -> bool:
        """Takes the next token if it is this word."""
        token = self._next
        found = token.kind in ("sign", "name") and _WORDS.get(token.text, token.text) == word
        self._at += found
        return found

    def _wrong(self, reason: str, token: Token) -> Mistake:
        return Mistake(reason, token.start, max(token.end, token.start + 1))

    def _either(self) -> _Truth:
        truth = self._both()
        while self._is("or"):
            truth = _any(truth, self._both())
        return truth

    def _both(self) -> _Truth:
        truth = self._negated()
        while self._is("and"):
            truth = _all(truth, self._negated())
        return truth

    def _negated(self) -> _Truth:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong("this is nested too deep", self._next)
        try:
            if self._is("not"):
                inner = self._negated()
                return lambda results: not inner(results)
            if self._is("("):
                opening = self._tokens[self._at - 1]
                truth = self._either()
                if not self._is(")"):
                    if self._next.kind == "end":
                        raise self._wrong("there is no ) to this (", opening)
                    raise self._wrong("'and', 'or' or ')' is missing before this", self._next)
                return truth
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> _Truth:
        token = self._take()
        if token.kind in ("number", "string"):
            raise self._wrong("the argument comes first, as in count > 4096", token)
        if token.kind != "name" or token.text in ("and", "or", "not"):
            what = "here it ends, and a comparison is missing" if token.kind == "end" else (
                "a comparison is missing before this")  # fmt: skip
            raise self._wrong(what, token)
        path, _, form = token.text.partition(":")
        with_str, place = form == "str", self._follow(path, token)
        if form in _TYPES:
            place = self._typed(place, _TYPES[form], token)
        mask = self._mask(place, token)
        operator = self._next
        if operator.text in _OPERATORS and operator.kind == "sign":
            self._take()
            if self._next.kind == "string":
                same = self._add(self._match(place, token, mask, operator, with_str), token)
                return same if operator.text == "==" else lambda results: not same(results)
            if with_str:
                raise self._wrong('a text is compared with one, as == "/etc/*"', self._next)
            made = self._compare(place, token, mask, operator)
        elif operator.kind == "sign" or operator.text in ("and", "or") or operator.kind == "end":
            if with_str:
                raise self._wrong('a text is compared with one, as == "/etc/*"', token)
            fetch = self._fetch(place, token)  # "flags & O_CREAT": whether it is not 0
            made = Comparison(fetch, _ALL if mask is None else mask, 0, NOT_EQUAL)
        else:
            known = ", ".join(_OPERATORS)
            raise self._wrong(f"an operator is missing before this: {known} or &", operator)
        return self._add(made, token)

    def _add(self, made: Comparison, token: Token) -> _Truth:
        if made not in self._comparisons:
            if len(self._comparisons) == MAX_COMPARISONS:
                raise self._wrong(f"this is one more than {MAX_COMPARISONS} comparisons", token)
            self._comparisons.append(made)
        bit = 1 << self._comparisons.index(made)
        return lambda results: bool(results & bit)

    def _follow(self, path: str, token: Token) -> Place:
        try:
            return follow(path, self._scope.parameters, self._scope.shapes)
        except PathError as error:
            where = "" if error.start else f"{self._scope.label}: "
            start = token.start
            raise Mistake(f"{where}{error}", start + error.start, start + error.end) from error

    def _typed(self, place: Place, name: str, token: Token) -> Place:
        """It as a number of this type, where its own is not known."""
        shapes = self._scope.shapes
        kind = shapes.declare(name)
        shape = shapes.shape(kind)
        self._fetch(place, token)
        if place.bits or shape.size > place.shape.size:
            raise self._wrong(f"{self._type(place)} is no {name}", token)
        return place._replace(shape=shape, type=kind)

    def _fetch(self, place: Place, token: Token) -> Fetch:
        if place.shape.kind not in (Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.PTR):
            raise self._wrong(f"{self._type(place)} is no number", token)
        try:
            return place.fetch()
        except ValueError as error:
            raise self._wrong(str(error), token) from None

    def _type(self, place: Place) -> str:
        return escape(self._scope.shapes.text(place.type))

    def _mask(self, place: Place, token: Token) -> int | None:
        if not (self._next.kind == "sign" and self._next.text == "&"):
            return None
        self._take()
        first = self._next
        mask = self._constant(place)
        if mask <= 0:
            raise self._wrong("a mask has at least one bit, and no sign", first)
        if mask >> 8 * place.shape.size:
            raise self._wrong(f"{self._type(place)} has only {8 * place.shape.size} bits", first)
        return mask

    def _compare(self, place: Place, token: Token, mask: int | None, operator: Token) -> Comparison:
        fetch = self._fetch(place, token)
        first = self._next
        value = self._constant(place)
        number, shape = _OPERATORS[operator.text], place.shape
        signed = fetch.is_signed and mask is None
        width = place.bits or 8 * shape.size
        low = -(1 << width - 1) if signed else 0
        high = (1 << width - 1) - 1 if signed else (1 << width) - 1
        if number in (EQUAL, NOT_EQUAL) and signed and high < value < 1 << width:
            value -= 1 << width  # 0xffffff9c is an int's -100
        span = Token("", "", first.start, self._tokens[self._at - 1].end)
        if not low <= value <= high:
            raise self._wrong(f"{self._type(place)} has values from {low} to {high}", span)
        if mask is not None and value & ~mask & _ALL:
            raise self._wrong(
                f"this has bits outside of the mask {hex(mask)}: they are never equal", span
            )
        if signed and number not in (EQUAL, NOT_EQUAL):
            number += SIGNED
        return Comparison(fetch, _ALL if mask is None else mask, value & _ALL, number)

    def _match(
        self, place: Place, token: Token, mask: int | None, operator: Token, with_str: bool
    ) -> Comparison:
        string = self._take()
        number = _OPERATORS[operator.text]
        if number not in (EQUAL, NOT_EQUAL) or mask is not None:
            raise self._wrong("a text is compared with == or !=, without a mask", operator)
        is_pointer = place.shape.kind == Kind.PTR
        if not text_kind(place, self._scope.shapes) and not (with_str and is_pointer):
            hint = f": write {token.text}:str if it is one" if is_pointer else ""
            raise self._wrong(f"{self._type(place)} is no text{hint}", token)
        try:
            pattern = compile_patterns([unquote(string.text)])
            fetch = place.text_fetch(1)
        except (UsageError, ValueError) as error:
            raise self._wrong(str(error), string) from None
        if pattern not in self._patterns:
            if len(self._patterns) == MAX_COMPARISONS:
                raise self._wrong(f"this is one more than {MAX_COMPARISONS} texts", string)
            self._patterns.append(pattern)
        return Comparison(fetch, _ALL, 0, MATCHES, self._patterns.index(pattern))

    def _constant(self, place: Place) -> int:
        value = self._one_constant(place)
        while self._next.kind == "sign" and self._next.text == "|":
            self._take()
            value |= self._one_constant(place)
        return value

    def _one_constant(self, place: Place) -> int:
        constant = self._take()
        if constant.kind == "number":
            return number(constant.text)
        if constant.kind == "name" and constant.text not in ("and", "or", "not"):
            return self._named(place, constant)
        what = "here it ends, and a constant is missing" if constant.kind == "end" else (
            "a number or the name of a constant is missing before this")  # fmt: skip
        raise self._wrong(what, constant)

    def _named(self, place: Place, constant: Token) -> int:
        name, scope = constant.text, self._scope
        plain = {"NULL": 0, "true": 1, "false": 0}
        if name in plain:
            return plain[name]
        own = dict(scope.shapes.constants(place.shape))
        known = flags.constants(machine())
        if name in own:
            return own[name]
        if name in known:
            return known[name]
        found = _kernel_constant(name, scope)
        if found is not None:
            return found
        near = nearest(name, [*own, *known])
        hint = "a macro of the kernel is written as its number"  # BTF has none
        raise self._wrong(f"there is no constant {escape(name)}{near}; {hint}", constant)


def _any(left: _Truth, right: _Truth) -> _Truth:
    return lambda results: left(results) or right(results)


def _all(left: _Truth, right: _Truth) -> _Truth:
    return lambda results: left(results) and right(results)


def _kernel_constant(name: str, scope: Scope) -> int | None:
    """A constant of any of the kernel's enums; None: there is none, or it is ambiguous."""
    try:
        values = scope.shapes.constants_named(name)
    except BpfError:
        return None
    return values.pop() if len(values) == 1 else None
