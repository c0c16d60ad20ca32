"""Paths of the checkout, and programs run in fresh processes."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "libbpf_ctypes"
TOOL = ROOT / "bin" / "ebpf-tool"

#: A program that hangs is ended after so long; nothing measures time by it.
PATIENCE = 600


def run_python(
    code: str, *arguments: str | Path, path: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs CODE in a fresh interpreter that imports from PATH."""
    return _run([sys.executable, "-c", code, *map(str, arguments)], path, environment)


def run_tool(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs bin/ebpf-tool with these words."""
    return _run([sys.executable, str(TOOL), *map(str, words)], ROOT, environment)


def _run(
    command: list[str], path: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=PATIENCE,
        check=False,
    )


def port_of_our_own() -> int:
    """A free port that the kernel gives to nobody who asks for any, so that it stays free."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    while True:
        port = random.randrange(10_000, min(32_000, int(given[0])))
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            return port


def script(path: Path) -> ModuleType:
    """A program without .py, as a module."""
    loader = importlib.machinery.SourceFileLoader(path.name.replace("-", "_"), str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


def usage_text() -> str:
    """The text by which docopt reads the command line: that of bin/ebpf-tool."""
    text = script(TOOL).__doc__
    assert text
    return text
