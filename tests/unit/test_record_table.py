"""RecordTable: a dump becomes records, and the records become the very same text again."""

from __future__ import annotations

import contextlib
import itertools
import lzma
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from data import kernel_file
from dumps import ERAS, HOSTILE_COMMS, V3_19, V6_12, Dump, Record, Stack, Task, make_dump
from kernel_tables import FREE, PLAIN, kernel_table, mapping, one_by_one, read_all
from kernel_tables import text as kernel_text

from pageownerfs import _native
from pageownerfs.mm.migratetype import MIGRATE_CMA, MIGRATE_REASON_NAMES, MIGRATETYPE_NAMES
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_EARLY, PageExt
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.page_owner_sort import parse_records
from pageownerfs.sources.dump.source import read_dump
from pageownerfs.text import input as input_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dumps import Era

    from pageownerfs.page_owner_sort import Record as ParsedRecord

END_PFN: Final = 1 << 62
MIGRATETYPE: Final = _native.TEXT_MIGRATETYPE
NAMED_ERAS: Final = [era for era in ERAS if era.names]
FIELDS_6_12: Final = (
    _native.HAS_PID | _native.HAS_TGID | _native.HAS_TS | _native.HAS_PFN | _native.PFN_HEX
)
FIELDS_6_1: Final = FIELDS_6_12 ^ _native.PFN_HEX | _native.HAS_FREE_TS
HEADER: Final = b"Page allocated via order %d, mask %b, pid 7, tgid 6 (plain), ts 1000 ns\n"
PFN_LINE: Final = b"PFN %#x type %b Block %d type %b Flags %b\n"


def names_of(table: _native.RecordTable) -> Callable[[int, int], bytes]:
    """Give the names as they were printed; where the text had none, a number."""

    def name(kind: int, value: int) -> bytes:
        if kind == _native.TEXT_MIGRATE_REASON:
            return MIGRATE_REASON_NAMES[value].encode()
        if kind == _native.TEXT_FLAGS:
            return b""
        text = table.text(kind, value)
        return text if text is not None else (b"%d" if kind == MIGRATETYPE else b"%#x()") % value

    return name


def renderer_of(table: _native.RecordTable, fields: int = 0) -> _native.Renderer:
    """Make the renderer of a table."""
    return _native.Renderer(table, names_of(table), fields=fields)


def table_of(data: bytes) -> _native.RecordTable:
    """Feed all of a text."""
    table = new_record_table()
    assert table.feed(data, final=True) == len(data)
    return table


def table_in_pieces(data: bytes, sizes: Iterator[int]) -> _native.RecordTable:
    """Feed a text piece by piece; what was not used comes again."""
    table, rest, position = new_record_table(), b"", 0
    while position < len(data):
        size = next(sizes)
        rest += data[position : position + size]
        position += size
        rest = rest[table.feed(rest) :]
    assert table.feed(rest, final=True) == len(rest)
    return table


def forever(size: int) -> Iterator[int]:
    """Yield the same again and again."""
    while True:
        yield size


def text_of(table: _native.RecordTable, fields: int = 0) -> bytes:
    """Read all of a table; the size is told right."""
    renderer = renderer_of(table, fields)
    text = read_all(renderer)
    assert renderer.size() == len(text)
    return text


def kept(dump: Dump) -> bytes:
    """Text of the records that a table takes: those that say which page it is."""
    return b"".join(record.whole for record in dump.records if record.has_pfn)


def nr_kept(dump: Dump) -> int:
    """Count them."""
    return sum(record.has_pfn for record in dump.records)


def made(
    pfn: int,
    *,
    order: int = 0,
    mask: bytes = b"0xcc0(GFP_KERNEL)",
    mt: bytes = b"Unmovable",
    block_mt: bytes = b"Movable",
    block: int | None = None,
    flags: bytes = b"0x0()",
    stack: bytes = b" f+0x1/0x2\n",
) -> bytes:
    """Print a record."""
    place = (pfn, mt, pfn >> 9 if block is None else block, block_mt, flags)
    return HEADER % (order, mask) + PFN_LINE % place + stack + b"\n"


def in_order(dump: Dump, nr_nodes: int = 1) -> Dump:
    """Give the records PFNs that ascend, none twice, and nodes."""
    rng = random.Random(len(dump.records))
    records, pfn = [], 0
    for record in dump.records:
        pfn = (pfn + rng.choice((1, 7, 600))) + (1 << record.order) - 1 >> record.order
        pfn <<= record.order
        nid = rng.randrange(nr_nodes)
        flags = b"%#x(lru|node=%d|zone=1)" % (nid << 58 | 32, nid)
        records.append(replace(record, pfn=pfn, flags=flags, has_pfn=True))
        pfn += 1 << record.order
    return Dump(dump.era, tuple(records))


# ---- the text comes back ----


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_text(era: Era) -> None:
    """Dumps of all kernels come back to the byte, with any comm, in any order of PFNs."""
    for i in range(200):
        dump = make_dump(random.Random(f"text {i}"), eras=[era], hostile=i % 3 == 0)
        table = table_of(dump.data)
        assert text_of(table) == kept(dump), i
        assert table.nr_records == nr_kept(dump), i
        assert table.nr_text_bytes == len(dump.data)
        # Up to 4.5 the lines do not say all that they were made of.
        expected = nr_kept(dump) if era is V3_19 else 0
        assert table.nr_verbatim == expected, i


@pytest.mark.parametrize("size", [1, 2, 3, 7, 26, 100, 700])
def test_pieces(size: int) -> None:
    """A text that comes in pieces of any size makes the same records."""
    for i in range(12):
        dump = make_dump(random.Random(f"pieces {i}"), hostile=i % 2 == 0, nr_records=3)
        table, whole = table_in_pieces(dump.data, forever(size)), table_of(dump.data)
        assert text_of(table) == kept(dump), i
        assert table.nr_text_bytes == len(dump.data)
        assert table.damage == whole.damage, i
        assert table.count_stacks() == whole.count_stacks(), i


@pytest.mark.parametrize("window", [1, 4096, input_module.WINDOW_BYTES])
def test_file(window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, packed or plain, is read through a window of any size."""
    monkeypatch.setattr(input_module, "WINDOW_BYTES", window)
    dump = make_dump(random.Random("file"), eras=[V6_12], nr_records=500)
    for name, data in (("plain", dump.data), ("packed", lzma.compress(dump.data))):
        path = tmp_path / name
        path.write_bytes(data)
        assert text_of(read_dump(str(path))[0]) == kept(dump)


def test_hostile_comms() -> None:
    """A comm that looks like the rest of a header, or has newlines, is read to its end."""
    dump = in_order(make_dump(random.Random("hostile"), eras=[V6_12], nr_records=3))
    for comm in HOSTILE_COMMS:
        records = tuple(replace(record, task=Task(7, 6, comm)) for record in dump.records)
        data = b"".join(record.whole for record in records)
        for table in (table_of(data), table_in_pieces(data, forever(1))):
            assert text_of(table) == data, comm
            assert (table.nr_records, table.nr_damaged, table.nr_verbatim) == (3, 0, 0), comm


def test_oracle() -> None:
    """A whole dump of a kernel: no record has to be kept as text, and all come back."""
    data = kernel_file("page_owner.txt")
    table = table_of(data)
    assert text_of(table) == data
    assert (table.nr_damaged, table.nr_verbatim) == (0, 0)
    assert table.nr_records == data.count(b"\nPFN ")


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_crlf_and_no_end(era: Era) -> None:
    """Lines that end in CR LF, and a last record without its empty line, are kept as text."""
    for i in range(30):
        rng = random.Random(f"crlf {i}")
        dump = make_dump(rng, eras=[era], nr_records=rng.randint(1, 6))
        dump = Dump(era, tuple(replace(record, has_pfn=True) for record in dump.records))
        table = table_of(dump.crlf)
        assert text_of(table) == dump.crlf, i
        assert table.nr_verbatim == table.nr_records == len(dump.records)
        assert text_of(table_of(dump.data[:-1])) == dump.data[:-1], i


def test_names_that_differ() -> None:
    """What its number would not give back is kept as it was printed."""
    data = b"".join(
        (
            made(1),
            made(2, mask=b"0xcc0(GFP_OTHER)"),
            made(3, mask=b"0x0cc0(GFP_KERNEL)"),
            made(4, flags=b"0x0(node=0)"),
            made(5, mt=b"Odd", block_mt=b"x" * 40),
            made(6, block=7),
            made(7),
        )
    )
    table = table_of(data)
    assert text_of(table) == data
    assert (table.nr_records, table.nr_verbatim) == (7, 3)
    # Other fields are asked for: made from what is known.
    assert text_of(table, FIELDS_6_12).count(b"\nPFN 0x") == 7


def test_more_names_than_are_kept() -> None:
    """Tens of thousands of page flags, and hundreds of migratetypes, are no limit."""
    flags = b"".join(made(pfn, flags=b"%#x(a|b)" % (pfn << 8)) for pfn in range(40_000))
    table = table_of(flags)
    assert table.nr_verbatim == 0
    assert text_of(table) == flags
    types = b"".join(made(pfn, mt=b"T%d" % pfn, block_mt=b"U%d" % pfn) for pfn in range(200))
    table = table_of(types)
    assert 0 < table.nr_verbatim < 200
    assert text_of(table) == types
    assert read_all(renderer_of(table, FIELDS_6_1)).count(b"Page allocated") == 200


def test_long_lines() -> None:
    """Records far longer than those of a kernel come back, with thousands of frames, too."""
    deep = b"".join(b" frame%d+0x1/0x2\n" % i for i in range(20_000))
    long = b"0x1(%b)" % b"|".join([b"name"] * 700)
    data = made(1, stack=deep) + made(2, flags=long) + made(3, stack=deep) + made(4, flags=long)
    table = table_of(data)
    assert text_of(table) == data
    assert table_in_pieces(data, forever(1000)).count_stacks() == table.count_stacks()


@pytest.mark.parametrize(
    "places",
    [
        ((0x300, 0), (0x400, 2)),
        ((0x10000, 0), (0x300, 1)),
        ((0x2F0, 0), (0x2F1, 1), (0x2F2, 0)),
        ((0x400, 3), (0x400, 2), (0x401, 2)),
        ((0x400, 1), (0x400, 2), (0x400, 4)),
        ((5, 0), (2**64 - 1, 2**64 - 1), (2**64 - 1, 0)),
    ],
)
def test_blocks_that_contradict(places: Sequence[tuple[int, int]]) -> None:
    """Whatever order the blocks seem to have, before or after one is known, the text is that."""
    data = b"".join(made(pfn, block=block) for pfn, block in places)
    assert text_of(table_of(data)) == data


@pytest.mark.parametrize("order", [0, 1, 5, 9, 10, 13, 20])
def test_pageblock_order(order: int) -> None:
    """The order of pageblocks is what PFN and Block say."""
    pfns = (0, 1, 3, (1 << order) - 1, 1 << order, 3 << order, 5000 << order)
    data = b"".join(made(pfn, block=pfn >> order) for pfn in sorted(set(pfns)))
    table = table_of(data)
    assert table.pageblock_order == order
    assert (text_of(table), table.nr_verbatim) == (data, 0)


def test_two_dumps() -> None:
    """Of two dumps, one behind the other, all is there; a page has the record that came last."""
    rng = random.Random("two")
    first, second = (in_order(make_dump(rng, eras=[V6_12], nr_records=n)) for n in (30, 21))
    table = table_of(first.data + second.data)
    assert text_of(table) == first.data + second.data
    pfns = [record.pfn for record in first.records + second.records]
    assert table.heads(0, 1000) == pfns
    last = {record.pfn: record for record in first.records} | {r.pfn: r for r in second.records}
    for record in second.records:
        page = PageExt.of(table, record.pfn)
        assert page is not None
        assert page.owner.ts_nsec == last[record.pfn].ts
    later = new_record_table()
    for dump in (first, second):
        assert later.feed(dump.data, final=True) == len(dump.data)
    assert text_of(later) == first.data + second.data


# ---- reading ----


def test_seeks() -> None:
    """Reads anywhere give what stands there in the whole text."""
    for dump in (
        make_dump(random.Random("seek"), eras=[V6_12], hostile=True, nr_records=3000),
        make_dump(random.Random("seek"), eras=[V3_19], nr_records=1000),
    ):
        renderer = renderer_of(table_of(dump.data))
        expected, chance = kept(dump), random.Random(2)
        reader = renderer.reader()
        for _ in range(300):
            offset = chance.randrange(len(expected) + 1000)
            size = chance.choice((1, 100, 4096, 70_000))
            assert reader.read(size, offset) == expected[offset : offset + size]
        for size in (63, 4096, 4097, 20_000):
            assert read_all(renderer, size) == expected


def test_record() -> None:
    """record() finds the first one at or after a PFN."""
    dump = in_order(make_dump(random.Random("record"), eras=[V6_12], nr_records=60))
    renderer = renderer_of(table_of(dump.data))
    assert list(one_by_one(renderer)) == [record.whole for record in dump.records]
    reader = renderer.reader()
    for record, behind in zip(dump.records, dump.records[1:], strict=False):
        found = reader.record(record.pfn + (1 << record.order))
        assert found is not None
        assert found[0] == behind.whole
    assert reader.record(dump.records[-1].pfn + (1 << 20)) is None
    assert reader.record(2**64 - 1) is None


@pytest.mark.parametrize(
    "places",
    [
        ((0x800, 2), (0x400, 0), (0x500, 3), (0x500, 0), (0x100, 0)),  # as of several dumps
        ((0x1000, 3), (0x1001, 0), (0x1010, 0)),  # of pages that changed hands meanwhile
    ],
)
def test_record_by_record(places: Sequence[tuple[int, int]]) -> None:
    """record() finds all that read() gives, in whatever order the PFNs are."""
    parts = [made(pfn, order=order) for pfn, order in places]
    renderer = renderer_of(table_of(b"".join(parts)))
    reader, pfn, found = renderer.reader(), 0, []
    while step := reader.record(pfn):
        record, pfn = step
        found.append(record)
    assert found == parts


def test_size_after_more() -> None:
    """size() is right after more records came."""
    table = table_of(made(1))
    renderer = renderer_of(table)
    assert renderer.size() == len(made(1))
    table.feed(made(2), final=True)
    assert read_all(renderer) == made(1) + made(2)
    assert renderer.size() == len(made(1) + made(2))


def test_text_that_was_empty() -> None:
    """Who has read to the end of an empty text gets from its start what came later."""
    memory = mapping((FREE, 64))
    renderer = _native.Renderer(kernel_table(memory), kernel_text)
    reader = renderer.reader()
    assert reader.read(4096, 0) == b""
    memory[:] = PLAIN.pack() * 64
    assert reader.read(1 << 20, 0) == read_all(renderer) != b""


# ---- other fields, filters ----


def told(record: ParsedRecord) -> tuple[Any, ...]:
    """All that does not depend on the kernel's age, None where it is not told."""
    ids = (record.pid or 0, record.tgid or record.pid or 0, record.comm or b"")
    numbers = (record.order, record.mask, record.ts_nsec or 0, record.pfn, record.pageblock)
    return (*ids, *numbers, record.page_mt, record.pageblock_mt, record.flags, *lines(record))


def lines(record: ParsedRecord) -> tuple[bytes, bytes]:
    """Stack, and other lines."""
    return record.stack, record.notes


@pytest.mark.parametrize("era", NAMED_ERAS, ids=lambda era: era.name)
def test_fields(era: Era) -> None:
    """The same records as two other kernels print them tell the same."""
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
        """Tell whether a record is shown."""
        nid = int(record.flags.partition(b"node=")[2].partition(b"|")[0])
        if self.nids is not None and nid not in self.nids:
            return False
        is_process = record.task.pid in self.pids or record.task.tgid in self.tgids
        return is_process or not (self.pids or self.tgids)

    def text(self, record: Record, handle: int) -> bytes:
        """Print a record."""
        stack = b"".join(line + b"\n" for line in record.stack.lines)
        notes = b"".join(line + b"\n" for line in record.extra)
        # One that was printed stays the only one.
        line = b"" if notes.startswith(b"handle: ") else b"handle: %d\n" % handle
        shown = (stack, line, stack + line)[self.mode]
        return record.header() + record.pfn_line + shown + notes + b"\n"


def some_filter(rng: random.Random, dump: Dump) -> Wanted:
    """Choose one."""
    tasks = [record.task for record in dump.records]
    return Wanted(
        rng.randrange(3),
        rng.choice((None, frozenset(), frozenset(rng.sample(range(4), 2)), frozenset({1023}))),
        tuple(rng.choice(tasks).pid for _ in range(rng.choice((0, 0, 1, 16)))),
        tuple(rng.choice(tasks).tgid for _ in range(rng.choice((0, 0, 1, 2)))),
    )


def filtered(dump: Dump, table: _native.RecordTable, wanted: Wanted) -> list[bytes]:
    """Text of each record, empty where it is not shown."""
    texts = []
    for record in dump.records:
        page = PageExt.of(table, record.pfn)
        assert page is not None
        handle = page.owner.handle
        texts.append(wanted.text(record, handle) if wanted.shows(record) else b"")
    return texts


@pytest.mark.parametrize("part", range(3))
def test_filters(part: int) -> None:
    """What is shown, and how, is what the filter says, from a seek to the start on."""
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
    """Another filter is for what comes behind the records that were read."""
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
            # 4096 bytes: one record
            assert reader.read(4096, offset) == expected, (i, at)
            if not expected:
                break
            at, offset = at + 1, offset + len(expected)


def test_filter_that_shows_nothing() -> None:
    """After one that has shown nothing, another one shows what it would have from the start."""
    data = made(1) + made(2)
    reader = renderer_of(table_of(data)).reader()
    reader.set_filter(0, None, (99,), ())
    assert reader.read(1 << 20, 0) == b""
    reader.set_filter(0, None, (), ())
    assert reader.read(1 << 20, 0) == data


def test_filter_arguments() -> None:
    """What can't be is refused, and changes nothing."""
    reader = renderer_of(table_of(made(1, flags=b"0x0(node=2)"))).reader()
    reader.set_filter(0, {2}, (), ())
    for wrong in (
        *((-1, None, (), ()), (3, None, (), ()), (0, {1024}, (), ()), (0, {-1}, (), ())),
        *((0, None, range(17), ()), (0, None, (), range(17))),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - the text differs
            reader.set_filter(*wrong)
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
        """Print its records."""
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
        """Count as pagetypeinfo_showmixedcount_print(), page by page."""
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
    """Make a zone with owners of all orders, some of whose blocks are mixed."""
    types: list[int] = []
    owners: list[Owner] = []
    span = max(block_order, 10)
    for first in range(start_pfn, start_pfn + (rng.randint(1, 5) << span), 1 << span):
        # What spans several pageblocks is in such of one type.
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
    """Owners of several nodes and zones mix the pageblocks that the kernel would count."""
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
    """Each dump counts by itself, whatever node its first record is of."""
    flags = [b"%#x(node=%d)" % (nid << 58, nid) for nid in nids]
    first = made(0x8000, flags=b"0x0(node=0)")
    second = made(0x200, flags=flags[0]) + made(0x400, flags=flags[1])
    for nid in (0, 1):
        expected = table_of(first).mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1]
        expected += table_of(second).mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1]
        both = table_of(first + second)
        assert both.mixed_blocks(0, END_PFN, MIGRATE_CMA, nid)[1] == expected, nid


# ---- pages, and records that are added ----


def test_pages() -> None:
    """Each page of a block has the block's record; others have none."""
    data = b"".join(
        (
            made(8, order=3, flags=b"0x20(lru)"),
            made(0x1000, order=10, mt=b"Movable", block_mt=b"CMA"),
            made(2**64 - 1),
        )
    )
    table = table_of(data)
    for pfn, head in ((8, 8), (15, 8), (0x1000, 0x1000), (0x13FF, 0x1000), (2**64 - 1, 2**64 - 1)):
        assert table.has_page(pfn)
        page = PageExt.of(table, pfn)
        assert page is not None
        assert (page.head, page.allocated) == (head, True)
        owner = page.owner
        assert (owner.pid, owner.tgid, owner.comm, owner.ts_nsec) == (7, 6, b"plain", 1000)
        assert (owner.free_handle, owner.free_pid, owner.free_tgid) == (0, 0, 0)
        assert table.text(_native.TEXT_STACK, owner.handle) == b" f+0x1/0x2\n"
    page = PageExt.of(table, 0x1000)
    assert page is not None
    assert (page.page_mt, page.pageblock_mt, page.flags, page.memcg) == (1, 4, 0, 0)
    page = PageExt.of(table, 8)
    assert page is not None
    assert page.flags == 32
    for pfn in (0, 7, 16, 0xFFF, 0x1400, 2**63, 2**64 - 2):
        assert not table.has_page(pfn)
        assert table.page(pfn) is None
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="must be 0 to"):
            table.page(wrong)
        with pytest.raises(ValueError, match="must be 0 to"):
            table.has_page(wrong)


def test_heads() -> None:
    """heads() gives so many from a PFN on, early ones or not."""
    early = b" register_early_stack+0x1/0x2\n"
    pfns = (8, 16, 0x1000, 2**63, 2**64 - 1)
    data = b"".join(made(pfn, order=3, stack=early if pfn == 16 else b"") for pfn in pfns)
    table = table_of(data)
    assert table.heads(0, 2**64 - 1) == list(pfns)
    assert table.heads(0, 10, False) == [8, 0x1000, 2**63, 2**64 - 1]
    assert table.heads(9, 2) == [16, 0x1000]
    assert table.heads(0, 0) == []
    assert table.heads(2**64 - 1, 5) == [2**64 - 1]
    page = PageExt.of(table, 16)
    assert page is not None
    assert page.owner.is_early


def test_as_many_flags_as_records() -> None:
    """A kernel with lastcpupid has another flags word for each page: nothing is asked for each."""
    names = (b"", b"head", b"uptodate|lru", b"locked|reserved|private")
    fields = b"node=%d|zone=%d|lastcpupid=%#x"
    data = b"".join(
        made(
            pfn,
            flags=b"%#x(%b)"
            % (
                pfn << 30 | pfn % 4,
                b"|".join(filter(None, (names[pfn % 4], fields % (pfn % 3, pfn % 2, pfn)))),
            ),
        )
        for pfn in range(60_000)
    )
    table = table_of(data)
    asked: list[tuple[int, int]] = []

    def name(kind: int, value: int) -> bytes:
        asked.append((kind, value))
        return b"?"

    renderer = _native.Renderer(table, name)
    assert read_all(renderer) == data
    assert renderer.size() == len(data)
    assert asked == []
    assert table.nr_verbatim == 0
    assert {(nid, zone) for _, nid, zone, _ in table.infos()} == set(
        itertools.product(range(3), range(2))
    )
    last = (60_000 - 1) << 30 | 3
    printed = b"%#x(locked|reserved|private|node=2|zone=1|lastcpupid=%#x)" % (last, 59_999)
    assert table.text(_native.TEXT_FLAGS, last) == printed
    # Each word costs no more than what is known of it, and its number in print.
    assert table.nr_bytes < 60_000 * (64 + 64)


@pytest.mark.parametrize(
    "flags",
    [
        *(b"0x0()", b"0x1(locked)", b"0x0(node=0)", b"0x1(locked|node=0)", b"0x1(node=0|locked)"),
        *(b"0x1(=)", b"0x1(a|=|b)", b"0x1(||a=1||)", b"0x1(|)", b"0x1(a|)", b"0x1(|node=7)"),
        *(b"0x01(a)", b"0x1ffffffffffffffff(a)", b"0x1((a))", b"0x1(a b=c)", b"0x1(node=)"),
    ],
)
def test_strange_flags(flags: bytes) -> None:
    """Wherever names and fields end, the text comes back, alone and behind a neighbour."""
    for other in (b"0x1(locked|node=1)", flags):
        data = made(1, flags=other) + made(2, flags=flags) + made(3, flags=other)
        assert text_of(table_of(data)) == data


def test_empty() -> None:
    """A table without records has nothing, whatever is asked."""
    for table in (new_record_table(), table_of(b""), table_of(b"\n\n")):
        assert (text_of(table), table.heads(0, 10), table.page(0)) == (b"", [], None)
        assert not table.has_page(0)
        assert renderer_of(table).reader().record(0) is None
        assert table.count_stacks(early=True) == []
        assert table.mixed_blocks(0, END_PFN, 4) == [0] * 8
        assert set(table.states()) == {0}
        numbers = (table.nr_records, table.nr_damaged, table.nr_stacks, table.nr_verbatim)
        assert numbers == (0, 0, 0, 0)
        assert (table.nr_bytes, table.infos(), table.damage) == (0, [], [])
        assert (table.start_pfn, table.end_pfn) == (0, 0)
        for kind in range(-1, 8):
            named = kind in {_native.TEXT_MIGRATETYPE, _native.TEXT_MIGRATE_REASON}
            assert (table.text(kind, 0) is not None) == named
            assert table.text(kind, 2**64 - 1) is None


def test_added() -> None:
    """Records that are added are printed as others, and keep what is known of the last free."""
    table = new_record_table()
    freed = PLAIN._replace(
        state=3, free_ts_nsec=8, free_pid=44, free_tgid=45, last_migrate_reason=2
    )
    for pfn, owner in ((5, PLAIN), (7, freed), (9, FREE)):
        table.add(pfn, owner.pack(), b" f+0x1/0x2\n", b" kfree+0x3/0x4\n", 2)
    assert table.nr_records == 3
    # The one that is free is not shown.
    assert table.heads(0, 10) == [5, 7]
    assert text_of(table).count(b"Page allocated via order 0, mask 0xcc8") == 2
    assert b"Page has been migrated, last migrate reason: memory_hotplug\n" in text_of(table)
    page = PageExt.of(table, 7)
    assert page is not None
    found = page.owner
    assert table.text(_native.TEXT_STACK, found.free_handle) == b" kfree+0x3/0x4\n"
    assert found._replace(handle=5, free_handle=0) == freed
    assert page.page_mt == 2
    page = PageExt.of(table, 5)
    assert page is not None
    assert page.owner._replace(handle=5) == PLAIN
    page = PageExt.of(table, 9)
    assert page is not None
    assert page.allocated is False


def test_any_bytes_added() -> None:
    """Whatever 64 bytes are added, nothing breaks."""
    rng = random.Random("bytes")
    table = new_record_table()
    for _ in range(3000):
        record = rng.randbytes(45) + rng.choice((b"\0", b"\xff")) + rng.randbytes(18)
        table.add(rng.randrange(2**64), record, rng.randbytes(9), b"", rng.randrange(256))
    assert len(text_of(table)) > 100_000
    table.count_stacks(early=True)
    table.mixed_blocks(0, 2**64 - 1, 4)
    pfns = table.heads(0, 3000)
    assert all(table.has_page(pfn) and table.page(pfn) for pfn in pfns)
    assert len(pfns) > 1000


def test_wrong_arguments() -> None:
    """What can't be added is refused, and nothing is added then."""
    table = new_record_table()
    for wrong in (b"", PLAIN.pack()[:63], PLAIN.pack() + b"\0"):
        with pytest.raises(ValueError, match=f"a record has 64 bytes, not {len(wrong)}"):
            table.add(1, wrong, b"", b"", 0)
    for pfn in (-1, 2**64):
        with pytest.raises(ValueError, match="must be 0 to"):
            table.add(pfn, PLAIN.pack(), b"", b"", 0)
    for migratetype in (-1, 256):
        with pytest.raises(OverflowError):
            table.add(1, PLAIN.pack(), b"", b"", migratetype)
    with pytest.raises(TypeError):
        table.feed("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _native.RecordTable(1)  # type: ignore[call-arg]
    assert (table.nr_records, table.nr_bytes) == (0, 0)


def test_early_records_are_told() -> None:
    """A record with the early stack is early."""
    stack = Stack((b" register_early_stack+0x1/0x2", b" init_page_owner+0x3/0x4"))
    dump = in_order(make_dump(random.Random("early"), eras=[V6_12], nr_records=9))
    records = [replace(r, stack=stack) if i % 3 == 0 else r for i, r in enumerate(dump.records)]
    table = table_of(b"".join(record.whole for record in records))
    for i, record in enumerate(records):
        page = PageExt.of(table, record.pfn)
        assert page is not None
        assert bool(page.owner.state & PAGE_EXT_OWNER_EARLY) == (i % 3 == 0)


def test_one_thread_feeds() -> None:
    """While a thread feeds no other can, and nothing of what it feeds is lost."""
    data = make_dump(random.Random("busy"), eras=[V6_12], nr_records=2000).data * 20
    refused = False
    for _ in range(20):
        table = new_record_table()
        thread = threading.Thread(target=table.feed, args=(data, True))
        thread.start()
        while thread.is_alive() and not refused:
            with contextlib.suppress(ValueError):
                table.feed(b"")
                continue
            refused = True
        thread.join()
        assert table.nr_text_bytes == len(data)
        if refused:
            break
    assert refused


READ_WHILE_FED: Final = """
import contextlib, random, sys, threading
sys.path[:0] = sys.argv[1:]
from dumps import V6_12, make_dump
from pageownerfs.mm.record_table import new_record_table
data = make_dump(random.Random(1), eras=[V6_12], nr_records=3000).data * 30
for _ in range(10):
    table = new_record_table()
    table.feed(data[: len(data) // 3])
    thread = threading.Thread(target=table.feed, args=(data, True))
    thread.start()
    while thread.is_alive():
        for ask in (
            lambda: table.heads(0, 1000), lambda: table.page(77), table.count_stacks,
            lambda: table.snapshot(1 << 30), table.infos, lambda: table.text(2, 1),
        ):
            with contextlib.suppress(ValueError):
                ask()
    thread.join()
"""


def test_read_while_fed() -> None:
    """Who reads while another thread adds records gets an answer or an error, and no crash."""
    lib = str(Path(__file__).parents[1] / "lib")
    done = subprocess.run(
        [sys.executable, "-c", READ_WHILE_FED, lib], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_copy_takes_no_records() -> None:
    """A copy of a table stays what it is; that of a table of records is the table itself."""
    table = table_of(made(1))
    assert table.snapshot(0) is table
    copy = kernel_table(mapping((PLAIN, 1))).snapshot(1 << 20)
    with pytest.raises(ValueError, match="a copy of another"):
        copy.feed(made(2))
    with pytest.raises(ValueError, match="a copy of another"):
        copy.add(2, PLAIN.pack(), b"", b"", 0)
    assert copy.heads(0, 10) == [0]
