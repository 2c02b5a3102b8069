"""Records of a real kernel, or similar ones, in the tables of a pool."""

from __future__ import annotations

import mmap
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from minimal_source import MinimalSource

from pageownerfs import Pool, _native
from pageownerfs.mm.migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_ALLOCATED, PageOwner
from pageownerfs.mm.stack_depot import Frame, format_stack
from pageownerfs.page_owner_sort import Record

Records = Sequence[Record]

PAGE_SIZE = 4096
# As many PFNs as the recorded machine had; almost all of the memory remains a hole.
SIZE_BYTES = 2 << 30
OWNER_BYTES = _native.LAYOUT["struct page_owner"][""]
PAGE_BYTES = _native.LAYOUT["struct page"][""]
FRAME = re.compile(rb" (\S+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)\])?\n")
# Bytes of a stack's line; longer names are possible, but no kernel has them.
SHORTEST_FRAME, LONGEST_FRAME = len(" x+0x0/0x0\n"), 200
MIGRATED = b"Page has been migrated, last migrate reason: "
# What a kernel knows about its pages and a pool does not.
KERNEL_ONLY = re.compile(rb"^(?:Charged |Slab cache page$).*\n", re.MULTILINE)


class RecordedSource(MinimalSource):
    """A pool whose tables hold the records of a real kernel instead of its own."""

    def __init__(self, records: Records) -> None:
        """Write the records to the pool's own tables."""
        path = f"/dev/shm/pageownerfs-test-{secrets.token_hex(8)}"
        self.pool = Pool.create(path, SIZE_BYTES, 0, 0, 16, 1 << 20)
        try:
            self.pool.enable_page_owner(self.pool.capture_stack, self.pool.capture_stack)
            with Path(path).open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        finally:
            Path(path).unlink()
        self._stacks: list[bytes] = [b""]
        handles: dict[bytes, int] = {}
        self._page_ext = self._field("page_ext_pfn", 4) * PAGE_SIZE
        for pfn in range(self._page_ext // PAGE_SIZE, self.pool.nr_pages):  # its own early pages
            self._put(self._page_ext + pfn * OWNER_BYTES, bytes(OWNER_BYTES))
        for record in records:
            if record.stack not in handles:
                handles[record.stack] = len(self._stacks)
                self._stacks.append(record.stack)
            self._record(record, handles[record.stack])

    def _field(self, name: str, size: int) -> int:
        offset = _native.LAYOUT["struct pool_header"][name]
        return int.from_bytes(self._map[offset : offset + size], "little")

    def _put(self, offset: int, data: bytes) -> None:
        self._map[offset : offset + len(data)] = data

    def _record(self, record: Record, handle: int) -> None:
        pfn = record.pfn or 0
        reason = -1
        if record.notes.startswith(MIGRATED):
            name = record.notes[len(MIGRATED) :].split(b"\n")[0].decode()
            reason = MIGRATE_REASON_NAMES.index(name)
        block_mt = MIGRATETYPE_NAMES.index((record.pageblock_mt or b"").decode())
        owner = PageOwner(
            ts_nsec=record.ts_nsec or 0,
            free_ts_nsec=0,
            gfp_mask=record.gfp_mask,
            pid=record.pid or 0,
            tgid=record.tgid or 0,
            handle=handle,
            free_handle=0,
            free_pid=0,
            free_tgid=0,
            order=record.order,
            last_migrate_reason=reason,
            state=PAGE_EXT_OWNER_ALLOCATED,
            pageblock_migratetype=block_mt,
            comm=record.comm or b"",
        )
        flags = int((record.flags or b"").split(b"(")[0], 16)
        # Tail pages have a record, too, and readers must skip it.
        self._put(self._page_ext + pfn * OWNER_BYTES, owner.pack() * owner.nr_pages)
        self._put(self._field("mem_map_offset", 8) + pfn * PAGE_BYTES, flags.to_bytes(8, "little"))
        self._put(self._field("pageblock_offset", 8) + (pfn >> 9), bytes([block_mt]))

    def table(self) -> _native.Table:
        """Return the table of the pool, with the kernel's records in it."""
        return self.pool.table()

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a recorded stack."""
        del source_lines
        frames = []
        for name, offset, size, module in FRAME.findall(self._stacks[handle]):
            numbers = int(offset, 16), int(size, 16)
            frames.append(Frame(name.decode(), module.decode(), *numbers, "", 0))
        return format_stack(frames)

    def close(self) -> None:
        """Unmap it."""
        self._map.close()
        self.pool.close()


def padded(record: bytes, length: int) -> bytes:
    """Lengthen a record with more frames, and drop lines that a pool cannot have."""
    text = KERNEL_ONLY.sub(b"", record)
    rest = length - len(text)
    frames = b""
    while rest:
        # The rest must have room for another frame, of at least 11 bytes.
        size = rest if rest <= LONGEST_FRAME else min(LONGEST_FRAME, rest - SHORTEST_FRAME)
        assert size >= SHORTEST_FRAME, f"{length} bytes are too few for {record!r}"
        frames += b" %s+0x0/0x0\n" % (b"x" * (size - SHORTEST_FRAME + 1))
        rest -= size
    return text[:-1] + frames + b"\n"


def made_record(pfn: int, length: int, order: int = 0) -> bytes:
    """Make a record of ``length`` bytes (at least about 240), including its stack."""
    record = (
        b"Page allocated via order %d, mask 0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), "
        b"pid 48, tgid 48 (work), ts %d ns\n"
        b"PFN %#x type Movable Block %d type Movable Flags 0x4000000000000000(zone=1)\n\n"
    )
    return padded(record % (order, 1783450000 + pfn, pfn, pfn >> 9), length)
