"""RecordTable: other fields, filters and mixed pageblocks of a dump."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from dumps import V6_12, Dump, Record, make_dump
from record_tables import (
    END_PFN,
    FIELDS_6_1,
    FIELDS_6_12,
    NAMED_ERAS,
    in_order,
    kept,
    made,
    renderer_of,
    table_of,
    text_of,
)

from pageownerfs.mm.migratetype import MIGRATE_CMA, MIGRATETYPE_NAMES
from pageownerfs.mm.page_ext import PageExt
from pageownerfs.page_owner_sort import parse_records

if TYPE_CHECKING:
    from dumps import Era

    from pageownerfs import _native
    from pageownerfs.page_owner_sort import Record as ParsedRecord

# ---- other fields, filters ----


def told(record: ParsedRecord) -> tuple[Any, ...]:
    """Return all values that don't depend on the kernel's age, None if not known."""
    ids = (record.pid or 0, record.tgid or record.pid or 0, record.comm or b"")
    numbers = (record.order, record.mask, record.ts_nsec or 0, record.pfn, record.pageblock)
    return (*ids, *numbers, record.page_mt, record.pageblock_mt, record.flags, *lines(record))


def lines(record: ParsedRecord) -> tuple[bytes, bytes]:
    """Return the stack and the other lines."""
    return record.stack, record.notes


@pytest.mark.parametrize("era", NAMED_ERAS, ids=lambda era: era.name)
def test_fields(era: Era) -> None:
    """The same records printed for two other kernels have the same values."""
    for i in range(60):
        dump = make_dump(random.Random(f"fields {i}"), eras=[era], hostile=i % 3 == 0)
        table = table_of(dump.data)
        original = list(parse_records(kept(dump)))
        old, new = (
            list(parse_records(text_of(table, fields))) for fields in (FIELDS_6_1, FIELDS_6_12)
        )
        assert list(map(told, old)) == list(map(told, original)), i
        assert list(map(told, new)) == list(map(told, original)), i
        assert [r.free_ts_nsec for r in old] == [r.free_ts_nsec or 0 for r in original]
        assert all(record.free_ts_nsec is None for record in new)
        assert all(not record.pfn_line.startswith(b"PFN 0x") for record in old)
        assert all(record.pfn_line.startswith(b"PFN 0x") for record in new)


class Wanted(NamedTuple):
    """Arguments of set_filter()."""

    mode: int = 0
    nids: frozenset[int] | None = None
    pids: tuple[int, ...] = ()
    tgids: tuple[int, ...] = ()

    def shows(self, record: Record) -> bool:
        """Return whether a record is shown."""
        nid = int(record.flags.partition(b"node=")[2].partition(b"|")[0])
        if self.nids is not None and nid not in self.nids:
            return False
        is_process = record.task.pid in self.pids or record.task.tgid in self.tgids
        return is_process or not (self.pids or self.tgids)

    def text(self, record: Record, handle: int) -> bytes:
        """Format a record."""
        stack = b"".join(line + b"\n" for line in record.stack.lines)
        notes = b"".join(line + b"\n" for line in record.extra)
        # One that was printed stays the only one.
        line = b"" if notes.startswith(b"handle: ") else b"handle: %d\n" % handle
        shown = (stack, line, stack + line)[self.mode]
        return record.header() + record.pfn_line + shown + notes + b"\n"


def some_filter(rng: random.Random, dump: Dump) -> Wanted:
    """Choose a filter."""
    tasks = [record.task for record in dump.records]
    return Wanted(
        rng.randrange(3),
        rng.choice((None, frozenset(), frozenset(rng.sample(range(4), 2)), frozenset({1023}))),
        tuple(rng.choice(tasks).pid for _ in range(rng.choice((0, 0, 1, 16)))),
        tuple(rng.choice(tasks).tgid for _ in range(rng.choice((0, 0, 1, 2)))),
    )


def filtered(dump: Dump, table: _native.RecordTable, wanted: Wanted) -> list[bytes]:
    """Return the text of each record, empty if it is not shown."""
    texts = []
    for record in dump.records:
        page = PageExt.of(table, record.pfn)
        assert page is not None
        handle = page.owner.handle
        texts.append(wanted.text(record, handle) if wanted.shows(record) else b"")
    return texts


@pytest.mark.parametrize("part", range(3))
def test_filters(part: int) -> None:
    """After a seek to the start, the filter decides what is shown and how."""
    for i in range(40):
        rng = random.Random(f"filter {part} {i}")
        dump = in_order(make_dump(rng, eras=[V6_12], nr_records=rng.randint(1, 40)), 4)
        table = table_of(dump.data)
        reader = renderer_of(table).reader()
        for _ in range(6):
            wanted = some_filter(rng, dump)
            reader.set_filter(*wanted)
            expected = b"".join(filtered(dump, table, wanted))
            assert reader.read(1 << 20, 0) == expected, (i, wanted)
            start = rng.randrange(len(expected) + 1)
            assert reader.read(1 << 20, start) == expected[start:], (i, wanted)


@pytest.mark.parametrize("part", range(3))
def test_filter_in_the_middle(part: int) -> None:
    """A new filter applies after the records that were already read."""
    for i in range(40):
        rng = random.Random(f"middle {part} {i}")
        dump = in_order(make_dump(rng, eras=[V6_12], nr_records=30), 4)
        table = table_of(dump.data)
        reader = renderer_of(table).reader()
        at, offset, texts = 0, 0, filtered(dump, table, Wanted())
        while True:
            if rng.random() < 0.3:
                wanted = some_filter(rng, dump)
                reader.set_filter(*wanted)
                texts = filtered(dump, table, wanted)
            while at < len(texts) and not texts[at]:
                at += 1
            expected = texts[at] if at < len(texts) else b""
            # 4096 bytes get one record.
            assert reader.read(4096, offset) == expected, (i, at)
            if not expected:
                break
            at, offset = at + 1, offset + len(expected)


def test_filter_that_shows_nothing() -> None:
    """After a filter that showed nothing, a new one shows everything from the start."""
    data = made(1) + made(2)
    reader = renderer_of(table_of(data)).reader()
    reader.set_filter(0, None, (99,), ())
    assert reader.read(1 << 20, 0) == b""
    reader.set_filter(0, None, (), ())
    assert reader.read(1 << 20, 0) == data


def test_filter_arguments() -> None:
    """Impossible values are refused and change nothing."""
    reader = renderer_of(table_of(made(1, flags=b"0x0(node=2)"))).reader()
    reader.set_filter(0, {2}, (), ())
    for wrong in (
        *((-1, None, (), ()), (3, None, (), ()), (0, {1024}, (), ()), (0, {-1}, (), ())),
        *((0, None, range(17), ()), (0, None, (), range(17))),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - the text differs
            reader.set_filter(*wrong)
    for pids, tgids in (((1 << 32,), ()), ((), (-1 - (1 << 31),))):
        with pytest.raises(OverflowError):
            reader.set_filter(0, None, pids, tgids)
    assert reader.read(4096, 0) == made(1, flags=b"0x0(node=2)")


# ---- mixed pageblocks ----


class Owner(NamedTuple):
    """A block of pages."""

    pfn: int
    order: int
    migratetype: int
    reserved: bool
    early: bool


class Zone(NamedTuple):
    """A part of a node, in whole pageblocks."""

    nid: int
    number: int
    start_pfn: int
    types: tuple[int, ...]
    owners: tuple[Owner, ...]

    def text(self, block_order: int) -> bytes:
        """Format its records."""
        parts = []
        for owner in self.owners:
            block = owner.pfn >> block_order
            block_mt = self.types[block - (self.start_pfn >> block_order)]
            bits, place = self.nid << 58 | self.number << 56, (self.nid, self.number)
            flags = b"%#x(lru|node=%d|zone=%d)" % (bits | 32, *place)
            if owner.reserved:
                flags = b"%#x(lru|reserved|node=%d|zone=%d)" % (bits | 36, *place)
            stack = b" register_early_stack+0x1/0x2\n" if owner.early else b" f+0x1/0x2\n"
            parts.append(
                made(
                    owner.pfn,
                    order=owner.order,
                    mt=MIGRATETYPE_NAMES[owner.migratetype].encode(),
                    block_mt=MIGRATETYPE_NAMES[block_mt].encode(),
                    block=block,
                    flags=flags,
                    stack=stack,
                )
            )
        return b"".join(parts)

    def mixed(self, block_order: int) -> list[int]:
        """Count like pagetypeinfo_showmixedcount_print(), page by page."""
        counts: list[int] = [0] * 8
        pages: dict[int, Owner] = {}
        for owner in self.owners:
            pages |= dict.fromkeys(range(owner.pfn, owner.pfn + (1 << owner.order)), owner)
        pfn = self.start_pfn
        for number, block_mt in enumerate(self.types):
            end = self.start_pfn + (number + 1 << block_order)
            while pfn < end:
                found = pages.get(pfn)
                if found is None or found.reserved:
                    pfn += 1
                elif found.migratetype != block_mt:
                    counts[1 if block_mt == MIGRATE_CMA else block_mt] += 1
                    pfn = end
                else:
                    pfn += 1 << found.order
        return counts


def some_zone(rng: random.Random, nid: int, number: int, start_pfn: int, block_order: int) -> Zone:
    """Make a zone with owners of all orders and some mixed blocks."""
    types: list[int] = []
    owners: list[Owner] = []
    span = max(block_order, 10)
    for first in range(start_pfn, start_pfn + (rng.randint(1, 5) << span), 1 << span):
        # A block that spans several pageblocks lies in pageblocks of one type.
        block_mt = rng.choice((0, 1, 1, 2, 3, 4, 5))
        types += [block_mt] * (1 << span - block_order)
        pfn = first
        while pfn < first + (1 << span):
            order = rng.choice((0, 0, 1, 3, 6, 9, 10))
            pfn = pfn + (1 << order) - 1 >> order << order
            if pfn + (1 << order) > first + (1 << span):
                break
            own = block_mt if block_mt < 3 and rng.random() < 0.9 else rng.randrange(3)
            early, reserved = rng.random() < 0.05, order == 0 and rng.random() < 0.1
            owners.append(Owner(pfn, order, 0 if early else own, reserved, early))
            pfn += (1 << order) + rng.choice((0, 1, 100, 700))
    return Zone(nid, number, start_pfn, tuple(types), tuple(owners))


@pytest.mark.parametrize("block_order", [5, 8, 9, 10, 12])
def test_mixed_blocks(block_order: int) -> None:
    """Owners of several nodes and zones mix the same pageblocks as in the kernel."""
    nr_mixed = 0
    for i in range(15):
        rng = random.Random(f"mixed {block_order} {i}")
        zones, pfn = [], 1 << max(block_order, 10)
        for nid, number in ((0, 1), (0, 2), (1, 2), (1, 3)):
            zones.append(some_zone(rng, nid, number, pfn, block_order))
            pfn += len(zones[-1].types) << block_order
        table = table_of(b"".join(zone.text(block_order) for zone in zones))
        assert table.pageblock_order == block_order
        every = [0] * 8
        for zone in zones:
            expected = zone.mixed(block_order)
            counts = table.mixed_blocks(0, END_PFN, MIGRATE_CMA, zone.nid, zone.number)
            assert counts == expected, (i, zone.nid, zone.number)
            end = zone.start_pfn + (len(zone.types) << block_order)
            assert table.mixed_blocks(zone.start_pfn, end, MIGRATE_CMA) == expected
            every = [sum(pair) for pair in zip(every, expected, strict=True)]
        assert table.mixed_blocks(0, END_PFN, MIGRATE_CMA) == every
        assert table.mixed_blocks(0, END_PFN, MIGRATE_CMA, 2, 1) == [0] * 8
        nr_mixed += sum(every)
    assert nr_mixed > 50


@pytest.mark.parametrize("nids", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_mixed_blocks_of_two_dumps(nids: tuple[int, int]) -> None:
    """Each dump counts by itself, whatever node its first record is on."""
    flags = [b"%#x(node=%d)" % (nid << 58, nid) for nid in nids]
    first = made(0x8000, flags=b"0x0(node=0)")
    second = made(0x200, flags=flags[0]) + made(0x400, flags=flags[1])
    for nid in (0, 1):
        expected = table_of(first).mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1]
        expected += table_of(second).mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1]
        both = table_of(first + second)
        assert both.mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1] == expected, nid
