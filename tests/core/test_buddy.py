"""The buddy allocator against a simple model: what is held, by whom, and its contents."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs import _native

MIB = 1 << 20
PAGE_SIZE = 4096
COMP, ZERO = gfp.__GFP_COMP, gfp.__GFP_ZERO  # inside a class, Python mangles such names
GFP_RECLAIMABLE = gfp.GFP_KERNEL | gfp.__GFP_RECLAIMABLE
GFP_MOVABLE = gfp.GFP_KERNEL | gfp.__GFP_MOVABLE

# Mask, and the zones (by index: DMA, Normal, Movable) that may serve it.
KINDS = {
    "kernel": (gfp.GFP_KERNEL, {0, 1}),
    "user": (gfp.GFP_HIGHUSER, {0, 1}),
    "movable": (GFP_MOVABLE, {0, 1}),
    "highuser_movable": (gfp.GFP_HIGHUSER_MOVABLE, {0, 1, 2}),
    "reclaimable": (GFP_RECLAIMABLE, {0, 1}),
    "dma": (gfp.GFP_KERNEL | gfp.GFP_DMA, {0}),
    "atomic": (gfp.GFP_ATOMIC, {0, 1}),
    "compound": (gfp.GFP_KERNEL | COMP, {0, 1}),
    "zero": (gfp.GFP_KERNEL | ZERO, {0, 1}),
    "movable_zero": (gfp.GFP_HIGHUSER_MOVABLE | ZERO, {0, 1, 2}),
}
ORDERS = st.sampled_from([0] * 10 + [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
_numbers = itertools.count()


@dataclass
class Held:
    """One block that the model holds."""

    page: _native.Page
    order: int
    stamp: bytes
    compound: bool
    references: int = 1


def fill(page: _native.Page, stamp: bytes) -> None:
    """Write the stamp over a whole block."""
    with page.buffer as buffer:
        buffer[:] = stamp * (len(buffer) // len(stamp))


def holds(page: _native.Page, stamp: bytes) -> bool:
    """Return whether the whole block holds the stamp."""
    with page.buffer as buffer:
        return buffer == stamp * (len(buffer) // len(stamp))


class BuddyMachine(RuleBasedStateMachine):
    """Random steps on a pool with all zones and CMA; the model is a dict of held blocks."""

    def __init__(self) -> None:
        """Make the pool."""
        super().__init__()
        self.path = Path(f"/dev/shm/pageownerfs-test-{os.getpid()}-buddy-{next(_numbers)}")
        self.pool = Pool.create(str(self.path), 40 * MIB, 8 * MIB, 2 * MIB, 16, MIB)
        self.nr_early = 0
        self.initial = self.pool.free_pages_by_order()
        self.held: list[Held] = []
        self.owned: set[int] = set()

    @initialize(on=st.booleans())
    def page_owner(self, *, on: bool) -> None:
        """Half of the runs track owners."""
        if on:
            capture = self.pool.capture_stack
            self.nr_early = sum(self.pool.enable_page_owner(capture, capture))

    def pick(self, index: int) -> Held:
        """Return any of the held blocks."""
        return self.held[index % len(self.held)]

    @rule(
        order=ORDERS, kind=st.sampled_from(sorted(KINDS)), stamp=st.binary(min_size=8, max_size=8)
    )
    def alloc(self, order: int, kind: str, stamp: bytes) -> None:
        """A new block is aligned, in a permitted zone, nobody else's, and zeroed if requested."""
        gfp_mask, zones = KINDS[kind]
        try:
            page = self.pool.alloc_pages(order, gfp_mask)
        except OutOfMemoryError:
            self.assert_out_of_memory(order, zones)
            return
        pfns = range(page.pfn, page.pfn + (1 << order))
        assert page.order == order
        assert page.pfn % (1 << order) == 0
        assert self.owned.isdisjoint(pfns)
        assert {self.pool.page_info(pfn).zone for pfn in (pfns[0], pfns[-1])} <= zones
        assert len(page.buffer) == PAGE_SIZE << order
        if gfp_mask & ZERO:
            assert holds(page, bytes(8))
        fill(page, stamp)
        self.owned.update(pfns)
        self.held.append(Held(page, order, stamp, bool(order and gfp_mask & COMP)))

    def assert_out_of_memory(self, order: int, zones: set[int]) -> None:
        """Nothing is left: no block of the size, or only the reserves of watermarks and CMA."""
        for zone in (self.pool.all_zones()[index] for index in zones):
            nr_cma = sum(row[4] << nr for nr, row in enumerate(zone.nr_free_by_type))
            reserved = nr_cma + zone.wmark_high + self.pool.managed_pages // 32
            blocks = sum(map(sum, zone.nr_free_by_type[order:]))
            assert blocks == 0 or zone.nr_free - (1 << order) <= reserved, zone

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 1 << 16), by_pfn=st.booleans())
    def free(self, index: int, *, by_pfn: bool) -> None:
        """A block keeps what its holder wrote until it is freed."""
        held = self.pick(index)
        assert holds(held.page, held.stamp)
        self.pool.free_pages(held.page.pfn if by_pfn else held.page)
        held.references -= 1
        if held.references and not by_pfn:
            held.page = self.pool.page(held.page.pfn)  # the object has dropped its reference
        self.forget_if_free(held)

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 1 << 16))
    def get_page(self, index: int) -> None:
        """Take one more reference."""
        held = self.pick(index)
        self.pool.get_page(held.page.pfn)
        held.references += 1
        assert self.pool.page_count(held.page.pfn) == held.references

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 1 << 16))
    def put_page(self, index: int) -> None:
        """Only the last reference frees the block."""
        held = self.pick(index)
        self.pool.put_page(held.page.pfn)
        held.references -= 1
        self.forget_if_free(held)

    def forget_if_free(self, held: Held) -> None:
        """Drop a block from the model with its last reference."""
        assert self.pool.page_count(held.page.pfn) == held.references
        if held.references == 0:
            self.held.remove(held)
            self.owned.difference_update(range(held.page.pfn, held.page.pfn + (1 << held.order)))

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 1 << 16), order=st.integers(0, 9))
    def split_page(self, index: int, order: int) -> None:
        """A block that is neither compound nor shared splits into parts with the same contents."""
        held = self.pick(index)
        if order > held.order:
            return
        if order < held.order and (held.compound or held.references > 1):
            with pytest.raises(ValueError, match="PFN"):
                self.pool.split_page(held.page, order)
            return
        parts = self.pool.split_page(held.page, order)
        assert [part.pfn for part in parts] == [
            held.page.pfn + (nr << order) for nr in range(1 << (held.order - order))
        ]
        self.held.remove(held)
        references = held.references
        self.held += [Held(part, order, held.stamp, held.compound, references) for part in parts]

    @rule()
    def drain(self) -> None:
        """The order-0 lists are drained."""
        self.pool.drain_local_pages()
        assert all(zone.nr_pcp == 0 for zone in self.pool.zones)

    @rule()
    def report_free_pages(self) -> None:
        """Free memory is returned to the system, and no held contents change."""
        self.pool.report_free_pages()
        assert all(holds(held.page, held.stamp) for held in self.held)

    @invariant()
    def conserved(self) -> None:
        """Free + on order-0 lists + allocated = managed, and check() finds nothing."""
        zones = self.pool.all_zones()
        free = sum(zone.nr_free + zone.nr_pcp for zone in zones)
        assert free + len(self.owned) + self.nr_early == self.pool.managed_pages
        assert self.pool.check() == []

    def teardown(self) -> None:
        """After everything is freed, the pool has merged to its initial state."""
        try:
            for held in self.held:
                assert holds(held.page, held.stamp)
                for _ in range(held.references):
                    self.pool.free_pages(held.page.pfn)
            self.pool.drain_local_pages()
            assert self.pool.check() == []
            assert self.pool.free_pages_by_order() == self.initial
        finally:
            self.pool.close()
            self.path.unlink()


@pytest.mark.slow
def test_random_steps() -> None:
    """Thousands of random steps keep every invariant, and freeing restores the initial state."""
    few = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        BuddyMachine,
        settings=settings(
            max_examples=300,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=few,
        ),
    )


@pytest.mark.parametrize("order", range(11))
def test_merging(make_pool: Callable[..., Pool], order: int) -> None:
    """All blocks of one order, freed in any order, merge to the initial state."""
    pool = make_pool(24, 4)
    initial = pool.free_pages_by_order()
    pages = []
    with contextlib.suppress(OutOfMemoryError):
        while True:
            pages.append(pool.alloc_pages(order, gfp.GFP_HIGHUSER_MOVABLE))
    pfns = {page.pfn for page in pages}
    assert len(pfns) == len(pages)
    assert len(pages) << order >= pool.managed_pages // 2
    random.Random(order).shuffle(pages)
    for page in pages:
        pool.free_pages(page)
    pool.drain_local_pages()
    assert pool.free_pages_by_order() == initial


def test_split_and_free_parts(pool: Pool, conserved: Callable[[Pool], None]) -> None:
    """The parts of a split block are freed one by one, and the last one merges them all."""
    initial = pool.free_pages_by_order()
    parts = pool.split_page(pool.alloc_pages(5, gfp.GFP_KERNEL), 2)
    assert [part.order for part in parts] == [2] * 8
    parts[3:4] = pool.split_page(parts[3])
    random.Random(5).shuffle(parts)
    for part in parts:
        pool.free_pages(part)
        conserved(pool)
    pool.drain_local_pages()
    assert pool.free_pages_by_order() == initial


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_zones(make_pool: Callable[..., Pool], kind: str) -> None:
    """A mask gets all zones that it may use, the highest first, and no other."""
    pool = make_pool(40, 8)
    gfp_mask, zones = KINDS[kind]
    seen: list[int] = []
    with contextlib.suppress(OutOfMemoryError):
        while True:
            seen.append(pool.page_info(pool.alloc_pages(4, gfp_mask).pfn).zone)
    assert set(seen) == zones
    assert seen[0] == max(zones)


def test_zero(pool: Pool) -> None:
    """__GFP_ZERO returns zeroes in memory that others wrote, in blocks of any order."""
    for order in (0, 3, 10):
        page = pool.alloc_pages(order)
        pfn = page.pfn
        fill(page, b"\xa5" * 8)
        pool.free_pages(page)
        again = pool.alloc_pages(order, gfp.GFP_KERNEL | ZERO)
        assert again.pfn == pfn
        assert holds(again, bytes(8))
        pool.free_pages(again)


def test_order_0_lists(pool: Pool) -> None:
    """A process gets the page that it freed last, and draining empties its lists."""
    page: Any = pool.alloc_pages()
    pfn = page.pfn
    pool.free_pages(page)
    assert sum(zone.nr_pcp for zone in pool.zones) > 0
    page = pool.alloc_pages()
    assert page.pfn == pfn
    pool.free_pages(page)
    pool.drain_local_pages()
    assert sum(zone.nr_pcp for zone in pool.zones) == 0
