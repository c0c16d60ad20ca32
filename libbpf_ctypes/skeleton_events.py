"""The structs of an object as Python source: record types, and the schemas that make them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from keyword import iskeyword
from typing import NamedTuple

from ._btf import MODIFIERS, Kind, words_at
from .declare import declare, type_name
from .fields import Node
from .layout import Structs, has_types
from .object import BpfObject
from .schema import Schema

#: What hints are made of: a field of such a name would hide it.
TYPES = ("int", "bool", "bytes", "str", "float", "list")
#: Fields under which a tuple has a method.
_METHODS = ("count", "index")


class Names:
    """Identifiers made of any names, each given once."""

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self._taken = set(taken)

    def make(self, name: str) -> str:
        """An identifier that resembles NAME: ``class_`` for class, ``a_b`` for ``a.b``."""
        # Two underscores in front would be mangled in a class, or be a name of Python's own.
        made = re.sub(r"^__+", "_", re.sub(r"[^A-Za-z0-9_]", "_", name))
        if not made or made[0].isdigit():
            made = f"_{made}"
        while iskeyword(made) or made in self._taken:
            made += "_"
        self._taken.add(made)
        return made


class Event(NamedTuple):
    """A C struct as source: its record type, what makes its schema, what that imports."""

    struct: str
    hint: str  # the type of its records
    checked: str
    made: str
    imports: frozenset[str]


def event_structs(obj: BpfObject) -> list[str]:
    """The structs that variables (and pointers among them) and maps are made of.

    Those that only functions use are the kernel's, as a rule.
    """
    if not has_types(obj):
        return []
    structs = Structs(obj)
    found: dict[str, None] = {}
    for identity in _kept(structs):
        kind, name = _pointee(structs, identity)
        if kind == Kind.STRUCT and name in structs.names:
            found[name] = None
    return list(found)


def _kept(structs: Structs) -> Iterator[int]:
    """The types of global variables, of maps' keys and of their values."""
    btf = structs._btf
    for _identity, raw in btf._types():
        if raw.kind != Kind.DATASEC:
            continue
        section = btf._name(raw.name_offset)
        for variable in words_at(raw.data, 3 * raw.vlen)[::3]:
            declared = btf._raw(variable).size_or_type
            if section == ".maps":
                entry = btf._raw(declared)
                if entry.kind == Kind.STRUCT:
                    words = words_at(entry.data, 3 * entry.vlen)
                    yield from (
                        member
                        for name, member in zip(words[::3], words[1::3])
                        if btf._name(name) in ("key", "value")
                    )
            elif section not in (".ksyms", ".kconfig"):
                yield declared


def _pointee(structs: Structs, identity: int) -> tuple[Kind, str]:
    """Kind and name of what is behind qualifiers, pointers and arrays."""
    for _ in range(64):  # damaged BTF may hold a circle
        if not identity:
            break
        raw = structs._btf._raw(identity)
        if raw.kind == Kind.ARRAY:
            identity = words_at(raw.data, 1)[0]
        elif raw.kind == Kind.PTR or raw.kind in MODIFIERS:
            identity = raw.size_or_type
        else:
            return raw.kind, structs._btf._name(raw.name_offset)
    return Kind.VOID, ""


def event_source(obj: BpfObject, struct: str, names: Names) -> Event:
    """The record type and the schema of a struct."""
    kind = names.make(type_name(struct))
    constant = names.make(struct.upper())
    declared = declare(obj, struct)
    schema: Schema[object] = Schema(declared.construct, kind)
    size = f"# {schema.size} bytes, in the byte order of the machine.\n    "
    module = f"    {kind}.__module__ = __name__\n"
    if not schema.derived:  # parsed by construct, to its own Container
        module = ""
    hint = kind if schema.derived and _typable(schema.fields) else "Any"
    if hint == kind:
        classes = "".join(_record(schema.fields, kind, names))
        checked = f"{classes}    {constant}: Schema[{kind}]\n"
    else:
        checked = f"    {kind} = Any\n    {constant}: Schema[Any]\n"
    source = declared.source.replace("\n", "\n    ")
    made = (
        f'    {size}{constant} = Schema({source}, "{kind}")\n'
        f"    {kind} = {constant}.record\n{module}"
    )
    return Event(struct, hint, checked, made, declared.imports)


def _typable(node: Node) -> bool:
    """Whether no field hides one of the types that the other fields are of."""
    inner = [item for _, item in node.items] + ([node.element] if node.element else [])
    return not {name for name, _ in node.items} & {*TYPES} and all(map(_typable, inner))


def _record(node: Node, kind: str, names: Names) -> list[str]:
    """The record type, behind those of the structs in it."""
    before: list[str] = []
    lines = []
    for name, item in node.items:
        if name and item.kind != "pad":
            ignore = "  # type: ignore[assignment]" if name in _METHODS else ""
            hint = _hint(item, f"_{kind.lstrip('_')}{type_name(name)}", names, before)
            lines.append(f"        {name}: {hint}{ignore}\n")
    body = "".join(lines) or "        pass\n"
    return [*before, f"    class {kind}(NamedTuple):\n{body}\n"]


def _hint(node: Node, kind: str, names: Names, before: list[str]) -> str:
    """A field's type; what it needs goes into BEFORE."""
    if node.kind == "array":
        assert node.element is not None
        return f"list[{_hint(node.element, kind, names, before)}]"
    if node.kind == "struct":
        kind = names.make(kind)
        before += _record(node, kind, names)
        return kind
    if node.names is not None:
        return "int | str"  # construct's: the name of a constant, or an unknown number
    return {"text": "str"}.get(node.kind, node.kind)


def event_block(events: list[Event]) -> str:
    if not events:
        return ""
    imports = sorted(frozenset[str]().union(*(event.imports for event in events)))
    listed = "".join(f"        {name},\n" for name in imports)
    return (
        "\nif TYPE_CHECKING:\n\n"
        + "\n".join(event.checked for event in events)
        + f"\nelse:\n    from construct import (\n{listed}    )\n\n"
        + "\n".join(event.made for event in events)
    )
