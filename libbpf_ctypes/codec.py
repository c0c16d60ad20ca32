"""Decoders, made of the tree that fields.py draws of a declaration.

A decoder is a Python function written for one declaration: a single call of
``struct`` and one expression that puts its values where they belong. Its source
holds numbers and names that are made here; names of fields never get into it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable, NamedTuple

import construct

from .errors import DecodeError
from .fields import REMEMBERED, Node, text_decoder, texts
from .records import factory, record_type

#: A perf sample is padded so that its size and the 4 bytes before it fill
#: 8-byte words: up to 7 bytes of garbage follow the event.
MAX_PADDING = 7

#: Up to so many values each gets a variable of its own, which is fastest; the
#: source for more of them would grow with the arrays.
MAX_VARIABLES = 128


class Codec(NamedTuple):
    """What was made for one declaration.

    Attributes:
        record: the record type.
        decode: function of one event, with at most MAX_PADDING bytes behind it.
        read: the same without that, for who has checked the length.
        many: generator of the records of bytes whose length is a multiple.
        samples: generator of the records of an iterable of padded events.
        spaced: ``spaced(before, after)`` is a ``many`` for events with so many bytes
            before and after each.
    """

    record: Any
    decode: Callable[[Any], Any]
    read: Callable[[Any], Any]
    many: Callable[[Any], Iterator[Any]]
    samples: Callable[[Any], Iterator[Any]]
    spaced: Callable[[int, int], Callable[[Any], Iterator[Any]]]


def plain_bytes(data: Any) -> Any:
    """A buffer of single bytes, of any buffer: its length is counted in bytes.

    Raises: DecodeError: it is no buffer, or not in one piece.
    """
    try:
        return memoryview(data).cast("B")
    except (TypeError, BufferError) as error:
        raise DecodeError("decode event", None, str(error)) from None


def refuse_size(name: str, came: int, size: int) -> DecodeError:
    """The error of bytes that are too few or too many for one event."""
    reason = f"{came} bytes came, and the schema has {size}"
    hint = "The program that sends and the schema that reads do not belong together."
    return DecodeError(f"decode event {name}", None, reason, hint=hint)


def compile_codec(node: Node, name: str) -> Codec:
    """The decoder of a declaration without obstacles.

    Args:
        node: the tree of a Struct, see fields.describe().
        name: the record type's name.
    """
    order = _majority(node)
    codes = _codes(node, order)
    layout = struct.Struct(order + codes)
    assert layout.size == node.size
    count = node.values()
    unroll = count <= MAX_VARIABLES
    writer = _Writer(order, unroll)
    record = writer.record(node, name)  # before the expression would name it by a field
    result = writer.expression(node, name, _At("", 0))
    values = "".join(f"v{n}, " for n in range(count)) if unroll and count else "v"
    source = _SOURCE.format(
        values=values,
        result=result,
        texts="".join(f"    {line}\n" for line in writer.lines),
        indented="".join(f"        {line}\n" for line in writer.lines),
        size=node.size,
        longest=node.size + MAX_PADDING,
    )
    space = writer.space
    space.update(unpack=layout.unpack, unpack_from=layout.unpack_from, texts=texts)
    space.update(iter_unpack=layout.iter_unpack, refuse=_refuser(name, node.fixed))
    space["plain"] = plain_bytes
    exec(compile(source, f"<decoder of {name}>", "exec"), space)

    def spaced(before: int, after: int) -> Callable[[Any], Iterator[Any]]:
        wider = struct.Struct(f"{order}{before}x{codes}{after}x")
        return partial(space["many"], iter_unpack=wider.iter_unpack)

    space["spaced"] = spaced
    return Codec(space[record], *(space[part] for part in Codec._fields[1:]))


def flat_codec(node: Node, name: str) -> Codec:
    """A decoder whose records are struct's own tuples: nothing is made of the values.

    Args: as of compile_codec().
    """
    order = _majority(node)
    codes = _codes(node, order)
    layout = struct.Struct(order + codes)
    refuse = _refuser(name, node.fixed)

    def decode(data: Any) -> tuple[Any, ...]:
        data = plain_bytes(data)
        if not node.fixed <= len(data) <= node.fixed + MAX_PADDING:
            refuse(data)
        return layout.unpack_from(data)

    def spaced(before: int, after: int) -> Callable[[Any], Iterator[Any]]:
        return struct.Struct(f"{order}{before}x{codes}{after}x").iter_unpack

    return Codec(tuple, decode, layout.unpack, layout.iter_unpack, partial(map, decode), spaced)


# unpack_from() leaves padding alone, where unpack() would want it cut off first.
_SOURCE = """
def decode(data):
    if data.__class__ is not bytes:
        data = plain(data)
    if {size} != len(data) and not {size} < len(data) <= {longest}:
        refuse(data)
    {values} = unpack_from(data)
{texts}    return {result}

def read(data):
    {values} = unpack(data)
{texts}    return {result}

def many(data, iter_unpack=iter_unpack):
    for {values} in iter_unpack(data):
{indented}        yield {result}

def samples(iterable):
    for data in iterable:
        if data.__class__ is not bytes:
            data = plain(data)
        if {size} != len(data) and not {size} < len(data) <= {longest}:
            refuse(data)
        {values} = unpack_from(data)
{indented}        yield {result}
"""


def _refuser(name: str, size: int) -> Callable[[Any], Any]:
    def refuse(data: Any) -> None:
        raise refuse_size(name, len(data), size)

    return refuse


class _At(NamedTuple):
    """The place of a value in the tuple: a number, in a loop counted from a variable."""

    variable: str
    number: int

    def after(self, count: int) -> _At:
        return _At(self.variable, self.number + count)

    def __str__(self) -> str:
        return f"{self.variable}+{self.number}" if self.variable else str(self.number)


class _Writer:
    """Writes the expression of a record out of the unpacked values.

    Attributes:
        space: what the expression refers to, by the names used in it.
        lines: statements before it, which look up the texts.
    """

    def __init__(self, order: str, unroll: bool) -> None:
        self._order = order
        self._unroll = unroll
        self._held: dict[tuple[str, int], str] = {}
        self.space: dict[str, Any] = {"from_bytes": int.from_bytes}
        self.lines: list[str] = []

    def _hold(self, what: str, node: Node, make: Callable[[], Any]) -> str:
        """The name of a thing that NODE needs, made once: all elements of an array share it."""
        key = (what, id(node))
        if key not in self._held:
            self._held[key] = name = f"x{len(self.space)}"
            self.space[name] = make()
        return self._held[key]

    def record(self, node: Node, name: str) -> str:
        """The name of a struct's record type."""
        fields = [field for field, _ in node.items if field]
        return self._hold("record", node, lambda: record_type(name, fields))

    def expression(self, node: Node, name: str, at: _At) -> str:
        """The Python expression of NODE's value, whose first value is AT."""
        if node.kind == "struct":
            return self._struct(node, name, at)
        if node.kind == "array":
            return self._array(node, name, at)
        if node.kind == "pad":
            return "None"
        return self._convert(node, name, f"v{at.number}" if self._unroll else f"v[{at}]")

    def _struct(self, node: Node, name: str, at: _At) -> str:
        values, checks = [], []
        for field, inner in node.items:
            if field:
                values.append(self.expression(inner, field, at))
            elif inner.const:
                checks.append(self.expression(inner, "an unnamed constant", at))
            at = at.after(inner.values())
        record = self.space[self.record(node, _type_name(name))]
        make = self._hold("factory", node, lambda: factory(record))
        made = f"{make}(({''.join(value + ', ' for value in values)}))"
        # An unnamed constant is only looked at.
        return f"({', '.join(checks)}, {made})[-1]" if checks else made

    def _array(self, node: Node, name: str, at: _At) -> str:
        element = node.element
        assert element is not None
        step = element.values()
        if self._unroll or not step:
            items = (self.expression(element, name, at.after(n * step)) for n in range(node.count))
            return f"[{', '.join(items)}]"
        end = at.after(node.count * step)
        if self._is_plain(element):
            return f"list(v[{at}:{end}])"
        variable = f"i{at.variable.count('i')}{at.variable}" if at.variable else "i"
        inner = self.expression(element, name, _At(variable, 0))
        return f"[{inner} for {variable} in range({at}, {end}, {step})]"

    def _is_plain(self, node: Node) -> bool:
        """Whether struct's value is the field's."""
        converted = node.names is not None or node.const or _as_bytes(node, self._order)
        return node.kind in ("int", "float", "bool", "bytes") and not converted

    def _text(self, node: Node, value: str) -> str:
        decode = self._hold("text", node, lambda: text_decoder(node.encoding))
        if not self._unroll or node.encoding != "utf-8" or node.fixed > REMEMBERED:
            return f"{decode}({value})"
        self.lines += [f"try: {value} = texts[{value}]"]
        self.lines += [f"except KeyError: {value} = {decode}({value})"]
        return value

    def _convert(self, node: Node, name: str, value: str) -> str:
        """VALUE as struct gives it, made what construct would make of it."""
        if node.kind == "text":
            value = self._text(node, value)
        elif _as_bytes(node, self._order) and node.kind == "int":
            order = "little" if node.order == "<" else "big"
            value = f"from_bytes({value}, {order!r}, signed={node.signed})"
        elif _as_bytes(node, self._order):
            number = struct.Struct(node.order + node.code)
            value = f"{self._hold('unpack', node, lambda: number.unpack)}({value})[0]"
        if isinstance(node.names, construct.Enum):
            names = self._hold("names", node, lambda: _EnumNames(node.names.decmapping))
            value = f"{names}[{value}]"
        elif node.names is not None:
            value = f"{self._hold('flags', node, lambda: _flags_decoder(node.names))}({value})"
        if node.const:
            check = self._hold("const", node, lambda: _constant_checker(name, *node.const))
            value = f"{check}({value})"
        return value


def _type_name(field: str) -> str:
    """The name of a nested record's type: "inner_event" holds an InnerEvent."""
    camel = "".join(word[:1].upper() + word[1:] for word in field.split("_"))
    return camel if camel.isidentifier() else "Record"


class _EnumNames(dict[int, Any]):
    """construct's names of an Enum's values; a number without name stays one."""

    def __missing__(self, value: int) -> Any:
        return construct.EnumInteger(value)


def _flags_decoder(flags: Any) -> Callable[[int], Any]:
    return lambda value: flags._decode(value, None, "")


def _constant_checker(name: str, expected: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not (value == expected):  # noqa: SIM201 - as construct compares them
            reason = f"it must be {expected!r}, and is {value!r}"
            raise DecodeError(f"decode {name}", None, reason)
        return value

    return check


def _as_bytes(node: Node, order: str) -> bool:
    """Whether struct takes a number as bytes: of another order, or of no size it knows."""
    return node.kind in ("int", "float") and (not node.code or node.order not in ("", order))


def _majority(node: Node) -> str:
    """The byte order of most numbers: the others are converted one by one."""
    orders = {"<": 0, ">": 0}

    def count(node: Node, times: int) -> None:
        if node.element is not None:
            count(node.element, times * node.count)
        for _, item in node.items:
            count(item, times)
        if node.order and node.code:
            orders[node.order] += times

    count(node, 1)
    return ">" if orders[">"] > orders["<"] else "<"


def _codes(node: Node, order: str) -> str:
    """struct's letters for all values of NODE."""
    if node.kind == "struct":
        return "".join(_codes(item, order) for _, item in node.items)
    if node.kind == "array":
        assert node.element is not None
        return _codes(node.element, order) * node.count
    if node.kind == "pad":
        return f"{node.size}x"
    if node.kind in ("bytes", "text") or _as_bytes(node, order):
        return f"{node.size}s"
    return node.code
