"""
``pagetypeinfo``: free blocks and pageblocks by migratetype, and how many blocks are mixed.

What /proc/pagetypeinfo says, and the section that it has only on kernels with page_owner (``Number
of mixed blocks``, pagetypeinfo_showmixedcount() of mm/vmstat.c), from the owners' gfp masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import TextFile

if TYPE_CHECKING:
    from .view import Source


class PagetypeinfoView:
    """The file ``pagetypeinfo``; mode 0400."""

    path = "/pagetypeinfo"
    mode = 0o400

    def __init__(self, source: Source) -> None:
        """Show the blocks of ``source``."""
        self._source = source

    def present(self) -> bool:
        """Tell whether tracking is on, and the source knows its free lists by type."""
        return self._source.page_owner_on and self._source.has_pagetypeinfo

    def size(self) -> int:
        """Length of the text now."""
        return len(self._text())

    def open(self) -> TextFile:
        """Open it."""
        return TextFile(self._text)

    def _text(self) -> bytes:
        text, zones = self._source.pagetypeinfo()
        table, names = self._source.table(), self._source.vocabulary.migratetype_names
        cma = names.index("CMA") if "CMA" in names else -1
        # Its own such section, where the kernel has page_owner too, would be the second one.
        kept = text.partition("\nNumber of mixed blocks")[0].rstrip("\n")
        lines = [
            kept,
            "",
            "Number of mixed blocks ".ljust(23) + "".join(f"{n:>12} " for n in names),
        ]
        for zone in zones:
            counts = table.mixed_blocks(zone.start_pfn, zone.end_pfn, cma)[: len(names)]
            numbers = "".join(f"{count:12} " for count in counts)
            lines.append(f"Node {zone.nid}, zone {zone.name:>8} {numbers}")
        return "".join(f"{line}\n" for line in lines).encode()
