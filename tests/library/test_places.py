"""Where arguments lie on each machine, and the ways to what they lead to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libbpf_ctypes import Btf
from libbpf_ctypes._shapes import Shapes
from libbpf_ctypes.cli.fetches import STACK_POINTER, Fetch
from libbpf_ctypes.cli.places import PathError, Place, follow, place_parameters

from ..conftest import Compile

SOURCE = """
struct small { int number; int other; };
struct pair { long first; long second; };
struct large { long first; long second; long third; };
struct empty { };
struct node { struct node *next; struct pair pairs[2]; void *any; struct later *later;
              float real; char text[4]; unsigned wide:24; int byte:8; };
struct huge { char first[1UL << 32]; int behind; };
struct small a; struct pair b; struct large c; struct empty d; struct node e;
struct huge *f;
__int128 wide;
"""


@pytest.fixture(scope="module")
def shapes(compile_bpf: Compile) -> Iterator[Shapes]:
    with Btf.from_file(compile_bpf(SOURCE)) as btf:
        yield Shapes(btf)


def places(shapes: Shapes, machine: str, *types: str) -> list[tuple[int, bool, int] | None]:
    """Source, whether it is in memory, and the offset of parameters of these types."""
    known = ("struct", "__int128")
    ids = [shapes.find(t) if t.startswith(known) else shapes.declare(t) for t in types]
    found = place_parameters(
        [(f"p{number}", kind) for number, kind in enumerate(ids)], shapes, machine
    )
    return [p.place and (p.place.source, p.place.in_memory, p.place.offset) for p in found]


STACK = STACK_POINTER


def test_registers_and_then_the_stack(shapes: Shapes) -> None:
    many = ["long"] * 9
    registers = [(number, False, 0) for number in range(8)]
    behind = [(STACK, True, 8), (STACK, True, 16), (STACK, True, 24)]
    assert places(shapes, "x86_64", *many) == [*registers[:6], *behind]
    assert places(shapes, "aarch64", *many) == [*registers, (STACK, True, 0)]


def test_structs_on_x86_64(shapes: Shapes) -> None:
    here = places(shapes, "x86_64", "struct small", "struct large", "struct pair", "int")
    assert here == [(0, False, 0), (STACK, True, 8), (1, False, 0), (3, False, 0)]
    # A struct goes whole to the stack; what comes behind it may find a register.
    late = places(shapes, "x86_64", *["long"] * 5, "struct pair", "int", "int")
    assert late[5:] == [(STACK, True, 8), (5, False, 0), (STACK, True, 24)]
    assert places(shapes, "x86_64", "struct empty", "int")[1] == (0, False, 0)


def test_structs_on_arm64(shapes: Shapes) -> None:
    here = places(shapes, "aarch64", "struct small", "struct large", "struct pair", "int")
    assert here == [(0, False, 0), (1, True, 0), (2, False, 0), (4, False, 0)]
    # Once something went to the stack, all that follows does.
    late = places(shapes, "aarch64", *["long"] * 7, "struct pair", "int")
    assert late[7:] == [(STACK, True, 0), (STACK, True, 16)]
    late_parameters = [(f"p{n}", shapes.declare("long")) for n in range(8)]
    late_parameters.append(("big", shapes.find("struct large")))
    big = place_parameters(late_parameters, shapes, "aarch64")[8].place
    assert big is not None
    assert (big.source, big.reads, big.in_memory) == (STACK, (0,), True), "its address is there"


def test_types_of_two_registers(shapes: Shapes) -> None:
    for machine, behind in (("x86_64", 3), ("aarch64", 4)):
        here = places(shapes, machine, "long", "__int128", "int")
        assert here == [(0, False, 0), None, (behind, False, 0)]


def way(shapes: Shapes, path: str, kind: str = "struct node *") -> Place:
    name = kind.rstrip(" *")
    target = shapes.find(name)
    pointer = shapes.declare(f"{name} *")
    assert shapes.shape(shapes.shape(pointer).target).id == target
    return follow(path, place_parameters([("p", pointer)], shapes, "x86_64"), shapes)


def test_ways(shapes: Shapes) -> None:
    assert way(shapes, "p").fetch() == Fetch(0)
    assert way(shapes, "p.next->next.pairs[1].second").fetch() == Fetch(
        0, 3, 8, offsets=(0, 0, 32), is_signed=True
    )
    wide = way(shapes, "p.wide").fetch()
    assert (wide.size, wide.left, wide.right, wide.is_signed) == (4, 40, 40, False)
    byte = way(shapes, "p->byte").fetch()
    assert (byte.size, byte.left, byte.right, byte.is_signed) == (1, 56, 56, True)
    assert way(shapes, "p.text").text_fetch(2).text == 2
    assert way(shapes, "p[2].next").fetch().offsets == (2 * way(shapes, "p[0]").shape.size,)


@pytest.mark.parametrize(
    ("path", "told", "meant"),
    [
        ("q", "there is no argument q; there is: p", "q"),
        ("p.nex", r"struct node has no member nex \(did you mean next\?\)", ".nex"),
        ("p->next->pairs[2]", r"it has 2 elements, the last is \[1\]", "[2]"),
        ("p.pairs.first", r"there are no members in struct pair\[2\]", ".first"),
        ("p.any->x", r"what a void \* points to is not known", "->x"),
        ("p.later->x", r"what a struct later \* points to is not known", "->x"),
        ("p.byte[0]", "int is no array and no pointer", "[0]"),
        ("p..x", "this is no argument", "p..x"),
        ("", "this is no argument", ""),
        ("p.x\x1b", "this is no argument", "p.x\x1b"),
    ],
)
def test_ways_that_lead_nowhere(shapes: Shapes, path: str, told: str, meant: str) -> None:
    with pytest.raises(PathError, match=told) as caught:
        way(shapes, path)
    assert path[caught.value.start : caught.value.end] == meant


def test_too_far(shapes: Shapes) -> None:
    assert way(shapes, "p" + "->next" * 5).fetch().steps == 5
    with pytest.raises(ValueError, match="more than 5 pointers"):
        way(shapes, "p" + "->next" * 6).fetch()
    with pytest.raises(ValueError, match="more than 5 pointers"):
        way(shapes, "p" + "->next" * 6 + "->text").text_fetch(1)
    assert way(shapes, "p" + "->next" * 5 + "->text").text_fetch(1).steps == 5


def test_no_types_at_all() -> None:
    none = Shapes(None)
    with pytest.raises(
        PathError, match="struct how \\* points to is not known: this kernel has no"
    ):
        follow(
            "p->x", place_parameters([("p", none.declare("struct how *"))], none, "x86_64"), none
        )
    sizes = {name: none.shape(none.declare(name)).size for name in ("umode_t", "int", "size_t")}
    assert sizes == {"umode_t": 2, "int": 4, "size_t": 8}
    assert none.text(none.declare("const  char*")) == "const char*"
