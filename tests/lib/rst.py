"""
What the pages under docs say, as data: options, tables, definitions, command lines.

A few patterns read it, not docutils: they take the forms that these pages use, and a page that
is written in another form has nothing for the tests to find, which fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"

_HEADING = re.compile(r"^(?P<title>\S.*)\n(?P<mark>[=\-~^\"'])(?P=mark){2,}$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


def page(path: str) -> str:
    """Read a page by its path under docs."""
    return (DOCS / path).read_text(encoding="utf-8")


def pages() -> list[Path]:
    """List every page, and the texts at the root of the repository that a reader meets."""
    built = DOCS / "_build"
    found = (path for ext in ("rst", "inc") for path in DOCS.rglob(f"*.{ext}"))
    roots = (ROOT / name for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst"))
    return sorted(
        path for path in (*found, *roots) if path.is_file() and built not in path.parents
    )


class Section(NamedTuple):
    """A heading, and what stands between it and the next one."""

    title: str
    text: str


def sections(text: str) -> list[Section]:
    """Split a page at its headings; what is before the first one has no title."""
    found = list(_HEADING.finditer(text))
    starts = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(text)]
    titles = ["", *(match["title"].strip() for match in found)]
    return [
        Section(title, text[start:end])
        for title, start, end in zip(titles, starts, ends, strict=True)
    ]


def section(text: str, title: str) -> str:
    """Give the text of a section, without those below it."""
    (found,) = (part.text for part in sections(text) if part.title == title)
    return found


def options(text: str) -> dict[str, dict[str, str]]:
    """
    Collect what the directives ``program`` and ``option`` declare.

    :return: program -> signature, as ``-f, --foreground`` or ``size=SIZE`` -> description
    """
    found: dict[str, dict[str, str]] = {}
    program = ""
    for match in re.finditer(
        r"^\.\. (program|option):: (.+)\n((?:\n|   .*\n)*)", text, re.MULTILINE
    ):
        directive, argument, body = match.groups()
        if directive == "program":
            program = argument
            continue
        declared = found.setdefault(program, {})
        assert argument not in declared, f"{program}: {argument} is described twice"
        declared[argument] = " ".join(body.split())
    return found


def environment(text: str) -> set[str]:
    """Collect the variables that the directive ``envvar`` declares."""
    return set(re.findall(r"^\.\. envvar:: (\w+)$", text, re.MULTILINE))


def tables(text: str) -> list[list[list[str]]]:
    """Read each ``list-table``: rows of cells, the line of headings included."""
    found = []
    for match in re.finditer(r"^\.\. list-table::.*\n((?:\n|   .*\n)*)", text, re.MULTILINE):
        rows = re.split(r"^   \* - ", match[1], flags=re.MULTILINE)[1:]
        found.append(
            [
                [" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)]
                for row in rows
            ]
        )
    return found


def names(text: str) -> list[str]:
    """Give the literals of a text, in their order."""
    return [" ".join(name.split()) for name in re.findall(r"``(.+?)``", text, re.DOTALL)]


def first_column(text: str) -> list[str]:
    """Give the literals in the first column of all tables of a text, without their headings."""
    return [name for table in tables(text) for row in table for name in names(row[0])]


def definitions(text: str) -> dict[str, str]:
    """Collect the definitions: a line, and indented below it what it means."""
    found = re.findall(r"^(\S.*)\n((?:   \S.*\n)+)", text, re.MULTILINE)
    return {term: " ".join(meaning.split()) for term, meaning in found}


def literal_blocks(text: str) -> list[list[str]]:
    """Give the lines of each block of code or output, without what they are indented by."""
    blocks: list[list[str]] = []
    lines = iter([*text.expandtabs().splitlines(), ""])
    line: str | None = next(lines)
    while line is not None:
        indent = _indent(line)
        if not _begins_block(line):
            line = next(lines, None)
            continue
        block = []
        while (line := next(lines, None)) is not None and (
            not line.strip() or _indent(line) > indent
        ):
            block.append(line)
        # The options of a directive are no code.
        while block and (not block[0].strip() or re.match(r" +:[\w-]+:", block[0])):
            del block[0]
        if block:
            margin = min(_indent(code) for code in block if code.strip())
            blocks.append([code[margin:] for code in block])
    return blocks


def _begins_block(line: str) -> bool:
    return bool(
        re.match(r" *\.\. (?:code-block|code|prompt)::", line)
        or (line.rstrip().endswith("::") and not line.lstrip().startswith(".. "))
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def without_blocks(text: str) -> str:
    """Give a page without its literal blocks."""
    kept: list[str] = []
    margin: int | None = None
    for line in text.expandtabs().splitlines():
        if margin is not None and (not line.strip() or _indent(line) > margin):
            kept.append("")
            continue
        margin = _indent(line) if _begins_block(line) else None
        kept.append(line)
    return "\n".join(kept) + "\n"


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text, tables and lists too, each as one line."""
    for part in _BLANK_LINES.split(text):
        joined = " ".join(part.split())
        if joined:
            yield joined
