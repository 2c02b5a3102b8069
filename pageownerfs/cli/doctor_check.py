"""What ``pageownerfs doctor`` tells of one thing."""

from __future__ import annotations

from typing import Final, NamedTuple

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(NamedTuple):
    """What was found of one thing."""

    name: str
    """The thing."""
    state: str
    """ok, warn or fail."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty if nothing."""
