"""Table 7: the memory that tracking takes."""

from __future__ import annotations

from pathlib import Path

from pageownerfs import Pool
from pageownerfs.client import read_mount

from .mount import mounted_pool
from .report import Goal, Row, Table, limited

BLOCK_SIZE = 512  # the unit of st_blocks
KERNEL = "72 B in the kernel"


# Small enough to be committed at once when tracking is switched on.
DEPOT = "64K"


def memory_table(*, quick: bool) -> Table:
    """Table 7: bytes per page with tracking on and off."""
    size = "256M" if quick else "2G"
    options = f"page_owner=off,size={size},stack_depot={DEPOT}"
    with mounted_pool(options) as mountpoint, Pool.attach(mountpoint) as pool:
        file = Path(read_mount(mountpoint)["shm_path"])
        off, off_blocks = pool.stats(), file.stat().st_blocks
        Path(mountpoint, "page_owner_on").write_text("1\n", encoding="ascii")
        on, on_blocks = pool.stats(), file.stat().st_blocks
        nr_pages = pool.nr_pages
    grown = (on_blocks - off_blocks) * BLOCK_SIZE
    page_ext, depot = on.page_ext_bytes, on.stack_depot_max_bytes
    rows = [
        per_page("tracking on: page_ext", page_ext / nr_pages, Goal(64, unit="B"), KERNEL),
        per_page("tracking on: growth of the file, without the depot", (grown - depot) / nr_pages),
        per_page(
            "tracking off: page_ext and depot, from stats",
            (off.page_ext_bytes + off.stack_depot_bytes) / nr_pages,
            Goal(0, unit="B"),
        ),
        per_page(
            "tracking off: page_ext and depot, from the file's blocks",
            (page_ext + depot - grown) / nr_pages,
            Goal(0, unit="B"),
        ),
    ]
    notes = [
        f"pool of {size}, {nr_pages} pages; page_ext takes whole pages",
        f"switched on: {page_ext} bytes of page_ext, {depot} of stack depot;",
        f"the file's blocks grew by {grown} bytes; {page_ext + depot - grown} were there before",
    ]
    return Table("Memory of tracking", rows, notes)


def per_page(name: str, value: float, goal: Goal | None = None, peer: str = "") -> Row:
    """Make a row, rounded to a tenth of a byte because page_ext takes whole pages."""
    return limited(name, round(value, 1), "B/page", goal, peer, digits=1)
