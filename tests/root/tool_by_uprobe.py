"""ebpf-tool on a kernel without kprobes: its probe goes to a libc function instead.

    python tool_by_uprobe.py FUNCTION [OPTION...]

Runs bin/ebpf-tool unchanged but for Program.attach_kprobe and the counting, so that loading,
reading, printing, deadlines and accounts can be seen on any kernel.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from libbpf_ctypes.link import Link  # noqa: E402
from libbpf_ctypes.object import BpfObject  # noqa: E402
from libbpf_ctypes.program import Program  # noqa: E402


def attach(self: Program, function: str) -> Link:
    """Attaches to libc's function of that name."""
    return self.attach_uprobe("libc.so.6", function)


def load(self: BpfObject) -> None:
    """Loads the object for uprobes."""
    if "preemptible" in self.variables:
        self.variables["preemptible"].value = True
    load_object(self)


load_object = BpfObject.load
BpfObject.load = load  # type: ignore[method-assign]
Program.attach_kprobe = attach  # type: ignore[assignment,method-assign]
sys.argv = [str(ROOT / "bin" / "ebpf-tool"), "kprobe", *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
