"""Zones and their free blocks (``struct zone``, include/linux/mmzone.h); sizes of blocks."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pageownerfs import _native

PAGE_SIZE: Final = _native.PAGE_SIZE
"""Bytes of a base page."""
MAX_PAGE_ORDER: Final = _native.MAX_PAGE_ORDER
"""Largest order of a block."""
PAGEBLOCK_ORDER: Final = _native.PAGEBLOCK_ORDER
"""Order of a pageblock, a range of pages meant for one migratetype: ``block = pfn >> 9``."""

POOL_ZONE_NAMES: Final = ("DMA", "Normal", "Movable")
"""Names of a pool's zones, by number."""


class Zone(NamedTuple):
    """
    State of a zone at one moment: a range of PFNs with its own free lists.

    Numbers of pages count base pages of 4 KiB. The range ``[start_pfn, end_pfn)`` is half-open.
    Values that the source does not know are 0 or empty.
    """

    nid: int
    """Node number."""
    name: str
    """DMA, DMA32, Normal, HighMem, Movable or Device."""
    start_pfn: int
    """First PFN (``zone_start_pfn``); 0 if the zone is empty."""
    spanned_pages: int
    """Pages from the first to the last, holes included; 0 if the zone is empty."""
    present_pages: int = 0
    """Pages that exist: spanned pages without holes."""
    managed_pages: int = 0
    """Pages that the allocator manages: present pages without reserved ones."""
    nr_free: int = 0
    """Free pages in blocks on the free lists (``NR_FREE_PAGES``)."""
    nr_pcp: int = 0
    """Free pages on the order-0 lists of clients (the kernel's pcp lists)."""
    wmark_min: int = 0
    """Minimum watermark: with fewer free pages, only urgent allocations succeed."""
    wmark_low: int = 0
    """Low watermark: with fewer free pages, the kernel would begin to reclaim."""
    wmark_high: int = 0
    """High watermark: with more free pages, the kernel would stop reclaiming."""
    nr_free_by_type: tuple[tuple[int, ...], ...] = ()
    """Number of free blocks, ``[order][migratetype]``."""
    nr_blocks_by_type: tuple[int, ...] = ()
    """Number of pageblocks, ``[migratetype]``, as in /proc/pagetypeinfo."""
    flags_zone: int = -1
    """Zone number in the page flags, if they show a page's zone; -1 if the PFN shows it."""

    @property
    def end_pfn(self) -> int:
        """First PFN behind the zone (zone_end_pfn())."""
        return self.start_pfn + self.spanned_pages

    @property
    def free_blocks(self) -> tuple[int, ...]:
        """Number of free blocks of each order, as in a line of /proc/buddyinfo."""
        return tuple(sum(by_type) for by_type in self.nr_free_by_type)


def format_free_blocks(zones: Iterable[Zone]) -> str:
    """
    Format the free blocks of zones as one line, for out-of-memory messages.

    Follows the buddy lines of show_free_areas() in mm/show_mem.c: ``count*size`` for each order,
    then the sum: ``DMA: 0*4kB 2*8kB = 16kB; Normal: 1*4kB 0*8kB = 4kB`` (with all orders).

    :param zones: zones to show, in this order
    :return: text without newline; empty without zones
    """
    return "; ".join(f"{zone.name}: {_format_orders(zone.free_blocks)}" for zone in zones)


def _format_orders(free_blocks: tuple[int, ...]) -> str:
    kilobytes = [PAGE_SIZE << order >> 10 for order in range(len(free_blocks))]
    counts = list(zip(free_blocks, kilobytes, strict=True))
    blocks = " ".join(f"{count}*{size}kB" for count, size in counts)
    return f"{blocks} = {sum(count * size for count, size in counts)}kB"
