"""The renderer over a table of the kernel source: early records, seeks, `on`."""

from __future__ import annotations

import mmap
import os
import random
from typing import TYPE_CHECKING

import pytest
from kernel_tables import (
    BLOCK_ORDER,
    EARLY,
    EARLY_STATE,
    FREE,
    GARBAGE,
    OWNER_BYTES,
    PLAIN,
    SCAN_BYTES,
    STATE,
    Info,
    kernel_table,
    mapping,
    one_by_one,
    random_records,
    read_all,
    record_text,
    text,
    whole_text,
)

from pageownerfs import Pool, _native
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_FREED,
    PageCounts,
    PageOwner,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(8))
def test_text(seed: int) -> None:
    """Whatever a table contains, the text is that of its records, and size() its length."""
    data = random_records(seed, 3000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    renderer = _native.Renderer(kernel_table(memory), text)
    expected = whole_text(data, 3000)
    assert read_all(renderer) == expected
    assert renderer.size() == len(expected)
    assert b"".join(one_by_one(renderer)) == expected


@pytest.mark.parametrize("size", [1, 63, 1000, 4096, 4097, 20000])
def test_steps(size: int) -> None:
    """Successive reads of any size give the same text."""
    memory = mapping((FREE, 20), (GARBAGE, 300), (PLAIN, 100), (FREE, 700), (PLAIN, 3), (FREE, 5))
    expected = whole_text(memory, len(memory) // OWNER_BYTES)
    assert read_all(_native.Renderer(kernel_table(memory), text), size) == expected


def test_seeks() -> None:
    """Reads at any offset return that part of the whole text."""
    data = random_records(1, 20000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    expected = whole_text(data, 20000)
    reader = _native.Renderer(kernel_table(memory), text).reader()
    chance = random.Random(2)
    for _ in range(300):
        offset = chance.randrange(len(expected) + 1000)
        size = chance.choice((1, 100, 4096, 70000))
        assert reader.read(size, offset) == expected[offset : offset + size]


def test_early() -> None:
    """An early record is the common one for each page, whatever its bytes are."""
    random_bytes = bytearray(random.Random(3).randbytes(OWNER_BYTES))
    random_bytes[STATE] = EARLY_STATE | PAGE_EXT_OWNER_FREED
    memory = mapping((GARBAGE, 63), (PLAIN._replace(order=9, state=EARLY_STATE), 2), (PLAIN, 63))
    memory[: len(random_bytes)] = bytes(random_bytes)
    expected = b"".join(record_text(pfn, EARLY, Info(0, 0, 1)) for pfn in range(65))
    expected += b"".join(record_text(pfn, PLAIN, Info(0, 0, 1)) for pfn in range(65, 128))
    renderer = _native.Renderer(kernel_table(memory), text)
    assert read_all(renderer) == expected
    found = renderer.reader().record(1)
    assert found == (record_text(1, EARLY, Info(0, 0, 1)), 2)


def test_early_without_stack() -> None:
    """Without an early stack, early pages are not shown, like any record without a stack."""
    memory = mapping((GARBAGE, 63), (PLAIN, 1))
    scan = mmap.mmap(-1, SCAN_BYTES)
    early = EARLY._replace(handle=0).pack()
    table = _native.KernelTable(memory, 64, BLOCK_ORDER, early, scan, -1)
    expected = record_text(63, PLAIN, Info(0, 0, 1))
    assert read_all(_native.Renderer(table, text)) == expected


@pytest.mark.parametrize("order", [0, 1, 9, 10, 11, 18])
def test_orders(order: int) -> None:
    """A block is one record at its head; pages that are not a head are not shown."""
    nr = 1 << order
    owner = PLAIN._replace(order=order)
    memory = mapping((owner, 2 * nr), (FREE, 1), (owner, 1), (PLAIN, 62))
    shown = [(0, owner), (nr, owner)]
    if order == 0:
        shown.append((3, owner))
    shown += [(2 * nr + 2 + i, PLAIN) for i in range(62)]
    expected = b"".join(record_text(pfn, found, Info(0, 0, 1)) for pfn, found in shown)
    table = kernel_table(memory)
    assert read_all(_native.Renderer(table, text)) == expected
    assert PageCounts._make(table.states()) == PageCounts(
        allocated=2 * nr + 63, early=0, freed=1, heads=len(shown)
    )


@pytest.mark.parametrize("nr_free", [0, 1, 7, 8, 9, 15, 16, 17, 100])
def test_free_runs(nr_free: int) -> None:
    """Runs of free pages of any length hide nothing before, between or after them."""
    runs = ((FREE, nr_free), (PLAIN, 1), (FREE, nr_free), (GARBAGE, 1), (FREE, nr_free))
    memory = mapping(*runs, (PLAIN, 1), (FREE, nr_free))
    end_pfn = 4 * nr_free + 3
    expected = whole_text(memory, end_pfn)
    assert expected.count(b"PFN") == 3
    assert read_all(_native.Renderer(kernel_table(memory), text)) == expected
    # No page beyond the end.
    shorter = kernel_table(memory, end_pfn - nr_free - 1)
    assert read_all(_native.Renderer(shorter, text)) == whole_text(memory, shorter.end_pfn)


def test_on() -> None:
    """A table that is switched off is empty for all readers, and comes back."""
    memory = mapping((PLAIN, 64))
    table = kernel_table(memory)
    renderer = _native.Renderer(table, text)
    reader = renderer.reader()
    assert table.on is True
    expected = whole_text(memory, 64)
    assert renderer.size() == len(expected)
    table.on = False
    assert table.on is False
    assert renderer.size() == 0
    assert reader.read(4096, 0) == b""
    assert renderer.reader().record(0) is None
    assert set(table.states()) == {0}
    table.on = True
    assert read_all(renderer) == expected
    assert renderer.size() == len(expected)
    with pytest.raises(AttributeError):
        del table.on


def test_size_may_be_old() -> None:
    """size() is the current length of the text, or as old as permitted."""
    memory = mapping((PLAIN, 64))
    renderer = _native.Renderer(kernel_table(memory), text)
    size = renderer.size(1 << 62)
    memory[STATE] = PAGE_EXT_OWNER_FREED
    assert renderer.size(1 << 62) == size
    smaller = size - len(record_text(0, PLAIN, Info(0, 0, 1)))
    assert renderer.size() == smaller
    assert renderer.size(1 << 62) == smaller


@pytest.mark.parametrize("seed", range(3))
def test_states(seed: int) -> None:
    """states() counts base pages, and the heads of blocks whose allocation was seen."""
    data = random_records(seed, 5000)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    owners = [
        PageOwner.unpack(data[i : i + OWNER_BYTES]) for i in range(0, len(data), OWNER_BYTES)
    ]
    seen = [pfn for pfn, o in enumerate(owners) if o.is_allocated and not o.is_early]
    assert PageCounts._make(kernel_table(memory).states()) == PageCounts(
        allocated=len(seen),
        early=sum(o.is_allocated and o.is_early for o in owners),
        freed=sum(o.is_freed and not o.is_allocated for o in owners),
        heads=sum(pfn % owners[pfn].nr_pages == 0 for pfn in seen),
    )


@pytest.mark.require("shm")
def test_states_of_a_pool(tmp_path: Path) -> None:
    """states() works on the table of a pool, too."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-{tmp_path.name}"
    with Pool.create(path, 32 << 20, 0, 0, 16, 1 << 20) as pool:
        os.unlink(path)  # noqa: PTH108
        early = sum(pool.enable_page_owner(pool.capture_stack, pool.capture_stack))
        page = pool.alloc_pages(3)
        other = pool.alloc_pages(2)
        pool.free_pages(other)
        states = PageCounts._make(pool.table().states())
        assert states == PageCounts(allocated=8, early=early, freed=4, heads=1)
        pool.free_pages(page)


def test_buffers_are_held() -> None:
    """A mapping cannot be closed while a table or a reader uses it."""
    memory, scan = mapping((PLAIN, 64)), mmap.mmap(-1, SCAN_BYTES)
    table = _native.KernelTable(memory, 64, BLOCK_ORDER, EARLY.pack(), scan, -1)
    reader = _native.Renderer(table, text).reader()
    del table
    for held in (memory, scan):
        with pytest.raises(BufferError):
            held.close()
    assert reader.read(1 << 20, 0) == whole_text(memory, 64)
    del reader
    memory.close()
    scan.close()


def test_wrong_arguments() -> None:
    """Buffers of a wrong size and impossible numbers are refused."""
    memory, scan, early = mapping((PLAIN, 64)), mmap.mmap(-1, SCAN_BYTES), EARLY.pack()
    new = _native.KernelTable
    with pytest.raises(ValueError, match="page_ext has 4096 bytes"):
        new(memory, 65, BLOCK_ORDER, early, scan, -1)
    with pytest.raises(ValueError, match="scan has 4096 bytes"):
        new(memory, 64, BLOCK_ORDER, early, memory, -1)
    with pytest.raises(ValueError, match=r"page_ext lies at .* must be aligned to 8 bytes"):
        new(memoryview(memory)[4:], 63, BLOCK_ORDER, early, scan, -1)
    for wrong in (b"", early[:63], early + b"\0"):
        with pytest.raises(ValueError, match=f"early has {len(wrong)} bytes: must be 64"):
            new(memory, 64, BLOCK_ORDER, wrong, scan, -1)
    for order in (-1, 64):
        with pytest.raises(ValueError, match="pageblock_order"):
            new(memory, 64, order, early, scan, -1)
    for end_pfn in (-1, 2**58, 2**64 - 1, 2**64):
        with pytest.raises(ValueError, match=r"page_ext has|must be|no buffer"):
            new(memory, end_pfn, BLOCK_ORDER, early, scan, -1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        new(memory, 64, BLOCK_ORDER, early, scan, 2**31 - 1)
    with pytest.raises(BufferError):
        new(memory, 64, BLOCK_ORDER, early, bytes(SCAN_BYTES), 0)
    with pytest.raises(TypeError):
        new(memory, 64, BLOCK_ORDER, early, None, -1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        new(memory, 64, BLOCK_ORDER, "early", scan, -1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        new(memory, "64", BLOCK_ORDER, early, scan, -1)  # type: ignore[arg-type]
    # A failed call holds no buffer.
    memory.close()
    scan.close()


def test_readonly_memory() -> None:
    """Memory that cannot be written is enough for a table."""
    data = random_records(4, 640)
    scan = bytes(SCAN_BYTES)
    table = _native.KernelTable(data, 640, BLOCK_ORDER, EARLY.pack(), scan, -1)
    assert (table.start_pfn, table.end_pfn) == (0, 640)
    assert read_all(_native.Renderer(table, text)) == whole_text(data, 640)
