"""snapshot(): a copy of a table gives the same answers, and keeps giving them."""

from __future__ import annotations

import mmap
import os
import random
from typing import TYPE_CHECKING, Any, Final

import pytest
from dumps import V6_12, make_dump
from kernel_tables import (
    EARLY,
    FREE,
    GARBAGE,
    OWNER_BYTES,
    PLAIN,
    kernel_table,
    mapping,
    one_by_one,
    random_records,
    read_all,
    text,
)

from pageownerfs import _native
from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.migratetype import MIGRATE_CMA
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_FREED, PageExt
from pageownerfs.mm.record_table import new_record_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENOUGH: Final = 1 << 30
FIELDS_6_1: Final = (
    _native.HAS_PID | _native.HAS_TGID | _native.HAS_TS | _native.HAS_FREE_TS | _native.HAS_PFN
)
MASKS: Final = (gfp.GFP_KERNEL, gfp.GFP_HIGHUSER_MOVABLE, gfp.GFP_KERNEL | gfp.__GFP_RECLAIMABLE)


def texts_of(table: _native.Table) -> tuple[bytes, bytes, int]:
    """Print a table in the formats of two kernels."""
    renderer = _native.Renderer(table, text)
    return (
        read_all(renderer),
        read_all(_native.Renderer(table, text, fields=FIELDS_6_1)),
        renderer.size(),
    )


def blocks_of(table: _native.Table) -> list[Any]:
    """Return each block of a table with everything that is known about it."""
    found: list[Any] = []
    for pfn in table.heads(0, 1 << 30):
        page = PageExt.of(table, pfn)
        assert page is not None
        order = page.owner.order
        last = PageExt.of(table, pfn + (1 << order) - 1)
        assert last is not None
        assert last.head == page.head == pfn
        found.append((pfn, page))
    return found


def said_by(table: _native.Table, end_pfn: int) -> list[Any]:
    """Return a table's answers, except the times of early pages (see test_stack_counts.py)."""
    rng = random.Random("ranges")
    ranges = [sorted(rng.randrange(end_pfn + 1) >> 10 << 10 for _ in range(2)) for _ in range(20)]
    return [
        *texts_of(table),
        list(one_by_one(_native.Renderer(table, text))),
        sorted(table.count_stacks()),
        sorted(count[:2] for count in table.count_stacks(early=True)),
        table.heads(0, 1 << 30, False),
        blocks_of(table),
        [table.mixed_blocks(start, end, MIGRATE_CMA) for start, end in ranges],
        table.mixed_blocks(0, end_pfn, MIGRATE_CMA),
        table.mixed_blocks(0, end_pfn, -1),
    ]


def tidy_records(seed: int, nr: int) -> bytes:
    """Make blocks of all orders with records of their tails, as tables have them at rest."""
    chance = random.Random(seed)
    records: list[bytes] = []
    block_mts = [chance.randrange(6) for _ in range(nr >> 10)]
    while len(records) < nr:
        pfn = len(records)
        order = chance.choice((0, 0, 0, 1, 3, 6, 9, 10))
        block_mt = block_mts[pfn >> 10]
        state = chance.choice((1, 1, 1, 3, 9, 2, 0))
        mt = block_mt if block_mt < 3 and chance.random() < 0.9 else chance.randrange(3)
        owner = PLAIN._replace(
            ts_nsec=chance.randrange(2**63),
            gfp_mask=0xCC0 & ~0x18 | mt << 3,
            handle=chance.choice((1, 2, 3)),
            order=order,
            state=state,
            last_migrate_reason=3 if state & 8 else -1,
            pageblock_migratetype=block_mt,
            comm=chance.choice((b"", b"a", b"fifteen bytes..")),
        )
        if state & PAGE_EXT_OWNER_FREED:
            freer = chance.randrange(1, 99)
            owner = owner._replace(
                free_ts_nsec=chance.randrange(2**63),
                free_handle=freer,
                free_pid=freer + 1,
                free_tgid=freer + 2,
            )
        if block_mt == EARLY.pageblock_migratetype and chance.random() < 0.1:
            owner = GARBAGE._replace(order=order)
        if pfn % (1 << order) == 0:
            records += [owner.pack()] * (1 << order)
    return b"".join(records[:nr])


def memory_of(data: bytes) -> mmap.mmap:
    """Return memory with these bytes."""
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


# ---- tables of the kernel source ----


@pytest.mark.parametrize("seed", range(6))
def test_kernel_table(seed: int) -> None:
    """The copy answers like the table, including what is known about the last free."""
    nr = 12 << 10
    table = kernel_table(memory_of(tidy_records(seed, nr)))
    copy = table.snapshot(ENOUGH)
    assert said_by(copy, nr) == said_by(table, nr)
    assert copy.nr_records == len(table.heads(0, 1 << 30))
    assert copy.pageblock_order == 9
    assert sum(copy.mixed_blocks(0, nr, MIGRATE_CMA)) > 0
    freed = [page for _, page in blocks_of(copy) if page.owner.free_handle]
    assert len(freed) > 3


@pytest.mark.parametrize("seed", range(4))
def test_records_in_no_order(seed: int) -> None:
    """Whatever a table holds while pages change hands, its text is copied."""
    table = kernel_table(memory_of(random_records(seed, 20_000)))
    copy = table.snapshot(ENOUGH)
    assert texts_of(copy) == texts_of(table)
    assert copy.heads(0, 1 << 30) == table.heads(0, 1 << 30)
    assert sorted(copy.count_stacks()) == sorted(table.count_stacks())


def test_times_of_early_pages() -> None:
    """Early pages count with their time, too."""
    table = kernel_table(mapping((GARBAGE, 32), (PLAIN, 32)))
    copy = table.snapshot(ENOUGH)
    assert sorted(copy.count_stacks(early=True)) == sorted(table.count_stacks(early=True))


def test_early_pages_mix_nothing() -> None:
    """The mask of a page of unknown owner is not known in a copy either."""
    early = GARBAGE._replace(order=0)
    table = kernel_table(mapping((early, 512), (PLAIN._replace(gfp_mask=0xCC0), 512)))
    for either in (table, table.snapshot(ENOUGH)):
        assert either.mixed_blocks(0, 1024, MIGRATE_CMA) == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("block_mt", [0, 1, 4])
def test_block_of_two_pageblocks(block_mt: int) -> None:
    """A block that mixes two pageblocks counts twice, as in the kernel, which checks its tails."""
    owner = PLAIN._replace(order=10, gfp_mask=0xCD0, pageblock_migratetype=block_mt)
    table = kernel_table(mapping((owner, 1024), (FREE, 1024)))
    expected = [0] * 8
    expected[1 if block_mt == MIGRATE_CMA else block_mt] = 2
    assert table.mixed_blocks(0, 2048, MIGRATE_CMA) == expected
    assert table.snapshot(ENOUGH).mixed_blocks(0, 2048, MIGRATE_CMA) == expected


def test_copy_does_not_change() -> None:
    """A copy stays the same while its table changes, is switched off, and is freed."""
    memory = memory_of(tidy_records(9, 4096))
    table = kernel_table(memory)
    copy = table.snapshot(ENOUGH)
    expected = said_by(copy, 4096)
    memory[:] = FREE.pack() * 4096
    assert said_by(copy, 4096) == expected
    assert table.snapshot(ENOUGH).nr_records == 0
    memory[:] = PLAIN.pack() * 4096
    table.on = False
    assert table.snapshot(0).nr_records == 0
    del table
    assert said_by(copy, 4096) == expected


def test_copy_of_a_copy() -> None:
    """A copy of a copy gives the same answers."""
    table = kernel_table(memory_of(tidy_records(3, 4096)))
    copy = table.snapshot(ENOUGH)
    assert said_by(copy.snapshot(ENOUGH), 4096) == said_by(table, 4096)


@pytest.mark.parametrize("nr", [1, 63, 1024, 5000])
def test_too_large(nr: int) -> None:
    """A limit one byte below the size of the copy is too small."""
    freed = PLAIN._replace(state=3, free_handle=4)
    for owner in (PLAIN, freed):
        table = kernel_table(mapping((owner, nr), (FREE, 64)))
        nr_bytes = table.snapshot(ENOUGH).nr_bytes
        assert nr_bytes >= nr * OWNER_BYTES
        assert table.snapshot(nr_bytes).nr_records == nr
        for too_few in (nr_bytes - 1, nr_bytes // 2, 0):
            with pytest.raises(OSError, match="No space left"):
                table.snapshot(too_few)
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="must be 0 to"):
            table.snapshot(wrong)


# ---- pools ----


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """Yield a pool with pages from before tracking, and CMA."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-{tmp_path.name}"
    with Pool.create(path, 48 << 20, 8 << 20, 8 << 20, 16, 1 << 20) as pool:
        os.unlink(path)  # noqa: PTH108
        for order in (0, 0, 3):
            pool.alloc_pages(order)
        pool.enable_page_owner(pool.capture_stack, pool.capture_stack)
        yield pool


def work(pool: Pool, seed: int, held: list[_native.Page]) -> None:
    """Allocate, free and split."""
    chance = random.Random(seed)
    for _ in range(700):
        try:
            held.append(pool.alloc_pages(chance.choice((0, 0, 0, 2, 4, 9)), chance.choice(MASKS)))
        except OutOfMemoryError:
            for page in held[100:]:
                pool.free_pages(page)
            del held[100:]
        if chance.random() < 0.5:
            pool.free_pages(held.pop(chance.randrange(len(held))))
        elif held and held[-1].order > 2:
            held += pool.split_page(held.pop(), 2)


@pytest.mark.require("shm")
def test_pool(pool: Pool) -> None:
    """The copy answers like the table did while nobody worked, also later."""
    held: list[_native.Page] = []
    for seed in range(3):
        work(pool, seed, held)
        copy = pool.table().snapshot(ENOUGH)
        expected = said_by(pool.table(), pool.nr_pages)
        assert said_by(copy, pool.nr_pages) == expected
        assert copy.nr_records > 100
        work(pool, seed + 10, held)
        assert said_by(copy, pool.nr_pages) == expected
        assert said_by(pool.table(), pool.nr_pages) != expected
    with pytest.raises(OSError, match="No space left"):
        pool.table().snapshot(1000)
    # No client is still stopped.
    pool.free_pages(pool.alloc_pages(0))
    assert pool.check() == []


# ---- record tables ----


def names_of(table: _native.RecordTable) -> Any:
    """Return the names of a table as it has read them."""

    def name(kind: int, value: int) -> bytes:
        found = table.text(kind, value)
        return text(kind, value) if found is None else found

    return name


@pytest.mark.parametrize("crlf", [False, True])
def test_dump(crlf: bool) -> None:
    """A copy of a dump's table, with its names, equals the dump, including kept texts."""
    dump = make_dump(random.Random("copy"), eras=[V6_12], nr_records=50)
    data = dump.crlf if crlf else dump.data
    table = new_record_table()
    table.feed(data, final=True)
    copy = table.snapshot(ENOUGH)
    name = names_of(table)
    assert read_all(_native.Renderer(copy, name)) == read_all(_native.Renderer(table, name))
    assert copy.nr_verbatim == table.nr_verbatim
    assert copy.infos() == table.infos()
    assert sorted(copy.count_stacks()) == sorted(table.count_stacks())
    assert copy.mixed_blocks(0, 1 << 63, 4) == table.mixed_blocks(0, 1 << 63, 4)


def test_zones_of_a_dump() -> None:
    """Nodes, zones and reserved pages are those of the dump."""
    table = new_record_table()
    for pfn, words in ((600, b"node=0|zone=1"), (1200, b"node=1|zone=2"), (2000, b"reserved")):
        table.feed(
            b"Page allocated via order 0, mask 0x0()\n"
            b"PFN %d type Unmovable Block %d type Movable Flags %#x(%b)\n\n"
            % (pfn, pfn >> 9, pfn, words),
            final=True,
        )
    copy = table.snapshot(ENOUGH)
    assert copy.infos() == table.infos()
    for nid, zone in ((-1, -1), (0, 1), (1, 2), (0, 0)):
        expected = table.mixed_blocks(0, 1 << 63, 4, nid, zone)
        assert copy.mixed_blocks(0, 1 << 63, 4, nid, zone) == expected, (nid, zone)


def test_added_records() -> None:
    """The copy keeps what is known about the last free of a record."""
    table = new_record_table()
    freed = PLAIN._replace(state=3, free_ts_nsec=8, free_pid=44, free_tgid=45)
    for pfn, owner in ((5, PLAIN), (7, freed)):
        table.add(pfn, owner.pack(), b" f+0x1/0x2\n", b" kfree+0x3/0x4\n", 1)
    copy = table.snapshot(ENOUGH)
    assert [copy.page(pfn) for pfn in (5, 7)] == [table.page(pfn) for pfn in (5, 7)]
