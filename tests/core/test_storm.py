"""Processes that do everything to one pool at once, killed and stopped at any moment."""

from __future__ import annotations

import itertools
import mmap
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native

    Fork = Callable[..., Any]
    Blocks = Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]]

pytestmark = [pytest.mark.require("shm"), pytest.mark.slow]

NR_KILLS = 1000
NR_PROCESSES = 8
CONCURRENCY_SEC = 30
MASKS = (
    *(gfp.GFP_KERNEL, gfp.GFP_HIGHUSER_MOVABLE, gfp.GFP_ATOMIC, gfp.GFP_KERNEL | gfp.GFP_DMA),
    *(gfp.GFP_KERNEL | gfp.__GFP_RECLAIMABLE, gfp.GFP_KERNEL | gfp.__GFP_COMP),
    gfp.GFP_KERNEL | gfp.__GFP_ZERO,
)
ORDERS = (*[0] * 14, 1, 1, 2, 3, 4, 5, 6, 8, 9, 10)


def write(page: _native.Page) -> None:
    """Sign the first and the last page of a block."""
    sign = (os.getpid() << 32 | page.pfn).to_bytes(8, "little")
    with page.buffer as buffer:
        buffer[:8] = sign
        buffer[-8:] = sign


def is_signed(page: _native.Page, pid: int, pfn: int) -> bool:
    """Return whether a block, or the block it was split from, has the process's signature."""
    with page.buffer as buffer:
        return bytes(buffer[:8]) == (pid << 32 | pfn).to_bytes(8, "little") == bytes(buffer[-8:])


# ---- killed ----


def storm(path: str, seed: int, journal: mmap.mmap) -> None:  # noqa: C901 - one loop of cases
    """Work until killed; journal[pfn] is the order + 1 of a block that is certainly held."""
    chance = random.Random(seed)
    pool = Pool.open(path)
    held: list[_native.Page] = []

    def keep(page: _native.Page) -> None:
        write(page)
        held.append(page)
        journal[page.pfn] = page.order + 1

    def give(index: int) -> None:
        held[index], held[-1] = held[-1], held[index]
        page = held.pop()
        assert is_signed(page, os.getpid(), page.pfn), f"{page} was written to"
        journal[page.pfn] = 0
        pool.free_pages(page)

    while True:
        step = chance.random()
        try:
            if step < 0.55 or not held:
                keep(pool.alloc_pages(chance.choice(ORDERS), chance.choice(MASKS)))
            elif step < 0.58:
                split(pool, held, chance.randrange(len(held)), journal, keep)
            elif step < 0.585:
                pool.drain_local_pages()
            elif step < 0.587:
                pool.report_free_pages()
            else:
                give(chance.randrange(len(held)))
        except OutOfMemoryError:
            while len(held) > 20:
                give(0)
        while len(held) > 400:
            give(chance.randrange(len(held)))


def split(
    pool: Pool, held: list[_native.Page], index: int, journal: mmap.mmap, keep: Callable[..., None]
) -> None:
    """Split one of the blocks if possible."""
    page = held[index]
    if page.order == 0 or pool.page_info(page.pfn).flags >> 6 & 1:  # PG_head: compound
        return
    journal[page.pfn] = 0
    held[index] = held[-1]
    held.pop()
    for part in pool.split_page(page, page.order // 2):
        keep(part)


class Storm:
    """The processes in a storm, and their journals."""

    def __init__(self, pool: Pool, fork: Fork, nr_workers: int) -> None:
        """Start the processes."""
        self.pool, self.fork, self.nr_started = pool, fork, 0
        self.workers: list[tuple[Any, mmap.mmap]] = []
        for _ in range(nr_workers):
            self.start()

    def start(self) -> None:
        """Start one more."""
        journal = mmap.mmap(-1, self.pool.nr_pages)
        child = self.fork(storm, self.pool.path, self.nr_started, journal)
        self.nr_started += 1
        self.workers.append((child, journal))

    def kill(self, index: int) -> tuple[int, dict[int, int]]:
        """Kill one; return its pid, and the PFN and order of each block that it certainly held."""
        child, journal = self.workers.pop(index)
        child.kill()
        if not os.WIFSIGNALED(child.status):
            child.result()
        child.end()
        held = {pfn: order - 1 for pfn, order in enumerate(journal[:]) if order}
        journal.close()
        return child.pid, held


def blocks_of(pool: Pool, blocks: Blocks, pid: int) -> dict[int, int]:
    """Return PFN and order of each block that a dead process left, by owner."""
    return {
        pfn: info.order
        for pfn, info in blocks(pool)
        if info.page_owner.tgid == pid and not info.page_owner.state & 4
    }


def assert_left(pool: Pool, pid: int, held: dict[int, int], left: dict[int, int]) -> None:
    """Its blocks are left with their contents, plus at most the block of its last step."""
    assert held.items() <= left.items(), f"lost: {held.items() - left.items()}"
    for pfn in held:
        assert is_signed(pool.page(pfn), pid, pfn), f"PFN {pfn:#x} was written to"
    unsure = [pfn for pfn in left if pfn not in held]
    assert len({pfn >> 10 for pfn in unsure}) <= 1, unsure


def test_kills(make_pool: Callable[..., Pool], fork: Fork, blocks: Blocks) -> None:
    """After 1,000 kills at any moment nothing is lost, and nothing was handed out twice."""
    pool = make_pool(24, 4, page_owner=True)
    initial = pool.free_pages_by_order()
    seed = 1
    chance = random.Random(seed)
    work = Storm(pool, fork, 3)
    for nr_kills in itertools.count(1):
        time.sleep(chance.random() * 0.02)
        pid, held = work.kill(chance.randrange(len(work.workers)))
        if chance.random() < 0.5:  # otherwise the workers may be the first to meet what it left
            time.sleep(chance.random() * 0.005)
        pool.recover_clients()
        assert pool.check() == [], f"seed {seed}, kill {nr_kills}"
        left = blocks_of(pool, blocks, pid)
        assert_left(pool, pid, held, left)
        if pool.stats().dead_clients >= NR_KILLS:  # some die before they become clients
            break
        for pfn in left:
            pool.free_pages(pfn)
        work.start()
    dead = [(pid, held)] + [work.kill(0) for _ in range(len(work.workers))]
    assert_all_else_free(pool, blocks, dead)
    pool.drain_local_pages()
    assert pool.free_pages_by_order() == initial


def assert_all_else_free(
    pool: Pool, blocks: Blocks, dead: list[tuple[int, dict[int, int]]]
) -> None:
    """Only the early pages and the blocks of the dead are allocated. Frees the latter."""
    pool.recover_clients()
    assert pool.check() == []
    pool.drain_local_pages()
    nr_left = 0
    for pid, held in dead:
        left = blocks_of(pool, blocks, pid)
        assert_left(pool, pid, held, left)
        nr_left += sum(1 << order for order in left.values())
        for pfn in left:
            pool.free_pages(pfn)
    pool.drain_local_pages()
    nr_free = sum(zone.nr_free for zone in pool.zones)
    assert nr_left > 0
    assert nr_free + pool.stats().early_pages == pool.managed_pages


def large_zeroed(pool: Pool) -> None:
    """Stay inside the allocator most of the time: zero large blocks."""
    while True:
        pool.free_pages(pool.alloc_pages(10, gfp.GFP_KERNEL | gfp.__GFP_ZERO))


def test_killed_while_it_zeroes(
    tracked: Pool, fork: Fork, conserved: Callable[[Pool], None]
) -> None:
    """A block whose memory is being zeroed is not yet allocated; check() alone copes with it."""
    chance = random.Random(2)
    for _ in range(50):
        child = fork(large_zeroed, tracked)
        while not tracked.clients:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.01)
        child.kill()
        assert tracked.check() == []
        tracked.recover_clients()
        conserved(tracked)


def test_stopped_in_the_middle(tracked: Pool, fork: Fork) -> None:
    """While a client is stopped inside the allocator, others continue or get an error."""
    child = fork(large_zeroed, tracked)
    while not tracked.clients:
        time.sleep(0.001)
    refused = 0
    for _ in range(40):
        child.signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        try:
            page = tracked.alloc_pages(0)
            tracked.free_pages(page)
            assert tracked.check() == []
        except OSError as error:
            if "stopped inside the allocator" not in str(error):
                raise
            refused += 1
        child.signal(signal.SIGCONT)
        if refused:
            break
        time.sleep(0.003)
    assert tracked.check() == []
    tracked.free_pages(tracked.alloc_pages(3))
    child.kill()
    tracked.recover_clients()
    assert tracked.check() == []


# ---- at once ----


def worker(path: str, seed: int, seconds: float) -> int:
    """Allocate, write, verify and free for a time; return the number of steps."""
    chance = random.Random(seed)
    pid = os.getpid()
    nr_steps = 0
    end = time.monotonic() + seconds
    with Pool.open(path) as pool:
        held: list[tuple[_native.Page, bytes]] = []
        while time.monotonic() < end:
            nr_steps += 1
            try:
                if len(held) < chance.randrange(300):
                    page = pool.alloc_pages(chance.choice(ORDERS[:-3]), chance.choice(MASKS))
                    pattern = (pid << 32 | page.pfn).to_bytes(8, "little") + chance.randbytes(8)
                    page.buffer[:] = pattern * (256 << page.order)
                    held.append((page, pattern))
                elif held:
                    page, pattern = held.pop(chance.randrange(len(held)))
                    assert page.buffer == pattern * (256 << page.order), f"{page} was written to"
                    pool.free_pages(page)
            except OutOfMemoryError:
                for page, _pattern in held[10:]:
                    pool.free_pages(page)
                del held[10:]
        for page, pattern in held:
            assert page.buffer == pattern * (256 << page.order), f"{page} was written to"
            pool.free_pages(page)
    return nr_steps


def test_concurrency(make_pool: Callable[..., Pool], fork: Fork) -> None:
    """Eight processes work for 30 seconds, and every page keeps what its holder wrote."""
    pool = make_pool(64, 16, 4, page_owner=True)
    initial = pool.free_pages_by_order()
    children = [fork(worker, pool.path, seed, CONCURRENCY_SEC) for seed in range(NR_PROCESSES)]
    end = time.monotonic() + CONCURRENCY_SEC - 1
    while time.monotonic() < end:
        time.sleep(0.2)
        assert pool.check() == []
    steps = [child.result() for child in children]
    assert min(steps) > 1000, steps
    assert pool.clients == []
    assert pool.check() == []
    assert pool.free_pages_by_order() == initial
    stats = pool.stats()
    assert stats.pgalloc == stats.pgfree > 0
    assert stats.dead_clients == stats.zone_rebuilds == 0
