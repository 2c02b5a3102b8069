"""Under load, walked stacks are right and no record outlives its page."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel_load import check_under_load, look_for_stale, run_load

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_mount import KernelMount
    from kernel_process import Process

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

LOAD_SEC = 20
NR_FORGED = 900
# Opening the file scans the pages if the last scan is this long ago.
FRESH_SEC = 1.1
NR_HUGE = 4
HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")

STALE_PER_MILLION = 10
FOUND_PER_MILLION = 1000


def test_stacks_are_checked(
    tracked: KernelMount, tmpfs: Path, start: Callable[[], Process]
) -> None:
    """No walked stack that was compared is wrong."""
    before = tracked.stats()
    start().address("file", 20_000, word=tmpfs / "file")
    start().address("anon", 20_000)
    run_load(tmpfs, 3)
    stats = tracked.stats()
    assert stats["stack_wrong"] == 0
    assert stats["stack_failed"] == 0
    assert stats["stack_depot_full"] == 0
    if platform.machine() != "x86_64":
        return  # everything is unwound
    assert stats["stack_checked"] > before["stack_checked"]
    walked, unwound = (stats[name] - before[name] for name in ("stack_walked", "stack_unwound"))
    assert walked / (walked + unwound) > 0.9


def test_stale_records_are_found(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """The check below works: it finds forged records of free pages."""
    with start() as process:
        process.address("anon", 50_000)
    found = look_for_stale(tracked.pid, "--forge", str(NR_FORGED))
    # If a page has been reused since, an event has corrected its record.
    assert found["forged"] > NR_FORGED // 10
    assert 0.9 * found["forged"] <= found["stale"] <= NR_FORGED + 10
    assert look_for_stale(tracked.pid)["stale"] <= 10


def test_stale_records_go(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """Opening page_owner removes records of free pages that no event ended."""
    with start() as process:
        process.address("anon", 50_000)
    before = tracked.stats()["stale_found"]
    time.sleep(FRESH_SEC)
    found = look_for_stale(
        tracked.pid, "--forge", str(NR_FORGED), "--open", str(tracked.page_owner)
    )
    assert found["made"] > NR_FORGED // 10
    # Some may have been in use just then, and other programs make such records, too.
    assert found["forged"] <= 10
    assert found["stale"] <= found["made"] // 20
    time.sleep(FRESH_SEC)
    assert tracked.stats()["stale_found"] - before >= found["made"] // 2


def test_used_pages_are_not_stale(
    tracked: KernelMount, start: Callable[[], Process], tmp_path: Path
) -> None:
    """However often page_owner is opened under load, it keeps every record of a used page."""
    process = start()
    pfns = process.pfns(process.address("anon", 20_000), 20_000)
    load = threading.Thread(target=run_load, args=(tmp_path, 5 * FRESH_SEC))
    load.start()
    try:
        while load.is_alive():
            assert set(pfns) <= tracked.records_of(process.pid).keys()
            time.sleep(FRESH_SEC)
    finally:
        load.join()


def test_pool_of_huge_pages_is_not_stale(tracked: KernelMount) -> None:
    """Huge pages in hugetlb's pool have no reference, but still an owner: whoever filled it."""
    if not HUGE_PAGES.exists():
        pytest.skip(f"needs a kernel with {HUGE_PAGES}")
    before = int(HUGE_PAGES.read_text())
    HUGE_PAGES.write_text(f"{before + NR_HUGE}\n")
    try:
        got = int(HUGE_PAGES.read_text()) - before
        assert got > 0
        for _ in range(3):
            time.sleep(FRESH_SEC)
            mine = tracked.records_of(os.getpid()).values()
            assert sum(record.order == 9 for record in mine) >= got
    finally:
        HUGE_PAGES.write_text(f"{before}\n")


def test_no_stale_records(tracked: KernelMount, tmp_path: Path) -> None:
    """After a load with reclaim, at most ten in a million records are of free pages."""
    before = tracked.stats()
    found = check_under_load(tracked.pid, tmp_path, LOAD_SEC, page_owner=tracked.page_owner)
    assert found["allocated"] > 10_000
    assert found["stale_per_million"] <= STALE_PER_MILLION, found
    # A kernel may keep programs from running now and then, so the scan mends a few records.
    time.sleep(FRESH_SEC)
    after = tracked.stats()
    nr_freed = after["free_events"] - before["free_events"]
    nr_stale = after["stale_found"] - before["stale_found"]
    assert nr_stale * 1e6 / nr_freed <= FOUND_PER_MILLION, (nr_stale, nr_freed)
    # The whole text is well-formed.
    assert sum(record.nr_base_pages for record in tracked.records()) > 10_000
