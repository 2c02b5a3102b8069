"""
Format the files about fragmentation: free blocks by order and migratetype.

Mirrors the printing functions of mm/vmstat.c of Linux 6.12: /proc/buddyinfo, /proc/pagetypeinfo
and, in debugfs, extfrag/extfrag_index and extfrag/unusable_index. A free block of an order has
``1 << order`` base pages. The kernel prints only zones that have pages (populated_zone()); the
caller leaves out the others. Every number is followed by a blank, even the last one of a line.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final

from .zone import Zone

STAT_INTERVAL_NSEC: Final = 1_000_000_000
"""
How long a counter or size is reused if it takes a pass over all pages (vm.stat_interval).

Without this, stat() would cost as much as reading the file.
"""

_BUDDYINFO_LINE: Final = re.compile(r"Node ([0-9]+), zone +(\S+)((?: +[0-9]+)+) *")


ZoneRow = tuple[int, str, Sequence[int]]
"""Node, zone name, and a number for each order or each migratetype."""


def parse_buddyinfo(text: str) -> list[tuple[int, str, tuple[int, ...]]]:
    r"""
    Parse the text of /proc/buddyinfo; the inverse of format_buddyinfo().

    >>> parse_buddyinfo("Node 0, zone   Normal      5      0      2 \n")
    [(0, 'Normal', (5, 0, 2))]

    :param text: a line for each zone
    :return: node, zone name and free blocks by order, for each zone in the order of the text
    :raises ValueError: a line is not from buddyinfo, or has not as many orders as the first one
    """
    zones: list[tuple[int, str, tuple[int, ...]]] = []
    for line in text.splitlines():
        found = _BUDDYINFO_LINE.fullmatch(line)
        if not found:
            raise ValueError(f"buddyinfo: cannot parse the line {line!r}")
        free_blocks = tuple(int(number) for number in found[3].split())
        if zones and len(free_blocks) != len(zones[0][2]):
            orders = len(zones[0][2])
            raise ValueError(f"buddyinfo: expected {orders} orders as in the first line: {line!r}")
        zones.append((int(found[1]), found[2], free_blocks))
    return zones


def format_buddyinfo(zones: Iterable[ZoneRow]) -> str:
    """
    Format free blocks as /proc/buddyinfo does (frag_show_print()).

    :param zones: node, zone name and free blocks by order
    :return: a line for each zone
    """
    return "".join(_zone_line(nid, name, 6, nr_free) for nid, name, nr_free in zones)


def format_pagetypeinfo(
    zones: Sequence[Zone], migratetype_names: Sequence[str], pageblock_order: int
) -> str:
    """
    Format free blocks and pageblocks by migratetype, as /proc/pagetypeinfo does.

    Mirrors pagetypeinfo_show() up to pagetypeinfo_showblockcount(), which prints the whole text
    once for each node. The section of mixed blocks belongs at the end of each node's text: to add
    it, call this function and format_mixed_blocks() for one node after the other.
    The kernel stops counting at 100000 blocks and prints ``>100000``, because it walks the list
    under the zone's lock. Here the number is known, and printed.

    :param zones: in the order of printing, the zones of a node together
    :param migratetype_names: name of each migratetype; every zone has as many numbers
    :param pageblock_order: log2 of the pages of a pageblock
    :return: text up to the section ``Number of blocks type``; empty without zones
    :raises ValueError: a zone has more or fewer migratetypes than there are names
    """
    nodes = (list(node) for _, node in groupby(zones, key=lambda zone: zone.nid))
    return "".join(
        f"Page block order: {pageblock_order}\n"
        f"Pages per block:  {1 << pageblock_order}\n"
        f"\n{_free_section(node, migratetype_names)}\n"
        + _blocks_section(
            "Number of blocks type ",
            ((zone.nid, zone.name, zone.nr_blocks_by_type) for zone in node),
            migratetype_names,
        )
        for node in nodes
    )


def format_mixed_blocks(rows: Iterable[ZoneRow], migratetype_names: Sequence[str]) -> str:
    """
    Format the section that /proc/pagetypeinfo ends with on kernels with page_owner.

    Mirrors pagetypeinfo_showmixedcount(): pageblocks that hold pages of another migratetype.

    :param rows: node, zone name and number of mixed pageblocks by migratetype of the pageblock
    :param migratetype_names: name of each migratetype; every row has as many numbers
    :return: an empty line, the heading, and a line for each zone
    :raises ValueError: a row has more or fewer migratetypes than there are names
    """
    return "\n" + _blocks_section("Number of mixed blocks ", rows, migratetype_names)


def fragmentation_index(order: int, nr_free: Sequence[int]) -> int:
    """
    Return why an allocation would fail: too little memory (near 0) or fragmentation (near 1000).

    Mirrors __fragmentation_index(). The result can also be negative if a zone's only free block is
    too small: with one free page, order 1 gives -500.

    >>> fragmentation_index(1, [1000, 0])
    499
    >>> fragmentation_index(1, [1000, 1])
    -1000

    :param order: order of the allocation, ``[0, len(nr_free))``
    :param nr_free: free blocks of the zone by order
    :return: thousandths; 0 if nothing is free, -1000 if the allocation would succeed
    """
    free_pages, free_blocks_total, suitable_pages = _contig_page_info(order, nr_free)
    if not free_blocks_total:
        return 0
    if suitable_pages:
        return -1000
    return 1000 - (1000 + free_pages * 1000 // (1 << order)) // free_blocks_total


def unusable_free_index(order: int, nr_free: Sequence[int]) -> int:
    """
    Return the part of the free memory that lies in blocks too small for an allocation.

    Mirrors unusable_free_index(). The result is 1000 if nothing is free.

    >>> unusable_free_index(1, [2, 3])
    250

    :param order: order of the allocation, ``[0, len(nr_free))``
    :param nr_free: free blocks of the zone by order
    :return: thousandths, ``[0, 1000]``
    """
    free_pages, _, suitable_pages = _contig_page_info(order, nr_free)
    if not free_pages:
        return 1000
    return (free_pages - suitable_pages) * 1000 // free_pages


def format_extfrag_index(zones: Iterable[ZoneRow]) -> str:
    """
    Format fragmentation indexes as extfrag/extfrag_index does (extfrag_show_print()).

    :param zones: node, zone name and free blocks by order
    :return: a line for each zone, with the fragmentation_index() of each order
    """
    return _format_indexes(zones, fragmentation_index, 2)


def format_unusable_index(zones: Iterable[ZoneRow]) -> str:
    """
    Format unusable free memory as extfrag/unusable_index does (unusable_show_print()).

    :param zones: node, zone name and free blocks by order
    :return: a line for each zone, with the unusable_free_index() of each order
    """
    return _format_indexes(zones, unusable_free_index, 1)


def _format_indexes(
    zones: Iterable[ZoneRow],
    index: Callable[[int, Sequence[int]], int],
    width: int,
) -> str:
    return "".join(
        f"Node {nid}, zone {name:>8} "
        + "".join(_thousandths(index(order, nr_free), width) for order in range(len(nr_free)))
        + "\n"
        for nid, name, nr_free in zones
    )


def _contig_page_info(order: int, nr_free: Sequence[int]) -> tuple[int, int, int]:
    """Return free pages, free blocks, and free pages in blocks of this order or larger.

    Mirrors fill_contig_page_info().
    """
    pages = [blocks << index for index, blocks in enumerate(nr_free)]
    return sum(pages), sum(nr_free), sum(pages[order:])


def _thousandths(index: int, width: int) -> str:
    # C's division truncates, and both parts get the sign; Python's rounds down.
    sign = -1 if index < 0 else 1
    whole, rest = divmod(abs(index), 1000)
    return f"{sign * whole:{width}}.{sign * rest:03} "


def _zone_line(nid: int, name: str, width: int, numbers: Sequence[int]) -> str:
    return f"Node {nid}, zone {name:>8} " + "".join(f"{n:{width}} " for n in numbers) + "\n"


def _free_section(node: Sequence[Zone], migratetype_names: Sequence[str]) -> str:
    """Format free blocks by migratetype, a line for each: pagetypeinfo_showfree()."""
    title = "Free pages count per migrate type at order".ljust(43)
    lines = [title + " " + "".join(f"{order:6} " for order in range(len(node[0].nr_free_by_type)))]
    for zone in node:
        by_type = zip(*zone.nr_free_by_type, strict=True)
        lines += (
            f"Node {zone.nid:4}, zone {zone.name:>8}, type {migratetype:>12} "
            + "".join(f"{blocks:6} " for blocks in by_order)
            for migratetype, by_order in zip(migratetype_names, by_type, strict=True)
        )
    return "".join(f"{line}\n" for line in lines)


def _blocks_section(title: str, rows: Iterable[ZoneRow], migratetype_names: Sequence[str]) -> str:
    """Format a title and a line per zone: pagetypeinfo_showblockcount(), _showmixedcount()."""
    lines = [title.ljust(23) + "".join(f"{name:>12} " for name in migratetype_names) + "\n"]
    for nid, name, blocks in rows:
        if len(blocks) != len(migratetype_names):
            types = len(migratetype_names)
            raise ValueError(f"zone {name}: {len(blocks)} migratetypes, but {types} names")
        lines.append(_zone_line(nid, name, 12, blocks))
    return "".join(lines)
