"""Every figure that a page gives can be had again: a command that is here prints it."""

from __future__ import annotations

import ast
import os
import re
from typing import TYPE_CHECKING

import pytest
import rst
from rst import DOCS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = DOCS / "benchmarks.rst"
# A time, a rate or a part that was measured; what a record or a limit says is in literals.
FIGURE = re.compile(
    r"(?<![\w.])\d[\d.,]*(?:\s| to \d[\d.,]*\s)?(?:[mnuµ]s|[GM]B/s|M/s|%)(?![\w/])"
    r"|(?<![\w.])\d[\d.,]* times (?:as|faster|slower)"
)
PRINTED_BY = re.compile(r"Printed by ``(scripts/[^`]+)``")
COMMAND = re.compile(r"(?<![\w/])scripts/[\w/.-]*\w")
TABLE = re.compile(r"^(?:\.\. (?:list-table|csv-table|table)::.*|={2,}(?: +={2,})+|\+[-=+]+\+)$")


def tables(text: str) -> list[tuple[str, str]]:
    """Give each table of a page with the text between it and what is before: section or table."""
    found = []
    for part in rst.sections(text):
        before: list[str] = []
        for chunk in re.split(r"\n\s*\n(?=\S)", part.text.strip("\n")):
            first = chunk.partition("\n")[0]
            if TABLE.match(first):
                found.append((first, "\n\n".join(before)))
                before = []
            else:
                before.append(chunk)
    return found


def benchmark_tables() -> set[str]:
    """Give the names that scripts/bench takes."""
    source = (ROOT / "scripts/benchmarks/__main__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "TABLES"
            and isinstance(node.value, ast.Dict)
        ):
            return {str(ast.literal_eval(key)) for key in node.value.keys if key is not None}
    msg = "scripts/benchmarks/__main__.py has no TABLES"
    raise AssertionError(msg)


def check_script(command: str) -> None:
    """See that a command is an executable script of this repository, and takes its operands."""
    script, *words = command.split()
    path = ROOT / script
    assert path.is_file(), f"{script} is not there"
    assert os.access(path, os.X_OK), f"{script} is not executable"
    if script == "scripts/bench":
        unknown = {word for word in words if not word.startswith("-")} - benchmark_tables()
        assert not unknown, f"scripts/bench has no table {unknown}"


def test_benchmarks() -> None:
    """Each table of the benchmarks says which command prints it, and that is there."""
    found = tables(BENCHMARKS.read_text(encoding="utf-8"))
    assert found
    for mark, before in found:
        commands = PRINTED_BY.findall(" ".join(before.split()))
        assert commands, f"nothing says what prints the table {mark!r} behind {before!r}"
        for command in commands:
            check_script(command)


PAGES = pytest.mark.parametrize("path", rst.pages(), ids=lambda path: str(path.relative_to(ROOT)))


@PAGES
def test_figures(path: Path) -> None:
    """A section with a figure names the command that prints it, or links to the page that does."""
    for part in rst.sections(path.read_text(encoding="utf-8")):
        figures = figures_of(part.text)
        named = COMMAND.search(part.text) or re.search(r":doc:`[^`]*benchmarks>?`", part.text)
        assert named or not figures, f"{part.title}: nothing says what prints {figures}"


@PAGES
def test_scripts(path: Path) -> None:
    """Every script that a page names is there."""
    found = COMMAND.findall(path.read_text(encoding="utf-8"))
    assert [name for name in found if not (ROOT / name).exists()] == []


def figures_of(text: str) -> list[str]:
    """Find the figures in the prose and the tables of a text."""
    prose = re.sub(r"``.+?``", "", rst.without_blocks(text), flags=re.DOTALL)
    return [match[0] for line in rst.paragraphs(prose) for match in FIGURE.finditer(line)]


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("It takes 1.2 us a page, or 3 to 4 ms.", ["1.2 us", "3 to 4 ms"]),
        (
            "At 2.4 GB/s, 85 % of the peer; 16 times faster.",
            ["2.4 GB/s", "85 %", "16 times faster"],
        ),
        ("``ts 257 ns``, 64 bytes, Linux 6.12, 20 milliseconds, order 0 to 10", []),
        ("So::\n\n    ts 257 ns\n", []),
    ],
)
def test_figures_are_found(text: str, figures: list[str]) -> None:
    """Figures are what was measured, not what a format or a limit says."""
    assert figures_of(text) == figures


def test_tables_are_found() -> None:
    """A table of any form is found, with the text before it."""
    text = (
        "Speed\n=====\n\nPrinted by ``scripts/bench cat``:\n\n====  ====\na     b\n====  ====\n"
        "c     d\n====  ====\n\nMore.\n\n.. list-table::\n   :header-rows: 1\n\n   * - a\n"
        "     - b\n"
    )
    (first, before), (second, between) = tables(text)
    assert (first, second) == ("====  ====", ".. list-table::")
    assert PRINTED_BY.findall(before) == ["scripts/bench cat"]
    assert between.strip() == "More."
