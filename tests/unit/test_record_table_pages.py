"""RecordTable: pages of a dump, and added records."""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from dumps import V6_12, Stack, make_dump
from kernel_tables import FREE, PLAIN, kernel_table, mapping, read_all
from record_tables import (
    END_PFN,
    in_order,
    made,
    renderer_of,
    table_of,
    text_of,
)

from pageownerfs import _native
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_EARLY, PageExt
from pageownerfs.mm.record_table import new_record_table

# ---- pages, and added records ----


def test_pages() -> None:
    """Each page of a block has the block's record; other pages have none."""
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
    """heads() returns that many blocks from a PFN on, with or without early ones."""
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
    """With lastcpupid each page has its own flags word, and none needs a query."""
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
    # A word costs no more than its data and its formatted number.
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
    """Wherever names and fields end, the text comes back, alone and after a neighbour."""
    for other in (b"0x1(locked|node=1)", flags):
        data = made(1, flags=other) + made(2, flags=flags) + made(3, flags=other)
        assert text_of(table_of(data)) == data


def test_empty() -> None:
    """A table without records is empty for every query."""
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
    """Added records print like others and keep what is known about the last free."""
    table = new_record_table()
    freed = PLAIN._replace(
        state=3, free_ts_nsec=8, free_pid=44, free_tgid=45, last_migrate_reason=2
    )
    for pfn, owner in ((5, PLAIN), (7, freed), (9, FREE)):
        table.add(pfn, owner.pack(), b" f+0x1/0x2\n", b" kfree+0x3/0x4\n", 2)
    assert table.nr_records == 3
    # The free record is not shown.
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
    """An invalid record is refused, and nothing is added."""
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
    """While a thread feeds, no other can, and nothing that it feeds is lost."""
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
    """A reader gets an answer or an error while another thread adds records, and never a crash."""
    lib = str(Path(__file__).parents[1] / "lib")
    done = subprocess.run(
        [sys.executable, "-c", READ_WHILE_FED, lib], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_copy_takes_no_records() -> None:
    """A copy of a table does not change; a record table is its own copy."""
    table = table_of(made(1))
    assert table.snapshot(0) is table
    copy = kernel_table(mapping((PLAIN, 1))).snapshot(1 << 20)
    with pytest.raises(ValueError, match="a copy of another"):
        copy.feed(made(2))
    with pytest.raises(ValueError, match="a copy of another"):
        copy.add(2, PLAIN.pack(), b"", b"", 0)
    assert copy.heads(0, 10) == [0]
