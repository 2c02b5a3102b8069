"""While others allocate, every record that is read belongs to one allocation."""

from __future__ import annotations

import ctypes
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from minimal_source import MinimalSource
from open_files import read_at

from pageownerfs.client import Pool
from pageownerfs.mm import gfp
from pageownerfs.mm.gfp import format_gfp
from pageownerfs.mm.stack_depot import format_stack
from pageownerfs.sources.pool import source as pool_source
from pageownerfs.views import make_tree
from pageownerfs.views.page_owner import PageOwnerView

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs import _native

pytestmark = pytest.mark.require("shm")

NR_RECORDS = 10_000_000
CHUNK_BYTES = 1 << 20
PR_SET_NAME = 15

# The order, mask, comm and function of each worker. All have one migratetype and orders above 0,
# so that the next worker gets what another has freed.
WORKERS = (
    (1, gfp.GFP_KERNEL, "first", "alloc_first"),
    (1, gfp.GFP_USER, "the second", "alloc_second"),
    (2, gfp.GFP_NOFS, "3 (three), ts 3", "alloc_third"),
)
NR_BLOCKS = 200  # the most that a worker holds


class TextSource(MinimalSource):
    """The part of a source that PageOwnerView needs."""

    def __init__(self, pool: Pool) -> None:
        """Look at a pool."""
        self._pool = pool

    def table(self) -> _native.Table:
        """Return the owners."""
        return self._pool.table()

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack."""
        del source_lines
        return format_stack(self._pool.stack(handle))


def hammer(path: str, number: int) -> None:
    """Allocate and free as fast as possible, always in the same way, until killed."""
    order, gfp_mask, comm, function = WORKERS[number]
    ctypes.CDLL(None).prctl(PR_SET_NAME, comm.encode(), 0, 0, 0)
    with Pool.open(path) as pool:
        space: dict[str, Any] = {
            "pool": pool,
            "order": order,
            "mask": gfp_mask,
            "__name__": "torn",
        }
        exec(f"def {function}(): return pool.alloc_pages(order, mask)", space)
        alloc = space[function]
        while True:
            pages = [alloc() for _ in range(NR_BLOCKS)]
            os.sched_yield()
            for page in pages:
                pool.free_pages(page)
            os.sched_yield()


def record_of(number: int, pid: int) -> bytes:
    """Return a pattern for any record of a worker; only time and place are open."""
    order, gfp_mask, comm, function = WORKERS[number]
    fixed = f"order {order}, mask {format_gfp(gfp_mask)}, pid {pid}, tgid {pid} ({comm}), ts "
    return (
        b"Page allocated via "
        + re.escape(fixed.encode())
        + rb"[0-9]+ ns\nPFN 0x[0-9a-f]+ type Unmovable Block [0-9]+ type (?:Unmovable|Movable)"
        + rb" Flags 0x[0-9a-f]+\(zone=[0-2]\)\n "
        + function.encode()
        + rb"\+0x[0-9a-f]+/0x[0-9a-f]+ \[torn\]\n\n"
    )


def early_record(pool: Pool) -> bytes:
    """Return a pattern for the records of page_ext's own pages."""
    pfn = pool.nr_pages - 1
    while pool.page_info(pfn).state != "allocated":
        pfn -= 1
    owner = pool.page_info(pfn).page_owner
    comm: bytes = owner.comm
    stack = format_stack(pool.stack(owner.handle))
    head = f"order 0, mask 0x0(), pid {owner.pid}, tgid {owner.tgid} ("
    return (
        b"Page allocated via "
        + re.escape(head.encode() + comm)
        + rb"\), ts %d ns\nPFN 0x[0-9a-f]+ type Unmovable Block [0-9]+ type [A-Z][a-z]+ Flags "
        % owner.ts_nsec
        + rb"0x[0-9a-f]+\(zone=[0-2]\)\n"
        + re.escape(stack)
        + rb"\n"
    )


@pytest.mark.slow
def test_no_torn_record(make_pool: Callable[..., Pool], fork: Callable[..., Any]) -> None:
    """Ten million records, read while three processes allocate, each belong to one process."""
    pool = make_pool(16, stack_depth=1)
    pool_source.init_page_owner(pool)
    early = early_record(pool)
    children = [fork(hammer, pool.path, number) for number in range(len(WORKERS))]
    records = [record_of(number, child.pid) for number, child in enumerate(children)]
    whole = re.compile(b"|".join((*records, early)))
    view = make_tree(TextSource(pool)).lookup("page_owner")
    assert isinstance(view, PageOwnerView)
    nr_records = nr_passes = 0
    seen = [0] * len(children)
    while nr_records < NR_RECORDS:
        reader, offset = view.open(), 0
        while text := read_at(reader, CHUNK_BYTES, offset):
            rest, nr_found = whole.subn(b"", text)
            assert rest == b"", f"a torn record at {offset}, pass {nr_passes}: {rest[:500]!r}"
            nr_records += nr_found
            offset += len(text)
            if nr_passes % 16 == 0:
                for number, (_, _, _, function) in enumerate(WORKERS):
                    seen[number] += text.count(function.encode())
        nr_passes += 1
    assert min(seen) > 0
    for child in children:
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
        child.kill()
    assert pool.stats().pgalloc > NR_RECORDS // 10
