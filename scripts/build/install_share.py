"""What a wheel installs below share: man pages by Sphinx, shell completion by shtab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Final

from setuptools import Command

WERROR: Final = os.environ.get("PAGEOWNERFS_WERROR") == "1"
COMPLETION: Final = Path(__file__).with_name("completion.py")


def build_man(target: Path, _package: Path) -> None:
    """Make the man pages."""
    pages = target / "man"
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "man", "-t", "manpages"]
    strict = ["-W"] if WERROR else []
    subprocess.run([*command, *strict, "-d", target / "doctrees", "docs", pages], check=True)
    for page in pages.glob("*.[1-8]"):
        section = target / "share" / "man" / f"man{page.suffix[1:]}"
        section.mkdir(parents=True, exist_ok=True)
        page.replace(section / page.name)


def build_completion(target: Path, package: Path) -> None:
    """Make the completion from the parsers of the package that was just built."""
    path = os.pathsep.join([os.fspath(package), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    subprocess.run([sys.executable, COMPLETION, target / "share"], check=True, env=env)


STEPS: Final = (
    ("man pages", "sphinx", build_man),
    ("shell completion", "shtab", build_completion),
)


class InstallShare(Command):
    """
    The command install_data: build and install the files below share.

    Without the tool for it the wheel lacks them, and the build says so. An editable install has
    none of them.
    """

    description = "build and install man pages and shell completion"
    user_options: ClassVar = [("install-dir=", "d", "directory in which share is")]

    def initialize_options(self) -> None:
        """Set what finalize_options() takes from other commands."""
        self.install_dir: str | None = None
        self.build_lib: str | None = None
        self.build_temp: str | None = None
        self.outfiles: list[str] = []

    def finalize_options(self) -> None:
        """Ask those commands."""
        self.set_undefined_options("install", ("install_data", "install_dir"))
        self.set_undefined_options(
            "build", ("build_lib", "build_lib"), ("build_temp", "build_temp")
        )

    def run(self) -> None:
        """Build and install."""
        if getattr(self.get_finalized_command("build_ext"), "editable_mode", False):
            return
        target = Path(self.build_temp or "", "share-files").absolute()
        for what, tool, step in STEPS:
            try:
                step(target, Path(self.build_lib or "").absolute())
            except subprocess.CalledProcessError:
                if WERROR:
                    raise
                print(f"{tool} is missing or has failed: built without {what}", file=sys.stderr)
        for path in sorted(target.glob("share/**/*")):
            installed = Path(self.install_dir or "", path.relative_to(target))
            if path.is_file():
                installed.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(path), str(installed))
                self.outfiles.append(str(installed))

    def get_outputs(self) -> list[str]:
        """List what is installed."""
        return self.outfiles

    def get_inputs(self) -> list[str]:
        """List what it is copied from: nothing that was there before."""
        return []
