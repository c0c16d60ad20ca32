"""Damaged BTF is read in part or refused; it never crashes libbpf's printer."""

from __future__ import annotations

import collections
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError
from libbpf_ctypes.btf import Btf, Kind

from ..conftest import Compile
from .test_btf_types import SOURCE

INT = struct.pack("<4I", 1, Kind.INT << 24, 4, 32)


def btf(*types: bytes) -> Btf:
    """BTF of these types, the first of which is INT; the names are "", "i" and "s"."""
    data, strings = b"".join((INT, *types)), b"\0i\0s\0"
    head = struct.pack("<HBB5I", 0xEB9F, 1, 0, 24, 0, len(data), len(data), len(strings))
    return Btf.from_bytes(head + data + strings)


def entry(kind: Kind, value: int, *words: int, name: int = 0, vlen: int = 0) -> bytes:
    return struct.pack(f"<{3 + len(words)}I", name, kind << 24 | vlen, value, *words)


CIRCLES = {
    "const of itself": [entry(Kind.CONST, 2)],
    "pointer to itself": [entry(Kind.PTR, 2)],
    "typedefs of each other": [entry(Kind.TYPEDEF, 3, name=1), entry(Kind.TYPEDEF, 2, name=3)],
    "array of itself": [entry(Kind.ARRAY, 0, 2, 1, 4)],
    "struct in itself": [entry(Kind.STRUCT, 4, 1, 2, 0, name=3, vlen=1)],
    "function with itself": [entry(Kind.FUNC_PROTO, 1, 0, 2, vlen=1)],
}
OTHERS = {
    "no such type": [entry(Kind.PTR, 77)],
    "no such member's type": [entry(Kind.STRUCT, 4, 1, 77, 0, name=3, vlen=1)],
    "no such name": [entry(Kind.STRUCT, 4, 1, 1, 0, name=1000, vlen=1)],
    "no such member's name": [entry(Kind.STRUCT, 4, 1000, 1, 0, name=3, vlen=1)],
    "member far outside": [entry(Kind.STRUCT, 8, 1, 1, 3825205248, name=3, vlen=1)],
    "member of no size": [entry(Kind.STRUCT, 8, 1, 3, 0, name=3, vlen=1), entry(Kind.FWD, 0)],
    "elements of no size": [entry(Kind.ARRAY, 0, 3, 1, 4), entry(Kind.FWD, 0)],
    "integer of no size": [entry(Kind.INT, 0, 32, name=3)],
    "struct of all memory": [entry(Kind.STRUCT, 0xFFFFFFF0, name=3)],
    "member outside": [entry(Kind.STRUCT, 4, 1, 1, 64, name=3, vlen=1)],
}


@pytest.mark.parametrize("types", [*CIRCLES.values(), *OTHERS.values()], ids=[*CIRCLES, *OTHERS])
def test_it_is_not_printed(types: list[bytes]) -> None:
    try:
        damaged = btf(*types)
    except BpfError:  # newer ones look themselves
        assert types not in CIRCLES.values()
        return
    with damaged:
        for use in ("dump", "declaration", "format_data"):
            arguments = {"dump": (), "declaration": (2,), "format_data": (2, bytes(64))}[use]
            with pytest.raises(BpfError):
                getattr(damaged, use)(*arguments)
        with pytest.raises(BpfError, match="damaged"):
            damaged.dump()


def test_a_struct_that_points_to_itself_is_sound() -> None:
    with btf(entry(Kind.STRUCT, 8, 1, 3, 0, name=3, vlen=1), entry(Kind.PTR, 2)) as sound:
        assert "struct s *i;" in sound.dump()
        assert sound.declaration(3, "x") == "struct s *x"


def test_no_variant_crashes(compile_bpf: Compile, tmp_path: Path) -> None:
    with Btf.from_file(compile_bpf(SOURCE)) as whole:
        file = tmp_path / "raw"
        file.write_bytes(whole.raw_data())
    command = [sys.executable, "-m", "tests.library.damaged_types", str(file)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    words = collections.Counter(word for _, word in outcomes)
    assert set(words) <= {"printed", "refused", "not printed"}, words
    assert words["printed"] > 20
    assert words["not printed"] + words["refused"] > 20
