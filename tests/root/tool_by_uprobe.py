"""ebpf-tool on a kernel without kprobes: its probe goes to a libc function instead.

    python tool_by_uprobe.py [kretprobe | latency | count] FUNCTION... [OPTION...]

Runs bin/ebpf-tool unchanged but for Program.attach_kprobe and the counting, so that loading,
reading, printing, deadlines and accounts can be seen on any kernel.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from libbpf_ctypes.cli import functions  # noqa: E402
from libbpf_ctypes.link import Link  # noqa: E402
from libbpf_ctypes.object import BpfObject  # noqa: E402
from libbpf_ctypes.program import Program  # noqa: E402


def attach(
    self: Program, function: str, *, retprobe: bool = False, offset: int = 0, cookie: int = 0
) -> Link:
    """Attaches to libc's function of that name."""
    return self.attach_uprobe(
        "libc.so.6", function, retprobe=retprobe, offset=offset, cookie=cookie
    )


def find(words: list[str], *, address: str | None, all_of: bool) -> list[functions.Function]:
    """Takes them for functions of libc."""
    return [functions.Function(word, "", 0, 0, "", word, False, False) for word in words]


def load(self: BpfObject) -> None:
    """Loads the object for uprobes."""
    if "preemptible" in self.variables:
        self.variables["preemptible"].value = True
        self.maps["SCRATCH"].max_entries = 4
    load_object(self)


load_object = BpfObject.load
BpfObject.load = load  # type: ignore[method-assign]
Program.attach_kprobe = attach  # type: ignore[assignment,method-assign]
functions.find_functions = find
words = sys.argv[1:]
if not words or words[0] not in ("kretprobe", "latency", "count"):
    words.insert(0, "kprobe")
sys.argv = [str(ROOT / "bin" / "ebpf-tool"), *words]
runpy.run_path(sys.argv[0], run_name="__main__")
