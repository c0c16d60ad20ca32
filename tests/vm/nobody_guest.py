"""Runs in the guest: ebpf-tool as user nobody.

    python nobody_guest.py '{"capabilities": [38, 39], "memlock": 0}' kprobe vfs_read

PARANOID is what kernel.perf_event_paranoid is set to, MEMLOCK how much memory may be locked.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from tests import situations  # noqa: E402
from tests.root.example_runs import run_here  # noqa: E402

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    situations.PARANOID.write_text(str(given.get("paranoid", 2)))
    if "memlock" in given:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (given["memlock"], given["memlock"]))
    situations.become_nobody(*given.get("capabilities", []))
    sys.exit(run_here([str(ROOT / "bin" / "ebpf-tool"), *sys.argv[2:]]))
