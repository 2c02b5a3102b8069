"""The shape of the package: who may import whom, and that importing it starts nothing."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pageownerfs"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each part of the package may import, next to itself. Data flows one way: a source writes
# tables, a view reads them, the mount knows views, the daemon puts them together.
LAYERS = {
    "errors": set(),
    "stdio": set(),
    "_native": set(),
    "mm": {"errors", "_native"},
    "page_owner_sort": {"errors", "stdio", "_native"},
    "client": {"errors", "_native", "mm"},
    "sources": {"errors", "_native", "mm", "page_owner_sort", "client"},
    "views": {"errors", "_native", "mm", "page_owner_sort"},
    "fs": {"errors", "views"},
    "daemon": {"errors", "_native", "mm", "client", "sources", "views", "fs"},
    "cli": {
        *("errors", "_native", "mm", "page_owner_sort", "client", "sources", "views", "fs"),
        *("daemon", "stdio", "__init__"),
    },
    "__init__": {"errors", "_native", "mm", "client"},
    "__main__": {"cli"},
}
FUSE_BINDINGS = {"fuse", "mfusepy"}
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_IMPORTED = 20


def module_id(path: Path) -> str:
    """Name a module as the test's parameter: ``mm/gfp``."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def layer_of(path: Path) -> str:
    """Name the layer that a file belongs to: its top-level module or folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def walk(path: Path) -> Iterator[ast.AST]:
    """Give every node of the file's syntax tree."""
    return ast.walk(ast.parse(path.read_bytes()))


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything a file imports, wherever in the file it does so."""
    package = ["pageownerfs", *path.relative_to(PACKAGE).parent.parts]
    for node in walk(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # "from pageownerfs import mm" imports the layer mm; other names say nothing new.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imported_layer(name: str) -> str | None:
    """Name the layer of ours that an imported dotted name is in; None for others' packages."""
    parts = name.split(".")
    if parts[0] != "pageownerfs":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def in_fresh_python(code: str) -> dict[str, object]:
    """Run the code in a new interpreter, and return the JSON object that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_go_one_way(path: Path) -> None:
    """A module imports its own layer and the layers below, never one above or beside."""
    layer = layer_of(path)
    layers = {imported_layer(name) for name in imported_names(path)} - {None}
    assert layers - {layer} <= LAYERS[layer]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_mount_knows_fuse(path: Path) -> None:
    """The FUSE binding is imported in fs.py and nowhere else, so that it can be exchanged."""
    packages = {name.partition(".")[0] for name in imported_names(path)}
    assert layer_of(path) == "fs" or not packages & FUSE_BINDINGS


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_mount_imports_by_name(path: Path) -> None:
    """Only fs.py, which chooses the binding, imports what no import statement names."""
    names = {
        n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", None) for n in walk(path)
    }
    assert layer_of(path) == "fs" or not names & {"import_module", "__import__"}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_modules_are_small(path: Path) -> None:
    """No module is above 500 lines and no function above 60."""
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES
    functions = [n for n in walk(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= MAX_FUNCTION_LINES]
    assert not long


def test_every_module_has_a_layer() -> None:
    """A new part of the package gets its place in the order of layers first."""
    assert {layer_of(path) for path in MODULES} <= LAYERS.keys()


def test_import_starts_nothing() -> None:
    """``import pageownerfs`` starts no thread and loads neither a FUSE binding nor psutil."""
    result = in_fresh_python(
        "import json, sys, threading; import pageownerfs; "
        "print(json.dumps({'threads': threading.active_count(), 'modules': list(sys.modules)}))"
    )
    assert result["threads"] == 1
    modules = result["modules"]
    assert isinstance(modules, list)
    assert not {"fuse", "mfusepy", "psutil"} & set(modules)


def test_import_needs_no_libfuse() -> None:
    """The commands load no FUSE binding either: ``doctor`` must run without one."""
    result = in_fresh_python(
        "import json, sys; import pageownerfs.cli; print(json.dumps({'m': list(sys.modules)}))"
    )
    modules = result["m"]
    assert isinstance(modules, list)
    assert not {"fuse", "mfusepy"} & set(modules)


def test_import_loads_little() -> None:
    """``import pageownerfs`` loads few modules, of the package and of others."""
    result = in_fresh_python(
        "import json, sys; before = set(sys.modules); import pageownerfs; "
        "print(json.dumps({'new': sorted(set(sys.modules) - before)}))"
    )
    new = result["new"]
    assert isinstance(new, list)
    assert len(new) <= MAX_IMPORTED, new
