"""The page_owner that tests/data/probe.txt was recorded on, as far as the recording shows it."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from recorded import made_record, padded

if TYPE_CHECKING:
    from collections.abc import Container

NO_PFN: Final = (1 << 64) - 1
"""The recording's PFN for a read that gave no record."""
_READ: Final = re.compile(
    r"  (?:read\(\d+\) -> (?P<n>\d+)  f_pos (?P<from>\w+) -> \w+|"
    r"pread\(4096, off=(?P<off>\w+)\) -> (?P<pn>\d+))  PFN (?P<pfn>\w+)"
)
_RECORD: Final = re.compile(r"^-----\n(.*?^PFN 0x(\w+) .*?\n\n)-----$", re.MULTILINE | re.DOTALL)
_HIGH_ORDER: Final = re.compile(r"first order>=2 record: PFN (\w+) order (\d+)")
_TOTAL: Final = re.compile(r"records (\d+) bytes (\d+) min \d+ max (\d+) avg \S+ last PFN (\w+)")


class Total(NamedTuple):
    """What is known about all records together."""

    nr_records: int
    nr_bytes: int
    longest: int
    """Size of the longest record in bytes."""
    last_pfn: int


def recorded_machine(probe: str) -> bytes:
    """
    Make the page_owner that gave these lines: known facts are reproduced, the rest is filled in.

    Known are the PFNs and lengths of some records, gaps between PFNs, one complete record, and for
    all records together their number, their bytes, the longest and the last.
    """
    lengths: dict[int, int] = {}
    without: set[int] = set()
    for line in _READ.finditer(probe):
        pfn, length = int(line["pfn"], 16), int(line["n"] or line["pn"])
        if pfn != NO_PFN:
            assert lengths.setdefault(pfn, length) == length, line[0]
            without.update(range(int(line["from"] or line["off"], 16), pfn))
    text, high = _RECORD.search(probe), _HIGH_ORDER.search(probe)
    total = _TOTAL.search(probe)
    assert text is not None
    assert high is not None
    assert total is not None
    numbers = int(total[1]), int(total[2]), int(total[3]), int(total[4], 16)
    fill(lengths, Total(*numbers), without)
    order = {int(high[1], 16): int(high[2])}
    records = {pfn: made_record(pfn, size, order.get(pfn, 0)) for pfn, size in lengths.items()}
    whole = int(text[2], 16)
    records[whole] = padded(text[1].encode(), lengths[whole])
    return b"".join(records[pfn] for pfn in sorted(records))


def fill(lengths: dict[int, int], total: Total, without: Container[int] = ()) -> None:
    """Add records to reach the total: at the lowest PFNs after the first, plus the last one."""
    first, last = min(lengths), total.last_pfn
    free = (pfn for pfn in range(first, last) if pfn not in lengths and pfn not in without)
    lengths[next(free)] = total.longest
    # The last record exists already, or its length does not matter.
    pfns = [last] if last not in lengths else []
    number = total.nr_records - len(lengths)
    pfns += itertools.islice(free, number - len(pfns))
    length, longer = divmod(total.nr_bytes - sum(lengths.values()), number)
    for index, pfn in enumerate(pfns):
        lengths[pfn] = length + (index < longer)
