"""libbpf's headers as clang reads them, and ctypes types compared with theirs."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from typing import Any, NamedTuple

from libbpf_ctypes import _ffi

from ..conftest import need

#: The classes that stand for pointers to libbpf's own structs.
OPAQUE = {
    "bpf_object": _ffi.BpfObjectP,
    "bpf_program": _ffi.BpfProgramP,
    "bpf_map": _ffi.BpfMapP,
    "bpf_link": _ffi.BpfLinkP,
    "perf_buffer": _ffi.PerfBufferP,
    "btf": _ffi.BtfP,
}

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
    """The declarations of libbpf's headers."""

    def __init__(self) -> None:
        source = "#include <linux/bpf.h>\n#include <bpf/libbpf.h>\n#include <bpf/btf.h>\n"
        command = [need("clang"), "-x", "c", "-Xclang", "-ast-dump=json", "-fsyntax-only", "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
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
                named = [item for item in inner if item["kind"] == "FieldDecl" and "name" in item]
                self.structs[name] = [item["name"] for item in named]
            elif kind == "EnumDecl" and name:
                self.enums[name] = [constant["name"] for constant in inner]

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
            return CType("pointer", target=pointee.partition("struct ")[2] or pointee)
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


def struct_name(structure: type[ctypes.Structure]) -> str:
    """The C struct of one of _ffi's Structures: its docstring says it."""
    found = re.search(r"struct (\w+)", structure.__doc__ or "")
    assert found
    return found[1]


def classify_ctypes(type_: Any) -> CType:
    """A type of a prototype, in the same terms."""
    if type_ is None:
        return CType("void")
    if type_ is ctypes.c_bool:
        return CType("bool", 1)
    for name, opaque in OPAQUE.items():
        if type_ is opaque:
            return CType("pointer", target=name)
    if type_ is ctypes.c_char_p:
        return CType("pointer", target="char")
    if issubclass(type_, ctypes.c_void_p) or hasattr(type_, "_restype_"):  # a callback
        return CType("pointer")
    if issubclass(type_, ctypes._Pointer):
        pointee: Any = type_._type_
        if issubclass(pointee, ctypes.Structure):
            return CType("pointer", target=struct_name(pointee))
        return CType("pointer", target=pointee.__name__)
    signed = type_(-1).value < 0
    return CType("signed" if signed else "unsigned", ctypes.sizeof(type_))


def _agree(ours: CType, theirs: CType) -> bool:
    if theirs.category == "enum":  # the compiler chooses; libbpf's have no negative values
        return ours.category in ("signed", "unsigned") and ours.size == theirs.size
    if theirs.category != "pointer" or ours.category != "pointer":
        return ours == theirs
    if theirs.target in OPAQUE or ours.target in OPAQUE or ours.target.startswith("bpf_"):
        return ours.target == theirs.target
    if ours.target == "char":  # bytes are passed for void pointers, too
        return theirs.target in ("char", "void")
    return True


def disagreements(prototype: _ffi.Prototype, headers: Headers) -> list[str]:
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
