"""Pageblocks and their types: which type may take from which, and the reserves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.gfp import GFP_ATOMIC, GFP_KERNEL
from pageownerfs.mm.migratetype import (
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs import _native
    from pageownerfs.client import Pool

pytestmark = pytest.mark.require("shm")

NORMAL = 1
NORMAL_START_PFN = 4096
MASKS = {
    MIGRATE_UNMOVABLE: GFP_KERNEL,
    MIGRATE_MOVABLE: GFP_KERNEL | gfp.__GFP_MOVABLE,
    MIGRATE_RECLAIMABLE: GFP_KERNEL | gfp.__GFP_RECLAIMABLE,
}
MEMALLOC = gfp.__GFP_MEMALLOC  # no watermarks: this mask can take everything


def drain(pool: Pool, order: int, gfp_mask: int) -> list[_native.Page]:
    """Allocate blocks of an order until there are none."""
    pages = []
    try:
        while True:
            pages.append(pool.alloc_pages(order, gfp_mask))
    except OutOfMemoryError:
        return pages


def drain_all(pool: Pool, gfp_mask: int) -> list[_native.Page]:
    """Allocate everything that a mask can have, large blocks first."""
    return [page for order in range(10, -1, -1) for page in drain(pool, order, gfp_mask)]


def nr_blocks(pool: Pool, zone: int = NORMAL) -> tuple[int, ...]:
    """Count the pageblocks of a zone by type."""
    return pool.zones[zone].nr_blocks_by_type


def nr_free(pool: Pool, migratetype: int, zone: int = NORMAL) -> int:
    """Count the free pages of a zone on the lists of a type."""
    rows = pool.zones[zone].nr_free_by_type
    return sum(row[migratetype] << order for order, row in enumerate(rows))


def test_all_blocks_begin_movable(make_pool: Callable[..., Pool]) -> None:
    """In a new pool every pageblock is Movable, except those of CMA."""
    pool = make_pool(64, 8, 4)
    counts = [zone.nr_blocks_by_type for zone in pool.zones]
    assert [count[MIGRATE_CMA] for count in counts] == [0, 2, 0]
    assert all(sum(count) == count[MIGRATE_MOVABLE] + count[MIGRATE_CMA] for count in counts)


def test_tiny_pool_does_not_group(make_pool: Callable[..., Pool]) -> None:
    """Below six pageblocks there is no grouping by mobility: every pageblock is Unmovable."""
    pool = make_pool(8)
    pages = drain_all(pool, MASKS[MIGRATE_MOVABLE])
    count = pool.zones[0].nr_blocks_by_type
    assert sum(count) == count[MIGRATE_UNMOVABLE] > 0
    assert len(pages) > 1


@pytest.mark.parametrize("migratetype", [MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE])
def test_steals_largest_block(make_pool: Callable[..., Pool], migratetype: int) -> None:
    """One page of a new type takes the largest Movable block, and both its pageblocks change."""
    pool = make_pool(64)
    before = nr_blocks(pool)
    page = pool.alloc_pages(0, MASKS[migratetype])
    after = nr_blocks(pool)
    assert after[migratetype] == 2
    assert after[MIGRATE_MOVABLE] == before[MIGRATE_MOVABLE] - 2
    assert pool.page_info(page.pfn).migratetype == migratetype
    pool.drain_local_pages()
    assert nr_free(pool, migratetype) == 1023
    more = [pool.alloc_pages(0, MASKS[migratetype]) for _ in range(900)]
    assert nr_blocks(pool) == after
    assert {one.pfn >> 10 for one in more} == {page.pfn >> 10}


def full_of_blocks(pool: Pool) -> dict[int, list[_native.Page]]:
    """Allocate everything, with at least two blocks of order 10 in zone Normal for each type."""
    blocks = {
        migratetype: [pool.alloc_pages(10, gfp_mask | MEMALLOC) for _ in range(2)]
        for migratetype, gfp_mask in MASKS.items()
    }
    drain_all(pool, MASKS[MIGRATE_MOVABLE] | MEMALLOC)
    pool.drain_local_pages()
    assert sum(zone.nr_free for zone in pool.zones) == 0
    for migratetype, pages in blocks.items():
        for page in pages:
            assert page.pfn >= NORMAL_START_PFN
            assert pool.page_info(page.pfn).migratetype == migratetype
    return blocks


@pytest.mark.parametrize(
    ("wanted", "free", "stolen"),
    [
        (MIGRATE_UNMOVABLE, {MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE}, MIGRATE_RECLAIMABLE),
        (MIGRATE_UNMOVABLE, {MIGRATE_MOVABLE}, MIGRATE_MOVABLE),
        (MIGRATE_MOVABLE, {MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE}, MIGRATE_RECLAIMABLE),
        (MIGRATE_MOVABLE, {MIGRATE_UNMOVABLE}, MIGRATE_UNMOVABLE),
        (MIGRATE_RECLAIMABLE, {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE}, MIGRATE_UNMOVABLE),
        (MIGRATE_RECLAIMABLE, {MIGRATE_MOVABLE}, MIGRATE_MOVABLE),
    ],
)
@pytest.mark.parametrize("order", [0, 5, 9])
def test_fallback_order(
    make_pool: Callable[..., Pool], wanted: int, free: set[int], stolen: int, order: int
) -> None:
    """Among equal blocks the kernel's fallback order decides, and the whole block changes type."""
    pool = make_pool(64)
    blocks = full_of_blocks(pool)
    for migratetype in free:
        for page in blocks[migratetype]:
            pool.free_pages(page)
    before = nr_blocks(pool)
    page = pool.alloc_pages(order, MASKS[wanted])
    after = nr_blocks(pool)
    assert page.pfn & ~1023 in {block.pfn for block in blocks[stolen]}
    assert pool.page_info(page.pfn).migratetype == wanted
    assert after[stolen] == before[stolen] - 2
    assert after[wanted] == before[wanted] + 2
    assert pool.check() == []


def movable_pageblock(pool: Pool, nr_free_pages: int) -> range:
    """Fill a pool except the first pages, kept single, of a Movable pageblock; return its PFNs."""
    blocks = full_of_blocks(pool)
    parts = pool.split_page(blocks[MIGRATE_MOVABLE][0], 0)
    for part in parts[:nr_free_pages]:
        pool.free_pages(part)
    pool.drain_local_pages()
    assert nr_free(pool, MIGRATE_MOVABLE) == nr_free_pages
    return range(parts[0].pfn, parts[0].pfn + 512)


@pytest.mark.parametrize(
    ("nr_free_pages", "converts"), [(64, False), (255, False), (256, True), (400, True)]
)
@pytest.mark.parametrize("wanted", [MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE])
def test_pageblock_changes_with_most_of_it(
    make_pool: Callable[..., Pool], nr_free_pages: int, converts: bool, wanted: int
) -> None:
    """All free pages of a pageblock change type, and the pageblock does if half of it changes."""
    pool = make_pool(64)
    pfns = movable_pageblock(pool, nr_free_pages)
    page = pool.alloc_pages(0, MASKS[wanted] | MEMALLOC)
    assert page.pfn in pfns
    assert pool.page_info(page.pfn).migratetype == (wanted if converts else MIGRATE_MOVABLE)
    assert nr_free(pool, MIGRATE_MOVABLE) == 0
    assert pool.check() == []


def test_movable_takes_little(make_pool: Callable[..., Pool]) -> None:
    """A movable page takes a small block of another type and leaves the rest of the pageblock."""
    pool = make_pool(64)
    blocks = full_of_blocks(pool)
    parts = pool.split_page(blocks[MIGRATE_UNMOVABLE][0], 3)
    for part in parts[:30:2]:
        pool.free_pages(part)
    single = pool.split_page(parts[40], 0)[5]
    pool.free_pages(single)
    pool.drain_local_pages()
    before = nr_blocks(pool)
    page = pool.alloc_pages(0, MASKS[MIGRATE_MOVABLE] | MEMALLOC)
    assert page.pfn == single.pfn, "not the smallest block"
    assert nr_blocks(pool) == before
    assert pool.page_info(page.pfn).migratetype == MIGRATE_UNMOVABLE
    assert pool.check() == []


def test_freed_page_goes_to_its_pageblock(make_pool: Callable[..., Pool]) -> None:
    """A freed block goes to the lists of its pageblock's type, whatever its mask was."""
    pool = make_pool(64)
    movable_pageblock(pool, 64)
    pages = [pool.alloc_pages(0, GFP_KERNEL | MEMALLOC) for _ in range(64)]
    for page in pages:
        pool.free_pages(page)
    pool.drain_local_pages()
    assert nr_free(pool, MIGRATE_MOVABLE) == 64
    assert nr_free(pool, MIGRATE_UNMOVABLE) == 0


def test_cma_is_for_movable_pages(make_pool: Callable[..., Pool]) -> None:
    """Only movable pages go into CMA pageblocks, which do not change type."""
    pool = make_pool(64, 0, 8)
    cma = nr_free(pool, MIGRATE_CMA)
    assert cma == 4 * 512
    others = [
        drain_all(pool, MASKS[kind] | MEMALLOC)
        for kind in (MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE)
    ]
    assert sum(len(pages) for pages in others) > 0
    assert nr_free(pool, MIGRATE_CMA) == cma
    movable = drain_all(pool, MASKS[MIGRATE_MOVABLE] | MEMALLOC)
    assert sum(1 << page.order for page in movable) == cma
    assert {pool.page_info(page.pfn).migratetype for page in movable} == {MIGRATE_CMA}
    assert nr_blocks(pool)[MIGRATE_CMA] == 4
    for page in movable:
        pool.free_pages(page)
    pool.drain_local_pages()
    assert nr_free(pool, MIGRATE_CMA) == cma


def test_cma_is_used_first_when_it_is_most_of_what_is_free(make_pool: Callable[..., Pool]) -> None:
    """Movable pages go to CMA once it has more than half of the free pages."""
    pool = make_pool(64, 0, 16)
    drain_all(pool, GFP_KERNEL)
    pool.drain_local_pages()
    page = pool.alloc_pages(0, MASKS[MIGRATE_MOVABLE])
    assert pool.page_info(page.pfn).migratetype == MIGRATE_CMA


def test_highatomic_reserve(make_pool: Callable[..., Pool]) -> None:
    """A high-order atomic allocation under pressure reserves a block; more pressure frees it."""
    pool = make_pool(256)
    drain_all(pool, GFP_KERNEL)
    assert nr_blocks(pool)[MIGRATE_HIGHATOMIC] == 0
    with pytest.raises(OutOfMemoryError):
        pool.alloc_pages(1, GFP_KERNEL)
    page = pool.alloc_pages(1, GFP_ATOMIC)
    assert nr_blocks(pool)[MIGRATE_HIGHATOMIC] == 1
    assert pool.page_info(page.pfn).migratetype == MIGRATE_HIGHATOMIC
    assert nr_free(pool, MIGRATE_HIGHATOMIC) > 0
    more = pool.alloc_pages(1, GFP_ATOMIC)
    assert pool.page_info(more.pfn).migratetype == MIGRATE_HIGHATOMIC
    assert pool.check() == []
    with pytest.raises(OutOfMemoryError):
        pool.alloc_pages(0, GFP_KERNEL)
    assert nr_blocks(pool)[MIGRATE_HIGHATOMIC] == 0
    assert nr_free(pool, MIGRATE_HIGHATOMIC) == 0


def test_no_highatomic_reserve_in_a_small_pool(make_pool: Callable[..., Pool]) -> None:
    """If one percent of the zone is less than a pageblock, nothing is reserved."""
    pool = make_pool(64)
    drain_all(pool, GFP_KERNEL)
    pool.alloc_pages(1, GFP_ATOMIC)
    assert nr_blocks(pool)[MIGRATE_HIGHATOMIC] == 0


def test_atomic_goes_below_the_min_watermark(make_pool: Callable[..., Pool]) -> None:
    """GFP_KERNEL stops at the min watermark, GFP_ATOMIC at 3/8 of it, MEMALLOC at nothing."""
    pool = make_pool(64)
    drain_all(pool, GFP_KERNEL)
    wmark_min = pool.zones[NORMAL].wmark_min
    assert wmark_min - pool.zones[NORMAL].nr_free in range(64)
    urgent = drain(pool, 0, GFP_ATOMIC)
    assert len(urgent) > wmark_min // 2
    assert (
        pool.zones[NORMAL].nr_free
        == wmark_min - wmark_min // 2 - (wmark_min - wmark_min // 2) // 4
    )
    with pytest.raises(OutOfMemoryError):
        pool.alloc_pages(0, GFP_KERNEL)
    drain(pool, 0, GFP_KERNEL | MEMALLOC)
    assert sum(zone.nr_free + zone.nr_pcp for zone in pool.zones) == 0


def test_dma_keeps_a_reserve(make_pool: Callable[..., Pool]) -> None:
    """Masks that could use Normal leave 1/256 of Normal's pages in DMA for those that cannot."""
    pool = make_pool(256)
    drain_all(pool, GFP_KERNEL)
    dma, normal = pool.zones
    reserve = normal.managed_pages // 256
    assert reserve + dma.wmark_min - dma.nr_free in range(64)
    pages = drain(pool, 0, GFP_KERNEL | gfp.GFP_DMA)
    assert len(pages) >= reserve - 64
    assert all(page.pfn < NORMAL_START_PFN for page in pages)
    assert pool.zones[0].nr_free <= dma.wmark_min
