"""The workflows in .github only call scripts of the repository."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").iterdir())
RUN = re.compile(r"^\s*(?:- )?run:(.*)$", re.MULTILINE)
EXPRESSION = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")
SHELL = set("|&;<>()$`\\\"'*?[#~%!{}\n")


def commands(text: str) -> list[str]:
    """Return every command of a workflow, once for each value of its matrix."""
    found = []
    for command in RUN.findall(text):
        names = EXPRESSION.findall(command)
        assert len(names) <= 1
        values = [""]
        for name in names:
            (row,) = re.findall(rf"^\s+{name}: \[(.*)\]$", text, re.MULTILINE)
            values = [value.strip().strip('"') for value in row.split(",")]
        found += [EXPRESSION.sub(value, command).strip() for value in values]
    return found


def script_of(command: str) -> Path | None:
    """Return the script that a command runs; None if it is anything else than one script."""
    words = shlex.split(command) if not SHELL & set(command) else []
    while words and (words[0] in {"sudo", "env"} or re.match("[A-Z_]+=", words[0])):
        words.pop(0)
    if not words or not words[0].startswith(("scripts/", ".ci/")):
        return None
    path = CHECKOUT / words[0]
    return path if path.is_file() and os.access(path, os.X_OK) else None


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_run_scripts(path: Path) -> None:
    """Each ``run`` step is one script with arguments."""
    found = commands(path.read_text())
    assert found
    assert not [command for command in found if script_of(command) is None]


@pytest.mark.parametrize(
    "command", ["|", "make", "scripts/nowhere", "scripts/test && true", "scripts/lib.sh", ""]
)
def test_what_is_no_script(command: str) -> None:
    """Anything else is rejected."""
    assert script_of(command) is None


def test_scripts() -> None:
    """sudo, variables and arguments are accepted."""
    assert script_of("sudo env A=b scripts/test --quick tests/unit") == CHECKOUT / "scripts/test"


def test_matrix() -> None:
    """A script that the matrix names is checked as well."""
    text = 'a:\n  b: [x, "y z"]\n  - run: ${{ matrix.b }} --vm\n  - name: n\n    run: scripts/c\n'
    assert commands(text) == ["x --vm", "y z --vm", "scripts/c"]
