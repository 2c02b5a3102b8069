"""A page's record after each event."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.client import Pool
from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_EXT_OWNER_FREED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native
    from pageownerfs.mm.dump_page import PageInfo
    from pageownerfs.mm.page_ext import PageOwner

    Fork = Callable[..., Any]

pytestmark = pytest.mark.require("shm")

PR_SET_NAME = 15
COMM = Path("/proc/thread-self/comm")


def owner(pool: Pool, pfn: int) -> PageOwner:
    """Return the record of a page."""
    record = pool.page_info(pfn).page_owner
    assert record is not None
    return record


def pfns(page: _native.Page) -> range:
    """Return the PFNs of a block."""
    return range(page.pfn, page.pfn + (1 << page.order))


# ---- the record ----


@pytest.mark.parametrize("order", [0, 1, 5, 10])
@pytest.mark.parametrize("gfp_mask", [gfp.GFP_KERNEL, gfp.GFP_KERNEL | gfp.__GFP_COMP, 0x100CCA])
def test_allocation(tracked: Pool, order: int, gfp_mask: int) -> None:
    """Every page of a block gets the same record: who, how, when, with a single time."""
    before = time.monotonic_ns()
    page = tracked.alloc_pages(order, gfp_mask)
    after = time.monotonic_ns()
    records = [owner(tracked, pfn) for pfn in pfns(page)]
    assert all(record == records[0] for record in records)
    record = records[0]
    assert record.order == order
    assert record.gfp_mask == gfp_mask
    assert record.pid == threading.get_native_id()
    assert record.tgid == os.getpid()
    assert record.comm == COMM.read_bytes()[:-1]
    assert before <= record.ts_nsec <= after
    assert record.last_migrate_reason == -1
    assert record.handle != 0
    assert (record.state, record.free_handle, record.free_ts_nsec) == (
        PAGE_EXT_OWNER_ALLOCATED,
        0,
        0,
    )
    assert record.pageblock_migratetype == tracked.page_info(page.pfn).migratetype


def freed_by(path: str, pfn: int) -> tuple[int, int]:
    """Free a page of another process in a thread; return the thread's pid and tgid."""
    with Pool.open(path) as pool:
        ids: list[int] = []

        def run() -> None:
            pool.free_pages(pfn)
            ids.append(threading.get_native_id())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return ids[0], os.getpid()


@pytest.mark.parametrize("order", [0, 3])
def test_free(tracked: Pool, fork: Fork, order: int) -> None:
    """A free keeps the allocation's data and adds who freed the page, when and from where."""
    page = tracked.alloc_pages(order)
    allocated = owner(tracked, page.pfn)
    before = time.monotonic_ns()
    pid, tgid = fork(freed_by, tracked.path, page.pfn).result()
    after = time.monotonic_ns()
    for pfn in pfns(page):
        record = owner(tracked, pfn)
        assert before <= record.free_ts_nsec <= after
        assert (record.free_pid, record.free_tgid) == (pid, tgid)
        assert record.free_pid != record.free_tgid
        assert tracked.depot_stack(record.free_handle)[0][0] == "freed_by.<locals>.run"
        assert record.state == PAGE_EXT_OWNER_FREED
        names = ("state", "free_ts_nsec", "free_pid", "free_tgid", "free_handle")
        changed = {name: getattr(record, name) for name in names}
        assert record == allocated._replace(**changed)


def test_allocation_after_free(tracked: Pool) -> None:
    """A new allocation replaces the previous one and keeps the data of the last free."""
    page = tracked.alloc_pages()
    tracked.free_pages(page)
    freed = owner(tracked, page.pfn)
    again = tracked.alloc_pages(0, gfp.GFP_USER)
    record = owner(tracked, again.pfn)
    assert again.pfn == page.pfn
    assert record.state == PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_FREED
    assert record.gfp_mask == gfp.GFP_USER
    assert record.ts_nsec > freed.ts_nsec
    for name in ("free_ts_nsec", "free_pid", "free_tgid", "free_handle"):
        assert getattr(record, name) == getattr(freed, name)


def test_split(tracked: Pool) -> None:
    """A split rewrites the order on all pages, and nothing else."""
    page = tracked.alloc_pages(6)
    before = [owner(tracked, pfn) for pfn in pfns(page)]
    start = page.pfn
    parts = tracked.split_page(page, 2)
    assert [owner(tracked, start + nr) for nr in range(64)] == [
        record._replace(order=2) for record in before
    ]
    tracked.split_page(parts[3])
    assert [owner(tracked, start + nr).order for nr in range(8, 20)] == [2] * 4 + [0] * 4 + [2] * 4


def test_references_leave_the_record(tracked: Pool) -> None:
    """Taking and dropping references changes nothing until the last one is dropped."""
    page = tracked.alloc_pages(2)
    before = owner(tracked, page.pfn)
    tracked.get_page(page)
    tracked.put_page(page)
    assert owner(tracked, page.pfn) == before
    tracked.put_page(page)
    assert owner(tracked, page.pfn).state == PAGE_EXT_OWNER_FREED


# ---- switching on ----


def test_off(pool: Pool) -> None:
    """Without tracking there is no record, no depot, no stack."""
    page = pool.alloc_pages()
    assert not pool.page_owner_on
    assert pool.page_info(page.pfn).page_owner is None
    assert pool.capture_stack() == 0
    with pytest.raises(ValueError, match="no stack in the depot"):
        pool.depot_stack(1)


def test_early_pages(
    make_pool: Callable[..., Pool], enable_page_owner: Callable[[Pool], list[int]]
) -> None:
    """Older pages become early pages: order 0, mask 0, one stack, counted for each zone."""
    pool = make_pool(64, 16)
    masks = {0: gfp.GFP_KERNEL | gfp.GFP_DMA, 1: gfp.GFP_KERNEL, 2: gfp.GFP_HIGHUSER_MOVABLE}
    pages = {
        zone: [pool.alloc_pages(order, masks[zone]) for order in (0, 0, 3, 9)] for zone in masks
    }
    freed = [pool.alloc_pages(order) for order in (0, 4)]
    for page in freed:
        pool.free_pages(page)
    managed = pool.managed_pages
    before = time.monotonic_ns()
    nr_early = enable_page_owner(pool)
    assert pool.page_owner_on
    nr_page_ext_pages = pool.stats().page_ext_bytes // 4096
    metadata = [0, nr_page_ext_pages, 0]
    assert nr_early == [count + 1 + 1 + 8 + 512 for count in metadata]
    assert pool.stats().early_pages == sum(nr_early)
    assert pool.managed_pages == managed + nr_page_ext_pages
    handles = set()
    for pfn in [pfn for zone in pages.values() for page in zone for pfn in pfns(page)]:
        record = owner(pool, pfn)
        handles.add(record.handle)
        assert record.state == PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY
        assert (record.order, record.gfp_mask) == (0, 0)
        assert record.tgid == os.getpid()
        assert record.ts_nsec >= before
    assert len(handles) == 1
    for pfn in [pfn for page in freed for pfn in pfns(page)]:
        assert owner(pool, pfn).state == 0
    for page in [page for zone in pages.values() for page in zone]:
        pool.free_pages(page)
        assert owner(pool, page.pfn).state == PAGE_EXT_OWNER_FREED
    assert enable_page_owner(pool) == [0, 0, 0]


def allocate_for_ever(path: str, seed: int) -> None:
    """Allocate and free until killed."""
    import random

    chance = random.Random(seed)
    with Pool.open(path) as pool:
        held: list[_native.Page] = []
        while True:
            with contextlib.suppress(OutOfMemoryError):
                held.append(pool.alloc_pages(chance.choice((0, 0, 0, 1, 3, 6)), gfp.GFP_KERNEL))
            if len(held) > chance.randrange(200):
                held[0], held[-1] = held[-1], held[0]
                pool.free_pages(held.pop())


def test_switched_on_in_a_storm(
    make_pool: Callable[..., Pool],
    enable_page_owner: Callable[[Pool], list[int]],
    blocks: Callable[[Pool], Iterator[tuple[int, PageInfo]]],
    fork: Fork,
) -> None:
    """Whatever four processes are doing, afterwards every allocated page has an owner."""
    for turn in range(40):
        pool = make_pool(24, 4)
        children = [fork(allocate_for_ever, pool.path, turn * 4 + nr) for nr in range(4)]
        while pool.stats().pgalloc < 4000:
            time.sleep(0.001)
        nr_early = enable_page_owner(pool)
        assert sum(nr_early) > 0
        for _ in range(20):
            assert pool.check() == []
        for child in children:
            child.kill()
        pool.recover_clients()
        assert pool.check() == []
        owners = [(info, info.page_owner) for _pfn, info in blocks(pool)]
        assert len(owners) > 0
        tgids = {child.pid for child in children}
        for info, record in owners:
            early = bool(record.state & PAGE_EXT_OWNER_EARLY)
            assert record.state & PAGE_EXT_OWNER_ALLOCATED
            assert record.handle != 0
            assert early or record.tgid in tgids
            assert record.order == (0 if early else info.order)


# ---- who ----


@pytest.mark.parametrize(
    "comm",
    [
        b"worker",
        b"a) b), ts 5 ns",
        b"two\nlines",
        b"",
        b"\xff\xfe\x80raw",
        b"x" * 15,
        b"\xc3\xa9" * 7,
    ],
)
@pytest.mark.parametrize("how", ["prctl", "proc"])
def test_comm(tracked: Pool, comm: bytes, how: str) -> None:
    """However a name was changed, the next record has it, byte for byte."""
    old = COMM.read_bytes()[:-1]

    def change(name: bytes) -> None:
        if how == "prctl":
            assert ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0) == 0
        else:
            COMM.write_bytes(name or b"\0")

    tracked.free_pages(tracked.alloc_pages())
    try:
        change(comm)
        page = tracked.alloc_pages(1)
        assert owner(tracked, page.pfn).comm == comm
        assert owner(tracked, page.pfn + 1).comm == comm
    finally:
        change(old)
    tracked.free_pages(page)
    assert owner(tracked, tracked.alloc_pages().pfn).comm == old


def test_thread(tracked: Pool) -> None:
    """The pid is the thread's and the tgid the process's; each thread has its own name."""
    pages: list[_native.Page] = []
    pids: list[int] = []

    def run() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"some thread", 0, 0, 0)
        pages.append(tracked.alloc_pages())
        pids.append(threading.get_native_id())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    record = owner(tracked, pages[0].pfn)
    assert (record.pid, record.tgid) == (pids[0], os.getpid())
    assert record.pid != record.tgid
    assert record.comm == b"some thread"
    assert owner(tracked, tracked.alloc_pages().pfn).comm != b"some thread"


def pid_in_child(pool: Pool) -> tuple[PageOwner, int]:
    """Allocate with the parent's attachment."""
    return owner(pool, pool.alloc_pages().pfn), os.getpid()


def test_fork(tracked: Pool, fork: Fork) -> None:
    """A forked child is recorded under its own pid at once."""
    tracked.alloc_pages()
    record, pid = fork(pid_in_child, tracked).result()
    assert record.pid == record.tgid == pid != os.getpid()
