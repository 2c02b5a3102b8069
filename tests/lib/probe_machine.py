"""The page_owner on which tests/data/probe.txt was recorded, as far as the recording tells."""

from __future__ import annotations

import re
from typing import Final

from recorded import made_record, padded

NO_PFN: Final = (1 << 64) - 1
"""What the recording shows as PFN where a read gave no record."""
_READ: Final = re.compile(
    r"  (?:read\(\d+\) -> (?P<n>\d+)  f_pos (?P<from>\w+) -> \w+|"
    r"pread\(4096, off=(?P<off>\w+)\) -> (?P<pn>\d+))  PFN (?P<pfn>\w+)"
)
_RECORD: Final = re.compile(r"^-----\n(.*?^PFN 0x(\w+) .*?\n\n)-----$", re.MULTILINE | re.DOTALL)
_HIGH_ORDER: Final = re.compile(r"first order>=2 record: PFN (\w+) order (\d+)")
_TOTAL: Final = re.compile(r"records (\d+) bytes (\d+) min \d+ max (\d+) avg \S+ last PFN (\w+)")


def recorded_machine(probe: str) -> bytes:
    """
    Make the page_owner that gave these lines: what they tell of it is so, the rest is filled in.

    Told are PFNs and lengths of some records, between which PFNs there is none, one whole record,
    and of all together the number, the bytes, the longest and the last.
    """
    lengths: dict[int, int] = {}
    without: set[int] = set()
    for line in _READ.finditer(probe):
        pfn, length = int(line["pfn"], 16), int(line["n"] or line["pn"])
        if pfn != NO_PFN:
            assert lengths.setdefault(pfn, length) == length, line[0]
            without.update(range(int(line["from"] or line["off"], 16), pfn))
    text = _RECORD.search(probe)
    high, total = _HIGH_ORDER.search(probe), _TOTAL.search(probe)
    assert text and high and total
    order = {int(high[1], 16): int(high[2])}
    nr_records, nr_bytes, longest = map(int, total.groups()[:3])
    last = int(total[4], 16)
    fill(lengths, without, last, nr_records, nr_bytes, longest)
    records = {pfn: made_record(pfn, size, order.get(pfn, 0)) for pfn, size in lengths.items()}
    whole = int(text[2], 16)
    records[whole] = padded(text[1].encode(), lengths[whole])
    return b"".join(records[pfn] for pfn in sorted(records))


def fill(  # noqa: PLR0917
    lengths: dict[int, int],
    without: set[int],
    last: int,
    nr_records: int,
    nr_bytes: int,
    max_: int,
) -> None:
    """Add records between the first and the last, lowest PFNs first; one is the longest."""
    free = (p for p in range(min(lengths), last) if p not in lengths and p not in without)
    lengths[next(free)] = max_
    number = nr_records - len(lengths)
    length, longer = divmod(nr_bytes - sum(lengths.values()), number)
    pfns = [next(free) for _ in range(number - 1)] + [last]
    for index, pfn in enumerate(pfns):
        lengths[pfn] = length + (index < longer)
