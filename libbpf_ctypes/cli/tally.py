"""What the kernel counted, group by group: struct group and tally of call_event.h."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._ffi import lib
from ..enums import MapType
from .by import CPU, FUNCTION, PID, TID
from .histogram import SLOTS

if TYPE_CHECKING:
    from ..maps import Map
    from ..object import BpfObject
    from .by import By
    from .histogram import Scale

_GROUP = struct.Struct("=5I4x3Q16s")
_FUNCTION_SIZE, _TEXT_SIZE = 4, 256
#: Bytes of struct call_event: up to its time (TIMED_SIZE), and up to its values.
_TIMED_CALL, _CALL = 24, 112
_COUNT = struct.Struct("=Q")
_TALLY = struct.Struct(f"={3 + SLOTS}Q")

#: Bytes that the kernel may take for groups, what it takes for each beside them, and how many
#: there is room for at least and at most.
_MEMORY, _BESIDE, _LEAST, _MOST = 1 << 24, 64, 1 << 10, 1 << 16


class Group(NamedTuple):
    """struct group, decoded; what is not asked for is 0."""

    function: int
    pid: int
    tid: int
    cpu: int
    uid: int
    value: int
    kernel_stack: int
    user_stack: int
    comm: str
    text: str


class Tally(NamedTuple):
    """struct tally. ``max_ns``: None: not known. ``slots``: of a count there are none."""

    calls: int
    total_ns: int = 0
    max_ns: int | None = 0
    slots: tuple[int, ...] = ()

    def plus(self, other: Tally) -> Tally:
        """The two together."""
        both_known = self.max_ns is not None and other.max_ns is not None
        return Tally(
            self.calls + other.calls,
            self.total_ns + other.total_ns,
            max(self.max_ns or 0, other.max_ns or 0) if both_known else None,
            tuple(map(sum, zip(self.slots, other.slots))),
        )

    def since(self, before: Tally) -> Tally:
        """What came after BEFORE. The longest is known if it is longer than all before it."""
        grown = (self.max_ns or 0) > (before.max_ns or 0)
        return Tally(
            self.calls - before.calls,
            self.total_ns - before.total_ns,
            self.max_ns if grown or not before.calls else None,
            tuple(now - then for now, then in zip(self.slots, before.slots)),
        )


Tallies = Mapping[bytes, Tally]


def prepare_groups(
    obj: BpfObject, by: By, scale: Scale | None, *, functions: int, with_text: bool
) -> int:
    """Sets how an object groups calls, before it is loaded; returns how many groups have room.

    Args:
        scale: of the histograms; None: calls are counted, not times.
        functions: how many are traced.
        with_text: the argument of --by is a text.
    """
    groups, variables = obj.maps["GROUPS"], obj.variables
    groups.key_size = _GROUP.size + (_TEXT_SIZE if with_text else 0)
    groups.value_size = _COUNT.size if scale is None else _TALLY.size
    variables["group_by"].value = by.bits
    if scale is not None:
        variables["linear_min"].value = scale.minimum
        variables["linear_step"].value = scale.step
        variables["slots_used"].value = len(scale.used((0,) * SLOTS))
        # What calls are grouped by is kept from their beginning to their return.
        kept = _TIMED_CALL if not by.bits & ~(FUNCTION | PID | TID | CPU) else _CALL
        variables["kept_size"].value = obj.maps["SPANS"].value_size = kept
    cpus = int(lib.libbpf_num_possible_cpus())
    room = _MEMORY // (groups.key_size + cpus * groups.value_size + _BESIDE)
    room = min(max(room, _LEAST), _MOST)
    if not by.bits & ~(FUNCTION | CPU):  # there cannot be more
        most = (functions if by.bits & FUNCTION else 1) * (cpus if by.bits & CPU else 1)
        if room >= most and not by.bits & CPU:  # an array is quicker, by struct group's first part
            groups.type, groups.key_size = MapType.PERCPU_ARRAY, _FUNCTION_SIZE
        room = min(room, most)
    groups.max_entries = room
    return room


def read_tallies(groups: Map[Any, Any]) -> dict[bytes, Tally]:
    """What was counted so far, by the bytes of struct group; sums of all CPUs."""
    layout = _TALLY if groups.value_size == _TALLY.size else _COUNT
    nothing = bytes(layout.size)
    found = {}
    for batch in groups.typed(key=bytes, value=bytes).lookup_batch():
        for key, values in batch:
            rows = [layout.unpack(value) for value in values if value != nothing]
            tally = _sum(rows) if rows else Tally(0)
            if tally.calls:
                found[key.ljust(_GROUP.size, b"\0")] = tally
    return found


def _sum(rows: list[tuple[int, ...]]) -> Tally:
    if len(rows[0]) == 1:
        return Tally(sum(row[0] for row in rows))
    _calls, total_ns, _max, *slots = map(sum, zip(*rows))
    # The program may be at it now: its slots say how many calls are in them.
    return Tally(sum(slots), total_ns, max(row[2] for row in rows), tuple(slots))


def since(now: Tallies, before: Tallies) -> dict[bytes, Tally]:
    """What came between two readings of the map."""
    found = {}
    for key, tally in now.items():
        then = before.get(key)
        came = tally if then is None else tally.since(then)
        if came.calls:
            found[key] = came
    return found


def decode_group(raw: bytes) -> Group:
    """A group, of the bytes of the map's key."""
    from ..fields import decode_cstring

    function, pid, tid, cpu, uid, value, kernel, user, comm = _GROUP.unpack_from(raw)
    text = decode_cstring(raw[_GROUP.size : _GROUP.size + _TEXT_SIZE])
    name = decode_cstring(comm)
    return Group(function, pid, tid, cpu, uid, value, kernel, user, name, text)
