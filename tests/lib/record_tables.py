"""Record tables made from dumps, and the texts to compare them with."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dumps import ERAS, Dump
from kernel_tables import read_all

from pageownerfs import _native
from pageownerfs.mm.migratetype import MIGRATE_REASON_NAMES
from pageownerfs.mm.record_table import new_record_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    """Return the names as they were printed, or a number if the text had none."""

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
    """Feed a whole text."""
    table = new_record_table()
    assert table.feed(data, final=True) == len(data)
    return table


def table_in_pieces(data: bytes, sizes: Iterator[int]) -> _native.RecordTable:
    """Feed a text in pieces; the unused rest of a piece is fed again."""
    table, rest, position = new_record_table(), b"", 0
    while position < len(data):
        size = next(sizes)
        rest += data[position : position + size]
        position += size
        rest = rest[table.feed(rest) :]
    assert table.feed(rest, final=True) == len(rest)
    return table


def forever(size: int) -> Iterator[int]:
    """Yield the same item again and again."""
    while True:
        yield size


def text_of(table: _native.RecordTable, fields: int = 0) -> bytes:
    """Read the whole table, whose size must be correct."""
    renderer = renderer_of(table, fields)
    text = read_all(renderer)
    assert renderer.size() == len(text)
    return text


def kept(dump: Dump) -> bytes:
    """Return the text of the records that a table accepts: those with a PFN."""
    return b"".join(record.whole for record in dump.records if record.has_pfn)


def nr_kept(dump: Dump) -> int:
    """Count those records."""
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
    """Format a record."""
    place = (pfn, mt, pfn >> 9 if block is None else block, block_mt, flags)
    return HEADER % (order, mask) + PFN_LINE % place + stack + b"\n"


def in_order(dump: Dump, nr_nodes: int = 1) -> Dump:
    """Give the records ascending PFNs, all different, and nodes."""
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
