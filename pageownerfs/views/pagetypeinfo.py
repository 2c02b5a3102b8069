"""
``pagetypeinfo``: free blocks and pageblocks by migratetype, and mixed pageblocks.

The file has the text of /proc/pagetypeinfo, and the section that the kernel adds only with
page_owner (``Number of mixed blocks``, pagetypeinfo_showmixedcount() of mm/vmstat.c), made from
the gfp masks of the owners.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pageownerfs.mm.vmstat import format_mixed_blocks

from .text import TextView

if TYPE_CHECKING:
    from pageownerfs.sources.base import Source

    from .view import Node

# The kernel prints the whole text for one node after the other.
_NODE_START: Final = re.compile(r"^(?=Page block order:)", re.MULTILINE)
_NODE: Final = re.compile(r"^Node +(\d+),", re.MULTILINE)


def pagetypeinfo(source: Source) -> bytes:
    """Format the text, with the mixed blocks of each node at the end of the node's text."""
    parts = [part for part in _NODE_START.split(source.pagetypeinfo()) if part]
    shown: set[int] = set()
    text = ""
    for number, part in enumerate(parts):
        nids = {int(nid) for nid in _NODE.findall(part)} - shown
        if number == len(parts) - 1:  # nodes that no part names come last
            nids |= {zone.nid for zone in source.zones()} - shown
        shown |= nids
        # A kernel with page_owner has such a section of its own: leave that out.
        kept = part.partition("\nNumber of mixed blocks")[0].rstrip("\n")
        text += f"{kept}\n{_mixed_blocks(source, nids)}"
    return text.encode()


def _mixed_blocks(source: Source, nids: set[int]) -> str:
    table, names = source.table(), source.vocabulary.migratetype_names
    cma = names.index("CMA") if "CMA" in names else -1
    rows = []
    for zone in source.zones():
        if zone.nid in nids:
            # If a zone has no known PFN range, each page's flags show its node and zone.
            by_flags = (zone.nid, zone.flags_zone) if zone.flags_zone >= 0 else ()
            counts = table.mixed_blocks(zone.start_pfn, zone.end_pfn, cma, *by_flags)
            rows.append((zone.nid, zone.name, counts[: len(names)]))
    return format_mixed_blocks(rows, names)


def nodes(source: Source) -> dict[str, Node]:
    """Return the file."""
    return {
        "pagetypeinfo": TextView(source, lambda: pagetypeinfo(source), "owners", "pagetypeinfo")
    }
