"""Zones and their free blocks (``struct zone``, include/linux/mmzone.h), orders, pageblocks."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pageownerfs import _native

PAGE_SIZE: Final = _native.PAGE_SIZE
"""Bytes of a base page."""
MAX_PAGE_ORDER: Final = _native.MAX_PAGE_ORDER
"""The largest order of a block."""
PAGEBLOCK_ORDER: Final = _native.PAGEBLOCK_ORDER
"""Order of a pageblock, whose pages are meant for one migratetype: ``block = pfn >> 9``."""

POOL_ZONE_NAMES: Final = ("DMA", "Normal", "Movable")
"""Zones of a pool, by number."""


class Zone(NamedTuple):
    """
    A range of PFNs with free lists of its own, at one moment; of a pool, a kernel or a dump.

    Numbers of pages are base pages of 4 KiB. The range ``[start_pfn, end_pfn)`` is half-open.
    What is not known is 0, or empty.
    """

    nid: int
    """Node."""
    name: str
    """DMA, DMA32, Normal, HighMem, Movable or Device."""
    start_pfn: int
    """First PFN (``zone_start_pfn``); 0 if the zone is empty."""
    spanned_pages: int
    """Pages from the first to the last, holes included; 0: the zone is empty."""
    present_pages: int = 0
    """Pages that exist: spanned without holes."""
    managed_pages: int = 0
    """Pages that the allocator owns: present without reserved ones."""
    nr_free: int = 0
    """Free pages in blocks on the free lists (``NR_FREE_PAGES``)."""
    nr_pcp: int = 0
    """Free pages on the order-0 lists of clients (the kernel's pcp lists)."""
    wmark_min: int = 0
    """Below this many free pages only urgent allocations succeed."""
    wmark_low: int = 0
    """Below this many free pages the kernel would begin to reclaim."""
    wmark_high: int = 0
    """Above this many free pages it would stop."""
    nr_free_by_type: tuple[tuple[int, ...], ...] = ()
    """Number of free blocks, ``[order][migratetype]``."""
    nr_blocks_by_type: tuple[int, ...] = ()
    """Number of pageblocks, ``[migratetype]``, as in /proc/pagetypeinfo."""
    flags_zone: int = -1
    """Its number in the page flags, where those tell which zone a page is in; -1: the PFN does."""

    @property
    def end_pfn(self) -> int:
        """First PFN after the zone (zone_end_pfn())."""
        return self.start_pfn + self.spanned_pages

    @property
    def free_blocks(self) -> tuple[int, ...]:
        """Number of free blocks of each order, as in a line of /proc/buddyinfo."""
        return tuple(sum(by_type) for by_type in self.nr_free_by_type)


def format_free_blocks(zones: Iterable[Zone]) -> str:
    """
    Show the free blocks of zones in one line, for messages about memory that ran out.

    Follows the buddy lines of show_free_areas() in mm/show_mem.c: ``count*size`` per order, then
    the sum: ``DMA: 0*4kB 2*8kB = 16kB; Normal: 1*4kB 0*8kB = 4kB``, with all orders.

    :param zones: zones to show, in this order
    :return: text without newline, empty without zones
    """
    return "; ".join(f"{zone.name}: {_format_orders(zone.free_blocks)}" for zone in zones)


def _format_orders(free_blocks: tuple[int, ...]) -> str:
    kilobytes = [PAGE_SIZE << order >> 10 for order in range(len(free_blocks))]
    counts = list(zip(free_blocks, kilobytes, strict=True))
    blocks = " ".join(f"{count}*{size}kB" for count, size in counts)
    return f"{blocks} = {sum(count * size for count, size in counts)}kB"
