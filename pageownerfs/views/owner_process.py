"""Find out whether the process that allocated a page is still alive."""

from __future__ import annotations

from typing import Final

_TICK_NSEC: Final = 10_000_000
"""The kernel rounds the start time of a process down to a multiple of this."""


def owner_process(tgid: int, ts_nsec: int) -> str:
    """
    Return what has become of the process that allocated a page.

    Pids are reused: a process is the owner only if it had started when the page was allocated.

    :param tgid: process id of the owner
    :param ts_nsec: time of the allocation: CLOCK_BOOTTIME in nanoseconds
    :return: a line without newline
    """
    import psutil  # noqa: PLC0415 - slow to import, and rarely needed

    if tgid == 0:
        return "process 0 is the kernel itself"
    try:
        process = psutil.Process(tgid)
        with process.oneshot():
            started = process.create_time() - psutil.boot_time()
            name, status = process.name(), process.status()
    except psutil.NoSuchProcess:
        return f"process {tgid} has ended"
    except psutil.Error as error:
        return f"process {tgid}: {error}"
    if started * 1e9 > ts_nsec + _TICK_NSEC:
        return f"process {tgid} has ended; its pid now belongs to another process ({name})"
    if status == psutil.STATUS_ZOMBIE:
        return f"process {tgid} ({name}) has ended, but its parent has not reaped it"
    return f"process {tgid} ({name}) is alive"
