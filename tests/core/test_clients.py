"""Processes and threads on one pool: attached, forked, spawned, many."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.client import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pageownerfs import _native

    Fork = Callable[..., Any]
    Blocks = Callable[[Pool], Iterator[tuple[int, dict[str, Any]]]]

pytestmark = pytest.mark.require("shm")


def alloc_and_write(pool: Pool, text: bytes) -> int:
    """Allocate a page and leave it allocated."""
    page = pool.alloc_pages()
    page.buffer[: len(text)] = text
    return page.pfn


def test_page_of_another_process(pool: Pool, fork: Fork) -> None:
    """page(pfn) returns another process's page, which both can write and either can free."""
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
    """A forked child may free what the parent allocated; the parent cannot free it again."""
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
    """Two attachments of one process are two clients, and either frees the other's pages."""
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
    """A process is a client from its first operation until it closes the pool or dies."""
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
    """Slots are reused: far more processes can come and go than fit at once."""
    for _ in range(100):
        fork(alloc_and_write, pool, b"x").result()
    assert pool.clients == []
    assert pool.recover_clients() > 0
    assert pool.check() == []


def test_all_slots_taken(pool: Pool) -> None:
    """The 1025th client is refused with an explanation; when one leaves there is room again."""
    others = []
    for _ in range(1024):
        other = Pool.open(pool.path)
        others.append(other)
        other.alloc_pages()
    with pytest.raises(OSError, match="as many clients as it can have"):
        pool.alloc_pages()
    others.pop().close()
    pool.alloc_pages()
    assert pool.check() == []
    for other in others:
        other.close()


def in_process(pool: Pool, queue: Any) -> None:
    """The job of a multiprocessing process."""
    page = pool.alloc_pages(1)
    page.buffer[:5] = b"hello"
    queue.put((page.pfn, os.getpid()))


def test_multiprocessing_fork(tracked: Pool) -> None:
    """With multiprocessing and fork, the child continues with the parent's attachment."""
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
        assert tracked.page_info(pfn).page_owner.tgid == pid
    queue.close()


SPAWN = """
import multiprocessing, os, sys
from pageownerfs.client import Pool

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
    """With multiprocessing and spawn, the child attaches itself."""
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
        assert tracked.page_info(pfn).page_owner.tgid == pid


def test_threads(tracked: Pool, conserved: Callable[[Pool], None]) -> None:
    """Threads share one attachment: nothing is handed out twice, and nothing is lost."""
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
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
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
