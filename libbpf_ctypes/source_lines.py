"""Where a program's functions and lines of source begin in its instructions."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._ffi import lib


class FunctionInfo(NamedTuple):
    """Where a function of a program begins.

    Attributes:
        offset: its first instruction's number.
        type_id: its type in the object's BTF.
    """

    offset: int
    type_id: int


class LineInfo(NamedTuple):
    """A line of a program's source.

    Attributes:
        offset: its first instruction's number.
        file, line, column: where it is.
        text: the line itself.
    """

    offset: int
    file: str
    line: int
    column: int
    text: str


def function_info(program: Any) -> list[FunctionInfo]:
    """Those of a Program; none before load, and after unload."""
    listed = lib.bpf_program__func_info(program)
    count = lib.bpf_program__func_info_cnt(program) if listed else 0
    return [FunctionInfo(listed[n].insn_off, listed[n].type_id) for n in range(count)]


def line_info(program: Any, obj: Any) -> list[LineInfo]:
    """Those of a Program of an object, whose BTF holds the texts."""
    listed = lib.bpf_program__line_info(program)
    count = lib.bpf_program__line_info_cnt(program) if listed else 0
    btf = lib.bpf_object__btf(obj)

    def text(offset: int) -> str:
        return str(lib.btf__str_by_offset(btf, offset).decode(errors="backslashreplace"))

    lines = (listed[n] for n in range(count))
    return [
        LineInfo(
            line.insn_off,
            text(line.file_name_off),
            line.line_col >> 10,
            line.line_col & 0x3FF,
            text(line.line_off),
        )
        for line in lines
    ]
