"""Record types: named tuples that are made faster than namedtuple's own."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import Any, Callable


class _RecordMeta(type):
    """Gives a record type namedtuple's signature without a ``__new__`` of its own.

    A type that inherits tuple's ``__new__`` is made by C alone; with one in Python
    each record costs a third more. So the signature is up here, and factory() goes
    around it.
    """

    def __call__(cls, *values: Any, **named: Any) -> Any:
        return cls._make(cls._order(*values, **named))  # type: ignore[attr-defined]


def _reduce(record: Any) -> tuple[Any, ...]:
    # copyreg would call tuple.__new__ with one argument for each field.
    return type(record)._make, (tuple(record),)


def record_type(name: str, fields: list[str]) -> Any:
    """A type like ``namedtuple(name, fields)``; it pickles, copies and unpacks as one.

    Args:
        name: of the type, an identifier.
        fields: names that namedtuple takes.
    """
    model: Any = namedtuple(name, fields)  # type: ignore[misc]
    new = model.__new__

    def order(*values: Any, **named: Any) -> Any:
        return tuple(new(model, *values, **named))

    members = {key: value for key, value in vars(model).items() if key != "__new__"}
    members.update(_order=staticmethod(order), __reduce__=_reduce)
    return _RecordMeta(name, (tuple,), members)


def factory(record: Any) -> Callable[[Iterable[Any]], Any]:
    """The function that makes a record of a tuple of its values, unchecked."""
    make: Callable[[Iterable[Any]], Any] = type.__call__.__get__(record, type(record))
    return make
