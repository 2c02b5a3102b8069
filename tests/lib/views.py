"""The files of a mount as tests read them, and programs that use its pool meanwhile.

The text is parsed by separate patterns, not by the package: a test needs a second opinion.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A comm may contain anything; what follows it is matched from the end of its line.
_RECORD = re.compile(
    rb"Page allocated via order (\d+), mask (0x[0-9a-f]+)\([^)\n]*\), pid (\d+), tgid (\d+) "
    rb"\((.{0,15}?)\), ts (\d+) ns(?:, free_ts \d+ ns)?\n"
    rb"PFN (0x[0-9a-f]+|\d+) type (\w+) Block (\d+) type (\w+) Flags (0x[0-9a-f]+\([^)\n]*\))\n"
    rb"((?: [^\n]+\n)*)((?:[^ \n][^\n]*\n)*)\n",
    re.DOTALL,
)
_COUNTED = re.compile(rb"((?: [^\n]+\n)*)nr_base_pages: (\d+)\n\n")
_HANDLE_COUNTED = re.compile(rb"handle: (\d+)\nnr_base_pages: (\d+)\n\n")
_HANDLE_STACK = re.compile(rb"((?: [^\n]+\n)*)handle: (\d+)\n\n")


class Shown(NamedTuple):
    """A record as its text shows it."""

    order: int
    mask: int
    pid: int
    tgid: int
    comm: bytes
    ts: int
    pfn: int
    page_mt: str
    block: int
    block_mt: str
    flags: bytes
    stack: bytes
    """Lines that begin with a blank."""
    notes: bytes
    """The lines after those."""
    text: bytes
    """The complete text."""

    @property
    def nr_pages(self) -> int:
        """Return the number of pages in the block."""
        return 1 << self.order

    @property
    def is_early(self) -> bool:
        """Return whether it was allocated before tracking began."""
        return b" register_early_stack+0x" in self.stack

    @property
    def function(self) -> str:
        """Return the innermost function."""
        return self.stack.partition(b"+")[0].decode().strip()


def parse_shown(text: bytes) -> list[Shown]:
    """Parse a page_owner text; fail on anything that is not a record."""
    records, end = [], 0
    while end < len(text):
        found = _RECORD.match(text, end)
        assert found, text[end : end + 300]
        end = found.end()
        order, mask, pid, tgid, comm, ts, pfn, page_mt, block, block_mt, flags, stack, notes = (
            found.groups()
        )
        records.append(
            Shown(
                *(int(order), int(mask, 16), int(pid), int(tgid), comm, int(ts), int(pfn, 0)),
                *(page_mt.decode(), int(block), block_mt.decode(), flags, stack, notes, found[0]),
            )
        )
    return records


def read_shown(mnt: Path) -> list[Shown]:
    """Read page_owner of a mount or of a snapshot."""
    return parse_shown((mnt / "page_owner").read_bytes())


def stack_sums(records: list[Shown]) -> dict[bytes, int]:
    """Sum up the base pages of each stack; early pages have none."""
    sums: Counter[bytes] = Counter()
    for record in records:
        if not record.is_early:
            sums[record.stack] += record.nr_pages
    return dict(sums)


def _all_of(pattern: re.Pattern[bytes], text: bytes) -> list[tuple[bytes, bytes]]:
    pairs, end = [], 0
    while end < len(text):
        found = pattern.match(text, end)
        assert found, text[end : end + 300]
        pairs.append((found[1], found[2]))
        end = found.end()
    return pairs


def parse_show_stacks(text: bytes) -> list[tuple[bytes, int]]:
    """Return stacks and their pages, in the order of show_stacks."""
    return [(stack, int(count)) for stack, count in _all_of(_COUNTED, text)]


def parse_show_handles(text: bytes) -> list[tuple[int, int]]:
    """Return handles and their pages, in the order of show_handles."""
    return [(int(handle), int(count)) for handle, count in _all_of(_HANDLE_COUNTED, text)]


def parse_show_stacks_handles(text: bytes) -> list[tuple[bytes, int]]:
    """Return stacks and their handles, in the order of show_stacks_handles."""
    return [(stack, int(handle)) for stack, handle in _all_of(_HANDLE_STACK, text)]


def read_stats(mnt: Path) -> dict[str, int]:
    """Read stats; fail if a line is not ``name value``."""
    lines = (mnt / "stats").read_text().splitlines()
    assert all(re.fullmatch("[a-z0-9_]+ [0-9]+", line) for line in lines), lines
    pairs = [line.split(" ") for line in lines]
    stats = {name: int(value) for name, value in pairs}
    assert len(stats) == len(lines)
    return stats


def read_unbuffered(path: Path, size: int, flags: int = os.O_RDONLY) -> bytes:
    """Read a whole file with read()s of one size."""
    fd = os.open(path, flags)
    try:
        return b"".join(iter(lambda: os.read(fd, size), b""))
    finally:
        os.close(fd)


def read_filtered(mnt: Path, *commands: str, size: int = 1 << 16) -> bytes:
    """Read the whole page_owner after writing filters, each with a write() of its own."""
    fd = os.open(mnt / "page_owner", os.O_RDWR)
    try:
        for command in commands:
            assert os.write(fd, command.encode()) == len(command)
        return b"".join(iter(lambda: os.read(fd, size), b""))
    finally:
        os.close(fd)


@contextmanager
def client(code: str, *argv: str | Path) -> Iterator[subprocess.Popen[str]]:
    """
    Run Python code as a separate process, and end it by closing its standard input.

    The code reads ``sys.argv[1:]``, prints its answers, and ends when it has read standard input
    to the end.
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.communicate()


def said(child: subprocess.Popen[str]) -> Any:
    """Return the next line of a client's output, which is JSON."""
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


def tree_files(mnt: Path) -> Mapping[str, Path]:
    """Return all listed files of a mount by relative path, with only the first one of pages."""
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(mnt):
        some = sorted(names)[:1] if Path(folder).name == "pages" else names
        for name in some:
            path = Path(folder) / name
            files[str(path.relative_to(mnt))] = path
    return files
