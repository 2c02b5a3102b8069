"""Build and install man pages (by Sphinx) and shell completion (by shtab) below share."""

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
    """Make the completion from the parsers of the package just built."""
    path = os.pathsep.join([os.fspath(package), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    subprocess.run([sys.executable, COMPLETION, target / "share"], check=True, env=env)


STEPS: Final = (
    ("man pages", "sphinx", build_man),
    ("shell completion", "shtab", build_completion),
)


class InstallShare(Command):
    """
    The command install_data: build the files below share and install them.

    If Sphinx or shtab is missing, the build prints a line and goes on without the files. An
    editable install has none of them.
    """

    description = "build and install man pages and shell completion"
    user_options: ClassVar = [("install-dir=", "d", "directory in which share is")]

    def initialize_options(self) -> None:
        """Declare the options."""
        self.install_dir: str | None = None
        self.build_lib: str | None = None
        self.build_temp: str | None = None
        self.outfiles: list[str] = []

    def finalize_options(self) -> None:
        """Take the options from the commands install and build."""
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
                print(f"{tool} is missing or failed: built without {what}", file=sys.stderr)
        for path in sorted(target.glob("share/**/*")):
            installed = Path(self.install_dir or "", path.relative_to(target))
            if path.is_file():
                installed.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(path), str(installed))
                self.outfiles.append(str(installed))

    def get_outputs(self) -> list[str]:
        """List the installed files."""
        return self.outfiles

    def get_inputs(self) -> list[str]:
        """List the inputs: none, since the command makes its files."""
        return []
