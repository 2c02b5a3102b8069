"""Whether the process that allocated a page still lives."""

from __future__ import annotations

from typing import Final

_TICK_NSEC: Final = 10_000_000
"""To which the kernel rounds the start of a process down."""


def owner_process(tgid: int, ts_nsec: int) -> str:
    """
    Tell what has become of the process that allocated a page.

    A pid is given to others after its process: only one that had started by then is the owner.

    :param tgid: process
    :param ts_nsec: when it allocated, CLOCK_BOOTTIME
    :return: a line without newline
    """
    import psutil  # noqa: PLC0415 - slow to import, and rarely wanted

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
        return f"process {tgid} has ended; its number belongs to another one now ({name})"
    if status == psutil.STATUS_ZOMBIE:
        return f"process {tgid} ({name}) has ended, and waits for its parent"
    return f"process {tgid} ({name}) is alive"
