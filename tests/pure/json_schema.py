"""Enough of JSON Schema to hold docs/json-schema.json against what is printed."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, type] = {"object": dict, "array": list, "string": str, "null": type(None)}

#: What this knows; a schema with anything else would not be checked by it.
_KNOWN = {
    "$schema", "$defs", "$ref", "title", "oneOf", "const", "type", "minimum", "pattern",
    "properties", "required", "additionalProperties", "items",
}  # fmt: skip


def violations(value: Any, schema: Any, root: Any, at: str = "") -> list[str]:
    """What about VALUE is not as SCHEMA says, ROOT being the whole of it."""
    if isinstance(schema, bool):
        return [] if schema else [f"{at}: nothing may be here"]
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    found: list[str] = []
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found += violations(value, root["$defs"][name], root, at)
    if "oneOf" in schema:
        tried = [violations(value, one, root, at) for one in schema["oneOf"]]
        if sum(not failed for failed in tried) != 1:
            found.append(f"{at}: fits not just one of them: {tried}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r}, not {schema['const']!r}")
    types = schema.get("type", [])
    if types and not any(_is(value, kind) for kind in ([types] if types == str(types) else types)):
        found.append(f"{at}: {value!r} is no {types}")
    if "minimum" in schema and isinstance(value, int) and value < schema["minimum"]:
        found.append(f"{at}: {value} is below {schema['minimum']}")
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        found.append(f"{at}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, dict):
        found += [f"{at}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            default = schema.get("additionalProperties", True)
            of_it = schema.get("properties", {}).get(name, default)
            found += violations(inner, of_it, root, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            found += violations(inner, schema["items"], root, f"{at}[{number}]")
    return found


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "boolean"):
        return isinstance(value, int) and isinstance(value, bool) == (kind == "boolean")
    return isinstance(value, _TYPES[kind])
