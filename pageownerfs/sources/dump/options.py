"""Options of a dump."""

import re
from typing import Final, NamedTuple

from pageownerfs.sources.options import PAGE_OWNER_RECORDED, Option
from pageownerfs.sources.recorded import ZONE_NAMES


class DumpOptions(NamedTuple):
    """What to read."""

    path: str = ""
    """Plain or packed (gzip, xz, zstd); ``-``: standard input."""
    zone_names: tuple[str, ...] = ZONE_NAMES
    """Names of the zones by their number in the page flags."""
    page_owner: bool = True
    """Always: a dump has owners."""


def _parse_zones(text: str) -> tuple[str, ...]:
    names = tuple(text.split(":"))
    if not all(re.fullmatch("[A-Za-z0-9_]{1,16}", name) for name in names):
        msg = f"{text!r} is not a list of zones: write their names with colons, as DMA:Normal"
        raise ValueError(msg)
    return names


OPTIONS: Final = (
    PAGE_OWNER_RECORDED,
    Option(
        "zones",
        "zone_names",
        _parse_zones,
        "NAMES",
        f"zones by number ({':'.join(ZONE_NAMES)})",
    ),
)
"""As they are written."""
