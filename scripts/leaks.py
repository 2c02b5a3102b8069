"""Summarise a page_owner text: which call stacks have the most pages.

leaks.py FILE [NUMBER]

FILE is page_owner of a mount, or a copy. Records are grouped by stack; the NUMBER (5) largest
groups are printed, with the innermost frames.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NR_FRAMES = 4
# comm has at most 15 bytes, of any value; one that is no UTF-8 reads as four characters, \xNN.
HEADER = re.compile(
    r"Page allocated via order (?P<order>\d+), mask (?P<mask>0x[0-9a-f]+)\(.*?\), "
    r"pid (?P<pid>-?\d+), tgid (?P<tgid>-?\d+) \((?P<comm>.{0,60}?)\), ts \d+ ns\n(?=PFN )",
    re.DOTALL,
)


class Record(NamedTuple):
    """What the summary needs of one record."""

    nr_pages: int
    early: bool
    """Allocated before tracking began; the pool's own metadata is."""
    pid: int
    stack: tuple[str, ...]
    """Innermost frame first."""


class Group(NamedTuple):
    """The records of one stack."""

    nr_pages: int
    times: int
    pids: set[int]
    stack: tuple[str, ...]


def parse_records(text: str) -> Iterator[Record]:
    """Yield the records of the text; each ends where the next header or the text does."""
    headers = list(HEADER.finditer(text))
    ends = [match.start() for match in headers[1:]] + [len(text)]
    for match, end in zip(headers, ends, strict=True):
        lines = text[match.end() : end].splitlines()
        stack = tuple(line.strip() for line in lines if line.startswith(" "))
        early = int(match["mask"], 16) == 0
        yield Record(1 << int(match["order"]), early, int(match["pid"]), stack)


def group_by_stack(records: Iterable[Record]) -> list[Group]:
    """Group the records by stack, most pages first."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.stack].append(record)
    summed = [
        Group(sum(r.nr_pages for r in members), len(members), {r.pid for r in members}, stack)
        for stack, members in groups.items()
    ]
    return sorted(summed, key=lambda group: -group.nr_pages)


def main() -> int:
    """Print the summary."""
    path = Path(sys.argv[1])
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    records = list(parse_records(path.read_text(errors="backslashreplace")))
    later = [record for record in records if not record.early]
    early = sum(record.nr_pages for record in records if record.early)
    groups = group_by_stack(later)
    total = sum(group.nr_pages for group in groups)
    print(f"{total} pages allocated in {len(later)} blocks, from {len(groups)} call stacks")
    print(f"({early} pages more were allocated before tracking began: the pool's own metadata).")
    for group in groups[:number]:
        print(f"\n{group.nr_pages} pages, {group.times} times, {len(group.pids)} processes:")
        for frame in group.stack[:NR_FRAMES]:
            print(f"    {frame}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
