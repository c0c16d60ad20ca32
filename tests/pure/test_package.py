"""The package as a whole: lazy, complete, and usable under another name."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import libbpf_ctypes

from .helpers import PACKAGE, ROOT, run_python


def test_importing_it_loads_neither_libbpf_nor_what_needs_it() -> None:
    code = """
import json, sys
import libbpf_ctypes
from pathlib import Path
libbpf_ctypes.BpfError, libbpf_ctypes.KPROBE_OBJECT
print(json.dumps([sorted(sys.modules), "libbpf.so" in Path("/proc/self/maps").read_text()]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    modules, mapped = json.loads(done.stdout)
    assert not mapped
    assert not {"construct", "docopt", "ctypes", "_ctypes"} & set(modules)
    assert "libbpf_ctypes.errors" in modules


def test_the_library_needs_construct_only_for_events() -> None:
    code = """
import json, sys
from libbpf_ctypes import BpfObject, Link, Map, PerfBuffer, Program
print(json.dumps(sorted(sys.modules)))
from libbpf_ctypes import SyscallEvent
print(json.dumps(sorted(sys.modules)))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    before, after = map(json.loads, done.stdout.splitlines())
    assert "libbpf_ctypes.perf_buffer" in before
    assert not {"construct", "docopt"} & set(before)
    assert "construct" in after


def test_the_command_imports_no_more_than_a_trace_needs() -> None:
    code = """
import json, sys
import libbpf_ctypes.cli.trace
print(json.dumps(sorted(sys.modules)))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout))
    assert {"libbpf_ctypes.object", "libbpf_ctypes.perf_buffer"} < modules
    needless = (
        "features info introspection layout map_create perf_event ring_buffer schema skeleton"
    )
    assert not {f"libbpf_ctypes.{name}" for name in needless.split()} & modules
    assert not {"construct", "docopt", "asyncio", "inspect", "socket", "subprocess"} & modules


def test_a_command_runs_with_the_collector_on() -> None:
    code = """
import gc, runpy, sys
sys.argv[:2] = ["ebpf-tool"]
try:
    runpy.run_path(TOOL, run_name="__main__")
finally:
    print(gc.isenabled())
""".replace("TOOL", repr(str(ROOT / "bin" / "ebpf-tool")))
    done = run_python(code, "", "schema", "no such file")
    assert (done.returncode, done.stdout) == (1, "True\n")
    assert "no such file" in done.stderr


def test_every_public_name_resolves() -> None:
    for name in libbpf_ctypes.__all__:
        assert getattr(libbpf_ctypes, name) is not None
        assert name in dir(libbpf_ctypes)
    assert libbpf_ctypes.__version__
    assert not hasattr(libbpf_ctypes, "no_such_name")


def test_the_three_lists_of_public_names_agree() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                assert isinstance(inner, ast.ImportFrom)
                assert inner.module is not None
                typed.update({alias.name: inner.module for alias in inner.names})
    assert typed == libbpf_ctypes._MODULES
    assert set(libbpf_ctypes.__all__) == set(typed)
    assert len(libbpf_ctypes.__all__) == len(typed)


def test_copies_under_other_names_are_packages_of_their_own(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("tool/_bpf", "other"):
        shutil.copytree(PACKAGE, tmp_path / name, ignore=ignore)
    (tmp_path / "tool" / "__init__.py").touch()
    code = """
import json, pkgutil, sys
from importlib import import_module

def load(name):
    package = import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        import_module(module.name)
    log = import_module(name + ".log")
    assert {getattr(package, public).__module__ for public in ("BpfObject", "BpfError")} == {
        name + ".object", name + ".errors"}
    return [log.logger.name, str(package.KPROBE_OBJECT), package.KPROBE_OBJECT.exists()]

copies = {name: load(name) for name in ("tool._bpf", "other")}
assert not [name for name in sys.modules if name.startswith("libbpf_ctypes")]
sys.path.append(sys.argv[1])
copies["libbpf_ctypes"] = load("libbpf_ctypes")
errors = {import_module(name).BpfError for name in copies}
assert len(errors) == 3
print(json.dumps(copies))
"""
    done = run_python(code, PACKAGE.parent, path=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shipped = libbpf_ctypes.KPROBE_OBJECT.relative_to(PACKAGE)
    folders = {"tool._bpf": tmp_path / "tool" / "_bpf", "other": tmp_path / "other"}
    folders["libbpf_ctypes"] = PACKAGE
    for name, folder in folders.items():
        logger, path, exists = found[name]
        assert logger == f"{name}.libbpf"
        assert Path(path) == folder / shipped
        assert exists is libbpf_ctypes.KPROBE_OBJECT.exists()


def test_without_libbpf_all_tests_are_still_found() -> None:
    code = "import sys, pytest; sys.exit(pytest.main(['--collect-only', '-q']))"
    done = run_python(code, LIBBPF_CTYPES_LIBRARY="/nonexistent")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "tests/vm/test_kprobe.py" in done.stdout
