"""The Tab key in bash, zsh and fish, with the completion that the wheel installs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from shells import Shell, make_shell

from pageownerfs.cli import make_parser
from pageownerfs.page_owner_sort.keys import KEYS
from pageownerfs.page_owner_sort.options import _LONG
from pageownerfs.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

# The typed line, and what Tab adds to it; completed() removes the separator after a word.
LINES = [
    ("pageownerfs mo", "unt"),
    ("pageownerfs --ver", "sion"),
    ("pageownerfs ke", "rnel"),
    ("pageownerfs du", "mp:"),
    ("pageownerfs dump:fi", "le"),
    ("pageownerfs dump:file di", "rectory/"),
    ("pageownerfs dump:file directory --fo", "reground"),
    ("pageownerfs dump:file directory -o zo", "nes="),
    ("pageownerfs pool di", "rectory/"),
    ("pageownerfs pool directory -o page_owner=on,mov", "ablecore="),
    ("pageownerfs kernel directory -o stack_depo", "t="),
    ("pageownerfs kernel directory -o kernel", "_abi"),
    ("pageownerfs kernel directory -o format=n", "ext"),
    ("pageownerfs kernel directory -o mova", ""),  # an option of a pool
    ("pageownerfs mount tra", "ce:"),
    ("pageownerfs mount trace:fi", "le"),
    ("pageownerfs mount pool di", "rectory/"),
    ("pageownerfs umount di", "rectory/"),
    ("pageownerfs alloc di", "rectory/"),
    ("page_owner_sort fi", "le"),
    ("page_owner_sort -m file fi", "le"),
    ("page_owner_sort --cull tgid,allo", "cator"),
    ("page_owner_sort --sort=alloc_", "ts"),
]


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def shell(
    request: pytest.FixtureRequest,
    require: Callable[[str], None],
    installed: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shell]:
    """Start each shell in a directory that has a file and a directory."""
    require(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "directory").mkdir()
    (directory / "file").touch()
    with ExitStack() as stack:
        yield stack.enter_context(make_shell(request.param, installed / "share", directory))


def completed(shell: Shell, line: str) -> str:
    """Complete a line, without the separator that a shell adds for the next word or value."""
    found = shell.complete(line)
    return found if found == line else found.rstrip(" ,")


@pytest.mark.parametrize(("line", "added"), LINES)
def test_lines(shell: Shell, line: str, added: str) -> None:
    """Verbs, sources, mount options, directories and files complete where they can occur."""
    assert completed(shell, line) == line + added


def verbs() -> dict[str, list[str]]:
    """Return the long options of each verb."""
    (actions,) = (a for a in make_parser()._actions if isinstance(a.choices, dict))
    return {
        name: [
            option
            for action in verb._actions
            for option in action.option_strings
            if option.startswith("--")
        ]
        for name, verb in actions.choices.items()
    }


@pytest.mark.parametrize("verb", verbs())
def test_verbs(shell: Shell, verb: str) -> None:
    """Each verb and each of its long options completes from all letters but the last."""
    assert completed(shell, f"pageownerfs {verb[:-1]}") == f"pageownerfs {verb}"
    options = verbs()[verb]
    assert options
    for option in options:
        line = f"pageownerfs {verb} {option}"
        assert completed(shell, line[:-1]).rstrip("=") == line


@pytest.mark.parametrize("source", SOURCES)
def test_mount_options(shell: Shell, source: str) -> None:
    """Each mount option of a source completes from all letters but the last."""
    word = f"{source}:file" if SOURCES[source].takes_file else source
    for option in SOURCES[source].options:
        line = f"pageownerfs mount {word} directory -o {option.name}"
        assert completed(shell, line[:-1]).startswith(line)


def test_sort_options(shell: Shell) -> None:
    """Each long option and each key of page_owner_sort completes."""
    for option in _LONG:
        line = f"page_owner_sort --{option.rstrip('=')}"
        assert completed(shell, line[:-1]).rstrip("=") == line
    for use in ("cull", "sort"):
        for key in (key for key in KEYS if getattr(key, f"{use}s")):
            line = f"page_owner_sort --{use} {key.name}"
            assert completed(shell, line[:-1]) == line
