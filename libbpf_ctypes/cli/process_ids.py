"""Process ids of other pid namespaces than the initial one: how the programs find them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import kernel
from ..errors import BpfError

if TYPE_CHECKING:
    from .._shapes import Shapes
    from .scope import KernelTypes

#: Offsets that ns_pid and the like need, by the object's variable: struct, member.
_PLACES = {
    "task_group_leader": ("task_struct", "group_leader"),
    "task_thread_pid": ("task_struct", "thread_pid"),
    "pid_level": ("pid", "level"),
    "pid_numbers": ("pid", "numbers"),
    "upid_ns": ("upid", "ns"),
    "upid_nr": ("upid", "nr"),
}

#: The same of what user stacks need.
_PROGRAM_PLACES = {
    "task_mm": ("task_struct", "mm"),
    "mm_start_stack": ("mm_struct", "start_stack"),
}


class Ids(NamedTuple):
    """Process ids of other pid namespaces than the initial one.

    Attributes:
        offsets: values of the object's variables of these names; none: they are not to be had.
        namespace: the inode number of the user's pid namespace; 0: the initial one.
    """

    offsets: dict[str, int]
    namespace: int


def process_ids(wanted: bool, types: KernelTypes) -> Ids:
    """What the program needs to know for the process ids that are WANTED, or must be there."""
    namespace = 0
    if not kernel.in_initial_pid_namespace():
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    if not wanted and not namespace:
        return Ids({}, 0)
    shapes = types.of_module("")
    try:
        offsets = _offsets(shapes, _PLACES)
        offsets["namespace_inum"] = _offset(shapes, "pid_namespace", "ns") + _offset(
            shapes, "ns_common", "inum"
        )
        offsets["upid_size"] = shapes.shape(shapes.find("struct upid")).size
    except BpfError:  # no BTF, or another kernel than those we know
        return Ids({}, namespace)
    return Ids(offsets, namespace)


def program_places(types: KernelTypes) -> dict[str, int]:
    """Where the kernel keeps what tells a process's program from the next; none without BTF."""
    try:
        return _offsets(types.of_module(""), _PROGRAM_PLACES)
    except BpfError:
        return {}


def _offsets(shapes: Shapes, places: dict[str, tuple[str, str]]) -> dict[str, int]:
    return {name: _offset(shapes, *place) for name, place in places.items()}


def _offset(shapes: Shapes, struct_name: str, member_name: str) -> int:
    """Bytes from a struct's beginning to its member. Raises: BpfError: there is none."""
    shape = shapes.shape(shapes.find(f"struct {struct_name}"))
    for member in shapes.named_members(shape):
        if member.name == member_name:
            return member.bit_offset // 8
    raise BpfError(f"find {member_name} in struct {struct_name}", None, "it has no such member")
