"""A real job in the pages of a pool: compress every file of Python's standard library.

    workload.py MOUNTPOINT [WORKERS]

Each worker process attaches to the pool, reads a file into pages, compresses it into other pages,
decompresses those to verify them, and frees all pages. One code path has a leak: if a file
contains bytes other than ASCII, its original is kept in pages that nobody frees. page_owner shows
who allocated them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import sysconfig
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pageownerfs import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PageOwnerError, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pageownerfs import Page

PAGE_SIZE = 4096
MAX_PAGE_ORDER = 10
MAX_FILE_BYTES = PAGE_SIZE << (MAX_PAGE_ORDER - 1)
CHUNK_BYTES = 65536


class Totals(NamedTuple):
    """What was done to one file, or to several."""

    nr_files: int = 0
    original_bytes: int = 0
    compressed_bytes: int = 0
    nr_kept: int = 0
    """Files whose original was kept in extra pages."""
    nr_too_large: int = 0
    """Files left out because their compressed form might exceed the largest block, 4 MiB."""

    def plus(self, other: Totals) -> Totals:
        """Add two totals, field by field."""
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))


def order_for(nr_bytes: int) -> int:
    """Return the order of the smallest block of that size, like the kernel's get_order()."""
    return max(0, (nr_bytes - 1) // PAGE_SIZE).bit_length()


def read_file(pool: Pool, path: Path, nr_bytes: int) -> Page:
    """Read the file into new pages."""
    page = pool.alloc_pages(order_for(nr_bytes), GFP_HIGHUSER_MOVABLE)
    with path.open("rb", buffering=0) as file, page.buffer[:nr_bytes] as text:
        done = 0
        while done < nr_bytes and (got := file.readinto(text[done:])):
            done += got
    return page


def compress(pool: Pool, text: memoryview) -> tuple[Page, int]:
    """Compress the text into pages; return them and the number of bytes used."""
    compressor = zlib.compressobj()
    # zlib's own bound, compressBound(), plus some room.
    room = len(text) + (len(text) >> 10) + 64
    page = pool.alloc_pages(order_for(room), GFP_KERNEL)
    used = 0
    with page.buffer as out:
        for start in range(0, len(text), CHUNK_BYTES):
            piece = compressor.compress(text[start : start + CHUNK_BYTES])
            out[used : used + len(piece)] = piece
            used += len(piece)
        piece = compressor.flush()
        out[used : used + len(piece)] = piece
    return page, used + len(piece)


def verify(text: memoryview, page: Page, used: int) -> None:
    """Check that the compressed data expands to the text."""
    with page.buffer[:used] as data:
        if zlib.decompress(data) != text:
            msg = f"PFN {page.pfn:#x}: the decompressed text differs"
            raise PageOwnerError(msg)


def keep_original(pool: Pool, text: memoryview) -> None:
    """Keep a copy of a text that a terminal may be unable to show, for a report nobody makes.

    This is the bug: the pages are never freed.
    """
    copy = pool.alloc_pages(order_for(len(text)), GFP_HIGHUSER_MOVABLE)
    with copy.buffer as out:
        out[: len(text)] = text


def compress_file(pool: Pool, path: Path) -> Totals:
    """Process one file."""
    nr_bytes = path.stat().st_size
    if nr_bytes > MAX_FILE_BYTES:
        return Totals(nr_too_large=1)
    page = read_file(pool, path, nr_bytes)
    with page.buffer[:nr_bytes] as text:
        compressed, used = compress(pool, text)
        verify(text, compressed, used)
        kept = not bytes(text).isascii()
        if kept:
            keep_original(pool, text)
    pool.free_pages(compressed)
    pool.free_pages(page)
    return Totals(1, nr_bytes, used, int(kept))


def work(mountpoint: str, paths: Sequence[Path]) -> Totals:
    """Process a worker's share of the files."""
    totals = Totals()
    with Pool.attach(mountpoint) as pool:
        for path in paths:
            totals = totals.plus(compress_file(pool, path))
    return totals


def standard_library() -> list[Path]:
    """List the .py files of Python's standard library, without packages installed next to it."""
    top = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(path for path in top.rglob("*.py") if not installed & set(path.parts))


def main() -> int:
    """Divide the files among the workers and print what they did."""
    mountpoint = sys.argv[1]
    nr_workers = int(sys.argv[2]) if len(sys.argv) > 2 else max(2, os.cpu_count() or 2)
    paths = standard_library()
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    # The workers inherit SIG_IGN for Ctrl-C; leaving the "with" in this process ends them.
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with context.Pool(nr_workers) as workers:
        signal.signal(signal.SIGINT, on_interrupt)
        shares = [(mountpoint, paths[i::nr_workers]) for i in range(nr_workers)]
        totals = Totals()
        for done in workers.starmap(work, shares):
            totals = totals.plus(done)
        workers.close()
        workers.join()
    print(
        f"{nr_workers} processes compressed and verified {totals.nr_files} files, "
        f"{totals.original_bytes:,} -> {totals.compressed_bytes:,} bytes, "
        f"in {time.monotonic() - start:.1f} s."
    )
    print(f"{totals.nr_kept} of the files are not plain ASCII.")
    if totals.nr_too_large:
        print(f"{totals.nr_too_large} files were left out: too large for a block of pages.")
    return 0


if __name__ == "__main__":
    # Import the module by its name, so that frames show [workload] and not [__main__].
    import workload

    try:
        raise SystemExit(workload.main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except PageOwnerError as error:
        raise SystemExit(f"workload.py: {error}") from None
