"""Where the zones of the running kernel lie (/proc/zoneinfo, mm/vmstat.c)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

ZONEINFO_PATH: Final = "/proc/zoneinfo"

_ZONE: Final = re.compile(r"Node (\d+), zone +(\S+)")
_NUMBER: Final = re.compile(r" +(spanned|present|managed|start_pfn:) +(\d+)")


class ZoneSpan(NamedTuple):
    """One zone of one node; numbers are base pages."""

    nid: int
    """Node."""
    name: str
    """DMA, DMA32, Normal, HighMem, Movable or Device."""
    start_pfn: int
    """First PFN (``zone_start_pfn``); 0 if the zone is empty."""
    spanned_pages: int
    """Pages from the first to the last, holes included; 0 = the zone is empty."""
    present_pages: int
    """Pages that exist: spanned without holes."""
    managed_pages: int
    """Pages that the allocator owns: present without reserved ones."""

    @property
    def end_pfn(self) -> int:
        """First PFN after the zone; the largest of all zones bounds the PFNs of the machine."""
        return self.start_pfn + self.spanned_pages


def read_zoneinfo(text: str | None = None) -> list[ZoneSpan]:
    """
    Read the zones of the running kernel.

    Mirrors zoneinfo_show_print(): a zone without pages ends before its ``start_pfn`` line.

    :param text: text of /proc/zoneinfo; None = read it
    :return: zones in the order of the file, empty ones included
    :raises OSError: the file can't be read
    """
    if text is None:
        text = Path(ZONEINFO_PATH).read_text(encoding="ascii")
    zones = []
    values: dict[str, int] = {}
    for line in text.splitlines():
        if found := _ZONE.match(line):
            values = {}
            zones.append((int(found[1]), found[2], values))
        elif found := _NUMBER.fullmatch(line):
            values[found[1]] = int(found[2])
    names = ("start_pfn:", "spanned", "present", "managed")
    return [ZoneSpan(nid, zone, *(row.get(name, 0) for name in names)) for nid, zone, row in zones]
