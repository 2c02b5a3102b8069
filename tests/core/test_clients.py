"""Processes and threads on one pool: at once, after fork and spawn, and killed at any moment."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp
from pageownerfs.mm.page_alloc import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pageownerfs import _native

    Fork = Callable[..., Any]
    Blocks = Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]]

pytestmark = pytest.mark.require("shm")

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
    """Whether a block, or what it was split from, carries the signature of the process."""
    with page.buffer as buffer:
        return bytes(buffer[:8]) == (pid << 32 | pfn).to_bytes(8, "little") == bytes(buffer[-8:])


# ---- ways to be a client ----


def alloc_and_write(pool: Pool, text: bytes) -> int:
    """Allocate a page and leave it."""
    page = pool.alloc_pages()
    page.buffer[: len(text)] = text
    return page.pfn


def test_page_of_another_process(pool: Pool, fork: Fork) -> None:
    """page(pfn) is another process's page: its contents both ways, and it can be freed."""
    pfn = fork(alloc_and_write, pool, b"from the child").result()
    page = pool.page(pfn)
    assert bytes(page.buffer[:14]) == b"from the child"
    assert (page.pfn, page.order, pool.page_count(page)) == (pfn, 0, 1)
    pool.free_pages(page)
    assert pool.page_count(pfn) == 0


def free_by_object(pool: Pool, page: _native.Page) -> None:
    """Free the parent's page."""
    pool.free_pages(page)


def test_child_frees_parents_page(
    pool: Pool, fork: Fork, conserved: Callable[[Pool], None]
) -> None:
    """A forked child may free what the parent has allocated; the parent can't do it again."""
    for order in (0, 3):
        page = pool.alloc_pages(order)
        fork(free_by_object, pool, page).result()
        with pytest.raises(ValueError, match="not allocated"):
            pool.free_pages(page)
    pool.recover_clients()
    conserved(pool)


def test_shared_references(pool: Pool, fork: Fork) -> None:
    """A page that two processes hold is freed by the last one."""
    page = pool.alloc_pages(2)
    pool.get_page(page.pfn)
    fork(free_by_object, pool, page).result()
    assert pool.page_count(page) == 1
    page.buffer[:1] = b"x"
    pool.free_pages(page)
    assert pool.page_count(page) == 0


def test_attached_twice(pool: Pool, conserved: Callable[[Pool], None]) -> None:
    """Two attachments of one process are two clients; either frees the other's pages."""
    with Pool.open(pool.path) as other:
        pages = [one.alloc_pages(order) for order in (0, 2) for one in (pool, other)]
        assert len({page.pfn for page in pages}) == 4
        assert [client.tgid for client in pool.clients] == [os.getpid()] * 2
        for page, one in zip(pages, (other, pool, other, pool), strict=True):
            one.free_pages(page)
        conserved(pool)
        conserved(other)
    assert len(pool.clients) == 1


def test_client_list(pool: Pool, fork: Fork) -> None:
    """A process is a client from its first operation until it closes, or dies."""
    assert pool.clients == []
    pool.alloc_pages()
    (client,) = pool.clients
    assert (client.pid, client.tgid) == (threading.get_native_id(), os.getpid())
    assert client.nr_pcp == sum(zone.nr_pcp for zone in pool.zones)
    fork(alloc_and_write, pool, b"").result()
    assert len(pool.clients) == 1
    assert pool.recover_clients() == 1
    assert pool.recover_clients() == 0
    pool.close()
    with Pool.open(pool.path) as other:
        assert other.clients == []


def test_more_processes_than_slots_at_once(pool: Pool, fork: Fork) -> None:
    """Slots are used again: many more processes can come and go than fit at once."""
    for _ in range(100):
        fork(alloc_and_write, pool, b"x").result()
    assert pool.clients == []
    assert pool.recover_clients() > 0
    assert pool.check() == []


def test_all_slots_taken(pool: Pool) -> None:
    """The 1025th client is refused in words; when one has left there is room again."""
    others = []
    for _ in range(1024):
        other = Pool.open(pool.path)
        others.append(other)
        other.alloc_pages()
    with pytest.raises(OSError, match="1024 clients already"):
        pool.alloc_pages()
    others.pop().close()
    pool.alloc_pages()
    assert pool.check() == []
    for other in others:
        other.close()


def in_process(pool: Pool, queue: Any) -> None:
    """What a process of multiprocessing does."""
    page = pool.alloc_pages(1)
    page.buffer[:5] = b"hello"
    queue.put((page.pfn, os.getpid()))


def test_multiprocessing_fork(tracked: Pool) -> None:
    """With multiprocessing and fork: the child goes on with the parent's attachment."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    tracked.alloc_pages()
    processes = [context.Process(target=in_process, args=(tracked, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for pfn, pid in found.items():
        assert bytes(tracked.page(pfn).buffer[:5]) == b"hello"
        assert tracked.page_info(pfn)["page_owner"]["tgid"] == pid
    queue.close()


SPAWN = """
import multiprocessing, os, sys
from pageownerfs.mm.page_alloc import Pool

def run(path, queue):
    with Pool.open(path) as pool:
        page = pool.alloc_pages(1)
        page.buffer[:5] = b"hello"
        queue.put((page.pfn, os.getpid()))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=run, args=(sys.argv[1], queue)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        print(*queue.get())
    for process in processes:
        process.join()
        assert process.exitcode == 0
"""


def test_multiprocessing_spawn(tracked: Pool, tmp_path: Path) -> None:
    """With multiprocessing and spawn: the child attaches by itself."""
    script = tmp_path / "spawn.py"
    script.write_text(SPAWN)
    command = [sys.executable, str(script), tracked.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    found = {int(pfn): int(pid) for pfn, pid in lines}
    assert len(found) == 2
    for pfn, pid in found.items():
        assert bytes(tracked.page(pfn).buffer[:5]) == b"hello"
        assert tracked.page_info(pfn)["page_owner"]["tgid"] == pid


def test_threads(tracked: Pool, conserved: Callable[[Pool], None]) -> None:
    """Threads share one attachment: nothing is given out twice, nothing lost."""
    errors: list[BaseException] = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        held: list[_native.Page] = []
        try:
            for _ in range(4000):
                if len(held) < chance.randrange(60):
                    page = tracked.alloc_pages(chance.choice((0, 0, 0, 1, 4)))
                    page.buffer[:8] = (seed << 32 | page.pfn).to_bytes(8, "little")
                    held.append(page)
                elif held:
                    page = held.pop(chance.randrange(len(held)))
                    assert bytes(page.buffer[:8]) == (seed << 32 | page.pfn).to_bytes(8, "little")
                    tracked.free_pages(page)
            for page in held:
                tracked.free_pages(page)
        except BaseException as error:  # noqa: BLE001 - for the main thread to raise
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert tracked.check() == []
        tracked.report_free_pages()
    for thread in threads:
        thread.join()
    assert errors == []
    conserved(tracked)


# ---- killed ----


def storm(path: str, seed: int, journal: mmap.mmap) -> None:  # noqa: C901 - one loop of cases
    """Work until killed; journal[pfn] is the order + 1 of a block that we hold for certain."""
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
    """Split one of the blocks, if it can be."""
    page = held[index]
    if page.order == 0 or pool.page_info(page.pfn)["flags"] >> 6 & 1:  # PG_head: compound
        return
    journal[page.pfn] = 0
    held[index] = held[-1]
    held.pop()
    for part in pool.split_page(page, page.order // 2):
        keep(part)


class Storm:
    """Processes in a storm, and what their journals say."""

    def __init__(self, pool: Pool, fork: Fork, nr_workers: int) -> None:
        """Start them."""
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
        """Kill one; its pid, and the PFN and order of each block that it had for certain."""
        child, journal = self.workers.pop(index)
        child.kill()
        if not os.WIFSIGNALED(child.status):
            child.result()
        child.end()
        held = {pfn: order - 1 for pfn, order in enumerate(journal[:]) if order}
        journal.close()
        return child.pid, held


def blocks_of(pool: Pool, blocks: Blocks, pid: int) -> dict[int, int]:
    """PFN and order of each block that a dead process has left, by their owner."""
    return {
        pfn: info["order"]
        for pfn, info in blocks(pool)
        if info["page_owner"]["tgid"] == pid and not info["page_owner"]["state"] & 4
    }


def assert_left(pool: Pool, pid: int, held: dict[int, int], left: dict[int, int]) -> None:
    """What it held is left, with its contents; besides, the block of its last step at most."""
    assert held.items() <= left.items(), f"lost: {held.items() - left.items()}"
    for pfn in held:
        assert is_signed(pool.page(pfn), pid, pfn), f"PFN {pfn:#x} was written to"
    unsure = [pfn for pfn in left if pfn not in held]
    assert len({pfn >> 10 for pfn in unsure}) <= 1, unsure


def test_kills(make_pool: Callable[..., Pool], fork: Fork, blocks: Blocks) -> None:
    """Of 1,000 clients killed at any moment nothing is lost, nothing is handed out twice."""
    pool = make_pool(24, 4, page_owner=True)
    initial = pool.free_pages_by_order()
    seed = 1
    chance = random.Random(seed)
    work = Storm(pool, fork, 3)
    for nr_kills in itertools.count(1):
        time.sleep(chance.random() * 0.02)
        pid, held = work.kill(chance.randrange(len(work.workers)))
        if chance.random() < 0.5:  # the others may be the first to meet what it has left
            time.sleep(chance.random() * 0.005)
        pool.recover_clients()
        assert pool.check() == [], f"seed {seed}, kill {nr_kills}"
        left = blocks_of(pool, blocks, pid)
        assert_left(pool, pid, held, left)
        if pool.stats()["dead_clients"] >= NR_KILLS:  # some die before they are clients
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
    """What the dead have left is all that is allocated, besides the early pages. Frees it."""
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
    assert nr_free + pool.stats()["early_pages"] == pool.managed_pages


def large_zeroed(pool: Pool) -> None:
    """Be inside of the allocator most of the time: zero large blocks."""
    while True:
        pool.free_pages(pool.alloc_pages(10, gfp.GFP_KERNEL | gfp.__GFP_ZERO))


def test_killed_while_it_zeroes(
    tracked: Pool, fork: Fork, conserved: Callable[[Pool], None]
) -> None:
    """A block whose memory was being zeroed is no allocation yet; check() alone copes with it."""
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
    """While a client stands still inside the allocator others go on, or get an error."""
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
    """Allocate, write, verify and free for a time; number of steps."""
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
    """Eight processes at once for 30 seconds: every page keeps what its holder wrote."""
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
    assert stats["pgalloc"] == stats["pgfree"] > 0
    assert stats["dead_clients"] == stats["zone_rebuilds"] == 0
