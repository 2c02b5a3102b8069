"""Pages by stack, updated by each allocation and free: Pool.stack_counts()."""

from __future__ import annotations

import functools
import itertools
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from core_sources import NATIVE, core_sources

from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native

    Fork = Callable[..., Any]
    Blocks = Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]]

pytestmark = pytest.mark.require("shm")

NR_KILLS: Final = 120
POINTS: Final = 15
ORDERS: Final = (*[0] * 10, 1, 2, 3, 5, 9)
MASKS: Final = (gfp.GFP_KERNEL, gfp.GFP_HIGHUSER_MOVABLE, gfp.GFP_KERNEL | gfp.__GFP_COMP)


def assert_counts(pool: Pool) -> dict[int, int]:
    """The counts match the pages; stacks without pages may be listed, but none twice."""
    listed = pool.stack_counts()
    counts = dict(listed)
    assert len(counts) == len(listed)
    expected = {handle: nr_pages for handle, nr_pages, _ in pool.table().count_stacks()}
    assert {handle: nr for handle, nr in counts.items() if nr} == expected
    return counts


def pages_of(pool: Pool, blocks: Blocks) -> Counter[int]:
    """Count with page_info(), without early pages."""
    counts: Counter[int] = Counter()
    for _, info in blocks(pool):
        owner = info.page_owner
        if owner.state & 5 == 1:
            counts[owner.handle] += 1 << info.order
    return counts


def stack_of(pool: Pool, page: _native.Page) -> int:
    """Return the handle of the stack that allocated a page."""
    handle: int = pool.page_info(page.pfn).page_owner.handle
    return handle


def alloc_here(pool: Pool, order: int, mask: int) -> _native.Page:
    """Allocate from a place of its own."""
    return pool.alloc_pages(order, mask)


def alloc_there(pool: Pool, order: int, mask: int) -> _native.Page:
    """Allocate from another place."""
    return pool.alloc_pages(order, mask)


def work(pool: Pool, chance: random.Random, held: list[_native.Page]) -> None:
    """Do one step."""
    step = chance.random()
    try:
        if step < 0.55 or not held:
            allocate = chance.choice((alloc_here, alloc_there))
            held.append(allocate(pool, chance.choice(ORDERS), chance.choice(MASKS)))
        elif step < 0.65 and held[-1].order and not pool.page_info(held[-1].pfn).flags >> 6 & 1:
            held += pool.split_page(held.pop(), chance.randrange(2))
        elif step < 0.66:
            pool.drain_local_pages()
        elif step < 0.665:
            pool.report_free_pages()
        else:
            pool.free_pages(held.pop(chance.randrange(len(held))))
    except OutOfMemoryError:
        for page in held[20:]:
            pool.free_pages(page)
        del held[20:]
    if len(held) > 300:
        pool.free_pages(held.pop(chance.randrange(len(held))))


def work_for(path: str, seed: int, nr_steps: int) -> int:
    """Work, leave some pages allocated, and return their number."""
    chance = random.Random(seed)
    held: list[_native.Page] = []
    with Pool.open(path) as pool:
        for _ in range(nr_steps):
            work(pool, chance, held)
    return sum(1 << page.order for page in held)


def work_for_ever(path: str, seed: int) -> None:
    """Work until killed."""
    chance = random.Random(seed)
    held: list[_native.Page] = []
    pool = Pool.open(path)
    while True:
        work(pool, chance, held)


# ---- the list ----


def test_off(pool: Pool) -> None:
    """Without tracking there are no counts."""
    pool.alloc_pages(0)
    assert pool.stack_counts() == []


def test_early_pages_do_not_count(
    pool: Pool, enable_page_owner: Callable[[Pool], list[int]]
) -> None:
    """Early pages never count, not even when freed whole, in parts, or by put_page()."""
    early = [pool.alloc_pages(order, gfp.GFP_KERNEL) for order in (0, 0, 3, 3, 9)]
    enable_page_owner(pool)
    assert pool.stack_counts() == []
    page = pool.alloc_pages(2)
    expected = [(stack_of(pool, page), 4)]
    assert pool.stack_counts() == expected
    parts = pool.split_page(early.pop(), 4)
    for old in (*early, *parts[1:]):
        pool.free_pages(old)
    pool.put_page(parts[0])
    pool.drain_local_pages()
    assert pool.stack_counts() == expected
    assert_counts(pool)


def test_freed_early_pages_count_for_who_gets_them(
    pool: Pool, enable_page_owner: Callable[[Pool], list[int]]
) -> None:
    """A page that was early, freed, and allocated again counts."""
    early = pool.alloc_pages(5)
    pfn = early.pfn
    enable_page_owner(pool)
    pool.free_pages(early)
    pages: list[_native.Page] = []
    while not pages or pages[-1].pfn != pfn:
        pages.append(pool.alloc_pages(5))
    assert pool.stack_counts() == [(stack_of(pool, pages[0]), 32 * len(pages))]
    for page in pages:
        pool.free_pages(page)
    assert [nr_pages for _, nr_pages in pool.stack_counts()] == [0]


def test_stack_that_only_freed(tracked: Pool) -> None:
    """A stack that only freed is not listed; one whose pages are all freed is."""
    page = tracked.alloc_pages(1)
    handle = stack_of(tracked, page)
    tracked.free_pages(page)
    owner = tracked.page_info(page.pfn).page_owner
    assert owner.free_handle not in {0, handle}
    assert tracked.stack_counts() == [(handle, 0)]
    # This still holds after a recount.
    assert assert_counts(tracked) == {handle: 0}


def test_order(tracked: Pool) -> None:
    """Stacks are listed by their first allocation, however often others allocate later."""
    pages = [alloc_there(tracked, 0, MASKS[0]), alloc_here(tracked, 0, MASKS[0])]
    first, second = (stack_of(tracked, page) for page in pages)
    for page in pages:
        tracked.free_pages(page)
    third = stack_of(tracked, tracked.alloc_pages(3))
    alloc_here(tracked, 1, MASKS[0])
    assert len({first, second, third}) == 3
    # Those calls were on two other lines.
    handles = [handle for handle, _ in tracked.stack_counts()]
    assert handles[:3] == [first, second, third]


def test_order_of_a_stack_that_freed_before(tracked: Pool) -> None:
    """The first allocation counts, not the first time that a stack was seen."""
    page = tracked.alloc_pages(0)
    steps: list[Callable[[], Any]] = [
        functools.partial(tracked.free_pages, page),
        functools.partial(alloc_here, tracked, 2, MASKS[0]),
        functools.partial(tracked.alloc_pages, 3),
    ]
    found = [step() for step in steps]  # one place in the source
    by = tracked.page_info(found[1].pfn).page_owner.handle
    last = stack_of(tracked, found[2])
    assert [handle for handle, _ in tracked.stack_counts()][-2:] == [by, last]


def test_split_and_references(tracked: Pool) -> None:
    """The parts of a block count for its allocator until the last reference is gone."""
    page = tracked.alloc_pages(4, gfp.GFP_KERNEL)
    handle = stack_of(tracked, page)
    parts = tracked.split_page(page, 1)
    assert tracked.stack_counts() == [(handle, 16)]
    for nr_freed, part in enumerate(parts[1:], 1):
        tracked.free_pages(part)
        assert tracked.stack_counts() == [(handle, 16 - 2 * nr_freed)]
    single = tracked.split_page(parts[0])
    tracked.get_page(single[0])
    tracked.free_pages(single[1])
    assert tracked.stack_counts() == [(handle, 1)]
    tracked.put_page(single[0])
    assert tracked.stack_counts() == [(handle, 1)]
    tracked.put_page(single[0])
    assert tracked.stack_counts() == [(handle, 0)]


# ---- several processes ----


def test_several_processes(make_pool: Callable[..., Pool], fork: Fork, blocks: Blocks) -> None:
    """After several processes have worked, the counts match the pages."""
    pool = make_pool(32, 4, 4, page_owner=True)
    for seed in range(3):
        children = [fork(work_for, pool.path, 10 * seed + i, 4000) for i in range(4)]
        left = sum(child.result() for child in children)
        counts = assert_counts(pool)
        assert pages_of(pool, blocks) == Counter({h: nr for h, nr in counts.items() if nr})
        assert sum(counts.values()) == left
        for pfn, info in list(blocks(pool)):
            if not info.page_owner.state & 4:
                pool.free_pages(pfn)
        assert set(dict(pool.stack_counts()).values()) == {0}
    assert pool.stats().dead_clients == 0


@pytest.mark.slow
def test_counts_while_others_work(make_pool: Callable[..., Pool], fork: Fork) -> None:
    """stack_counts() disturbs nobody, and once the others are done it is right."""
    pool = make_pool(32, page_owner=True)
    children = [fork(work_for, pool.path, seed, 8000) for seed in range(3)]
    for _ in range(200):
        handles = [handle for handle, _ in pool.stack_counts()]
        assert len(set(handles)) == len(handles)
        time.sleep(0.001)
    for child in children:
        child.result()
    assert_counts(pool)


# ---- killed ----


@pytest.mark.slow
def test_killed(make_pool: Callable[..., Pool], fork: Fork, blocks: Blocks) -> None:
    """Clients killed at any moment leave only allocated pages in the counts."""
    pool = make_pool(32, 4, page_owner=True)
    chance = random.Random("killed")
    numbers = itertools.count()
    children = [fork(work_for_ever, pool.path, next(numbers)) for _ in range(2)]
    while pool.stats().dead_clients < NR_KILLS:
        time.sleep(0.003 + chance.random() * 0.01)
        victim = children.pop(chance.randrange(2))
        victim.kill()
        victim.end()
        pool.recover_clients()
        pool.stack_counts()  # may recount while the other one works
        for pfn, info in list(blocks(pool)):
            owner = info.page_owner
            if owner and owner.tgid == victim.pid and not owner.state & 4:
                pool.free_pages(pfn)
        if chance.random() < 0.2:
            children.pop().kill()
            pool.recover_clients()
            assert_counts(pool)
            children.append(fork(work_for_ever, pool.path, next(numbers)))
        children.append(fork(work_for_ever, pool.path, next(numbers)))
    for child in children:
        child.kill()
    pool.recover_clients()
    counts = assert_counts(pool)
    assert pages_of(pool, blocks) == Counter({h: nr for h, nr in counts.items() if nr})
    assert pool.check() == []


def large_zeroed(pool: Pool) -> None:
    """Stay inside the allocator most of the time."""
    while True:
        pool.free_pages(pool.alloc_pages(10, gfp.GFP_KERNEL | gfp.__GFP_ZERO))


@pytest.mark.slow
def test_killed_inside(tracked: Pool, fork: Fork) -> None:
    """A client that dies with pages in its hands leaves none of them in the counts."""
    chance = random.Random("inside")
    for _ in range(40):
        child = fork(large_zeroed, tracked)
        while not tracked.clients:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.01)
        child.kill()
        tracked.recover_clients()
        counts = assert_counts(tracked)
        assert set(counts.values()) <= {0, 1024}
        for pfn in tracked.table().heads(0, 1000, False):
            tracked.free_pages(pfn)
        assert not any(nr for _, nr in tracked.stack_counts())


# Also counts wherever step_kill.c checks the pool after a kill.
STEP_KILL: Final = """
#include <stdio.h>
#include <stdlib.h>
#include "pool/check.h"
#include "pool/stack_depot.h"
#include "pool/tracking.h"

static int check_and_count(struct pool *pool, void (*fail)(void *, const char *), void *arg)
{
	int problems = pool_check(pool, fail, arg);
	long long nr_listed = 0, nr_pages = 0;
	struct stack_record stack;

	if (atomic_load(&pool->header->stacks_suspect) && recount_stacks(pool)) {
		fprintf(stderr, "the stacks can't be counted\\n");
		return problems + 1;
	}
	u32 handle = 0;
	while ((handle = depot_next_stack(pool, handle, &stack))) {
		long long nr = 0;

		for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
			nr += (pool->page_ext[pfn].state & 5) == 1 && pool->page_ext[pfn].handle == handle;
		if (nr != stack.nr_base_pages) {
			fprintf(stderr, "stack %u: %lld pages, counted %lld\\n",
				handle, nr, stack.nr_base_pages);
			problems++;
		}
		nr_listed += nr;
		handle = depot_after(pool, handle);
	}
	for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
		nr_pages += (pool->page_ext[pfn].state & 5) == 1;
	if (nr_pages != nr_listed) {
		fprintf(stderr, "%lld pages, of listed stacks %lld\\n", nr_pages, nr_listed);
		problems++;
	}
	return problems;
}

#define pool_check check_and_count
#include "step_kill.c"
"""


@pytest.fixture(scope="session")
def step_kill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile step_kill.c with the count."""
    folder = tmp_path_factory.mktemp("step_kill_counts")
    source, program = folder / "step_kill_counts.c", folder / "step_kill"
    source.write_text(STEP_KILL)
    options = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    folders = [f"-I{NATIVE}", f"-I{Path(__file__).parent}"]
    subprocess.run(["cc", *options, *folders, "-o", program, source, *core_sources()], check=True)
    return program


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation",
    [
        *("alloc_0", "alloc_0_refill", "alloc_0_fallback", "alloc_4", "free_4", "free_0"),
        *("free_0_drain", "split_page", "free_9_report", "detach", "drain_all_pages"),
    ],
)
def test_killed_at_any_instruction(step_kill: Path, operation: str) -> None:
    """Wherever a client is killed, the counts match the pages the next time they are asked for."""
    done = subprocess.run(
        [step_kill, operation, str(POINTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 problems" in done.stdout
