"""Hypothesis strategies for one's own schemas: events as the kernel hands them out.

The only module that needs hypothesis; it is imported by nothing else here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import construct
from hypothesis import assume
from hypothesis import strategies as st

from .codec import MAX_PADDING
from .errors import BpfError, DecodeError
from .fields import Node
from .schema import Schema, as_schema

__all__ = ["Event", "events", "records"]

#: What breaks tools that print names: control characters, no UTF-8, markup, nothing at all.
_AWKWARD = [b"", b"a b", b"\x1b[31m", b"a\nb", b"\xff\xfe", b"\x9b", b"\\x1b", b"%s", b"(sd-pam)"]


#: Bytes of a field that are drawn one by one.
_MAX_DRAWN = 256


class Event(NamedTuple):
    """A drawn event.

    Attributes:
        sample: the bytes of a perf sample, with up to 7 bytes of padding, any bytes.
        record: what ``schema.decode(sample)`` returns.
    """

    sample: bytes
    record: Any


def events(schema: Any) -> st.SearchStrategy[Event]:
    """Events of a schema, as raw samples together with their records.

    Numbers lean to their limits, texts to what breaks tools that print them:
    control characters, bytes that are not UTF-8, garbage behind the NUL. Padding
    and what follows a NUL are any bytes, as BPF programs leave them.

    Args: schema: a Schema of a fixed size, or a construct Struct.
    Returns: the strategy of Events.
    Raises: BpfError: the schema's size varies.
    Since: 0.1
    """
    decoder = as_schema(schema)
    return _events(decoder, _bytes_of(decoder))


def records(schema: Any) -> st.SearchStrategy[Any]:
    """The records of events() alone.

    Args: schema: as there.
    Returns: the strategy of records.
    Raises: as events().
    Since: 0.1
    """
    return events(schema).map(lambda event: event.record)


@st.composite
def _events(draw: st.DrawFn, schema: Schema[Any], whole: st.SearchStrategy[bytes]) -> Event:
    raw = draw(whole)
    try:
        record = schema.decode(raw)
    except DecodeError:  # of what only construct parses, not all bytes are events
        assume(False)
    return Event(raw + draw(st.binary(max_size=MAX_PADDING)), record)


def _bytes_of(schema: Schema[Any]) -> st.SearchStrategy[bytes]:
    if schema.size < 0:
        hint = "Draw the fields that vary yourself, and use schema.build()."
        raise BpfError(f"draw events of {schema.name}", None, "their size varies", hint=hint)
    return _node(schema.fields)


def _node(node: Node) -> st.SearchStrategy[bytes]:
    """Bytes that a field may hold."""
    size = node.fixed
    if node.kind == "struct":
        return st.tuples(*(_node(item) for _, item in node.items)).map(b"".join)
    if node.kind == "array":
        assert node.element is not None
        element = _node(node.element)
        return st.lists(element, min_size=node.count, max_size=node.count).map(b"".join)
    if node.const:
        return st.just(_constant(node))
    anything = _binary(size)
    if node.kind == "text":
        awkward = st.builds(lambda text, rest: (text + b"\0" + rest)[:size], _texts(), anything)
        return st.one_of(awkward, anything)
    if node.kind == "int":
        return st.one_of(_integers(node), anything)
    return anything


def _binary(size: int) -> st.SearchStrategy[bytes]:
    """SIZE bytes; of many the first are drawn, and repeated: hypothesis refuses large draws."""
    if size <= _MAX_DRAWN:
        return st.binary(min_size=size, max_size=size)
    drawn = st.binary(min_size=1, max_size=_MAX_DRAWN)
    return drawn.map(lambda raw: (raw * -(-size // len(raw)))[:size])


def _texts() -> st.SearchStrategy[bytes]:
    return st.one_of(st.sampled_from(_AWKWARD), st.text(max_size=16).map(_encode))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"")


def _integers(node: Node) -> st.SearchStrategy[bytes]:
    """Numbers near their limits, and those that have names."""
    bits = 8 * node.fixed
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if node.signed else (0, (1 << bits) - 1)
    named = []
    if isinstance(node.names, construct.Enum):
        named = [int(value) for value in node.names.encmapping.values()]
    edges = {low, low + 1, 0, 1, high - 1, high, *named}
    order: Any = "big" if node.order == ">" else "little"
    values = [value for value in sorted(edges) if low <= value <= high]
    return st.sampled_from(values).map(
        lambda value: value.to_bytes(node.fixed, order, signed=node.signed)
    )


def _constant(node: Node) -> bytes:
    from .builder import build_bytes

    return build_bytes(node, None, "constant")
