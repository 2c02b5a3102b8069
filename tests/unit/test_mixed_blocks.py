"""Mixed pageblocks: owners whose masks ask for another migratetype than their block's."""

from __future__ import annotations

import mmap
from typing import Final

import pytest

from pageownerfs import _native
from pageownerfs.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_VALUES
from pageownerfs.mm.migratetype import (
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
)
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_EXT_OWNER_FREED,
    PageOwner,
)

BLOCK_PAGES: Final = 512
NR_BLOCKS: Final = 6
END_PFN: Final = NR_BLOCKS * BLOCK_PAGES
GFP_RECLAIMABLE: Final = GFP_KERNEL | GFP_VALUES["__GFP_RECLAIMABLE"]
# One for each block.
BLOCK_TYPES: Final = (
    *(MIGRATE_MOVABLE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE),
    *(MIGRATE_RECLAIMABLE, MIGRATE_CMA, MIGRATE_UNMOVABLE),
)


def owner(gfp_mask: int, block: int, state: int, order: int = 0) -> bytes:
    """Make a record in a block."""
    return PageOwner(
        *(1, 0, gfp_mask, 2, 2, 3, 0, 0, 0, order, -1, state, BLOCK_TYPES[block], b"x")
    ).pack()


class Blocks:
    """A table of blocks, in which the record of a block's first page has its type."""

    def __init__(self) -> None:
        """Start with free pages."""
        self.memory = mmap.mmap(-1, END_PFN * 64)
        scan = mmap.mmap(-1, 64 << 10)
        early = owner(0, 0, PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)
        self.table = _native.KernelTable(self.memory, END_PFN, 9, early, scan, -1)
        for block in range(NR_BLOCKS):
            self.put(block, 0, 0, PAGE_EXT_OWNER_FREED)

    def put(self, block: int, page: int, gfp_mask: int, state: int, order: int = 0) -> None:
        """Write the same record for each page of a block."""
        record = owner(gfp_mask, block, state, order) * (1 << order)
        place = (block * BLOCK_PAGES + page) * 64
        self.memory[place : place + len(record)] = record

    def mixed(self, start_pfn: int = 0, end_pfn: int = END_PFN) -> list[int]:
        """Count mixed blocks."""
        return self.table.mixed_blocks(start_pfn, end_pfn, MIGRATE_CMA)


@pytest.fixture
def blocks() -> Blocks:
    """Return blocks whose pages are free."""
    return Blocks()


def test_own_type_is_not_mixed(blocks: Blocks) -> None:
    """Pages of the block's own type and free pages do not make it mixed."""
    blocks.put(0, 5, GFP_HIGHUSER_MOVABLE, PAGE_EXT_OWNER_ALLOCATED)
    blocks.put(2, 0, GFP_KERNEL, PAGE_EXT_OWNER_ALLOCATED)
    blocks.put(3, 8, GFP_RECLAIMABLE, PAGE_EXT_OWNER_ALLOCATED, order=3)
    blocks.put(1, 9, GFP_KERNEL, PAGE_EXT_OWNER_FREED)
    assert blocks.mixed() == [0] * 8


@pytest.mark.parametrize(
    ("block", "gfp_mask", "counted"),
    [
        (0, GFP_KERNEL, MIGRATE_MOVABLE),
        (1, GFP_RECLAIMABLE, MIGRATE_MOVABLE),
        (2, GFP_HIGHUSER_MOVABLE, MIGRATE_UNMOVABLE),
        (3, GFP_KERNEL, MIGRATE_RECLAIMABLE),
        (4, GFP_HIGHUSER_MOVABLE, MIGRATE_MOVABLE),
    ],
)
def test_one_page_mixes_a_block(blocks: Blocks, block: int, gfp_mask: int, counted: int) -> None:
    """A mixed block counts once, for its type; CMA counts as Movable, as in the kernel."""
    for page in (7, 511):
        blocks.put(block, page, gfp_mask, PAGE_EXT_OWNER_ALLOCATED)
    expected = [0] * 8
    expected[counted] = 1
    assert blocks.mixed() == expected


def test_early_pages_tell_no_type(blocks: Blocks) -> None:
    """The mask of a page of unknown owner is not known, so it mixes nothing."""
    blocks.put(0, 3, 0, PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)
    assert blocks.mixed() == [0] * 8


def test_zones_within_blocks(blocks: Blocks) -> None:
    """A zone that begins or ends within a block counts the part that is in it."""
    blocks.put(5, 100, GFP_HIGHUSER_MOVABLE, PAGE_EXT_OWNER_ALLOCATED)
    start = 5 * BLOCK_PAGES
    assert blocks.mixed(start, start + 100) == [0] * 8
    assert blocks.mixed(start, start + 101)[MIGRATE_UNMOVABLE] == 1
    assert blocks.mixed(0, start) == [0] * 8
    assert blocks.mixed(7, 7) == [0] * 8


def test_off_and_out_of_range(blocks: Blocks) -> None:
    """Nothing is mixed while tracking is off, and PFNs must be the table's."""
    blocks.put(0, 1, GFP_KERNEL, PAGE_EXT_OWNER_ALLOCATED)
    blocks.table.on = False
    assert blocks.mixed() == [0] * 8
    with pytest.raises(ValueError, match="PFNs of this table"):
        blocks.mixed(0, END_PFN + 1)
    with pytest.raises(ValueError, match="PFNs of this table"):
        blocks.mixed(2, 1)
