"""A wheel is complete, and builds even without Sphinx and shtab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pageownerfs

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

PAGES = ("man1/pageownerfs.1", "man1/page_owner_sort.1", "man8/mount.pageownerfs.8")

pytestmark = pytest.mark.slow


def test_imports(run: Run, installed: Path) -> None:
    """The C core comes from the installed wheel."""
    path = run("python", "-c", "import pageownerfs._native as n; print(n.__file__)").stdout
    assert Path(path).is_relative_to(installed)


def test_commands(run: Run) -> None:
    """Both commands start."""
    assert run("pageownerfs", "--version").stdout == f"pageownerfs {pageownerfs.__version__}\n"
    assert "MOUNTPOINT" in run("pageownerfs", "mount", "--help").stdout
    assert "--cull" in run("page_owner_sort", "--help").stdout


@pytest.mark.parametrize("name", ["py.typed", "_native.pyi", "native/base/page_owner.h"])
def test_files(installed: Path, name: str) -> None:
    """The wheel contains the types and the header with the record."""
    assert list(installed.glob(f"lib/python3*/site-packages/pageownerfs/{name}"))


@pytest.mark.require("bpf")
def test_bpf_programs(installed: Path) -> None:
    """The wheel contains the compiled BPF programs."""
    assert list(installed.glob("lib/python3*/site-packages/pageownerfs/native/bpf/*.bpf.o"))


@pytest.mark.require("man")
@pytest.mark.parametrize("page", PAGES)
def test_man_pages(installed: Path, page: str) -> None:
    """Each page is found by the PATH of its command and shown without a warning."""
    name, section = Path(page).stem, Path(page).suffix[1:]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAN")}
    env |= {"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"}
    env["PATH"] = os.pathsep.join([str(installed / "bin"), env["PATH"]])
    line = ["man", "--where", section, name]
    found = subprocess.run(line, capture_output=True, text=True, check=True, env=env)
    assert Path(found.stdout.strip()) == installed / "share/man" / page
    line = ["man", "--warnings", "--local-file", found.stdout.strip()]
    shown = subprocess.run(line, capture_output=True, text=True, check=True, env=env)
    assert not shown.stderr
    assert f"\n       {name} - " in shown.stdout


@pytest.fixture
def without_tools(sdist: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs install_data where Sphinx and shtab cannot be imported."""
    for name in ("sphinx", "shtab"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)\n")

    def install(target: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "setup.py", "-q", "install_data", "--install-dir", target]
        env = {name: value for name, value in os.environ.items() if name != "PAGEOWNERFS_WERROR"}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=sdist,
            env=env | {"PYTHONPATH": str(tmp_path)} | variables,
        )

    return install


def test_without_tools(without_tools: Run, tmp_path: Path) -> None:
    """The build succeeds and names what is missing."""
    done = without_tools(tmp_path / "target")
    assert done.returncode == 0, done.stderr
    assert "sphinx is missing or failed: built without man pages\n" in done.stderr
    assert "shtab is missing or failed: built without shell completion\n" in done.stderr
    assert not (tmp_path / "target").exists()


def test_tools_required(without_tools: Run, tmp_path: Path) -> None:
    """With PAGEOWNERFS_WERROR=1 the build fails."""
    assert without_tools(tmp_path / "target", PAGEOWNERFS_WERROR="1").returncode != 0
