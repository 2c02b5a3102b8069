"""Tables of the kernel source in memory of this process, and the text that belongs to them."""

from __future__ import annotations

import mmap
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from page_owner_layout import PAGE_OWNER_LAYOUT

from pageownerfs import _native
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_EXT_OWNER_FREED,
    PageOwner,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE: Final = Path(__file__).resolve().parents[2] / "pageownerfs" / "native"
OWNER_BYTES: Final = 64
BLOCK_ORDER: Final = 9
BATCH: Final = 1024
SCAN_BYTES: Final = 8 + BATCH * 8 + BATCH * 24
INFO_OFFSET: Final = 8 + BATCH * 8
STATE: Final = PAGE_OWNER_LAYOUT["state"]
EARLY_STATE: Final = PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY
WORDS: Final = {
    _native.TEXT_GFP: b"%#x(GFP)",
    _native.TEXT_FLAGS: b"flags|of|%d",
    _native.TEXT_STACK: b" f%d+0x1/0x2\n g+0x0/0x1 [mod]\n",
    _native.TEXT_MIGRATE_REASON: b"reason %d",
    _native.TEXT_MIGRATETYPE: b"Type%d",
    _native.TEXT_MEMCG: b"Charged to memcg %d\n",
}

PLAIN: Final = PageOwner(
    ts_nsec=1000,
    free_ts_nsec=0,
    gfp_mask=0xCC8,
    pid=7,
    tgid=6,
    handle=5,
    free_handle=0,
    free_pid=0,
    free_tgid=0,
    order=0,
    last_migrate_reason=-1,
    state=PAGE_EXT_OWNER_ALLOCATED,
    pageblock_migratetype=1,
    comm=b"plain",
)
FREE: Final = PLAIN._replace(state=PAGE_EXT_OWNER_FREED)
EARLY: Final = PLAIN._replace(
    ts_nsec=44, gfp_mask=0, pid=1, tgid=1, handle=30, state=EARLY_STATE, comm=b"swapper/0"
)
# More than an allocation long ago may have left in the record of an early page.
GARBAGE: Final = PageOwner(
    2**64 - 1, 3, 0xFFFFFFFF, -9, -8, 0, 6, 7, 8, 250, 5, EARLY_STATE, 1, b"garbage"
)


class Info(NamedTuple):
    """What is known about a page besides its record."""

    flags: int
    memcg: int
    pageblock_migratetype: int


def text(kind: int, value: int) -> bytes:
    """Return some text, different for each value."""
    return WORDS[kind] % value


def record_text(pfn: int, owner: PageOwner, info: Info) -> bytes:
    """Format a record."""
    head = b"Page allocated via order %d, mask %s, pid %d, tgid %d (%s), ts %d ns\n" % (
        owner.order,
        text(_native.TEXT_GFP, owner.gfp_mask),
        owner.pid,
        owner.tgid,
        owner.comm,
        owner.ts_nsec,
    )
    place = b"PFN %#x type %s Block %d type %s Flags %#x(%s)\n" % (
        pfn,
        text(_native.TEXT_MIGRATETYPE, owner.gfp_mask >> 3 & 3),
        pfn >> BLOCK_ORDER,
        text(_native.TEXT_MIGRATETYPE, info.pageblock_migratetype),
        info.flags,
        text(_native.TEXT_FLAGS, info.flags),
    )
    notes = b""
    if owner.last_migrate_reason >= 0:
        reason = text(_native.TEXT_MIGRATE_REASON, owner.last_migrate_reason)
        notes = b"Page has been migrated, last migrate reason: %s\n" % reason
    if info.memcg:
        notes += text(_native.TEXT_MEMCG, info.memcg)
    return head + place + text(_native.TEXT_STACK, owner.handle) + notes + b"\n"


def records_of(data: mmap.mmap | bytes, end_pfn: int) -> Iterator[tuple[int, PageOwner]]:
    """Yield the records that must be printed."""
    pfn = 0
    while pfn < end_pfn:
        owner = PageOwner.unpack(data[pfn * OWNER_BYTES : (pfn + 1) * OWNER_BYTES])
        if owner.is_early:
            owner = EARLY._replace(state=owner.state)
        tail = pfn % (1 << owner.order % 64)
        if not owner.is_allocated or tail or not owner.handle:
            pfn += 1
            continue
        yield pfn, owner
        pfn += 1 << owner.order if owner.order <= _native.MAX_PAGE_ORDER else 1


def whole_text(
    data: mmap.mmap | bytes, end_pfn: int, info: Callable[[int], Info] | None = None
) -> bytes:
    """Format a table; ``info`` returns None for a PFN whose page cannot be queried."""
    found = records_of(data, end_pfn)
    return b"".join(
        record_text(pfn, owner, info(pfn) if info else Info(0, 0, owner.pageblock_migratetype))
        for pfn, owner in found
    )


def mapping(*runs: tuple[PageOwner, int]) -> mmap.mmap:
    """Return memory with the records, each repeated ``nr`` times."""
    data = b"".join(owner.pack() * nr for owner, nr in runs)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


def kernel_table(memory: mmap.mmap, end_pfn: int | None = None) -> _native.KernelTable:
    """Make a table over memory, without a BPF program."""
    end_pfn = len(memory) // OWNER_BYTES if end_pfn is None else end_pfn
    scan = mmap.mmap(-1, SCAN_BYTES)
    return _native.KernelTable(memory, end_pfn, BLOCK_ORDER, EARLY.pack(), scan, -1)


def read_all(renderer: _native.Renderer, size: int = 128 << 10) -> bytes:
    """Read from the first byte to the end."""
    reader, parts, offset = renderer.reader(), [], 0
    while part := reader.read(size, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def random_records(seed: int, nr: int) -> bytes:
    """Make random records in any order, as a reader may meet them while pages change hands."""
    chance = random.Random(seed)
    states = (0, 1, 1, 1, 2, 3, 5, 5, 7, 9)
    out = bytearray()
    while len(out) < nr * OWNER_BYTES:
        state = chance.choice(states)
        owner = PLAIN if state & PAGE_EXT_OWNER_EARLY == 0 else GARBAGE
        owner = owner._replace(
            ts_nsec=chance.randrange(2**63),
            gfp_mask=chance.choice((0xCC8, 0x140CCA)),
            pid=chance.randrange(-5, 100),
            handle=chance.choice((0, 1, 1, 2, 3)),
            order=chance.choice((0, 0, 0, 1, 3, 9, 10)),
            last_migrate_reason=chance.choice((-1, -1, 0, 3)),
            state=state,
            pageblock_migratetype=EARLY.pageblock_migratetype,
            comm=chance.choice((b"", b"a", b"fifteen bytes..")),
        )
        out += owner.pack() * chance.choice((1, 1, 1, 2, 8, 40))
    return bytes(out[: nr * OWNER_BYTES])


def one_by_one(renderer: _native.Renderer) -> Iterator[bytes]:
    """Yield the records that record() finds."""
    pfn = 0
    while found := renderer.reader().record(pfn):
        record, pfn = found
        # Like the kernel, record() continues with the next page; page_owner, after the block.
        order = int(record[len(b"Page allocated via order ") : record.index(b",")])
        pfn += (1 << order if order <= _native.MAX_PAGE_ORDER else 1) - 1
        yield record
