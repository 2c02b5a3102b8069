"""RecordTable: a dump becomes records, and the records become the same text again."""

from __future__ import annotations

import lzma
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from data import kernel_file
from dumps import ERAS, HOSTILE_COMMS, V3_19, V6_12, Dump, Task, make_dump
from kernel_tables import FREE, PLAIN, kernel_table, mapping, one_by_one, read_all
from kernel_tables import text as kernel_text
from record_tables import (
    FIELDS_6_1,
    FIELDS_6_12,
    forever,
    in_order,
    kept,
    made,
    nr_kept,
    renderer_of,
    table_in_pieces,
    table_of,
    text_of,
)

from pageownerfs import _native
from pageownerfs.mm.page_ext import PageExt
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.sources.dump.source import read_dump
from pageownerfs.text import input as input_module

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dumps import Era


# ---- the same text ----


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_text(era: Era) -> None:
    """Dumps of all kernels come back unchanged, with any comm and any order of PFNs."""
    for i in range(200):
        dump = make_dump(random.Random(f"text {i}"), eras=[era], hostile=i % 3 == 0)
        table = table_of(dump.data)
        assert text_of(table) == kept(dump), i
        assert table.nr_records == nr_kept(dump), i
        assert table.nr_text_bytes == len(dump.data)
        # Up to 4.5, the lines do not contain all of their sources.
        expected = nr_kept(dump) if era is V3_19 else 0
        assert table.nr_verbatim == expected, i


@pytest.mark.parametrize("size", [1, 2, 3, 7, 26, 100, 700])
def test_pieces(size: int) -> None:
    """A text in pieces of any size makes the same records."""
    for i in range(12):
        dump = make_dump(random.Random(f"pieces {i}"), hostile=i % 2 == 0, nr_records=3)
        table, whole = table_in_pieces(dump.data, forever(size)), table_of(dump.data)
        assert text_of(table) == kept(dump), i
        assert table.nr_text_bytes == len(dump.data)
        assert table.damage == whole.damage, i
        assert table.count_stacks() == whole.count_stacks(), i


@pytest.mark.parametrize("window", [1, 4096, input_module.WINDOW_BYTES])
def test_file(window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, compressed or plain, is read through a window of any size."""
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
    """In a complete dump of a kernel, all records come back and none must be kept as text."""
    data = kernel_file("page_owner.txt")
    table = table_of(data)
    assert text_of(table) == data
    assert (table.nr_damaged, table.nr_verbatim) == (0, 0)
    assert table.nr_records == data.count(b"\nPFN ")


@pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
def test_crlf_and_no_end(era: Era) -> None:
    """Records with CR LF, and a last record without its empty line, are kept as text."""
    for i in range(30):
        rng = random.Random(f"crlf {i}")
        dump = make_dump(rng, eras=[era], nr_records=rng.randint(1, 6))
        dump = Dump(era, tuple(replace(record, has_pfn=True) for record in dump.records))
        table = table_of(dump.crlf)
        assert text_of(table) == dump.crlf, i
        assert table.nr_verbatim == table.nr_records == len(dump.records)
        assert text_of(table_of(dump.data[:-1])) == dump.data[:-1], i


def test_names_that_differ() -> None:
    """A name that its number would not reproduce is kept as it was printed."""
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
    # With other fields, the text is made from what is known.
    assert text_of(table, FIELDS_6_12).count(b"\nPFN 0x") == 7


def test_more_names_than_are_kept() -> None:
    """Tens of thousands of page flags and hundreds of migratetypes are no problem."""
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
    """Records far longer than a kernel's, with thousands of frames, come back."""
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
    """The text comes back whatever order the blocks seem to have, before or after it is known."""
    data = b"".join(made(pfn, block=block) for pfn, block in places)
    assert text_of(table_of(data)) == data


@pytest.mark.parametrize("order", [0, 1, 5, 9, 10, 13, 20])
def test_pageblock_order(order: int) -> None:
    """The order of pageblocks follows from PFN and Block."""
    pfns = (0, 1, 3, (1 << order) - 1, 1 << order, 3 << order, 5000 << order)
    data = b"".join(made(pfn, block=pfn >> order) for pfn in sorted(set(pfns)))
    table = table_of(data)
    assert table.pageblock_order == order
    assert (text_of(table), table.nr_verbatim) == (data, 0)


def test_two_dumps() -> None:
    """Two dumps in sequence keep all records; a page has the record that came last."""
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
    """Reads at any offset return that part of the whole text."""
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
    """record() finds the first record at or after a PFN."""
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
        ((0x800, 2), (0x400, 0), (0x500, 3), (0x500, 0), (0x100, 0)),  # as in several dumps
        ((0x1000, 3), (0x1001, 0), (0x1010, 0)),  # pages that changed hands meanwhile
    ],
)
def test_record_by_record(places: Sequence[tuple[int, int]]) -> None:
    """record() finds everything that read() returns, whatever the order of PFNs."""
    parts = [made(pfn, order=order) for pfn, order in places]
    renderer = renderer_of(table_of(b"".join(parts)))
    reader, pfn, found = renderer.reader(), 0, []
    while step := reader.record(pfn):
        record, pfn = step
        found.append(record)
    assert found == parts


def test_size_after_more() -> None:
    """size() is right after more records have come."""
    table = table_of(made(1))
    renderer = renderer_of(table)
    assert renderer.size() == len(made(1))
    table.feed(made(2), final=True)
    assert read_all(renderer) == made(1) + made(2)
    assert renderer.size() == len(made(1) + made(2))


def test_text_that_was_empty() -> None:
    """After the end of an empty text, a read from the start returns what came later."""
    memory = mapping((FREE, 64))
    renderer = _native.Renderer(kernel_table(memory), kernel_text)
    reader = renderer.reader()
    assert reader.read(4096, 0) == b""
    memory[:] = PLAIN.pack() * 64
    assert reader.read(1 << 20, 0) == read_all(renderer) != b""
