"""The package's own files, found beside its source."""

from __future__ import annotations

import os
from pathlib import Path

#: The shipped kprobe.bpf.o of this machine; missing where none is built for it.
KPROBE_OBJECT = Path(__file__).parent / "data" / os.uname().machine / "kprobe.bpf.o"
