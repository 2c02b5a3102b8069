"""Options of a trace."""

import re
from typing import Final, NamedTuple

from pageownerfs.sources.options import PAGE_OWNER_RECORDED, Option


class TraceOptions(NamedTuple):
    """Options of a trace."""

    path: str = ""
    """Path of the text, plain or compressed (gzip, xz, zstd); ``-`` is standard input."""
    until_nsec: int | None = None
    """Leave out events after this time of the trace's clock, in nanoseconds; None for none."""
    page_owner: bool = True
    """Always True: a trace has owners."""


def _parse_seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        msg = f"{text!r} is not a time: write seconds of the trace's clock, as in 13.433116"
        raise ValueError(msg)
    seconds, _, part = text.partition(".")
    return int(seconds) * 10**9 + int(part.ljust(9, "0"))


OPTIONS: Final = (
    PAGE_OWNER_RECORDED,
    Option(
        "until",
        "until_nsec",
        _parse_seconds,
        "TS",
        "replay events up to time TS, in seconds",
        verb_option=True,
    ),
)
"""The options as a user writes them."""
