"""Let tasks that allocate preempt each other, and count the events that kernel mode loses.

The kernel does not run a BPF program while the same program runs on that CPU already. Where it
calls programs with preemption on, a task that is preempted inside one makes it miss the events of
all others. So this starts tasks of very different priorities, most of which fault in memory, on
each CPU, and compacts memory. Prints one line for each figure; the exit code is 1 if more than one
in a million events may be lost, or if records name wrong owners of this process's own pages.
It needs root, and nothing but Python and the installed package.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PAGE_OWNER_STRUCT,
    PageOwner,
)
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.kallsyms import Kallsyms
from pageownerfs.sources.kernel.options import KernelOptions
from pageownerfs.sources.kernel.tracker import Tracker, pfns_of
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHM: Final = Path("/dev/shm")  # noqa: S108 - a tmpfs
_COMPACT: Final = Path("/proc/sys/vm/compact_memory")
_LOST_PER_MILLION: Final = 1
_SHOWN: Final = (
    *("events_missed_by_first", "events_missed_by_second", "events_recovered"),
    *("hook_events_lost", "stack_checked", "stack_wrong"),
)
_ANON_BYTES: Final = 8 << 20
_FILE_BYTES: Final = 8 << 20
_SHORT_BYTES: Final = 2 << 20
_OWN_PAGES: Final = 20_000
_RT_PRIORITY: Final = 20
_NR_LOW, _NR_NORMAL = 2, 2  # for each CPU
_LOW, _HIGH = 19, -15


def _fault(size: int) -> None:
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE) as memory:
        memory.write(bytes(size))


def _low() -> None:
    _fault(_ANON_BYTES)


def _normal() -> None:
    _fault(_ANON_BYTES)
    path = _SHM / f"storm-{os.getpid()}"
    path.write_bytes(bytes(_FILE_BYTES))
    path.unlink()
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)


def _short(pause: float) -> None:
    _fault(_SHORT_BYTES)
    time.sleep(pause)


def _compact() -> None:
    with contextlib.suppress(OSError):
        _COMPACT.write_text("1", encoding="ascii")
    time.sleep(1)


def _worker(work: Callable[[], None], nice: int, rt_priority: int = 0) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        if rt_priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(rt_priority))
        while True:
            work()
    finally:
        os._exit(1)


@contextlib.contextmanager
def _storm() -> Iterator[None]:
    """Run the tasks; fails if one of them could not do its work."""
    nr = len(os.sched_getaffinity(0))
    pids = [_worker(_low, _LOW) for _ in range(_NR_LOW * nr)]
    pids += [_worker(_normal, 0) for _ in range(_NR_NORMAL * nr)]
    pids += [_worker(lambda: _short(0.01), _HIGH), _worker(_compact, 0)]
    pids += [_worker(lambda: _short(0.05), 0, _RT_PRIORITY)]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        ended = [os.waitpid(pid, 0)[1] for pid in pids]
        for path in _SHM.glob("storm-*"):
            path.unlink()
    if any(os.WIFEXITED(status) for status in ended):
        raise SystemExit("storm: a task of the load failed, see above")


def _owner(tracker: Tracker, pfn: int) -> int | None:
    """Return the tgid in the record of a page, None if it says that the owner is not known."""
    size = PAGE_OWNER_STRUCT.size
    record = PageOwner.unpack(tracker.page_ext[pfn * size : (pfn + 1) * size])
    known = record.state & (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)
    return record.tgid if known == PAGE_EXT_OWNER_ALLOCATED else None


def _check_owners(tracker: Tracker, memory: mmap.mmap) -> Counter[str]:
    """Touch this process's pages, and compare their records with /proc/self/pagemap."""
    memory.madvise(mmap.MADV_DONTNEED)
    memory.seek(0)
    memory.write(bytes(len(memory)))
    before = pfns_of(memory)
    owners = [_owner(tracker, pfn) for pfn in before]
    # Leave out pages that have migrated meanwhile.
    seen = [
        owner
        for pfn, after, owner in zip(before, pfns_of(memory), owners, strict=True)
        if pfn == after != 0
    ]
    known = [owner for owner in seen if owner is not None]
    wrong = sum(owner != tracker.tgid for owner in known)
    return Counter(checked=len(seen), unknown=len(seen) - len(known), wrong=wrong)


def _run(tracker: Tracker, seconds: float) -> bool:
    total: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with _storm(), mmap.mmap(-1, _OWN_PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE) as memory:
        with contextlib.suppress(OSError):  # no CONFIG_TRANSPARENT_HUGEPAGE
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        while time.monotonic() < end:
            total += _check_owners(tracker, memory)
    counters = tracker.counters()
    events = counters["alloc_events"] + counters["free_events"]
    per_million = counters["events_lost"] / events * 1e6
    print(f"{'programs':24} {', '.join(tracker.programs)}")
    print(f"{'events':24} {events}")
    for name in _SHOWN:
        print(f"{name:24} {counters[name]}")
    print(f"{'events_lost':24} {counters['events_lost']}, {per_million:.2f} per million")
    print(
        f"{'owners of own pages':24} {total['checked']}, {total['wrong']} wrong, "
        f"{total['unknown']} not known"
    )
    good = per_million <= _LOST_PER_MILLION and not total["wrong"]
    return good and not counters["stack_wrong"]


def main() -> int:
    """Return 0 if no more than one in a million events may be lost, and all owners are right."""
    parser = argparse.ArgumentParser(prog="storm_kernel.py", description=__doc__)
    parser.add_argument(
        "seconds", metavar="SECONDS", nargs="?", type=float, default=60, help="default 60"
    )
    args = parser.parse_args()
    zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
    with Btf() as btf:
        tracker = Tracker(KernelOptions(), zones, btf, Kallsyms())
    with contextlib.closing(tracker):
        tracker.scan_early()
        good = _run(tracker, args.seconds)
    print("within the bound" if good else "OUT OF BOUNDS, see above")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
