"""One client of the storm: it allocates, writes, checks and frees until it is killed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs import (
    __GFP_COMP,
    __GFP_RECLAIMABLE,
    __GFP_ZERO,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    OutOfMemoryError,
    Pool,
)

if TYPE_CHECKING:
    from pageownerfs import Page

# Aliased to a name that a class may use: in a class body, two leading underscores get mangled.
ZERO: Final = __GFP_ZERO
MASKS: Final = (
    GFP_KERNEL,
    GFP_KERNEL | ZERO,
    GFP_KERNEL | __GFP_RECLAIMABLE,
    GFP_KERNEL | __GFP_COMP,
    GFP_HIGHUSER_MOVABLE,
    GFP_ATOMIC,
)
ORDERS: Final = (*(0,) * 12, 1, 2, 3, 4, 5, 9, 10)
MAX_SPLIT_ORDER: Final = 5
MAX_HELD: Final = 300


def page_pattern(tgid: int, pfn: int) -> bytes:
    """Return what a worker writes to the beginning of each block that it holds."""
    return f"soak {tgid} {pfn:#x}\n".encode()


class Worker:
    """The actions of one worker process."""

    def __init__(self, pool: Pool, seed: int) -> None:
        """Start without pages."""
        self._pool = pool
        self._random = random.Random(seed)  # noqa: S311 - repeatable
        self._held: list[Page] = []

    def step(self) -> None:
        """Do one random thing."""
        number = self._random.random()
        if number < 0.55 or not self._held:
            self._alloc()
        elif number < 0.6:
            self._split()
        else:
            self._free(self._random.randrange(len(self._held)))
        while len(self._held) > MAX_HELD:
            self._free(self._random.randrange(len(self._held)))

    def _alloc(self) -> None:
        mask, order = self._random.choice(MASKS), self._random.choice(ORDERS)
        try:
            page = self._pool.alloc_pages(order, mask)
        except OutOfMemoryError:
            while len(self._held) > MAX_HELD // 10:
                self._free(-1)
            return
        if mask & ZERO and any(page.buffer[:64]):
            msg = f"PFN {page.pfn:#x} is not zeroed"
            raise AssertionError(msg)
        self._write(page)
        self._held.append(page)

    def _write(self, page: Page) -> None:
        text = page_pattern(os.getpid(), page.pfn)
        page.buffer[: len(text)] = text

    def _split(self) -> None:
        index = self._random.randrange(len(self._held))
        page = self._held[index]
        if not 0 < page.order <= MAX_SPLIT_ORDER:
            return
        if self._pool.page_info(page.pfn).flags & 1 << 6:  # compound
            return
        parts = self._pool.split_page(page, 0)
        for part in parts:
            self._write(part)
        self._held[index : index + 1] = parts

    def _free(self, index: int) -> None:
        page = self._held.pop(index)
        text = page_pattern(os.getpid(), page.pfn)
        found = bytes(page.buffer[: len(text)])
        if found != text:
            msg = f"PFN {page.pfn:#x} was overwritten by another process: {found!r}"
            raise AssertionError(msg)
        # Erase the pattern: the next owner may die before writing its own.
        page.buffer[: len(text)] = bytes(len(text))
        self._pool.free_pages(page)


def work(mountpoint: str, seed: int) -> None:
    """Work until killed."""
    Path("/proc/self/comm").write_text(f"soak {os.getpid()}", encoding="ascii")
    with Pool.attach(mountpoint) as pool:
        worker = Worker(pool, seed)
        while True:
            worker.step()
