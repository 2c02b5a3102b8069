"""What sources have in common."""

from __future__ import annotations

import time
from typing import Final, Literal

Need = Literal["owners", "pid", "tgid", "free_areas", "pagetypeinfo", "switch"]
"""What a file may need: see views.view."""

PAGE_OWNER_OFF: Final = "page_owner is off"
"""Why there are no owners, until somebody writes 1 to page_owner_on."""


def boot_nsec() -> int:
    """Return what CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC: the time that it was suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
