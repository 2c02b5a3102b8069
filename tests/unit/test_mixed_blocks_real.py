"""Mixed blocks of a real kernel: three that it counted, and their records."""

from __future__ import annotations

import os

from data import DATA

from pageownerfs.sources.dump import DumpOptions, DumpSource
from pageownerfs.views.pagetypeinfo import pagetypeinfo

DUMP = DATA / "mixed_blocks.txt.xz"
# /proc/pagetypeinfo of that kernel, before and after its page_owner was read.
MIGRATETYPES = ["Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate"]
ROWS = [["0", "DMA", *"000000"], ["0", "DMA32", *"111000"]]


def test_section() -> None:
    """The section equals the kernel's: one block of each type is mixed."""
    text = pagetypeinfo(DumpSource(DumpOptions(path=os.fspath(DUMP)))).decode()
    order, pages, empty, headings, *rows = text.splitlines()
    assert (order, pages, empty) == ("Page block order: 9", "Pages per block:  512", "")
    assert headings == "Number of mixed blocks " + "".join(f"{n:>12} " for n in MIGRATETYPES)
    found = [row.replace(",", "").split() for row in rows]
    assert [[row[1], *row[3:]] for row in found] == ROWS
