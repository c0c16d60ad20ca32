"""ebpf-tool with its probe elsewhere: kprobes are not on every kernel.

    python ebpf_tool.py sys_enter ARGUMENT...           a raw tracepoint
    python ebpf_tool.py LIBRARY:FUNCTION ARGUMENT...    a uprobe

Runs bin/ebpf-tool with these arguments, unchanged but for Program.attach_kprobe.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from libbpf_ctypes.link import Link  # noqa: E402
from libbpf_ctypes.program import Program  # noqa: E402

library, _, symbol = sys.argv[1].rpartition(":")


def attach(self: Program, _function: str) -> Link:
    """Attaches to the target on the command line."""
    if library:
        return self.attach_uprobe(library, symbol)
    return self.attach_raw_tracepoint(symbol)


if __name__ == "__main__":
    Program.attach_kprobe = attach  # type: ignore[assignment,method-assign]
    sys.argv = [str(ROOT / "bin" / "ebpf-tool"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
