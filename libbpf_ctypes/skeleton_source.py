"""Writes the Python module of a BPF object: typed attributes, schemas, the object itself.

No name of the object gets into the source but as an identifier made here, or as a literal:
an object may come from anywhere.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any
from zlib import compress

from ._btf import Kind
from ._ffi import lib
from .declare import type_name
from .enums import MapType
from .map_types import NO_ENTRIES, PER_CPU
from .object import BpfObject
from .object_map import ObjectMap
from .skeleton_events import TYPES, Event, Names, event_block, event_source, event_structs
from .variables import _NUMBERS, Variable

DEFAULT_PACKAGE = "libbpf_ctypes"

_WIDTH = 76
_IMPORTED = ("BpfObject", "Link", "ObjectMap", "Program", "Schema", "Setting", "Skeleton")
_PARTS = ("Programs", "Maps", "Variables", "Links")
#: What the module itself calls by name.
_TAKEN = (
    *_IMPORTED,
    *_PARTS,
    *TYPES,
    *("Any", "NamedTuple", "SkeletonVariables", "TYPE_CHECKING", "annotations"),
    *("b64decode", "decompress", "staticmethod", "super"),
)


def skeleton_source(obj: BpfObject, file: str, package: str) -> str:
    """The module of an object.

    Args:
        obj: the BpfObject, not loaded, which the module carries.
        file: the file's name; "opensnoop.bpf.o" makes the class Opensnoop.
        package: where the module imports this package from: its name, or a relative one.

    Returns: the source; the same for the same object.
    Raises: BpfError: damaged types.
    """
    names = Names(_TAKEN)
    file = PurePath(file).name
    name = names.make(type_name(re.sub(r"[^A-Za-z0-9]", "_", file.partition(".")[0])))
    events = [event_source(obj, struct, names) for struct in event_structs(obj)]
    blocks = [
        _header(file, name) + _imports(obj, package, events) + event_block(events),
        *_part_classes(obj, {event.struct: event.hint for event in events}),
        _skeleton_class(name, lib.bpf_object__name(obj).decode(errors="surrogateescape")),
        _content_block(obj.content),
    ]
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


def _imports(obj: BpfObject, package: str, events: list[Event]) -> str:
    """The import statements."""
    records = {event.struct: event.hint for event in events}
    hints = [*records.values(), *(h for m in obj.maps.values() for h in _map_hints(m, records))]
    typing: dict[str, object] = {"TYPE_CHECKING": events, "Any": "Any" in hints}
    typing["NamedTuple"] = any("(NamedTuple)" in event.checked for event in events)
    linked = obj.programs or any(m.type == MapType.STRUCT_OPS for m in obj.maps.values())
    here: dict[str, object] = {
        "BpfObject": True,
        "Link": linked,
        "ObjectMap": obj.maps,
        "Program": obj.programs,
        "Schema": events,
    }
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


def _part_classes(obj: BpfObject, records: Mapping[str, str]) -> Iterator[str]:
    names = Names()  # of both: links are called by them
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
            _entry(attribute, name, "maps", _map_type(obj.maps[name], records))
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


def _map_type(entry: ObjectMap[Any, Any], records: Mapping[str, str]) -> str:
    return f"ObjectMap[{', '.join(_map_hints(entry, records))}]"


def _map_hints(entry: ObjectMap[Any, Any], records: Mapping[str, str]) -> Iterator[str]:
    """The types of keys and values, as Python has them."""
    if entry.type in NO_ENTRIES:  # not Any, by which readers would not know what they give
        yield from ("bytes", "bytes")
        return
    kinds, hints = entry._c_types(), entry._annotations()
    for number, (kind, hint) in enumerate(zip(kinds, hints)):
        # Values of several CPUs are read as a list, and written as one, too: Any.
        one = number == 0 or entry.type not in PER_CPU
        struct = hint == "Any" and one and kind and kind.kind == Kind.STRUCT
        yield records.get(kind.name, hint) if struct else hint


def _map_name(entry: ObjectMap[Any, Any]) -> str:
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
    names = Names(("_obj", *TYPES, "Setting"))
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
