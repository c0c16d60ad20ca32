"""Writes the Python module of a BPF object: typed attributes, schemas, the object itself.

No name of the object gets into the source but as an identifier made here, or as a literal:
an object may come from anywhere.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from pathlib import PurePath
from typing import Any, NamedTuple
from zlib import compress

from ._btf import MODIFIERS, Kind, words_at
from ._ffi import lib
from .declare import declare, type_name
from .enums import MapType
from .fields import Node
from .layout import Structs, has_types
from .maps import Map
from .object import BpfObject
from .schema import Schema
from .variables import _NUMBERS, Variable

DEFAULT_PACKAGE = "libbpf_ctypes"

_WIDTH = 76
_IMPORTED = ("BpfObject", "Link", "Map", "Program", "Schema", "Setting", "Skeleton")
_PARTS = ("Programs", "Maps", "Variables", "Links")
_TYPES = ("int", "bool", "bytes", "str", "float", "list")
#: What the module itself calls by name.
_TAKEN = (
    *_IMPORTED,
    *_PARTS,
    *_TYPES,
    *("Any", "NamedTuple", "SkeletonVariables", "TYPE_CHECKING", "annotations"),
    *("b64decode", "decompress", "staticmethod", "super"),
)
#: Fields under which a tuple has a method.
_METHODS = ("count", "index")


class _Names:
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


class _Event(NamedTuple):
    """A C struct as source: its record type, what makes its schema, what that imports."""

    checked: str
    made: str
    imports: frozenset[str]


def skeleton_source(obj: BpfObject, file: str, package: str) -> str:
    """The module of an object.

    Args:
        obj: the BpfObject, not loaded, which the module carries.
        file: the file's name; "opensnoop.bpf.o" makes the class Opensnoop.
        package: where the module imports this package from: its name, or a relative one.

    Returns: the source; the same for the same object.
    Raises: BpfError: damaged types.
    """
    names = _Names(_TAKEN)
    file = PurePath(file).name
    name = names.make(type_name(re.sub(r"[^A-Za-z0-9]", "_", file.partition(".")[0])))
    events = [_event(obj, struct, names) for struct in _event_structs(obj)]
    blocks = [
        _header(file, name) + _imports(obj, package, "".join(event.checked for event in events)),
        *_part_classes(obj),
        _skeleton_class(name, lib.bpf_object__name(obj).decode(errors="surrogateescape")),
        _content_block(obj.content),
    ]
    blocks[0] += _event_block(events)
    source = "\n\n".join(blocks)
    if max(map(len, source.splitlines())) > _WIDTH + 12:
        source = f"# ruff: noqa: E501\n{source}"
    return source


def _header(file: str, name: str) -> str:
    shown = re.sub(r"[^A-Za-z0-9_.+-]", "?", file)
    return (
        f'"""The BPF object {shown}, written by \'ebpf-tool skeleton\': do not edit.\n\n'
        "Use::\n\n"
        f"    with {name}.open() as skel:\n"
        "        skel.load()\n"
        "        skel.attach()\n"
        '"""\n\n'
        "from __future__ import annotations\n\n"
    )


def _imports(obj: BpfObject, package: str, checked: str) -> str:
    """The import statements. Args: checked: the events' record types."""
    vague = any("Any" in entry._annotations() for entry in obj.maps.values())
    typing: dict[str, object] = {"TYPE_CHECKING": checked, "Any": vague or "[Any]" in checked}
    typing["NamedTuple"] = "(NamedTuple)" in checked
    linked = obj.programs or any(m.type == MapType.STRUCT_OPS for m in obj.maps.values())
    here: dict[str, object] = {
        "BpfObject": True,
        "Link": linked,
        "Map": obj.maps,
        "Program": obj.programs,
    }
    here["Schema"] = checked
    skeleton: dict[str, object] = {
        "Setting": obj.variables,
        "Skeleton": True,
        "SkeletonVariables": True,
    }
    return (
        "from base64 import b64decode\n"
        + _import("typing", typing)
        + "from zlib import decompress\n\n"
        + _import(package, here)
        + _import(f"{package}.skeleton", skeleton)
    )


def _import(module: str, names: Mapping[str, object]) -> str:
    """The import of the names that are needed."""
    needed = [name for name, needed in names.items() if needed]
    return f"from {module} import {', '.join(needed)}\n" if needed else ""


def _event_structs(obj: BpfObject) -> list[str]:
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


def _event(obj: BpfObject, struct: str, names: _Names) -> _Event:
    """The record type and the schema of a struct."""
    kind = names.make(type_name(struct))
    constant = names.make(struct.upper())
    declared = declare(obj, struct)
    schema: Schema[object] = Schema(declared.construct, kind)
    size = f"# {schema.size} bytes, in the byte order of the machine.\n    "
    module = f"    {kind}.__module__ = __name__\n"
    if not schema.derived:  # parsed by construct, to its own Container
        module = ""
    if schema.derived and _typable(schema.fields):
        classes = "".join(_record(schema.fields, kind, names))
        checked = f"{classes}    {constant}: Schema[{kind}]\n"
    else:
        checked = f"    {kind} = Any\n    {constant}: Schema[Any]\n"
    source = declared.source.replace("\n", "\n    ")
    made = (
        f'    {size}{constant} = Schema({source}, "{kind}")\n'
        f"    {kind} = {constant}.record\n{module}"
    )
    return _Event(checked, made, declared.imports)


def _typable(node: Node) -> bool:
    """Whether no field hides one of the types that the other fields are of."""
    inner = [item for _, item in node.items] + ([node.element] if node.element else [])
    return not {name for name, _ in node.items} & {*_TYPES} and all(map(_typable, inner))


def _record(node: Node, kind: str, names: _Names) -> list[str]:
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


def _hint(node: Node, kind: str, names: _Names, before: list[str]) -> str:
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


def _event_block(events: list[_Event]) -> str:
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


def _part_classes(obj: BpfObject) -> Iterator[str]:
    names = _Names()  # of both: links are called by them
    programs = {name: names.make(name) for name in obj.programs}
    maps = {name: names.make(_map_name(entry)) for name, entry in obj.maps.items()}
    linked = list(programs.values())
    linked += [maps[n] for n, entry in obj.maps.items() if entry.type == MapType.STRUCT_OPS]
    yield _class(
        "Programs",
        "The object's programs.",
        [_entry(attribute, name, "programs", "Program") for name, attribute in programs.items()],
    )
    yield _class(
        "Maps",
        "The object's maps.",
        [
            _entry(attribute, name, "maps", f"Map[{', '.join(obj.maps[name]._annotations())}]")
            for name, attribute in maps.items()
        ],
    )
    yield _variables_class(list(obj.variables.values()))
    yield _class(
        "Links",
        "What is attached, by the name of the program or struct_ops map; else None.",
        [f"        self.{attribute}: Link | None = None\n" for attribute in linked],
        "",
    )


def _map_name(entry: Map[Any, Any]) -> str:
    """A map's name; of those behind variables ("tool.rodata", ".data.x") without the object's."""
    _object, dot, section = entry.name.partition(".")
    return section if dot else entry.name


def _entry(attribute: str, name: str, parts: str, kind: str) -> str:
    return f"        self.{attribute}: {kind} = obj.{parts}[{_quoted(name)}]\n"


def _class(name: str, doc: str, lines: list[str], parameter: str = "obj: BpfObject") -> str:
    signature = f"self, {parameter}" if parameter else "self"
    body = "".join(lines) or "        pass\n"
    return f'class {name}:\n    """{doc}"""\n\n    def __init__({signature}) -> None:\n{body}'


def _variables_class(variables: list[Variable]) -> str:
    # Inside of the class they would hide the types.
    names = _Names(("_obj", *_TYPES, "Setting"))
    lines = "".join(
        f"    {names.make(v.name)} = Setting({_quoted(v.name)}, {_value_type(v)})\n"
        for v in variables
    )
    doc = "The object's global variables; constants are set before load()."
    gap = "\n" if lines else ""
    return (
        f'class Variables(SkeletonVariables):\n    """{doc}"""\n\n    __slots__ = ()\n{gap}{lines}'
    )


def _value_type(variable: Variable) -> str:
    if variable.type.is_bool:
        return "bool"
    return "int" if variable.type.kind in _NUMBERS else "bytes"


def _skeleton_class(name: str, object_name: str) -> str:
    return (
        f'class {name}(Skeleton):\n    """The object; see Skeleton."""\n\n'
        f"    _name = {_quoted(object_name)}\n\n"
        "    def __init__(self, obj: BpfObject) -> None:\n"
        "        super().__init__(obj)\n"
        "        self.programs: Programs = Programs(obj)\n"
        "        self.maps: Maps = Maps(obj)\n"
        "        self.variables: Variables = Variables(obj)\n"
        "        self.links: Links = Links()\n\n"
        "    @staticmethod\n"
        "    def content() -> bytes:\n"
        '        """The object file."""\n'
        "        return decompress(b64decode(_CONTENT))\n"
    )


def _content_block(content: bytes) -> str:
    text = b64encode(compress(content, 9)).decode()
    lines = (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
    return '_CONTENT = """\n' + "".join(f"{line}\n" for line in lines) + '"""\n'


def _quoted(text: str) -> str:
    """A literal: nothing in TEXT can end it."""
    plain = ascii(text)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in plain else plain
