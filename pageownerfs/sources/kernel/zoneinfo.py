"""Read the zones of the running kernel (/proc/zoneinfo, mm/vmstat.c)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pageownerfs.mm.zone import Zone

ZONEINFO_PATH: Final = "/proc/zoneinfo"

_ZONE: Final = re.compile(r"Node (\d+), zone +(\S+)")
_NUMBER: Final = re.compile(r" +(spanned|present|managed|start_pfn:) +(\d+)")


def read_zoneinfo(text: str | None = None) -> list[Zone]:
    """
    Read the zones of the running kernel.

    Mirrors zoneinfo_show_print(), which prints no ``start_pfn`` line for a zone without pages.

    :param text: text of /proc/zoneinfo; None to read the file
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
    return [
        Zone(
            nid,
            name,
            start_pfn=row.get("start_pfn:", 0),
            spanned_pages=row.get("spanned", 0),
            present_pages=row.get("present", 0),
            managed_pages=row.get("managed", 0),
        )
        for nid, name, row in zones
    ]
