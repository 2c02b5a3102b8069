"""Wrong use of the allocator gives a clear error and leaves the pool unchanged."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.errors import BadPageError, OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.gfp import GFP_KERNEL
from pageownerfs.mm.zone import format_free_blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pageownerfs.client import Pool

    Unchanged = Callable[[Pool], AbstractContextManager[None]]

pytestmark = pytest.mark.require("shm")

HUGE = [-1, -(1 << 40), 1 << 32, 1 << 64, 1 << 200]


def test_double_free(tracked: Pool, unchanged: Unchanged) -> None:
    """A free page cannot be freed again, and the message says who freed it."""
    for order in (0, 4):
        page = tracked.alloc_pages(order)
        tracked.free_pages(page)
        with unchanged(tracked):
            for again in (page, page.pfn):
                with pytest.raises(
                    BadPageError, match=f"^PFN {page.pfn:#x} is not allocated"
                ) as caught:
                    tracked.free_pages(again)
                assert caught.value.pfn == page.pfn
                assert "last freed by pid" in str(caught.value)
            for use in (tracked.get_page, tracked.put_page, tracked.page):
                with pytest.raises(BadPageError):
                    use(page.pfn)
            with pytest.raises(BadPageError):
                tracked.split_page(page)
        assert tracked.page_count(page.pfn) == 0


def test_never_allocated(pool: Pool, unchanged: Unchanged) -> None:
    """A page that was never allocated cannot be used."""
    with unchanged(pool):
        for pfn in (1, 0x400, 0x401, pool.nr_pages // 2):
            for use in (pool.free_pages, pool.get_page, pool.put_page, pool.page):
                with pytest.raises(BadPageError, match=f"PFN {pfn:#x} is not allocated: it never"):
                    use(pfn)


def test_outside(pool: Pool, unchanged: Unchanged) -> None:
    """PFN 0, other metadata and PFNs beyond the end do not belong to the allocator."""
    reserved = [pfn for pfn in range(pool.nr_pages) if pool.page_info(pfn).state == "reserved"]
    outside = [pool.nr_pages, pool.nr_pages + 1, 1 << 30, (1 << 32) - 1]
    assert reserved[0] == 0
    with unchanged(pool):
        for pfn in (*reserved[:3], reserved[-1], *outside):
            for use in (pool.free_pages, pool.get_page, pool.put_page, pool.page):
                with pytest.raises(
                    BadPageError, match=f"PFN {pfn:#x} is not an allocatable page"
                ) as caught:
                    use(pfn)
                assert ("PFNs of this pool are [0," in str(caught.value)) == (pfn in outside)


@pytest.mark.parametrize("value", HUGE)
def test_no_pfn(pool: Pool, unchanged: Unchanged, value: int) -> None:
    """A number that cannot be a PFN is a ValueError that repeats it."""
    uses: list[Callable[[Any], Any]] = [
        *(pool.free_pages, pool.get_page, pool.put_page, pool.page, pool.page_count)
    ]
    with unchanged(pool):
        for use in uses:
            with pytest.raises(ValueError, match=f"PFN {value}"):
                use(value)


@pytest.mark.parametrize("value", HUGE)
def test_page_info_of_no_pfn(pool: Pool, value: int) -> None:
    """page_info() of a number that cannot be a PFN is a ValueError."""
    with pytest.raises(ValueError, match="PFN"):
        pool.page_info(value)


@pytest.mark.parametrize("value", ["1", 1.0, None, b"1"])
def test_no_number(pool: Pool, unchanged: Unchanged, value: Any) -> None:
    """An argument that is neither a page nor a number is a TypeError."""
    with unchanged(pool):
        for use in (pool.free_pages, pool.get_page, pool.put_page, pool.page, pool.alloc_pages):
            with pytest.raises(TypeError):
                use(value)


def test_tail_page(pool: Pool, unchanged: Unchanged) -> None:
    """A tail page cannot be freed alone, and the message names the head."""
    page = pool.alloc_pages(4)
    with unchanged(pool):
        for nr in (1, 7, 8, 15):
            with pytest.raises(BadPageError, match=f"its head is PFN {page.pfn:#x}"):
                pool.free_pages(page.pfn + nr)
    pool.free_pages(page)


def test_wrong_order(pool: Pool, unchanged: Unchanged) -> None:
    """An order that is not the block's is refused, and the message names both."""
    for order in (0, 3, 10):
        page = pool.alloc_pages(order)
        with unchanged(pool):
            for wrong in {0, 1, 2, 3, 4, 9, 10} - {order}:
                for what in (page, page.pfn):
                    with pytest.raises(
                        BadPageError, match="allocated with another order"
                    ) as caught:
                        pool.free_pages(what, wrong)
                    assert f"its order is {order}, not {wrong}" in str(caught.value)
            for wrong in (11, 200, (1 << 32) - 1, *HUGE):
                with pytest.raises(ValueError, match=f"order {wrong}"):
                    pool.free_pages(page, wrong)
        pool.free_pages(page, order=order)


def test_another_order_meanwhile(pool: Pool, unchanged: Unchanged) -> None:
    """A Page object frees nothing if its block has been reallocated with another order."""
    page = pool.alloc_pages(2)
    pool.free_pages(page.pfn)
    other = pool.alloc_pages(3)
    assert other.pfn == page.pfn
    with unchanged(pool), pytest.raises(BadPageError, match="order"):
        pool.free_pages(page)
    with unchanged(pool), pytest.raises(BadPageError, match="order"):
        memoryview(page)
    pool.free_pages(other)


def test_split_refused(pool: Pool, unchanged: Unchanged) -> None:
    """Compound and shared blocks cannot be split, and no block can be split into larger ones."""
    compound = pool.alloc_pages(3, GFP_KERNEL | gfp.__GFP_COMP)
    with unchanged(pool), pytest.raises(BadPageError, match="compound"):
        pool.split_page(compound)
    pool.free_pages(compound)
    shared = pool.alloc_pages(3)
    pool.get_page(shared)
    with unchanged(pool), pytest.raises(BadPageError, match="reference count is 2"):
        pool.split_page(shared)
    pool.put_page(shared)
    assert pool.split_page(shared, 3) == [shared]
    pool.free_pages(shared)


@pytest.mark.parametrize("value", [4, 11, 64, 200, (1 << 32) - 1, *HUGE])
def test_split_into_no_order(pool: Pool, unchanged: Unchanged, value: int) -> None:
    """The order of the parts ranges from 0 to that of the block."""
    page = pool.alloc_pages(3)
    with unchanged(pool), pytest.raises((ValueError, OverflowError)):
        pool.split_page(page, value)


def test_refused_masks(pool: Pool, unchanged: Unchanged) -> None:
    """__GFP_NOFAIL and contradictory masks are refused with an explanation."""
    both = gfp.__GFP_MOVABLE | gfp.__GFP_RECLAIMABLE
    zones = gfp.__GFP_DMA | gfp.__GFP_DMA32
    refused = {
        GFP_KERNEL | gfp.__GFP_NOFAIL: "__GFP_NOFAIL is refused",
        GFP_KERNEL | both: "contradicts itself",
        GFP_KERNEL | zones: "contradicts itself",
        GFP_KERNEL | gfp.__GFP_DMA | gfp.__GFP_HIGHMEM: "contradicts itself",
        GFP_KERNEL | gfp.__GFP_DMA32 | gfp.__GFP_HIGHMEM | gfp.__GFP_MOVABLE: "contradicts itself",
    }
    for gfp_mask, message in refused.items():
        with unchanged(pool), pytest.raises(ValueError, match=message) as caught:
            pool.alloc_pages(0, gfp_mask)
        assert f"gfp_mask {gfp_mask:#x}" in str(caught.value)


@pytest.mark.parametrize("value", [11, 12, 64, 255, 256, (1 << 32) - 1, *HUGE])
def test_no_order(pool: Pool, unchanged: Unchanged, value: int) -> None:
    """Orders range from 0 to 10."""
    with unchanged(pool), pytest.raises(ValueError, match=f"order {value}"):
        pool.alloc_pages(value)


@pytest.mark.parametrize("value", HUGE)
def test_no_mask(pool: Pool, unchanged: Unchanged, value: int) -> None:
    """A mask has 32 bits."""
    with unchanged(pool), pytest.raises(ValueError, match=f"gfp_mask {value}"):
        pool.alloc_pages(0, value)


def test_unknown_arguments(pool: Pool, unchanged: Unchanged) -> None:
    """Misspelt, repeated, missing and surplus arguments are TypeErrors."""
    call: Any = pool
    with unchanged(pool):
        for wrong in (
            lambda: call.alloc_pages(ordre=1),
            lambda: call.alloc_pages(0, order=1),
            lambda: call.alloc_pages(0, GFP_KERNEL, 3),
            call.free_pages,
            lambda: call.free_pages(1, 2, 3),
            lambda: call.split_page(1),
        ):
            with pytest.raises(TypeError):
                wrong()


def test_closed_pool(pool: Pool) -> None:
    """After close() every method raises ValueError, except close(), which does nothing."""
    page = pool.alloc_pages()
    pool.close()
    pool.close()
    assert pool.closed
    for use in (
        pool.alloc_pages,
        lambda: pool.free_pages(page),
        lambda: pool.page(page.pfn),
        lambda: pool.get_page(page),
        lambda: pool.put_page(page),
        lambda: pool.page_count(page),
        lambda: pool.split_page(page),
        lambda: page.buffer,
        pool.drain_local_pages,
        pool.all_zones,
        pool._client_info,
        lambda: pool.page_info(1),
        pool.stats,
        pool.check,
        pool.capture_stack,
        lambda: pool.depot_stack(1),
        lambda: pool.enable_page_owner(lambda: 1, lambda: 1),
        pool.recover_clients,
        pool.report_free_pages,
        pool.table,
        lambda: pool.managed_pages,
        lambda: pool.page_owner_on,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_page_of_another_pool(make_pool: Callable[..., Pool], unchanged: Unchanged) -> None:
    """Only a page's own pool frees it."""
    one, other = make_pool(), make_pool()
    page = one.alloc_pages()
    with unchanged(other), unchanged(one), pytest.raises(ValueError, match="another pool"):
        other.free_pages(page)
    one.free_pages(page)


def test_buffer_after_free(pool: Pool, unchanged: Unchanged) -> None:
    """Every use of a freed page's buffer raises."""
    page = pool.alloc_pages(1)
    buffer = page.buffer
    buffer[0] = 1
    pool.free_pages(page)
    with unchanged(pool):
        for use in (
            lambda: buffer[0],
            lambda: buffer.__setitem__(0, 1),
            lambda: bytes(buffer),
            lambda: page.buffer,
            lambda: memoryview(page),
        ):
            with pytest.raises(ValueError, match=r"released|freed"):
                use()


def test_buffer_of_page_freed_elsewhere(pool: Pool, unchanged: Unchanged) -> None:
    """A page that was freed by PFN has no new buffer."""
    page = pool.alloc_pages(1)
    pool.free_pages(page.pfn)
    with unchanged(pool), pytest.raises(BadPageError, match="is not allocated"):
        _ = page.buffer


def test_slice_in_use(pool: Pool, unchanged: Unchanged) -> None:
    """While a slice of the buffer is in use, the page stays allocated; later it can be freed."""
    page = pool.alloc_pages(1)
    part = page.buffer[10:20]
    part[:] = b"0123456789"
    with unchanged(pool):
        for refused in (pool.free_pages, pool.put_page, pool.split_page):
            with pytest.raises(BufferError, match=r"in use|exported"):
                refused(page)
        assert bytes(part) == b"0123456789"
        assert pool.page_info(page.pfn).state == "allocated"
        assert bytes(page.buffer[10:20]) == b"0123456789"
    part.release()
    pool.free_pages(page)
    assert pool.page_count(page.pfn) == 0


def test_buffer_outlives_close(pool: Pool) -> None:
    """A buffer in use keeps the memory mapped after close()."""
    page = pool.alloc_pages()
    buffer = page.buffer
    buffer[:4] = b"here"
    pool.close()
    assert bytes(buffer[:4]) == b"here"
    del buffer, page


def test_references(pool: Pool, unchanged: Unchanged) -> None:
    """No more references can be dropped than were taken, and the count cannot overflow."""
    page = pool.alloc_pages()
    for _ in range(100):
        pool.get_page(page)
    assert pool.page_count(page) == 101
    for _ in range(101):
        pool.put_page(page)
    with unchanged(pool), pytest.raises(BadPageError):
        pool.put_page(page)


@pytest.mark.parametrize("order", [0, 3, 10])
def test_out_of_memory(pool: Pool, unchanged: Unchanged, order: int) -> None:
    """OutOfMemoryError names the order, the decoded mask, and free blocks by order and zone."""
    pages = []
    gfp_mask = GFP_KERNEL | gfp.__GFP_ZERO
    with contextlib.suppress(OutOfMemoryError):
        while True:
            pages.append(pool.alloc_pages(order, GFP_KERNEL))
    with unchanged(pool), pytest.raises(OutOfMemoryError) as caught:
        pool.alloc_pages(order, gfp_mask)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert (error.order, error.gfp_mask) == (order, gfp_mask)
    assert error.free == pool.free_pages_by_order()
    text = str(error)
    assert f"order:{order}," in text
    assert "mode:0xdc0(GFP_KERNEL|__GFP_ZERO)" in text
    assert format_free_blocks(pool.zones) in text
    assert "\n" not in text
    for page in pages:
        pool.free_pages(page)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((1 << 16, 0, 0, 16, 1 << 20), id="too small"),
        pytest.param((1 << 62, 0, 0, 16, 1 << 20), id="too large"),
        pytest.param((-1, 0, 0, 16, 1 << 20), id="negative"),
        pytest.param(((1 << 64) + (1 << 25), 0, 0, 16, 1 << 20), id="more than 64 bits"),
        pytest.param((1 << 25, 1 << 25, 0, 16, 1 << 20), id="all movable"),
        pytest.param((1 << 25, 1 << 24, 1 << 25, 16, 1 << 20), id="CMA too large"),
        pytest.param((1 << 25, 0, 0, 0, 1 << 20), id="no stack"),
        pytest.param((1 << 25, 0, 0, 65, 1 << 20), id="stack too deep"),
        pytest.param((1 << 25, 0, 0, 16, 1 << 10), id="depot too small"),
    ],
)
def test_impossible_sizes(tmp_path: Any, sizes: tuple[int, int, int, int, int]) -> None:
    """Impossible sizes are refused before a file is created."""
    from pageownerfs.client import Pool

    path = tmp_path / "pool"
    with pytest.raises((ValueError, OverflowError)):
        Pool.create(str(path), *sizes)
    assert not path.exists()


def test_no_pool(tmp_path: Any, pool: Pool) -> None:
    """A file of another kind, of another version, truncated or damaged is refused."""
    from pathlib import Path

    from pageownerfs.client import Pool

    with pytest.raises(FileExistsError):
        Pool.create(pool.path, 1 << 25, 0, 0, 16, 1 << 20)
    with pytest.raises(FileNotFoundError):
        Pool.open(str(tmp_path / "none"))
    header = Path(pool.path).read_bytes()[:4096]
    path = tmp_path / "pool"
    for damaged, message in (
        (b"", "not a pool"),
        (b"x" * 8192, "not a pool"),
        (header, "corrupt"),
        (header[:8] + b"\xff" * 4 + header[12:], "another version"),
        (header[:12] + b"\xff" * 4 + header[16:], "another version"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            Pool.open(str(path))
    with pytest.raises((OSError, ValueError)):
        Pool.open(str(tmp_path))
