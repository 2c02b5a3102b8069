"""A long search of a table lets other threads run."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from kernel_tables import FREE, OWNER_BYTES, PLAIN, kernel_table

from pageownerfs.client import Pool
from pageownerfs.mm.record_table import new_record_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pageownerfs._native import RecordTable, Table

NR_PAGES: Final = 4 << 20
NR_RECORDS: Final = 300_000
NR_TRIES: Final = 50


@pytest.fixture
def nobody_is_made_to_let_go() -> Iterator[None]:
    """Make a thread keep the GIL until it waits or releases the GIL itself."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e6)
    yield
    sys.setswitchinterval(interval)


def others_run_during(call: Callable[[], object]) -> bool:
    """Return whether another thread makes progress during the call."""
    steps, ended = [0], threading.Event()

    def work() -> None:
        while not ended.is_set():
            steps[0] += 1
            time.sleep(1e-5)

    thread = threading.Thread(target=work)
    thread.start()
    found = False
    for _ in range(NR_TRIES):
        before = steps[0]
        call()
        found = found or steps[0] != before
        time.sleep(1e-3)
    ended.set()
    thread.join()
    return found


@pytest.mark.usefixtures("nobody_is_made_to_let_go")
def test_the_test() -> None:
    """Without a call that releases the GIL nobody else runs; with one somebody does."""
    assert not others_run_during(lambda: sum(range(100_000)))
    assert others_run_during(lambda: time.sleep(1e-2))


def free_kernel_table() -> Table:
    """Make a table whose only record is the last one."""
    memory = mmap.mmap(-1, NR_PAGES * OWNER_BYTES)
    memory[-2 * OWNER_BYTES :] = FREE.pack() + PLAIN.pack()
    return kernel_table(memory)


def unordered_table() -> RecordTable:
    """Make a table in which finding a page needs a look at all records."""
    table = new_record_table()
    table.add(NR_RECORDS, PLAIN.pack(), b"", b"", 0)
    for pfn in range(NR_RECORDS):
        table.add(pfn, PLAIN.pack(), b"", b"", 0)
    return table


@pytest.mark.usefixtures("nobody_is_made_to_let_go")
def test_heads() -> None:
    """The list of all blocks is made without the GIL."""
    table = free_kernel_table()
    assert table.heads(0, 10) == [NR_PAGES - 1]
    assert others_run_during(lambda: table.heads(0, 10))


@pytest.mark.usefixtures("nobody_is_made_to_let_go")
def test_page_of_an_unordered_table() -> None:
    """The search for a page in unordered records runs without the GIL."""
    table = unordered_table()
    assert table.has_page(NR_RECORDS)
    assert not table.has_page(NR_RECORDS + 1)
    assert others_run_during(lambda: table.has_page(NR_RECORDS + 1))
    assert others_run_during(lambda: table.page(NR_RECORDS))


@pytest.mark.require("shm")
def test_pool_closed_while_listed(tmp_path: Path) -> None:
    """A pool that is closed while threads list its pages stays mapped until they finish."""
    path = f"/dev/shm/pageownerfs-test-{os.getpid()}-{tmp_path.name}"
    pool = Pool.create(path, 256 << 20, 0, 0, 16, 1 << 20)
    os.unlink(path)  # noqa: PTH108
    pool.enable_page_owner(pool.capture_stack, pool.capture_stack)
    expected = [pool.alloc_pages(order).pfn for order in (0, 3)]
    found: list[list[int]] = []

    def list_pages(table: Table) -> None:
        found.extend(sorted(table.heads(0, 10, False)) for _ in range(20))

    threads = [threading.Thread(target=list_pages, args=(pool.table(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    pool.close()
    for thread in threads:
        thread.join()
    assert found == [sorted(expected)] * 80


def test_switched_off_while_listed() -> None:
    """A table that is switched off during a listing has no more pages, and nothing breaks."""
    table = free_kernel_table()
    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(table.heads(0, 10))) for _ in range(20)
    ]
    for i, thread in enumerate(threads):
        thread.start()
        table.on = bool(i % 2)
    for thread in threads:
        thread.join()
    assert all(heads in ([], [NR_PAGES - 1]) for heads in found)
