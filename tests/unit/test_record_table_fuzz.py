"""RecordTable with damaged dumps: complete records survive, and nothing breaks."""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

import pytest
from data import SAMPLE
from dumps import V6_1, V6_12, make_dump
from kernel_tables import one_by_one, read_all
from record_tables import names_of

from pageownerfs import _native
from pageownerfs.mm.page_ext import PageCounts, PageExt
from pageownerfs.mm.record_table import new_record_table
from pageownerfs.page_owner_sort import Record, parse_records

FIELDS_6_1: Final = (
    _native.HAS_PID | _native.HAS_TGID | _native.HAS_TS | _native.HAS_FREE_TS | _native.HAS_PFN
)
MIGRATETYPE: Final = _native.TEXT_MIGRATETYPE
START: Final = b"Page allocated via order "
SPLICES: Final = (
    *(b"\0", b"\n", b"\n\n", b"\r\n", b"\r", b" ", b")", b"PFN 0x", START),
    *(b" Block 0 ", b" Block 18446744073709551615 ", b" register_early_stack", b"|reserved)"),
    b"Page has been migrated, last migrate reason: ",
)


class Reading(NamedTuple):
    """Everything that a table says about a text."""

    text: bytes
    numbers: tuple[int, ...]
    damage: list[tuple[int, int, str]]
    stacks: list[tuple[int, int, int]]
    infos: list[tuple[int, int, int, int]]
    heads: list[int]


def reading(table: _native.RecordTable) -> Reading:
    """Query everything in a table, and check that the answers agree."""
    renderer = _native.Renderer(table, names_of(table))
    text = read_all(renderer)
    assert renderer.size() == len(text)
    stacks = table.count_stacks(early=True)
    heads = table.heads(0, 1 << 62)
    assert len(heads) == table.nr_records
    assert all(table.has_page(pfn) for pfn in heads)
    assert all(table.text(_native.TEXT_STACK, handle) is not None for handle, _, _ in stacks)
    assert len(stacks) <= table.nr_stacks
    counts = (table.nr_records, table.nr_damaged, table.nr_text_bytes, table.nr_stacks)
    more = (table.nr_verbatim, table.nr_bytes, table.pageblock_order)
    return Reading(text, counts + more, table.damage, stacks, table.infos(), heads)


def read_at_once(data: bytes) -> Reading:
    """Feed everything at once."""
    table = new_record_table()
    assert table.feed(data, final=True) == len(data)
    return reading(table)


def read_in_pieces(data: bytes, rng: random.Random, largest: int) -> Reading:
    """Feed it in pieces; the unused rest of a piece is fed again."""
    table, rest, position = new_record_table(), b"", 0
    while position < len(data):
        size = rng.randint(1, largest)
        rest += data[position : position + size]
        position += size
        rest = rest[table.feed(rest) :]
    assert table.feed(rest, final=True) == len(rest)
    return reading(table)


def whole_records(data: bytes) -> tuple[list[bytes], int]:
    """Return the bytes of each complete record with a PFN, and the number of others."""
    records: list[bytes] = []
    nr_others, offset, in_damage = 0, 0, False
    while True:
        found: tuple[int, int | None, Any] = _native.parse_page_owner(
            data, offset, True, in_damage
        )
        start, end, what = found
        if end is None:
            return records, nr_others
        in_damage = isinstance(what, str)
        if in_damage or Record._make(what).pfn is None:
            nr_others += 1
        else:
            records.append(data[start:end])
        offset = end


def check(data: bytes, why: object) -> Reading:
    """Read a text and check that all complete records are there."""
    found = read_at_once(data)
    records, nr_others = whole_records(data)
    assert found.text == b"".join(records), why
    assert found.numbers[:3] == (len(records), nr_others, len(data)), why
    assert len(found.damage) == min(nr_others, 64), why
    return found


def edit(rng: random.Random, data: bytes) -> bytes:
    """Damage a text in one place."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((0, 1, 2, 10, 200, 2000)))
    other = rng.randrange(len(data) + 1)
    garbage = (
        b"",  # cut out
        rng.randbytes(end - start),  # overwritten
        rng.randbytes(rng.randrange(300)),
        data[other : other + rng.choice((1, 50, 1000))],  # duplicated
        data[other : other + end - start],  # spliced
        rng.choice(SPLICES) * rng.randint(1, 3),
        b"x" * rng.choice((10, 1000, 3900, 5000)),
        bytes(rng.choices(data[start:end] or b" ", k=end - start)),  # shuffled
        bytes([rng.choice(b"0123456789abcdef")]) * (end - start),
        bytes(byte ^ 1 << rng.randrange(8) for byte in data[start : start + 1]),  # one bit
    )
    return data[:start] + rng.choice(garbage) + data[end:]


def some_text(rng: random.Random, *, hostile: bool = False) -> bytes:
    """Make one or two dumps, with LF or CR LF."""
    data = b"".join(
        make_dump(rng, hostile=hostile, nr_records=rng.randint(1, 8)).data
        for _ in range(rng.choice((1, 1, 1, 2)))
    )
    return data.replace(b"\n", b"\r\n") if rng.random() < 0.2 else data


def few_records(rng: random.Random) -> bytes:
    """Return three records of one kernel with PFN lines, without their last empty line."""
    while True:
        dump = make_dump(rng, eras=[V6_12, V6_1], nr_records=3)
        if all(record.has_pfn for record in dump.records):
            return dump.data


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_damage(part: int) -> None:
    """Damaged anywhere, complete records come back, in one piece or in many."""
    nr_damaged = 0
    for i in range(600):
        rng = random.Random(f"damage {part} {i}")
        data = some_text(rng)
        for _ in range(rng.randint(0, 4)):
            data = edit(rng, data)
        found = check(data, i)
        nr_damaged += found.numbers[1]
        largest = rng.choice((1, 2, 9, 100, 5000))
        assert read_in_pieces(data, rng, largest) == found, (i, largest)
    assert nr_damaged > 300


@pytest.mark.parametrize("part", range(2))
def test_damage_and_hostile_comms(part: int) -> None:
    """The same holds if command names have newlines and other misleading text."""
    for i in range(600):
        rng = random.Random(f"hostile {part} {i}")
        data = some_text(rng, hostile=True)
        for _ in range(rng.randint(0, 3)):
            data = edit(rng, data)
        found = check(data, i)
        assert read_in_pieces(data, rng, rng.choice((1, 9, 100))) == found, i


def test_record_without_pfn_line() -> None:
    """A record without a PFN line is one piece of damage, whatever its command's name."""
    for comm in (b"plain", b"a\nb", b"a\n\nb", b"\n\n\n", b"\r\n\r\n"):
        head = START + b"0, mask 0xcc0(GFP_KERNEL), pid 7, tgid 6 (%b), ts 1000 ns\n" % comm
        bad = head + b" f+0x1/0x2\n\n"
        good = head + b"PFN 0x1 type Movable Block 0 type Movable Flags 0x0()\n f+0x1/0x2\n\n"
        found = check(good + bad + good + bad + bad, comm)
        assert found.text == good + good
        assert [place for place, _, _ in found.damage] == [
            *(len(good), 2 * len(good) + len(bad), 2 * len(good) + 2 * len(bad))
        ]


@pytest.mark.slow
def test_every_cut() -> None:
    """A dump cut after or before any byte keeps the other records."""
    for seed in range(2):
        data = few_records(random.Random(f"cut {seed}"))
        for size in range(len(data) + 1):
            check(data[:size], (seed, size))
            check(data[size:], (seed, -size))


@pytest.mark.slow
def test_every_cut_goes_on() -> None:
    """Wherever the text pauses, it is read as if it had not."""
    data = few_records(random.Random("goes on"))
    expected = read_at_once(data)
    for size in range(len(data) + 1):
        table = new_record_table()
        used = table.feed(data[:size])
        assert table.feed(data[used:], final=True) == len(data) - used
        assert reading(table) == expected, size


@pytest.mark.parametrize("what", ["deleted", "doubled", "swapped", "empty line behind"])
def test_every_line(what: str) -> None:
    """Each line of real records may be lost, doubled, misplaced, or followed by an empty one."""
    data = b"\n\n".join(SAMPLE.read_bytes().split(b"\n\n")[:40]) + b"\n\n"
    lines = data.splitlines(keepends=True)
    for i in range(len(lines) - 1):
        other = {
            "deleted": [],
            "doubled": [lines[i]] * 2,
            "swapped": [lines[i + 1], lines[i]],
            "empty line behind": [lines[i], b"\n"],
        }[what]
        behind = lines[i + 2 :] if what == "swapped" else lines[i + 1 :]
        check(b"".join((*lines[:i], *other, *behind)), i)


@pytest.mark.slow
def test_every_byte() -> None:
    """Each byte of some records may have another value."""
    rng = random.Random("bytes")
    data = few_records(rng)
    for i in range(len(data)):
        for byte in (0, 10, 32, rng.choice(b"0123456789"), rng.randrange(256)):
            check(data[:i] + bytes([byte]) + data[i + 1 :], (i, byte))


def test_no_dump_at_all() -> None:
    """Bytes of any other kind give no records."""
    rng = random.Random("none")
    for i in range(300):
        data = rng.randbytes(rng.randrange(5000))
        found = check(data, i)
        assert found.text == b""
        assert read_in_pieces(data, rng, 1000) == found, i
        words = b"".join(rng.choice((*SPLICES, b"0", b"x", b"\n\n")) for _ in range(300))
        assert read_in_pieces(words, rng, 50) == check(words, i), i


def test_all_else_of_damaged_tables() -> None:
    """Any other query on a table of a damaged dump gets an answer."""
    for i in range(300):
        rng = random.Random(f"else {i}")
        data = edit(rng, edit(rng, some_text(rng, hostile=True)))
        table = new_record_table()
        table.feed(data, final=True)
        renderer = _native.Renderer(table, names_of(table), fields=FIELDS_6_1)
        text = read_all(renderer)
        assert renderer.size() == len(text)
        assert len(list(parse_records(text))) == table.nr_records, i
        copy = table.snapshot(1 << 30)
        assert copy.nr_records == table.nr_records
        assert read_all(_native.Renderer(copy, names_of(table), fields=FIELDS_6_1)) == text, i
        assert sum(map(len, one_by_one(renderer))) <= len(text)
        for pfn in (*table.heads(0, 1000), 0, 2**63, 2**64 - 1):
            page = PageExt.of(table, pfn)
            assert table.has_page(pfn) == (page is not None)
        assert len(table.mixed_blocks(0, 1 << 63, 4)) == 8
        assert PageCounts._make(table.states()).heads <= table.nr_records
