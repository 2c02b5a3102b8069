"""Tables 1 and 2: one alloc_pages(0) and one free_pages() from Python."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import statistics
import sys
import tempfile
import threading
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import TYPE_CHECKING

from pageownerfs import PageOwnerError, Pool

from .report import Goal, Table, compared, interleaved, limited, median_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_SIZE = 4096
POOL_BYTES = 64 << 20
STACK_DEPTH = 32  # deeper than any measured stack, so that check_depth() sees its true depth
DEPOT_BYTES = 8 << 20


def register_stack(pool: Pool) -> int:
    """Capture the stack of early pages, and of pages whose own stack cannot be stored."""
    return pool.capture_stack()


@contextlib.contextmanager
def bare_pool(*, tracking: bool) -> Iterator[Pool]:
    """Yield a pool without a mount."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as directory:
        pool = Pool.create(
            os.fspath(Path(directory, "pool")), POOL_BYTES, 0, 0, STACK_DEPTH, DEPOT_BYTES
        )
        with pool:
            if tracking:
                pool.enable_page_owner(lambda: register_stack(pool), lambda: register_stack(pool))
            yield pool


def time_pairs(pool: Pool, nr: int) -> float:
    """Return the microseconds that an alloc_pages(0) and a free_pages() take."""
    alloc_pages, free_pages = pool.alloc_pages, pool.free_pages
    start = time.perf_counter_ns()
    for _ in itertools.repeat(None, nr):
        free_pages(alloc_pages())
    return (time.perf_counter_ns() - start) / nr / 1000


def time_written_pairs(pool: Pool, nr: int) -> float:
    """Like time_pairs(), but also write one byte of the page through its buffer."""
    alloc_pages, free_pages = pool.alloc_pages, pool.free_pages
    start = time.perf_counter_ns()
    for _ in itertools.repeat(None, nr):
        page = alloc_pages()
        page.buffer[0] = 1
        free_pages(page)
    return (time.perf_counter_ns() - start) / nr / 1000


def time_shared_memory(nr: int) -> float:
    """Return the microseconds to create, close and unlink a one-page segment."""
    start = time.perf_counter_ns()
    for _ in itertools.repeat(None, nr):
        segment = shared_memory.SharedMemory(create=True, size=PAGE_SIZE)
        segment.close()
        segment.unlink()
    return (time.perf_counter_ns() - start) / nr / 1000


def time_mmap(nr: int) -> float:
    """Return the microseconds to map, touch and unmap an anonymous page."""
    start = time.perf_counter_ns()
    for _ in itertools.repeat(None, nr):
        page = mmap.mmap(-1, PAGE_SIZE)
        page[0] = 1
        page.close()
    return (time.perf_counter_ns() - start) / nr / 1000


def pairs_table(*, quick: bool) -> Table:
    """Table 1: the pool and other ways to get a page of memory."""
    rounds, nr = (5, 20_000) if quick else (21, 200_000)
    with bare_pool(tracking=False) as pool:
        runs: dict[str, Callable[[], float]] = {
            "pool": lambda: time_pairs(pool, nr),
            "written": lambda: time_written_pairs(pool, nr),
            "shared_memory": lambda: time_shared_memory(nr // 200),
            "mmap": lambda: time_mmap(nr // 20),
        }
        for run in runs.values():
            run()
        times = interleaved(rounds, runs)
    text = {name: f"{statistics.median(values):.4f} us" for name, values in times.items()}
    rows = [
        compared(
            f"against {peer}",
            text[ours],
            text[key],
            median_ratio(times[key], times[ours]),
            goal,
        )
        for ours, key, peer, goal in (
            (
                "pool",
                "shared_memory",
                "shared_memory create + close + unlink",
                Goal(100, at_least=True),
            ),
            ("pool", "mmap", "anonymous mmap + touch + munmap", Goal(30, at_least=True)),
            ("written", "mmap", "the same, with our page also touched through its buffer", None),
        )
    ]
    return Table(
        "alloc_pages(0) + free_pages from Python, tracking off (ratio: times faster)",
        rows,
        [f"ours: {spread(times['pool'], 'us')}"],
    )


def nr_frames() -> int:
    """Count the caller's Python frames."""
    frame = sys._getframe(1)  # noqa: SLF001 - the pool walks the same frames
    nr = 1
    while frame.f_back is not None:
        frame = frame.f_back
        nr += 1
    return nr


def at_depth(levels: int, function: Callable[[], None]) -> None:
    """Call ``function`` from ``levels`` more frames down."""
    if levels:
        at_depth(levels - 1, function)
    else:
        function()


def call_at_depth(depth: int, function: Callable[[], None]) -> None:
    """Call ``function`` so that the functions it calls run in frame number ``depth``."""

    def start() -> None:
        # The other frames: this one, at_depth()'s first, the function's own, and its callee's.
        levels = depth - nr_frames() - 3
        if levels < 0:
            msg = f"a stack of {depth} frames is too short"
            raise ValueError(msg)
        at_depth(levels, function)

    # A new thread starts with few frames.
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()


def check_depth(pool: Pool, depth: int) -> None:
    """Check that a function called from here has a stack of ``depth`` frames."""
    found = len(pool.depot_stack(pool.capture_stack()))
    if found != depth:
        msg = f"the stack has {found} frames, not {depth}"
        raise PageOwnerError(msg)


def measure_depth(depth: int, rounds: int, nr: int) -> dict[str, list[float]]:
    """Measure a pool with tracking and one without, alternating, ``depth`` frames deep."""
    times: dict[str, list[float]] = {"off": [], "on": []}
    with bare_pool(tracking=False) as off, bare_pool(tracking=True) as on:

        def measure() -> None:
            check_depth(on, depth)
            for pool in (off, on):
                time_pairs(pool, nr)
            for number in range(rounds):
                for name, pool in (("off", off), ("on", on))[:: 1 if number % 2 else -1]:
                    times[name].append(time_pairs(pool, nr))

        call_at_depth(depth, measure)
    return times


def tracking_table(*, quick: bool) -> Table:
    """Table 2: the time that tracking adds to an alloc and a free."""
    rounds, nr = (5, 20_000) if quick else (41, 100_000)
    rows, notes = [], []
    for depth, limit in ((8, 0.5), (16, 0.8)):
        times = measure_depth(depth, rounds, nr)
        off, on = statistics.median(times["off"]), statistics.median(times["on"])
        rows.append(
            limited(
                f"{depth} Python frames deep",
                on - off,
                "us",
                Goal(limit, unit="us"),
                f"{off:.4f} us without",
            )
        )
        notes.append(f"{depth} frames, tracking on: {spread(times['on'], 'us')}")
    return Table("What tracking adds to a pair of alloc_pages(0) + free_pages", rows, notes)
