"""Each module imports only those before it: read from the source, not from memory."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers import PACKAGE

#: Each module may import those above it. ``TYPE_CHECKING`` imports are free.
ORDER = [
    "errors",
    "paths",
    "_libbpf",
    "_types",
    "_ffi",
    "raw",
    "_interrupts",
    "_handle",
    "log",
    "enums",
    "link_details",
    "info",
    "introspection",
    "fields",
    "records",
    "codec",
    "builder",
    "_btf",
    "layout",
    "_syscalls",
    "_shapes",
    "btf_check",
    "btf_text",
    "btf",
    "drift",
    "declare",
    "schema",
    "columns",
    "events",
    "testing",
    "recording_format",
    "recording_layout",
    "recording_writer",
    "recording",
    "kernel",
    "_probes",
    "_kinds",
    "features",
    "pinning",
    "in_kernel",
    "link",
    "elements",
    "map_elements",
    "map_types",
    "map_entries",
    "map_calls",
    "map_batches",
    "map_mapping",
    "map_create",
    "maps",
    "variables",
    "_attaching",
    "attachment",
    "tc",
    "perf_event",
    "attach_kprobes",
    "attach_uprobes",
    "attach_tracing",
    "attach_iterators",
    "attach_places",
    "attach_network",
    "attach",
    "object_map",
    "source_lines",
    "program",
    "elf",
    "object_pins",
    "object",
    "_async",
    "_reader",
    "_ring",
    "_perf_open",
    "_perf_readers",
    "perf_buffer",
    "ring_buffer",
    "user_ring_buffer",
    "skeleton",
    "skeleton_events",
    "skeleton_source",
    "cli",
    "cli.text",
    "cli.output",
    "cli.status",
    "cli.console",
    "cli.synopsis",
    "cli.usage",
    "cli.elf_table",
    "cli.elf_symbols",
    "cli.demangle",
    "cli.perf_map",
    "cli.kernel_symbols",
    "cli.user_symbols",
    "cli.stacks",
    "cli.probeable",
    "cli.functions",
    "cli.fetches",
    "cli.places",
    "cli.instructions",
    "cli.user_safety",
    "cli.user_functions",
    "cli.formats",
    "cli.print_format",
    "cli.tracepoints",
    "cli.plan",
    "cli.progress",
    "cli.kernel_version",
    "cli.attached",
    "cli.attaching",
    "cli.costs",
    "cli.list",
    "cli.cgroup",
    "cli.source",
    "cli.schema",
    "cli.skeleton",
    "cli.argument",
    "cli.flags",
    "cli.pattern",
    "cli.record_places",
    "cli.scope",
    "cli.origin",
    "cli.specs",
    "cli.arguments",
    "cli.filter_text",
    "cli.filter",
    "cli.style",
    "cli.checks",
    "cli.kernel_checks",
    "cli.trial",
    "cli.doctor",
    "cli.line_options",
    "cli.lines",
    "cli.columns",
    "cli.json_text",
    "cli.json_lines",
    "cli.folded",
    "cli.sending",
    "cli.otlp_export",
    "cli.otlp",
    "cli.chrome_trace",
    "cli.parquet_columns",
    "cli.parquet_footer",
    "cli.parquet_file",
    "cli.parquet",
    "cli.formatters",
    "cli.account",
    "cli.merge",
    "cli.stream",
    "cli.recorded",
    "cli.recorder",
    "cli.options",
    "cli.session",
    "cli.process_ids",
    "cli.by",
    "cli.asked",
    "cli.calls",
    "cli.dry_run",
    "cli.reading",
    "cli.probing",
    "cli.trace",
    "cli.histogram",
    "cli.tally",
    "cli.rows",
    "cli.sums",
    "cli.report",
    "cli.tables",
    "cli.plot",
    "cli.aggregate_options",
    "cli.aggregate",
    "cli.count",
    "cli.latency",
    "cli.replay",
]

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module, those in functions too, but not those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for alternative in node.orelse:
                yield from imports(alternative)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        else:
            yield from imports(node)


def imported_modules(name: str, source: str, *, is_package: bool = False) -> set[str]:
    """The package's modules that this one imports, by their names within the package."""
    found = set()
    parents = name.split(".") if name else []
    if not is_package:
        parents = parents[:-1]
    for node in imports(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = parents[: len(parents) - (node.level - 1)]
        module = [*base, node.module] if node.module else base
        if node.module:
            found.add(".".join(module))
            continue
        for alias in node.names:  # "from . import btf": a module, or a name of the package
            dotted = ".".join([*module, alias.name])
            found.add(dotted if dotted in ORDER else ".".join(module))
    return found - {""}  # the package itself only hands out its modules' names


def test_the_order_names_every_module() -> None:
    names = {module_name(path) for path in SOURCES} - {""}
    assert names == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_those_before_it(name: str) -> None:
    path = PACKAGE.joinpath(*name.split("."))
    is_package = path.is_dir()
    path = path / "__init__.py" if is_package else path.with_suffix(".py")
    before = set(ORDER[: ORDER.index(name)])
    after = imported_modules(name, path.read_text(encoding="utf-8"), is_package=is_package)
    assert after <= before


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("maps", "from .object import BpfObject", {"object"}),
        ("maps", "from . import object, kernel", {"object", "kernel"}),
        ("maps", "def f():\n    from .object import BpfObject", {"object"}),
        ("maps", "if TYPE_CHECKING:\n    from .object import BpfObject", set()),
        ("maps", "import ctypes\nfrom pathlib import Path", set()),
        ("cli.usage", "from .. import __version__\nfrom ..errors import BpfError", {"errors"}),
        ("cli.usage", "from . import trace\nfrom .text import escape", {"cli.trace", "cli.text"}),
    ],
)
def test_imports_are_read_right(name: str, source: str, found: set[str]) -> None:
    assert imported_modules(name, source) == found


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_the_package_never_calls_itself_by_name(path: Path) -> None:
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module or ""] if not node.level else []
        assert not [name for name in names if name.split(".")[0] == PACKAGE.name]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_schema_needs_construct_and_only_usage_docopt(path: Path) -> None:
    schemas = ("fields", "codec", "builder", "declare", "schema", "testing")
    allowed = {name: {"construct"} for name in schemas}
    allowed |= {"events": {"construct"}, "cli.usage": {"docopt"}}
    allowed |= {"cli.checks": {"construct", "docopt"}}  # which looks whether they are there
    allowed |= {
        name: {"construct"} for name in ("recording_format", "recording_layout", "recording")
    }
    outside = set()
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif not node.level:
            outside.add((node.module or "").split(".")[0])
    assert outside & {"construct", "docopt"} <= allowed.get(module_name(path), set())
