"""A new source needs a folder and an entry in sources/__init__.py, and nothing else."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "pageownerfs"

FILES = {
    "__init__.py": "from .kind import KIND\n",
    "options.py": """
from typing import NamedTuple
from pageownerfs.sources.options import PAGE_OWNER_RECORDED, Option, number_parser

class MadeOptions(NamedTuple):
    path: str = ""
    nr_pages: int = 1
    page_owner: bool = True

OPTIONS = (
    PAGE_OWNER_RECORDED,
    Option("nr", "nr_pages", number_parser(1, 9, "a number"), "N", "pages made up", implied="7"),
)
""",
    "source.py": """
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_ALLOCATED, PageOwner
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.sources.recorded import RecordedSource

class MadeSource(RecordedSource):
    def __init__(self, options, progress):
        table = new_record_table()
        for pfn in range(options.nr_pages):
            owner = PageOwner(pfn, 0, 0xcc0, 1, 1, 0, 0, 0, 0, 0, -1,
                              PAGE_EXT_OWNER_ALLOCATED, 0, b"made")
            table.add(pfn, owner.pack(), b" f+0x1/0x2\\n", b"", 0)
        super().__init__(table, {"records": options.nr_pages}, {}, path=options.path)
""",
    "kind.py": """
from pageownerfs.errors import MountError
from pageownerfs.sources.base import SourceKind
from pageownerfs.sources.check import OK, Check
from .options import OPTIONS, MadeOptions
from .source import MadeSource

def check():
    from pathlib import Path
    if Path("/nowhere/refuse").exists():
        raise MountError("refused")

KIND = SourceKind(
    name="made",
    help="what a test has made up",
    takes_file=True,
    options_type=MadeOptions,
    options=OPTIONS,
    check=check,
    make=MadeSource,
    status_rows=lambda mount: [("made of", mount["path"])],
    diagnose=lambda: [Check("made", OK, "can be made")],
)
""",
}


class Copy:
    """A copy of the package with one more source."""

    def __init__(self, root: Path) -> None:
        """Make the copy below ``root``."""
        self._root = root
        self.package = root / "pageownerfs"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        folder = self.package / "sources" / "made"
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text)
        init = self.package / "sources" / "__init__.py"
        old = init.read_text()
        text = old.replace("import dump, ", "import dump, made, ").replace(
            "dump.KIND, ", "dump.KIND, made.KIND, "
        )
        assert text.count("made") == old.count("made") + 2
        init.write_text(text)

    def run(self, *words: str | Path) -> str:
        """Run the copy's command and return its output."""
        return self.python("-m", "pageownerfs", *words)

    def python(self, *words: str | Path) -> str:
        """Run Python with the copy and return its output."""
        # Use neither the package of our working directory nor an installed one.
        env = os.environ | {"PYTHONPATH": os.fspath(self._root)}
        line = [sys.executable, *words]
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, env=env, cwd=self._root
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Copy the package."""
    return Copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture
def mountpoint(copy: Copy, tmp_path: Path) -> Iterator[Path]:
    """Mount the new source."""
    copy.run("made:file", tmp_path, "-o", "nr")
    yield tmp_path
    copy.run("umount", tmp_path)


def changed(compared: filecmp.dircmp[str], prefix: str = "") -> Iterator[str]:
    """Yield the paths of files that differ."""
    names = {*compared.diff_files, *compared.left_only, *compared.right_only}
    yield from (prefix + name for name in names - {"__pycache__"})
    for name, below in compared.subdirs.items():
        yield from changed(below, f"{prefix}{name}/")


def test_nothing_else_has_changed(copy: Copy) -> None:
    """Only the new folder and the list of sources differ."""
    compared = filecmp.dircmp(PACKAGE, copy.package)
    assert set(changed(compared)) == {"sources/made", "sources/__init__.py"}


@pytest.mark.require("fuse")
def test_mounted(copy: Copy, mountpoint: Path) -> None:
    """page_owner is readable through the mount, with the options that the source declares."""
    text = (mountpoint / "page_owner").read_text()
    assert text.count("mask 0xcc0(GFP_KERNEL), pid 1, tgid 1 (made), ts ") == 7
    assert text.count(" f+0x1/0x2\n") == 7
    status = copy.run("status", mountpoint)
    assert "  source:     made (pageownerfs " in status
    assert f"  made of:    {copy.package.parent / 'file'}\n" in status


def test_commands_know_it(copy: Copy) -> None:
    """--help lists the source and its options, and doctor runs its checks."""
    text = copy.run("mount", "--help")
    assert "one of pool, kernel, dump:FILE, made:FILE, trace:FILE" in " ".join(text.split())
    assert "what a test has made up" in text
    assert "pages made up" in text.partition("  made:\n")[2].partition("  trace:")[0]
    code = "from pageownerfs.cli.doctor import run_checks; print(*run_checks(), sep='\\n')"
    assert "Check(name='made', state='ok', text='can be made'" in copy.python("-c", code)
