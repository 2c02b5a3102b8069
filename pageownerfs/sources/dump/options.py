"""Options of a dump."""

import re
from typing import Final, NamedTuple

from pageownerfs.sources.options import PAGE_OWNER_RECORDED, Option
from pageownerfs.sources.recorded import ZONE_NAMES


class DumpOptions(NamedTuple):
    """Options of a dump."""

    path: str = ""
    """Path of the text, plain or compressed (gzip, xz, zstd); ``-`` is standard input."""
    zone_names: tuple[str, ...] = ZONE_NAMES
    """Names of the zones by their number in the page flags."""
    page_owner: bool = True
    """Always True: a dump has owners."""


def _parse_zones(text: str) -> tuple[str, ...]:
    names = tuple(text.split(":"))
    if not all(re.fullmatch("[A-Za-z0-9_]{1,16}", name) for name in names):
        msg = f"{text!r} is not a list of zones: write names separated by colons, as in DMA:Normal"
        raise ValueError(msg)
    return names


OPTIONS: Final = (
    PAGE_OWNER_RECORDED,
    Option(
        "zones",
        "zone_names",
        _parse_zones,
        "NAMES",
        f"names of zones by number ({':'.join(ZONE_NAMES)})",
    ),
)
"""The options as a user writes them."""
