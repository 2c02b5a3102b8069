"""The shape of the package: who may import whom, and what importing it may load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pageownerfs"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(path.parent for path in PACKAGE.glob("sources/*/__init__.py"))

# What each room may use besides itself, the lowest room first. Data flows one way: a source writes
# tables, a view reads them, the mount knows views, and the daemon puts them together. A dotted
# name is one item of that room: commands know sources only through SOURCES.
LAYERS = {
    "errors": set(),
    "stdio": set(),
    "mountinfo": {"errors"},
    "_native": set(),
    "mm": {"errors", "_native"},
    "text": {"errors", "_native"},
    "page_owner_sort": {"errors", "stdio", "_native", "text"},
    "client": {"errors", "_native", "mm"},
    "sources": {"errors", "mountinfo", "_native", "mm", "text", "client"},
    "views": {"errors", "_native", "mm", "page_owner_sort", "sources.base"},
    "fs": {"errors", "views"},
    "daemon": {
        *("errors", "mountinfo", "_native", "mm", "text", "client", "views", "fs"),
        *("sources.base", "sources.pid_ns"),
    },
    "cli": {
        *("errors", "stdio", "_native", "mm", "text", "client", "fs", "daemon", "__init__"),
        *("sources.SOURCES", "sources.base", "sources.check", "sources.options"),
        "sources.pid_ns",
    },
    "__init__": {"errors", "_native", "mm", "client"},
    "__main__": {"cli"},
}
SOURCE_FILES = {"__init__.py", "kind.py", "options.py", "source.py"}
FUSE_BINDINGS = {"fuse", "mfusepy"}
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_IMPORTED = 20


def module_id(path: Path) -> str:
    """Return a module's name as a test parameter: ``mm/gfp``."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def layer_of(path: Path) -> str:
    """Return the layer of a file: its top-level module or folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def walk(path: Path) -> Iterator[ast.AST]:
    """Yield every node of the file's syntax tree."""
    return ast.walk(ast.parse(path.read_bytes()))


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted name of every import in the file, at any depth."""
    package = ["pageownerfs", *path.relative_to(PACKAGE).parent.parts]
    for node in walk(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # "from pageownerfs import mm" imports the layer mm; other names add nothing.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imported_ours(path: Path) -> Iterator[str]:
    """Yield the file's imports from our package, without its name: ``sources.base.Source``."""
    for name in imported_names(path):
        package, _, ours = name.partition(".")
        if package == "pageownerfs":
            yield ours if ours.partition(".")[0] in LAYERS else "__init__"


def is_in(name: str, allowed: str) -> bool:
    """Return whether a dotted name is the other one or lies inside it."""
    return f"{name}.".startswith(f"{allowed}.")


def in_fresh_python(code: str) -> dict[str, object]:
    """Run the code in a new interpreter and return the JSON object that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_go_one_way(path: Path) -> None:
    """A module imports its own room and permitted rooms below it, never one above or beside it."""
    allowed = {layer_of(path), *LAYERS[layer_of(path)]}
    wrong = {name for name in imported_ours(path) if not any(is_in(name, a) for a in allowed)}
    assert not wrong


def test_layers_are_in_order() -> None:
    """Each room uses only rooms that come earlier in the table, so there is no cycle."""
    rooms = list(LAYERS)
    for number, (room, allowed) in enumerate(LAYERS.items()):
        later = {name for name in allowed if name.partition(".")[0] not in rooms[:number]}
        assert later <= {"__init__"}, room


@pytest.mark.parametrize("folder", SOURCES, ids=lambda path: path.name)
def test_sources_are_alike(folder: Path) -> None:
    """Each source is a folder with a kind, options and a source, and knows no other source."""
    assert {path.name for path in folder.iterdir()} >= SOURCE_FILES
    others = [f"sources.{other.name}" for other in SOURCES if other != folder]
    names = {name for path in folder.rglob("*.py") for name in imported_ours(path)}
    assert not {name for name in names for other in others if is_in(name, other)}


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=module_id)
def test_rooms_explain_themselves(path: Path) -> None:
    """Each folder's docstring says what lives there and what it may use, in more than a title."""
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    assert "\n\n" in text


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_mount_knows_fuse(path: Path) -> None:
    """Only fs.py imports the FUSE binding, so that the binding can be exchanged."""
    packages = {name.partition(".")[0] for name in imported_names(path)}
    assert layer_of(path) == "fs" or not packages & FUSE_BINDINGS


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_mount_imports_by_name(path: Path) -> None:
    """Only fs.py, which chooses the binding, imports a module by a computed name."""
    names = {
        n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", None) for n in walk(path)
    }
    assert layer_of(path) == "fs" or not names & {"import_module", "__import__"}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_modules_are_small(path: Path) -> None:
    """No module exceeds 500 lines, and no function 60."""
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES
    functions = [n for n in walk(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= MAX_FUNCTION_LINES]
    assert not long


def test_every_module_has_a_layer() -> None:
    """Every part of the package has a place in the order of layers."""
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
    """The commands load no FUSE binding: ``doctor`` must run without one."""
    result = in_fresh_python(
        "import json, sys; import pageownerfs.cli; print(json.dumps({'m': list(sys.modules)}))"
    )
    modules = result["m"]
    assert isinstance(modules, list)
    assert not {"fuse", "mfusepy"} & set(modules)


def test_import_loads_little() -> None:
    """``import pageownerfs`` loads few modules, its own and others."""
    result = in_fresh_python(
        "import json, sys; before = set(sys.modules); import pageownerfs; "
        "print(json.dumps({'new': sorted(set(sys.modules) - before)}))"
    )
    new = result["new"]
    assert isinstance(new, list)
    assert len(new) <= MAX_IMPORTED, new
