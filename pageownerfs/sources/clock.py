"""Clocks of this machine."""

import time


def boot_nsec() -> int:
    """Return CLOCK_BOOTTIME minus CLOCK_MONOTONIC, the time suspended, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
