"""Options of a trace."""

import re
from typing import Final, NamedTuple

from pageownerfs.sources.options import PAGE_OWNER_RECORDED, Option


class TraceOptions(NamedTuple):
    """What to replay."""

    path: str = ""
    """Plain or packed (gzip, xz, zstd); ``-``: standard input."""
    until_nsec: int | None = None
    """Events after this time of the recording's clock are left out."""
    page_owner: bool = True
    """Always: a trace has owners."""


def _parse_seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        msg = f"{text!r} is not a time of the trace: write seconds, as in 13.433116"
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
        "replay up to this time of the trace, in seconds",
        verb_option=True,
    ),
)
"""As they are written."""
