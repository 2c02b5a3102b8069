"""The renderer against a real kernel: the same records give the same bytes."""

from __future__ import annotations

import mmap
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pageownerfs import Pool, _native
from pageownerfs.mm.migratetype import MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_ALLOCATED, PageOwner
from pageownerfs.mm.stack_depot import Frame
from pageownerfs.views import make_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Records = Sequence[re.Match[bytes]]

pytestmark = pytest.mark.require("shm")

PAGE_SIZE = 4096
OWNER_BYTES = _native.LAYOUT["struct page_owner"][""]
PAGE_BYTES = _native.LAYOUT["struct page"][""]
FRAME = re.compile(rb" (\S+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)\])?\n")
MIGRATED = b"Page has been migrated, last migrate reason: "
# What a kernel knows of its pages, and a pool does not have.
KERNEL_ONLY = re.compile(rb"^(?:Charged |Slab cache page$).*\n", re.MULTILINE)


class RecordedSource:
    """A pool whose tables hold the records of a real kernel instead of its own."""

    page_owner_on = True

    def __init__(self, records: Records) -> None:
        """Write the records where a pool keeps them."""
        path = f"/dev/shm/pageownerfs-test-{secrets.token_hex(8)}"
        # As many PFNs as the recorded machine had; almost all of it stays a hole.
        self.pool = Pool.create(path, 2 << 30, 0, 0, 16, 1 << 20)
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
            if record["stack"] not in handles:
                handles[record["stack"]] = len(self._stacks)
                self._stacks.append(record["stack"])
            self._record(record, handles[record["stack"]])

    def _field(self, name: str, size: int) -> int:
        offset = _native.LAYOUT["struct pool_header"][name]
        return int.from_bytes(self._map[offset : offset + size], "little")

    def _put(self, offset: int, data: bytes) -> None:
        self._map[offset : offset + len(data)] = data

    def _record(self, record: re.Match[bytes], handle: int) -> None:
        pfn = int(record["pfn"], 16)
        reason = -1
        if record["extra"].startswith(MIGRATED):
            name = record["extra"][len(MIGRATED) :].split(b"\n")[0].decode()
            reason = MIGRATE_REASON_NAMES.index(name)
        block_mt = MIGRATETYPE_NAMES.index(record["pageblock_mt"].decode())
        owner = PageOwner(
            ts_nsec=int(record["ts"]),
            free_ts_nsec=0,
            gfp_mask=int(record["mask"].split(b"(")[0], 16),
            pid=int(record["pid"]),
            tgid=int(record["tgid"]),
            handle=handle,
            free_handle=0,
            free_pid=0,
            free_tgid=0,
            order=int(record["order"]),
            last_migrate_reason=reason,
            state=PAGE_EXT_OWNER_ALLOCATED,
            pageblock_migratetype=block_mt,
            comm=record["comm"],
        )
        flags = int(record["flags"].split(b"(")[0], 16)
        self._put(self._page_ext + pfn * OWNER_BYTES, owner.pack())
        self._put(self._field("mem_map_offset", 8) + pfn * PAGE_BYTES, flags.to_bytes(8, "little"))
        self._put(self._field("pageblock_offset", 8) + (pfn >> 9), bytes([block_mt]))

    def enable_page_owner(self) -> None:
        """Nothing to do: it is on."""

    def table(self) -> _native.Table:
        """The table of the pool, with the kernel's records in it."""
        return self.pool.table()

    def stack(self, handle: int) -> list[Frame]:
        """Frames of a recorded stack."""
        frames = []
        for name, offset, size, module in FRAME.findall(self._stacks[handle]):
            numbers = int(offset, 16), int(size, 16)
            frames.append(Frame(name.decode(), module.decode(), *numbers, "", 0))
        return frames

    def stats(self) -> Mapping[str, int]:
        """No counters were recorded."""
        return {}

    def close(self) -> None:
        """Unmap it."""
        self._map.close()
        self.pool.close()


def rendered(records: Records) -> Iterator[bytes]:
    """Yield what page_owner reads for these records, in steps of 128 KiB, and its st_size."""
    source = RecordedSource(records)
    try:
        view = make_views(source)["/page_owner"]
        file = view.open()
        offset = 0
        while data := file.read(128 << 10, offset):
            offset += len(data)
            yield data
        assert view.size() == offset
    finally:
        source.close()


def expected(records: Records) -> bytes:
    """What the kernel printed, in the order of PFNs, without what a pool does not have."""
    ordered = sorted(records, key=lambda record: int(record["pfn"], 16))
    return b"".join(KERNEL_ONLY.sub(b"", record[0]) for record in ordered)


def consistent(records: Records) -> Records:
    """Keep records whose pageblock type agrees with the last of that block: it can be one only."""
    last = {int(record["block"]): record["pageblock_mt"] for record in records}
    return [r for r in records if last[int(r["block"])] == r["pageblock_mt"]]


def test_sample(oracle_sample: Records) -> None:
    """Each kind of record, hostile comms included, renders as the kernel printed it."""
    records = consistent(oracle_sample)
    assert len(records) > len(oracle_sample) * 0.9
    assert b"".join(rendered(records)) == expected(records)


def test_whole_dump(oracle_records: Records) -> None:
    """All records of a running machine render as the kernel printed them, byte for byte."""
    records = consistent(oracle_records)
    assert len(records) > len(oracle_records) * 0.99
    assert b"".join(rendered(records)) == expected(records)
