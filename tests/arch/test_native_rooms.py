"""The shape of the C core: a room uses only rooms below it, by ``#include`` and by call."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "pageownerfs" / "native"

# Lowest first. bpf/ stands apart: it runs in the kernel.
ROOMS = ("base", "pool", "tables", "text", "sort", "python")
FILES = sorted(path for path in NATIVE.glob("*/*") if path.suffix in {".c", ".h"})
SOURCES = [path for path in FILES if path.suffix == ".c" and path.parent.name in ROOMS]
MAX_LINES = 500

_QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_PYTHON = re.compile(r"^\s*#\s*include\s+[<\"](Python\.h|internal/pycore_)", re.MULTILINE)
# CPython's own headers, which must be included with quotes.
_INTERPRETER: Final = "internal/pycore_"
_POOL_FILE = re.compile(r"^ {4}(\w+) {2,}\S", re.MULTILINE)


def name_of(path: Path) -> str:
    """Return a file's name as ``#include`` has it, for a test parameter: ``pool/layout.h``."""
    return str(path.relative_to(NATIVE))


def included(path: Path) -> list[str]:
    """Return the headers of ours that a file includes."""
    return [name for name in _QUOTED.findall(path.read_text()) if _INTERPRETER not in name]


def pool_order() -> list[str]:
    """Return the files of pool/, lowest first, in the order of its README."""
    return _POOL_FILE.findall((NATIVE / "pool/README").read_text())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_includes_go_down(path: Path) -> None:
    """A file includes its own room and rooms below it; BPF programs include bpf/ and base/."""
    room = path.parent.name
    allowed = {"bpf", "base"} if room == "bpf" else set(ROOMS[: ROOMS.index(room) + 1])
    assert {name.partition("/")[0] for name in included(path)} <= allowed


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_includes_name_a_file_with_its_room(path: Path) -> None:
    """Every quoted include is a path that exists below native/."""
    for name in included(path):
        assert name.count("/") == 1
        assert (NATIVE / name).is_file(), name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_bindings_know_python(path: Path) -> None:
    """Only python/ includes Python.h."""
    assert path.parent.name == "python" or not _PYTHON.search(path.read_text())


@pytest.mark.parametrize(
    "path",
    [
        *FILES,
        *(path for top in ("scripts", "tests") for path in sorted((ROOT / top).rglob("*.c"))),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_are_small(path: Path) -> None:
    """No C file exceeds 500 lines."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_every_room_says_what_it_is() -> None:
    """Each folder has a README and a place in the order."""
    rooms = {path.parent.name for path in FILES}
    assert rooms == {*ROOMS, "bpf"}
    assert [room for room in rooms if not (NATIVE / room / "README").is_file()] == []


def test_pool_files_go_one_way() -> None:
    """Each file of pool/ includes only files that come earlier in the order."""
    order = pool_order()
    assert sorted(order) == sorted({path.stem for path in NATIVE.glob("pool/*.[ch]")})
    for path in NATIVE.glob("pool/*.[ch]"):
        files = [name.removeprefix("pool/")[:-2] for name in included(path) if name[:5] == "pool/"]
        above = [name for name in files if order.index(name) > order.index(path.stem)]
        assert above == [], name_of(path)


class Symbols(NamedTuple):
    """The names that an object file defines for others, and those it needs."""

    defined: set[str]
    undefined: set[str]


def symbols_of(path: Path) -> Symbols:
    """Read the symbols of an object file."""
    command = ["nm", "--extern-only", "--format=posix", path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = [(fields[0], fields[1]) for fields in map(str.split, lines)]
    return Symbols(
        {name for name, kind in kinds if kind.upper() not in "UW"},
        {name for name, kind in kinds if kind == "U"},
    )


def compile_all(sources: list[Path], folder: Path, *options: str) -> dict[Path, Symbols]:
    """Compile files without optimization and return the symbols of each."""
    if not (compiler := shutil.which("cc")) or not shutil.which("nm"):
        pytest.skip("no C compiler")
    symbols = {}
    for path in sources:
        target = folder / f"{path.parent.name}-{path.stem}.o"
        command = [compiler, "-O0", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
        subprocess.run([*command, *options, "-c", path, "-o", target], check=True)
        symbols[path] = symbols_of(target)
    return symbols


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Symbols]:
    """Compile every file of the rooms."""
    python = sysconfig.get_paths()["include"]
    if not Path(python, "Python.h").is_file():
        pytest.skip(f"no Python.h in {python}")
    return compile_all(SOURCES, tmp_path_factory.mktemp("objects"), f"-I{python}")


@pytest.fixture(scope="module")
def homes(objects: dict[Path, Symbols]) -> dict[str, Path]:
    """Map each function and variable of the core to the file that defines it."""
    return {name: path for path, symbols in objects.items() for name in symbols.defined}


def test_names_are_defined_once(objects: dict[Path, Symbols], homes: dict[str, Path]) -> None:
    """No two files define the same name."""
    assert len(homes) == sum(len(symbols.defined) for symbols in objects.values()) > 100


def test_calls_go_down(objects: dict[Path, Symbols], homes: dict[str, Path]) -> None:
    """A file calls only functions of its own room and of rooms below it."""
    wrong = [
        f"{name_of(path)} uses {name} of {name_of(homes[name])}"
        for path, symbols in objects.items()
        for name in symbols.undefined & homes.keys()
        if ROOMS.index(homes[name].parent.name) > ROOMS.index(path.parent.name)
    ]
    assert wrong == []


def test_calls_in_the_pool_go_down(objects: dict[Path, Symbols], homes: dict[str, Path]) -> None:
    """A file of pool/ calls only functions of pool/ files that come earlier in the order."""
    order = pool_order()
    wrong = [
        f"{name_of(path)} uses {name} of {name_of(homes[name])}"
        for path, symbols in objects.items()
        for name in symbols.undefined & homes.keys()
        if path.parent.name == homes[name].parent.name == "pool"
        and order.index(homes[name].stem) > order.index(path.stem)
    ]
    assert wrong == []


def test_pool_stands_without_tracking(tmp_path: Path, homes: dict[str, Path]) -> None:
    """With CONFIG_PAGE_OWNER=0, pool/ needs no other room, and its tracking files are empty."""
    sources = [path for path in SOURCES if path.parent.name == "pool"]
    objects = compile_all(sources, tmp_path, "-DCONFIG_PAGE_OWNER=0")
    defined = set().union(*(symbols.defined for symbols in objects.values()))
    for symbols in objects.values():
        assert symbols.undefined & homes.keys() <= defined
    empty = {path.stem for path, symbols in objects.items() if not symbols.defined}
    assert empty == {"stack_depot", "page_owner", "tracking"}
