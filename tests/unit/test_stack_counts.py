"""count_stacks(): pages by stack, for every kind of table."""

from __future__ import annotations

import itertools
import os
import random
from typing import TYPE_CHECKING, Any, Final

import pytest
from data import PAGE_OWNER
from dumps import ERAS, make_dump
from kernel_tables import (
    EARLY,
    EARLY_STATE,
    FREE,
    GARBAGE,
    OWNER_BYTES,
    PLAIN,
    kernel_table,
    mapping,
    random_records,
    records_of,
)

from pageownerfs import _native
from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.page_owner_sort import parse_records
from pageownerfs.sources.stack_counts import StackCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pageownerfs.page_owner_sort import Record

    Counts = dict[Any, tuple[int, int]]

EARLY_STACK: Final = b" register_early_stack+0x1/0x2\n init_page_owner+0x3/0x4\n"


def add_up(pages: Iterable[tuple[Any, int, int]]) -> Counts:
    """Return pages and the oldest time by stack, from (stack, pages, time)."""
    counts: Counts = {}
    for stack, nr_pages, ts_nsec in pages:
        nr, oldest = counts.get(stack, (0, ts_nsec))
        counts[stack] = (nr + nr_pages, min(oldest, ts_nsec))
    return counts


def counted(table: _native.Table, *, early: bool = False) -> Counts:
    """Return a table's counts by handle, in which no handle occurs twice."""
    found = table.count_stacks(early=early)
    counts = {handle: (nr_pages, ts_nsec) for handle, nr_pages, ts_nsec in found}
    assert len(counts) == len(found)
    return counts


# ---- dumps ----


def counted_by_text(table: _native.RecordTable, *, early: bool) -> Counts:
    """Return a table's counts by the lines of the stack."""
    counts = counted(table, early=early)
    return {table.text(_native.TEXT_STACK, handle): count for handle, count in counts.items()}


def model(records: Iterable[Record], *, early: bool) -> Counts:
    """Return the counts that follow from parsed records."""
    return add_up(
        (record.stack, record.nr_base_pages, record.ts_nsec or 0)
        for record in records
        if record.pfn is not None and (early or b"register_early_stack" not in record.stack)
    )


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_dumps(era: Any) -> None:
    """The counts match the records of a dump, except those without a PFN."""
    for i in range(60):
        dump = make_dump(random.Random(f"counts {i}"), eras=[era], nr_records=i)
        stacks = sorted({record.stacktrace for record in dump.records} - {b""})
        data = dump.data
        if stacks and i % 2:
            data = data.replace(b"\n" + stacks[0], b"\n" + EARLY_STACK + stacks[0])
        table = new_record_table()
        table.feed(data, final=True)
        records = list(parse_records(data))
        for early in (False, True):
            assert counted_by_text(table, early=early) == model(records, early=early), i


def test_oracle(oracle_records: list[Record]) -> None:
    """The counts match a complete dump of a kernel."""
    from pageownerfs.sources.dump.source import read_dump

    table, _ = read_dump(str(PAGE_OWNER))
    everything = counted_by_text(table, early=True)
    assert everything == model(oracle_records, early=True)
    seen = counted_by_text(table, early=False)
    assert seen == model(oracle_records, early=False)
    assert 0 < len(seen) < len(everything)


def test_many_stacks() -> None:
    """Tens of thousands of stacks are counted."""
    table = new_record_table()
    chance = random.Random("many")
    pages = []
    for pfn in range(40_000):
        stack = b" f+0x%x/0x1\n" % chance.randrange(20_000)
        owner = PLAIN._replace(order=chance.randrange(4), ts_nsec=chance.randrange(2**64))
        table.add(16 * pfn, owner.pack(), stack, b"", 0)
        pages.append((stack, owner.nr_pages, owner.ts_nsec))
    assert counted_by_text(table, early=False) == add_up(pages)


# ---- tables of the kernel source ----


def kernel_pages(data: bytes, *, early: bool) -> Iterator[tuple[int, int, int]]:
    """Return the counts that follow from a table's records."""
    for _, owner in records_of(data, len(data) // OWNER_BYTES):
        if early or not owner.is_early:
            yield owner.handle, owner.nr_pages, owner.ts_nsec


@pytest.mark.parametrize("seed", range(8))
def test_kernel_table(seed: int) -> None:
    """Blocks of all orders, tails, freed, migrated and stackless pages are counted."""
    data = random_records(seed, 20_000)
    memory = mapping((FREE, 20_000))
    memory[:] = data
    table = kernel_table(memory)
    assert counted(table) == add_up(kernel_pages(data, early=False))
    everything = counted(table, early=True)
    expected = add_up(kernel_pages(data, early=True))
    # without times: see test_time_of_early_pages()
    assert {handle: nr for handle, (nr, _) in everything.items()} == {
        handle: nr for handle, (nr, _) in expected.items()
    }


def test_time_of_early_pages() -> None:
    """An early page has the common time, whatever its bytes are."""
    memory = mapping((GARBAGE, 3), (GARBAGE._replace(ts_nsec=1, state=EARLY_STATE), 61))
    assert kernel_table(memory).count_stacks(early=True) == [(EARLY.handle, 64, EARLY.ts_nsec)]


def test_blocks() -> None:
    """A block counts once for each of its pages, from its head's record alone."""
    block = PLAIN._replace(order=3, handle=8, ts_nsec=77)
    memory = mapping((block, 16), (FREE, 8), (block._replace(ts_nsec=76), 8), (PLAIN, 32))
    table = kernel_table(memory)
    assert counted(table) == {8: (24, 76), PLAIN.handle: (32, 1000)}
    # A head that is free now, with tails that are not yet.
    memory[:OWNER_BYTES] = FREE.pack()
    assert counted(table) == {8: (16, 76), PLAIN.handle: (32, 1000)}
    table.on = False
    assert table.count_stacks(early=True) == []


def test_stacks_that_are_gone() -> None:
    """Stacks that were once met stay with zero pages, newest first."""
    table, counts = new_record_table(), StackCounts()
    for pfn, ts_nsec in ((1, 50), (2, 70), (3, 60)):
        table.add(pfn, PLAIN._replace(ts_nsec=ts_nsec).pack(), b" f%d\n" % pfn, b"", 0)
    assert counts.count(table) == [(2, 1), (3, 1), (1, 1)]
    assert counts.count(new_record_table()) == [(2, 0), (3, 0), (1, 0)]


# ---- pools ----


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """Yield a pool with pages from before tracking."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-{tmp_path.name}"
    with Pool.create(path, 32 << 20, 4 << 20, 0, 16, 1 << 20) as pool:
        os.unlink(path)  # noqa: PTH108
        for order in (0, 0, 3):
            pool.alloc_pages(order)
        pool.enable_page_owner(pool.capture_stack, pool.capture_stack)
        yield pool


def pool_pages(pool: Pool, *, early: bool) -> Iterator[tuple[int, int, int]]:
    """Return page_info() of each page of a pool."""
    for pfn in range(pool.nr_pages):
        owner = pool.page_info(pfn).page_owner
        state = owner.state if owner else 0
        if state & 1 and (early or not state & 4):
            yield owner.handle, 1, owner.ts_nsec


@pytest.mark.require("shm")
def test_pool(pool: Pool) -> None:
    """Allocated, freed, split and early pages of a pool are counted."""
    chance, held = random.Random("pool"), []
    for nr in itertools.count():
        order = chance.choice((0, 0, 1, 3, 5))
        try:
            if nr % 3:
                held.append(pool.alloc_pages(order))
            else:
                held.append(pool.alloc_pages(0))
        except OutOfMemoryError:
            del held[50:]
        if held and chance.random() < 0.4:
            pool.free_pages(held.pop(chance.randrange(len(held))))
        elif held and held[-1].order > 1:
            held += pool.split_page(held.pop(), 1)
        if nr % 100 == 0:
            for early in (False, True):
                expected = add_up(pool_pages(pool, early=early))
                assert counted(pool.table(), early=early) == expected, nr
        if nr == 1000:
            break
    assert len(counted(pool.table())) == 2
