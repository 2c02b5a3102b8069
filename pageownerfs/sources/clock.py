"""The clocks of this machine."""

import time


def boot_nsec() -> int:
    """Return what CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC: the time that it was suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
