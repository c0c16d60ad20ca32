"""Files that are no BPF objects, or not the right ones, and what is said of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ..conftest import Compile
from ..pure.helpers import PACKAGE

SHIPPED = PACKAGE / "data" / "x86_64" / "kprobe.bpf.o"

Make = Callable[[Path, Compile], Path]


def _file(content: bytes) -> Make:
    def make(folder: Path, _compile: Compile) -> Path:
        path = folder / "bad.bpf.o"
        path.write_bytes(content)
        return path

    return make


def _big_endian(_folder: Path, compile_bpf: Compile) -> Path:
    return compile_bpf("int x = 1;\n", target="bpfeb")


WHOLE = SHIPPED.read_bytes()

#: By name: a function that makes the file, and what the error must say.
BAD: dict[str, tuple[Make, str]] = {
    "missing": (lambda folder, _compile: folder / "missing.bpf.o", "No such file"),
    "directory": (lambda folder, _compile: folder, "Is a directory"),
    "below a file": (lambda _folder, _compile: SHIPPED / "x", "Not a directory"),
    "name too long": (lambda folder, _compile: folder / ("x" * 300), "name too long"),
    "empty": (_file(b""), "it is empty"),
    "text": (_file(b'SEC("kprobe") int probe() {}\n' * 9), "not an ELF file"),
    "magic alone": (_file(b"\x7fELF"), "truncated"),
    "half": (_file(WHOLE[: len(WHOLE) // 2]), "truncated"),
    "without its end": (_file(WHOLE[:-1]), "The file is damaged"),
    "zeros": (_file(WHOLE[:64] + bytes(len(WHOLE) - 64)), "The file is damaged"),
    "big-endian": (_big_endian, "big-endian"),
    "a program of this machine": (lambda _f, _c: Path(sys.executable), "not for BPF"),
}
