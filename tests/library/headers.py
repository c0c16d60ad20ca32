"""libbpf's headers as clang reads them, and ctypes types compared with theirs."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from libbpf_ctypes._ffi import Prototype
from libbpf_ctypes._libbpf import OPAQUE, STRUCTS
from libbpf_ctypes._types import Pointer

from ..conftest import need

INCLUDES = """
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <bpf/libbpf.h>
#include <bpf/bpf.h>
#include <bpf/libbpf_legacy.h>
#include <bpf/btf.h>
"""
HEADERS = ("libbpf.h", "bpf.h", "btf.h", "libbpf_common.h", "libbpf_legacy.h")

_SIZES = {"char": 1, "short": 2, "int": 4, "long": ctypes.sizeof(ctypes.c_long), "long long": 8}


class CType(NamedTuple):
    """What a type is for the calling convention."""

    category: str  # void, bool, signed, unsigned, enum, pointer
    size: int = 0
    target: str = ""  # of a pointer: the struct's or the type's name


class Function(NamedTuple):
    """A declaration."""

    result: CType
    parameters: tuple[CType, ...]


class Headers:
    """The declarations of libbpf's headers.

    Args: folder: holds ``bpf/``, which holds them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        texts = [(folder / "bpf" / name).read_text(encoding="utf-8") for name in HEADERS]
        #: The structs and enumerations that are libbpf's, and not the kernel's.
        self.own = set(
            re.findall(r"^(?:struct|union|enum) (\w+) \{", "\n".join(texts), re.MULTILINE)
        )
        command = [need("clang"), "-x", "c", "-I", str(folder), "-Xclang", "-ast-dump=json"]
        done = subprocess.run(
            [*command, "-fsyntax-only", "-"],
            input=INCLUDES,
            capture_output=True,
            text=True,
            check=True,
        )
        self._typedefs: dict[str, str] = {}
        self._functions: dict[str, dict[str, Any]] = {}
        self.structs: dict[str, list[str]] = {}
        self.enums: dict[str, list[str]] = {}
        for node in json.loads(done.stdout)["inner"]:
            name, kind = node.get("name", ""), node["kind"]
            inner = node.get("inner", [])
            if kind == "TypedefDecl":
                self._typedefs[name] = node["type"]["qualType"]
            elif kind == "FunctionDecl":
                self._functions[name] = node
            elif kind == "RecordDecl" and inner:
                self.structs[name] = _fields(node)
            elif kind == "EnumDecl" and inner:
                names = [item["name"] for item in inner if item["kind"] == "EnumConstantDecl"]
                self.enums[name] = [*self.enums.get(name, []), *names]

    @property
    def functions(self) -> list[str]:
        """The names of libbpf's functions, but for those whose body is in the header."""
        ours = ("bpf_", "btf_", "libbpf_", "perf_buffer_", "ring_", "user_ring_", "ring__")
        plain = (n for n, node in self._functions.items() if not node.get("inline"))
        return [name for name in plain if name.startswith(ours)]

    def function(self, name: str) -> Function | None:
        """The function of this name; None if these headers do not declare it."""
        node = self._functions.get(name)
        if node is None:
            return None
        result = node["type"]["qualType"].split("(")[0]
        parameters = [item for item in node.get("inner", []) if item["kind"] == "ParmVarDecl"]
        types = (item["type"] for item in parameters)
        texts = [type_.get("desugaredQualType", type_["qualType"]) for type_ in types]
        return Function(self.classify(result), tuple(map(self.classify, texts)))

    def classify(self, text: str) -> CType:
        """A C type as it is written, its typedefs resolved."""
        text = " ".join(re.sub(r"\b(const|volatile|restrict)\b", "", text).split())
        if text.endswith("*") or "(*)" in text:
            pointee = "" if "(*)" in text else text[:-1].strip()
            return CType("pointer", target=re.sub(r"^(struct|union) ", "", pointee))
        if text in self._typedefs:
            return self.classify(self._typedefs[text])
        if text == "void":
            return CType("void")
        if text in ("_Bool", "bool"):
            return CType("bool", 1)
        if text.startswith("enum "):
            return CType("enum", 4)
        unsigned = text.startswith("unsigned")
        base = text.partition("unsigned")[2].strip() or "int" if unsigned else text
        return CType("unsigned" if unsigned else "signed", _SIZES[base])


def _fields(node: dict[str, Any]) -> list[str]:
    """The names of a struct's fields, those of structs inside with their paths."""
    found: list[str] = []
    inside: list[str] = []
    for item in node.get("inner", []):
        if item["kind"] == "RecordDecl":
            inside = _fields(item)
        elif item["kind"] == "FieldDecl":
            name, nested = item.get("name", ""), "(" in item["type"]["qualType"]
            if name:
                found.append(name)
            if nested and inside:
                found += [f"{name}.{field}" if name else field for field in inside]
                inside = []
    return found


def classify_ctypes(type_: Any) -> CType:
    """A type of a prototype, in the same terms."""
    if type_ is None:
        return CType("void")
    if type_ is ctypes.c_bool:
        return CType("bool", 1)
    if type_ is ctypes.c_char_p:
        return CType("pointer", target="char")
    if issubclass(type_, Pointer):
        return CType("pointer", target=type_.__name__.removesuffix("_p"))
    if issubclass(type_, ctypes.c_void_p) or hasattr(type_, "_restype_"):  # a callback
        return CType("pointer", target="void")
    if issubclass(type_, ctypes._Pointer):
        pointee: Any = type_._type_
        return CType("pointer", target=pointee.__name__)
    signed = type_(-1).value < 0
    return CType("signed" if signed else "unsigned", ctypes.sizeof(type_))


def _agree(ours: CType, theirs: CType) -> bool:
    if theirs.category == "enum":  # the compiler chooses
        return ours.category in ("signed", "unsigned") and ours.size == theirs.size
    if theirs.category != "pointer" or ours.category != "pointer":
        return ours == theirs
    structs = {*OPAQUE, *STRUCTS}
    if theirs.target in structs or ours.target in structs:
        return ours.target == theirs.target
    if ours.target == "char":  # bytes
        return theirs.target == "char"
    return True


def disagreements(prototype: Prototype, headers: Headers) -> list[str]:
    """In what a prototype differs from its declaration; empty if in nothing."""
    declared = headers.function(prototype.name)
    if declared is None:
        return [f"{prototype.name} is not declared"]
    found = []
    ours = [classify_ctypes(argument) for argument in prototype.arguments]
    if len(ours) != len(declared.parameters):
        found.append(f"{len(ours)} parameters, not {len(declared.parameters)}")
    for number, (mine, theirs) in enumerate(zip(ours, declared.parameters), 1):
        if not _agree(mine, theirs):
            found.append(f"parameter {number}: {mine}, not {theirs}")
    result = classify_ctypes(prototype.result)
    if not _agree(result, declared.result):
        found.append(f"result: {result}, not {declared.result}")
    return found
