"""
``pagetypeinfo``: free blocks and pageblocks by migratetype, and how many blocks are mixed.

What /proc/pagetypeinfo says, and the section that it has only on kernels with page_owner (``Number
of mixed blocks``, pagetypeinfo_showmixedcount() of mm/vmstat.c), from the owners' gfp masks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pageownerfs.mm.vmstat import format_mixed_blocks

from .text import TextView

if TYPE_CHECKING:
    from pageownerfs.sources.base import Source

    from .view import Node

# The kernel prints all of it for one node after the other.
_NODE_START: Final = re.compile(r"^(?=Page block order:)", re.MULTILINE)
_NODE: Final = re.compile(r"^Node +(\d+),", re.MULTILINE)


def pagetypeinfo(source: Source) -> bytes:
    """Make the text; the mixed blocks of each node stand behind what else is said of it."""
    parts = [part for part in _NODE_START.split(source.pagetypeinfo()) if part]
    shown: set[int] = set()
    text = ""
    for number, part in enumerate(parts):
        nids = {int(nid) for nid in _NODE.findall(part)} - shown
        if number == len(parts) - 1:  # and whatever no part has named
            nids |= {zone.nid for zone in source.zones()} - shown
        shown |= nids
        # Its own such section, where the kernel has page_owner too, would be the second one.
        kept = part.partition("\nNumber of mixed blocks")[0].rstrip("\n")
        text += f"{kept}\n{_mixed_blocks(source, nids)}"
    return text.encode()


def _mixed_blocks(source: Source, nids: set[int]) -> str:
    table, names = source.table(), source.vocabulary.migratetype_names
    cma = names.index("CMA") if "CMA" in names else -1
    rows = []
    for zone in source.zones():
        if zone.nid in nids:
            # A zone that no PFN range tells is told by the node and zone of each page's flags.
            by_flags = (zone.nid, zone.flags_zone) if zone.flags_zone >= 0 else ()
            counts = table.mixed_blocks(zone.start_pfn, zone.end_pfn, cma, *by_flags)
            rows.append((zone.nid, zone.name, counts[: len(names)]))
    return format_mixed_blocks(rows, names)


def nodes(source: Source) -> dict[str, Node]:
    """Give the file."""
    return {
        "pagetypeinfo": TextView(source, lambda: pagetypeinfo(source), "owners", "pagetypeinfo")
    }
