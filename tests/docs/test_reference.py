"""The reference and the code name the same things: options, files, counters, codes, formats."""

from __future__ import annotations

import argparse
import ast
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import rst
from data import SAMPLE, TRACE_SAMPLE
from rst import ROOT, page

import pageownerfs
from pageownerfs import page_owner_sort
from pageownerfs.cli import COMMANDS, make_parser, options
from pageownerfs.client import PoolStats
from pageownerfs.daemon.serve import Daemon, MountOptions
from pageownerfs.errors import PageOwnerError
from pageownerfs.mm.formats import DEFAULT_FORMAT, FORMATS
from pageownerfs.mm.vocabulary import VOCABULARY
from pageownerfs.page_owner_sort import options as sort_options
from pageownerfs.sources import SOURCES
from pageownerfs.sources.dump.options import DumpOptions
from pageownerfs.sources.dump.source import DumpSource
from pageownerfs.sources.kernel.features import RAW
from pageownerfs.sources.kernel.options import KernelOptions
from pageownerfs.sources.kernel.source import KernelSource
from pageownerfs.sources.kernel.tracker import Tracker
from pageownerfs.sources.pool.options import PoolOptions
from pageownerfs.sources.pool.source import PoolSource
from pageownerfs.sources.trace.options import TraceOptions
from pageownerfs.sources.trace.source import TraceSource
from pageownerfs.views import Directory, Tree, make_tree
from pageownerfs.views.filters import MODES, Filter, parse_filter
from pageownerfs.views.sort import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.sources.base import Source
    from pageownerfs.views import Node

PACKAGE = ROOT / "pageownerfs"
PAGEOWNERFS = "man/pageownerfs.rst"
MOUNT = "man/mount.pageownerfs.rst"
SORT = "man/page_owner_sort.rst"


# ---- commands and their options ----


def verb_parsers() -> dict[str, argparse.ArgumentParser]:
    """Give the parser of each verb."""
    (verbs,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(verbs.choices)


def signatures(parser: argparse.ArgumentParser) -> set[str]:
    """Give the options of a parser as a page writes them."""
    return {
        ", ".join(action.option_strings) + (f" {action.metavar}" if action.nargs != 0 else "")
        for action in parser._actions
        if action.option_strings
    }


def test_verbs() -> None:
    """Each verb has a section of its own, and no other section is named as one."""
    titles = [part.title.split() for part in rst.sections(page(PAGEOWNERFS))]
    documented = [words[1] for words in titles if len(words) == 2 and words[0] == "pageownerfs"]
    assert documented == list(COMMANDS)


def test_options_of_verbs() -> None:
    """Every option of every verb is described, with its value, and no other."""
    documented = rst.options(page(PAGEOWNERFS))
    expected = {"pageownerfs": signatures(make_parser())}
    expected |= {f"pageownerfs {verb}": signatures(p) for verb, p in verb_parsers().items()}
    assert {program: set(declared) for program, declared in documented.items()} == expected


def option_signatures(declared: Any) -> set[str]:
    """Give the mount options that are declared as a page writes them."""
    return {f"{option.name}={option.metavar}" for option in declared}


def test_mount_options() -> None:
    """Every -o option of every source, those of all and those without value are described."""
    documented = rst.options(page(MOUNT))
    expected = {
        f"mount.pageownerfs {kind.name}": option_signatures(kind.options)
        for kind in SOURCES.values()
    }
    expected["mount.pageownerfs"] = {*option_signatures(options.COMMON), *options.FLAGS, "ro"}
    assert {program: set(declared) for program, declared in documented.items()} == expected


def test_sources() -> None:
    """Each source has a section, under the word that mounts it."""
    titles = {part.title for part in rst.sections(page(MOUNT))}
    ways = {f"{kind.name}:FILE" if kind.takes_file else kind.name for kind in SOURCES.values()}
    assert ways <= titles
    terms = rst.definitions(rst.section(page(PAGEOWNERFS), "Description"))
    assert {re.sub(r"[`*\\ ]", "", term) for term in terms} == ways


def described_defaults() -> Iterator[Any]:
    """Yield each mount option that has a default, with that and with what the page says."""
    documented = rst.options(page(MOUNT))
    for kind in SOURCES.values():
        made = kind.options_type()
        for option in kind.options:
            declared = documented.get(f"mount.pageownerfs {kind.name}", {})
            text = declared.get(f"{option.name}={option.metavar}", "")
            default = getattr(made, option.field)
            if default is not None and "Always on" not in text:
                yield pytest.param(option, default, text, id=f"{kind.name}-{option.name}")
    common = {
        "format": FORMATS[DEFAULT_FORMAT],
        "snapshots": options.DEFAULT_SNAPSHOT_BYTES,
    }
    for option in options.COMMON:
        text = documented["mount.pageownerfs"].get(f"{option.name}={option.metavar}", "")
        yield pytest.param(option, common[option.name], text, id=option.name)


@pytest.mark.parametrize(("option", "default", "text"), list(described_defaults()))
def test_defaults(option: Any, default: object, text: str) -> None:
    """What the page gives as the default is the default."""
    found = re.search(r"Default: (?:``)?([\w.:]+)", text)
    assert found, text
    assert option.parse(found[1].rstrip(".")) == default


def test_ignored_options() -> None:
    """The options that are left to others are all listed."""
    text = " ".join(rst.section(page(MOUNT), "Options of every source").split())
    listed = text.partition("are ignored:")[2].partition(", and everything that begins")[0]
    # rw undoes ro, and stands with it.
    assert set(rst.names(listed)) == options._IGNORED - {"rw"}


def test_page_owner_sort_options() -> None:
    """Every option of page_owner_sort is described, and whether it takes a value."""
    (declared,) = rst.options(page(SORT)).values()
    documented: dict[str, bool] = {}
    for signature in declared:
        value = " " in signature.replace(", ", ",")
        documented |= dict.fromkeys(re.findall(r"--?[\w-]+", signature), value)
    expected = {f"-{letter}": False for letter in sort_options._SHORT}
    expected |= {f"--{name.rstrip('=')}": name.endswith("=") for name in sort_options._LONG}
    assert documented == expected


def test_page_owner_sort_keys() -> None:
    """Every key is described by both names, and whether it groups and sorts."""
    documented = {}
    for term, meaning in rst.definitions(rst.section(page(SORT), "Keys")).items():
        uses = (
            "Only for **--sort**" not in meaning,
            "Only for **--cull**" not in meaning,
        )
        documented[tuple(rst.names(term))] = uses
    assert documented == {
        (key.name, key.short): (key.culls, key.sorts) for key in page_owner_sort.KEYS
    }


def test_exit_codes() -> None:
    """Each exit code is described with the error that has it."""

    def all_classes(base: type[PageOwnerError]) -> Iterator[type[PageOwnerError]]:
        yield base
        for derived in base.__subclasses__():
            yield from all_classes(derived)

    documented = rst.definitions(page("man/exit-status.inc"))
    expected = {str(cls.exit_code): cls.__name__ for cls in all_classes(PageOwnerError)}
    assert documented.keys() == expected.keys() | {"0", "130"}
    for code, name in expected.items():
        assert name in rst.names(documented[code])


def test_environment() -> None:
    """Every variable that the package reads is described, and no other."""
    read = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Attribute(attr="environ"), attr="get" | "setdefault" | "pop"
                    )
                    | ast.Attribute(attr="getenv"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    read.add(name)
                case ast.Subscript(
                    value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name))
                ):
                    read.add(name)
                case ast.Attribute(value=ast.Name(id="Path"), attr="home"):
                    read.add("HOME")
                case ast.Attribute(value=ast.Name(id="shutil"), attr="which"):
                    read.add("PATH")
    assert rst.environment(page(PAGEOWNERFS)) == read


# ---- the mount ----


@pytest.fixture(scope="module")
def pool() -> Iterator[Source]:
    """Make a pool, not mounted."""
    source = PoolSource(PoolOptions(page_owner=True, size_bytes=8 << 20))
    yield source
    source.close()


def kernel() -> KernelSource:
    """Make a kernel source that seems to track: no program is loaded."""
    source: Any = KernelSource(KernelOptions())
    states = SimpleNamespace(states=lambda: (0, 0, 0, 0))
    source._table = states
    tracker: Any = Tracker.__new__(Tracker)
    tracker.options = KernelOptions()
    tracker.table_bytes, tracker.stack_nodes = 0, b""
    tracker.unseen = []
    tracker._states, tracker._nr_states = (), 0
    tracker._trackers = RAW
    tracker._object = SimpleNamespace(attached=[])
    source._tracker = tracker
    source.vocabulary = VOCABULARY
    kernel_source: KernelSource = source
    return kernel_source


@pytest.fixture(scope="module")
def sources(pool: Source) -> dict[str, Source]:
    """Make one source of each kind."""
    made: dict[str, Source] = {
        "pool": pool,
        "kernel": kernel(),
        "dump": DumpSource(DumpOptions(path=str(SAMPLE))),
        "trace": TraceSource(TraceOptions(path=str(TRACE_SAMPLE))),
    }
    assert made.keys() == SOURCES.keys()
    return made


def walk(directory: Tree, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Yield the nodes below a directory by their paths, that of a directory with a slash."""
    for name, node in directory._nodes.items():
        is_directory = isinstance(node, Directory)
        yield f"{prefix}{name}/" if is_directory else prefix + name, node
        if isinstance(node, Tree):
            yield from walk(node, f"{prefix}{name}/")


def present(source: Source) -> dict[str, int]:
    """Give the mode of each file that a mount of the source has."""
    files = {}
    for path, node in walk(make_tree(source, snapshot_bytes=1 << 20)):
        if node.absent() is None:
            files[path] = node.mode
    return files


@pytest.mark.require("shm")
def test_status_keys(sources: dict[str, Source]) -> None:
    """Every key of the JSON that status prints is described, and no other."""
    section = rst.section(page(PAGEOWNERFS), "Keys of the JSON objects")
    documented = {name for term in rst.definitions(section) for name in rst.names(term)}
    told = {"rss_bytes"}  # status itself adds it
    for name, source in sources.items():
        options = MountOptions(SOURCES[name], KernelOptions(), "/", "1")
        daemon = Daemon(options, "stderr", lambda: None, lambda _line: None)
        mounted: Any = source
        told |= json.loads(daemon._describe(mounted.describe(), make_tree(source))).keys()
    assert documented == told


@pytest.mark.require("shm")
def test_files(sources: dict[str, Source]) -> None:
    """Every file and directory is in the table, with its mode and the sources that have it."""
    (_, *rows), *_ = rst.tables(rst.section(page("reference/files.rst"), "Overview"))
    documented = {}
    for path, mode, by, _ in rows:
        documented[path.strip("`")] = (int(mode, 8), set(by.split(", ")))
    made = {name: present(source) for name, source in sources.items()}
    tree = make_tree(sources["dump"], snapshot_bytes=1 << 20)
    made_by_reader = dict(made_nodes(tree))
    expected = {
        path: (mode, {name for name, files in made.items() if path in files})
        for files in made.values()
        for path, mode in files.items()
    }
    expected |= {path: (node.mode, set(SOURCES)) for path, node in made_by_reader.items()}
    assert documented == expected


def made_nodes(tree: Tree) -> Iterator[tuple[str, Node]]:
    """Yield what there is under a name that the reader chooses."""
    pages, snapshots = tree.lookup("pages"), tree.lookup("snapshots")
    assert isinstance(pages, Directory)
    page_file = pages.lookup(next(iter(pages.names())))
    assert page_file is not None
    yield "pages/PFN", page_file
    assert isinstance(snapshots, Directory)
    snapshots.mkdir("one")
    snapshot = snapshots.lookup("one")
    assert isinstance(snapshot, Tree)
    yield "snapshots/NAME/", snapshot
    live = {path for path, _ in walk(tree)}
    for path, node in walk(snapshot):
        if path not in live:
            yield f"snapshots/NAME/{path}", node


def test_sorted_files() -> None:
    """The option that is given for each file of sorted/ makes the same order."""
    (_, *rows), *_ = rst.tables(rst.section(page("reference/files.rst"), "Overview"))
    documented = {}
    for path, *_, contents in rows:
        if path.startswith("``sorted/by_"):
            (option,) = rst.names(contents)
            parsed = sort_options.parse_options([option, "in", "out"])
            assert parsed is not None
            documented[path.strip("`").removeprefix("sorted/")] = tuple(parsed.rules.sort)
    assert documented == {name: (key,) for name, (key, _) in RULES.items()}


def test_filters() -> None:
    """Every word that page_owner takes is described; no other is taken."""
    section = rst.section(page("reference/files.rst"), "page_owner")
    words = [word for word in rst.first_column(section) if "=" in word]
    modes = {word.removeprefix("mode=") for word in words if word.startswith("mode=")}
    assert modes == set(MODES)
    lists = {word.removesuffix("=LIST") for word in words if word.endswith("=LIST")}
    fields = {"nids": "nid", "pids": "pid", "tgids": "tgid"}
    assert set(Filter._fields) == {"mode", *fields}
    assert lists == set(fields.values())
    for word in words:
        assert parse_filter(word.replace("LIST", "0").encode(), Filter(), {0}) is not None


# ---- counters ----


def documented_counters(*titles: str) -> list[str]:
    """Give the counters in the tables of some sections, in their order."""
    text = page("reference/stats.rst")
    return [name for title in titles for name in rst.first_column(rst.section(text, title))]


KERNEL_SECTIONS = ("Pages and records", "Events", "Stacks")


@pytest.mark.require("shm")
def test_counters(sources: dict[str, Source]) -> None:
    """Every counter of every source is described once, under that source, and no other."""
    documented = {
        name: documented_counters(*(KERNEL_SECTIONS if name == "kernel" else [name.capitalize()]))
        for name in sources
    }
    counted = {name: list(source.stats()) for name, source in sources.items()}
    assert {name: sorted(found) for name, found in documented.items()} == {
        name: sorted(found) for name, found in counted.items()
    }
    assert documented["pool"] == list(PoolStats._fields)
    every = sum(len(table) - 1 for table in rst.tables(page("reference/stats.rst")))
    assert every == sum(map(len, counted.values()))


# ---- formats ----


def test_formats() -> None:
    """The table of formats says of each what it does."""
    (_, *rows), *_ = rst.tables(rst.section(page("reference/formats.rst"), "Output formats"))
    documented = {name.strip("`"): tuple(cells) for name, *cells in rows}
    said = {True: "yes", False: "no"}
    assert documented == {
        name: (
            "hexadecimal" if made.pfn_hex else "decimal",
            said[made.free_ts],
            said[made.threshold_newline],
            said[made.filters],
        )
        for name, made in FORMATS.items()
    }


# ---- Python ----


def test_api() -> None:
    """Every name that the package and page_owner_sort export is on the page."""
    text = page("reference/python-api.rst")
    ours, _, library = text.partition("page_owner_sort as a library\n")
    directive = re.compile(r"^\.\. auto\w+:: ([\w.]+)", re.MULTILINE)
    documented = {name for name in directive.findall(ours) if "." not in name}
    documented |= {name for name in rst.names(ours) if re.fullmatch(r"(?:__)?GFP_\w+", name)}
    assert documented == set(pageownerfs.__all__) - {"__version__"}
    documented = set(directive.findall(library))
    documented |= {name for name in rst.names(library) if name.isupper()}
    assert documented == set(page_owner_sort.__all__)


# ---- messages ----


def python_texts() -> Iterator[str]:
    """Yield the texts of the package; what is filled in becomes an ellipsis."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    else constant_text(part)
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def constant_text(part: ast.expr) -> str:
    """Give what a field of an f-string is filled in with, where that is a constant."""
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        value = CONSTANTS.get(part.value.id)
        if value is not None:
            return value
    return "..."


def constants() -> dict[str, str]:
    """Collect the constants of all modules that are texts."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case (
                    ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(value)))
                    | ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value)))
                ):
                    found[name] = value
                case ast.AnnAssign(
                    target=ast.Name(id=name),
                    value=ast.Call(
                        func=ast.Name(id="Path"), args=[ast.Constant(value=str(value))]
                    ),
                ):
                    found[name] = value
    return found


CONSTANTS = constants()


def c_texts() -> Iterator[str]:
    """Yield the texts of the C core."""
    string = r'"((?:[^"\\\n]|\\.)*)"'
    for path in (PACKAGE / "native").rglob("*.c"):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"{string}(?:\s*{string})*", text):
            yield "".join(re.findall(string, match[0]))


def test_messages() -> None:
    """What the page quotes of each message is in a message of the code."""
    text = page("reference/messages-and-exit-codes.rst")
    quoted = [
        name for table in rst.tables(text) for row in table[1:] for name in rst.names(row[0])
    ]
    assert len(quoted) > 40
    texts = [*python_texts(), *c_texts()]
    missing = [part for part in quoted if not any(part in known for known in texts)]
    assert not missing
