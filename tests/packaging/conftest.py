"""Build the sdist and a wheel from it, and install the wheel into an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Path:
    """Directory with the sdist and the wheel built from it."""
    require("pip")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--outdir", folder, CHECKOUT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def sdist(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    (archive,) = built.glob("*.tar.gz")
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environment with the wheel and its dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([folder / "bin" / "pip", "-q", "install", wheel], check=True)
    return folder


@pytest.fixture(scope="session")
def run(installed: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs a command of that environment: ``run("pageownerfs", "--version")``."""

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        # Outside the checkout, whose package would be found first.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [installed / "bin" / name, *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=installed, env=env
        )

    return run
