"""The parser: records of every era, any bytes in a comm, and damage with its place."""

from __future__ import annotations

import pytest

from pageownerfs.page_owner_sort import Damage, Record, Rules, damage, new_groups, parse_records

HEADER = b"Page allocated via order 0, mask 0xcc0(GFP_KERNEL), pid 7, tgid 6 (work), ts 5 ns\n"
PFN = b"PFN 0x10 type Unmovable Block 0 type Unmovable Flags 0x0(zone=1)\n"
STACK = b" alloc_pages+0x1/0x2\n load_module+0x3/0x4 [ext4]\n"
GOOD = HEADER + PFN + STACK + b"\n"


def parsed(text: bytes) -> tuple[list[Record], list[Damage]]:
    """Parse a text into records and damage; assert that grouping sees the same."""
    found: list[Damage] = []
    records = list(parse_records(text, found.append))
    groups = new_groups(Rules())
    assert groups.feed(text, final=True) == len(text)
    assert groups.nr_records == len(records)
    assert damage(groups) == found
    assert sum(group.times for group in groups) == len(records)
    return records, found


def only(text: bytes) -> Record:
    """Return the one record of a text without damage."""
    (record,), found = parsed(text)
    assert not found
    return record


def test_all_fields() -> None:
    """Every field of a current record has its type and value."""
    notes = (
        b"handle: 77\nPage has been migrated, last migrate reason: compaction\n"
        b"Charged (via objcg) to offline memcg my group\n"
    )
    text = (
        b"Page allocated via order 3, mask 0x40dc0(GFP_KERNEL|__GFP_ZERO|__GFP_COMP), "
        b"pid 363, tgid 362 (a b), ts 18446744073709551615 ns\n"
        b"PFN 0x19e0 type Movable Block 12 type CMA Flags 0x4000000000020808(uptodate|zone=1)\n"
    )
    record = only(text + STACK + notes + b"\n")
    assert (record.order, record.nr_base_pages, record.gfp_mask) == (3, 8, 0x40DC0)
    assert record.mask == b"0x40dc0(GFP_KERNEL|__GFP_ZERO|__GFP_COMP)"
    assert (record.pid, record.tgid, record.comm) == (363, 362, b"a b")
    assert (record.ts_nsec, record.free_ts_nsec) == (2**64 - 1, None)
    assert (record.pfn, record.pageblock) == (0x19E0, 12)
    assert (record.page_mt, record.pageblock_mt) == (b"Movable", b"CMA")
    assert record.flags == b"0x4000000000020808(uptodate|zone=1)"
    assert (record.stack, record.notes) == (STACK, notes)
    assert record.text == text + STACK + notes + b"\n"


@pytest.mark.parametrize(
    ("header", "pfn_line", "fields"),
    [
        pytest.param(
            b"order 2, mask 0x2084d0",
            b"PFN 4097 Block 8 type 1 Flags     l  ",
            (None, None, None, None, None, 4097, b"1"),
            id="3.19",
        ),
        pytest.param(
            b"order 2, mask 0x14200ca(GFP_HIGHUSER_MOVABLE)",
            b"PFN 4097 type Movable Block 8 type Movable Flags 0x4000000000000048(uptodate|lru)",
            (None, None, None, None, None, 4097, b"Movable"),
            id="4.6",
        ),
        pytest.param(
            b"order 2, mask 0xcc0(GFP_KERNEL), pid 1, ts 5 ns",
            b"PFN 4097 type Movable Block 8 type Movable Flags 0x0()",
            (1, None, None, 5, None, 4097, b"Movable"),
            id="5.11",
        ),
        pytest.param(
            b"order 2, mask 0xcc0(GFP_KERNEL), pid 1, ts 5 ns, free_ts 0 ns",
            b"PFN 4097 type Movable Block 8 type Movable Flags 0x0()",
            (1, None, None, 5, 0, 4097, b"Movable"),
            id="5.13",
        ),
        pytest.param(
            b"order 2, mask 0xcc0(GFP_KERNEL), pid 1, tgid 2 (x), ts 5 ns, free_ts 9 ns",
            b"PFN 4097 type Movable Block 8 type Movable Flags 0x0()",
            (1, 2, b"x", 5, 9, 4097, b"Movable"),
            id="6.1",
        ),
        pytest.param(
            b"order 2, mask 0x0(), pid -1, tgid 0 (), ts 0 ns",
            b"PFN 0xffffffffffffffff type Unmovable Block 0 type Isolate Flags 0x0(node=0|zone=0)",
            (-1, 0, b"", 0, None, 2**64 - 1, b"Isolate"),
            id="6.12, early",
        ),
    ],
)
def test_eras(header: bytes, pfn_line: bytes, fields: tuple[object, ...]) -> None:
    """A record of each era has the fields that its kernel printed, and no others."""
    text = b"Page allocated via " + header + b"\n" + pfn_line + b"\n" + STACK + b"\n"
    record = only(text)
    assert record.order == 2
    assert fields == (
        *(record.pid, record.tgid, record.comm, record.ts_nsec, record.free_ts_nsec),
        *(record.pfn, record.pageblock_mt),
    )
    assert record.text == text


@pytest.mark.parametrize(
    "comm",
    [
        *(b"", b" ", b"(", b")", b"))))))))))))))))"[:15], b"a) b), ts 5 ns", b"), ts 5 ns"),
        *(b"), ts 5 ns\nPFN ", b"), ts 5 ns\n", b"\n", b"\n\n", b"a\n\nPage alloc", b"\r\n\r\n"),
        *(
            b"pid 7, tgid 8",
            b"order 3, x",
            b"\xff\xfe\x80",
            b"\xc3\xa9",
            b"\t\x01\x7f",
            b"PFN 0x1",
        ),
        *(b"(x), ts 1 ns, f", b"fifteen bytes x", b", ts 7 ns", b"tgid 9 (x), ts "),
    ],
)
@pytest.mark.parametrize("tail", [b"", b", free_ts 3 ns"], ids=["6.12", "6.1"])
@pytest.mark.parametrize("pfn_line", [PFN, b""], ids=["PFN", "no PFN"])
def test_any_comm(comm: bytes, tail: bytes, pfn_line: bytes) -> None:
    """A comm may contain any byte but NUL, even text like the rest of its line."""
    header = HEADER.replace(b" ns\n", b" ns" + tail + b"\n").replace(b"(work)", b"(%b)" % comm)
    text = header + pfn_line + STACK + b"\n"
    (first, second), found = parsed(text + GOOD)
    assert not found
    assert (first.comm, first.pid, first.tgid, first.ts_nsec) == (comm, 7, 6, 5)
    assert (first.text, second.text) == (text, GOOD)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEADER + PFN + STACK, id="no empty line at the end"),
        pytest.param(HEADER + PFN + STACK[:-1], id="no newline at the end"),
        pytest.param(HEADER + PFN + b" a+0x1/0x2\nCharged to memcg x", id="memcg at the end"),
        pytest.param(HEADER + PFN, id="no stack at the end"),
        pytest.param(HEADER + PFN + b"\n", id="no stack"),
        pytest.param(HEADER + STACK + b"\n", id="no PFN line"),
        pytest.param(HEADER + b"\n", id="header alone"),
        pytest.param(b"\n\n\n" + GOOD + b"\n\n\n", id="empty lines around"),
        pytest.param(GOOD.replace(b"\n", b"\r\n"), id="CR LF"),
        pytest.param(
            HEADER + PFN + STACK.replace(b"\n", b"\r\n") + b"\n", id="CR LF in the stack"
        ),
        pytest.param(HEADER + PFN + b" 0xffffffffc0123456\n" + STACK + b"\n", id="no symbol"),
        pytest.param(HEADER + PFN + b" <module>.f+0x0/0x1 [a.b]\n\n", id="Python"),
        pytest.param(HEADER + PFN + "  été+0x0/0x1\n\n".encode(), id="UTF-8"),
        pytest.param(HEADER + PFN + b" one\n two\n\n", id="frames of another kind"),
        pytest.param(HEADER + PFN + STACK + b"Something new: 7\n\n", id="line of another kernel"),
        pytest.param(HEADER + PFN + STACK * 9999 + b"\n", id="long"),
    ],
)
def test_good(text: bytes) -> None:
    """These texts are complete records."""
    record = only(text)
    assert b"\r" not in record.stacktrace
    assert record.stacktrace == b"" or record.stacktrace.endswith(b"\n")


def changed(old: bytes, new: bytes) -> bytes:
    """Return the good record with one change."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b"Something else\n\n", "no record begins here", id="no header"),
        pytest.param(PFN + STACK + b"\n", "no record begins here", id="header missing"),
        pytest.param(changed(b"0, mask", b"64, mask"), "the header line", id="order"),
        pytest.param(changed(b"0, mask", b"00, mask"), "the header line", id="order 00"),
        pytest.param(changed(b"KERNEL", b"KER NEL"), "the header line", id="mask"),
        pytest.param(changed(b"pid 7", b"pid 2147483648"), "the header line", id="pid"),
        pytest.param(changed(b"work", b"sixteen bytes xx"), "the header line", id="comm too long"),
        pytest.param(changed(b"work", b"w\0"), "the header line", id="NUL in comm"),
        pytest.param(changed(b"ts 5", b"ts 18446744073709551616"), "the header line", id="ts"),
        pytest.param(changed(b"5 ns", b"5 ns,"), "the header line", id="something behind ts"),
        pytest.param(changed(b"0x10 ", b"0xg "), "the PFN line", id="PFN"),
        pytest.param(changed(b"0x10 ", b"0x12345678123456789 "), "the PFN line", id="long PFN"),
        pytest.param(changed(b"Block 0", b"Block x"), "the PFN line", id="block"),
        pytest.param(changed(b"zone=1)", b"zone"), "the PFN line", id="flags cut"),
        pytest.param(changed(b"zone=1)", b"z\0)"), "the PFN line", id="NUL in flags"),
        pytest.param(changed(b"Flags", b""), "the PFN line", id="no flags"),
        pytest.param(HEADER + PFN + PFN + STACK + b"\n", "a second PFN line", id="two PFN lines"),
        pytest.param(changed(b"pages+0x1", b"pa\x01es+0x1"), "binary data", id="control"),
        pytest.param(changed(b"pages+0x1", b"pa\xffes+0x1"), "binary data", id="no UTF-8"),
        pytest.param(changed(b"+0x3/0x4 [ext4]", b""), "a stack line is truncated", id="name"),
        pytest.param(changed(b"/0x4 [ext4]", b""), "a stack line is truncated", id="offset"),
        pytest.param(changed(b"ext4]", b"ex"), "a stack line is truncated", id="module"),
    ],
)
def test_damaged(text: bytes, reason: str) -> None:
    """A record that no kernel can have printed is skipped and reported; its neighbours count."""
    records, found = parsed(GOOD + text + GOOD)
    assert [record.text for record in records] == [GOOD, GOOD]
    assert [(item.offset, item.record) for item in found] == [(len(GOOD), 2)]
    assert reason in found[0].reason


@pytest.mark.parametrize(
    "cut", [i for i in range(1, len(GOOD) - 1) if GOOD[:i].rpartition(b"\n")[2] != b""]
)
def test_cut_and_spliced(cut: int) -> None:
    """A record cut off inside a line does not swallow the next record."""
    head = GOOD[:cut]
    records, found = parsed(head + GOOD)
    assert [record.text for record in records] == [GOOD]
    assert [(item.offset, item.record) for item in found] == [(0, 1)]


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_cut_dump(cut: int) -> None:
    """In a dump cut inside its last record, complete records count and the rest is reported."""
    records, found = parsed(GOOD + GOOD[:cut])
    assert records[0].text == GOOD
    assert len(records) + len(found) == 2
    # Complete lines at the end are a record whose stack may be shortened, like one without an
    # empty line; the last number or name may be shortened, too.
    whole = len(HEADER + PFN)
    lines_end = GOOD[:cut].endswith(b"\n") or GOOD[: cut + 1].endswith(b"\n")
    if len(records) == 2:
        assert cut >= whole - 1
    else:
        assert cut < whole - 1 or not lines_end


def test_position_behind_damage() -> None:
    """Positions are byte offsets, and numbers count good and damaged records."""
    bad = b"garbage\n\n"
    _, found = parsed(GOOD + bad + GOOD + GOOD + bad)
    first, second = len(GOOD), 3 * len(GOOD) + len(bad)
    assert [(item.offset, item.record) for item in found] == [(first, 2), (second, 5)]
    assert str(found[0]) == f"record 2 at byte {first}: no record begins here"


def test_much_damage() -> None:
    """All damage is counted, and the first 64 places are described."""
    groups = new_groups(Rules())
    groups.feed(b"garbage\n\n" * 100 + GOOD, final=True)
    assert (groups.nr_damaged, len(damage(groups)), groups.nr_records) == (100, 64, 1)
