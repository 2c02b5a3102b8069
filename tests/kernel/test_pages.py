"""Owners match /proc/PID/pagemap: anonymous, tmpfs, huge and moved pages."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel_process import NOT_THERE

from pageownerfs import GFP_HIGHUSER_MOVABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kernel_mount import KernelMount
    from kernel_process import Process

    from pageownerfs.page_owner_sort import Record

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

COMM = b"kernel_process"
NR_ANON = 100_003
NR_FILE = 50_021
NR_HOLES = 400_000
HUGE = 512
NR_HUGE = 32 * HUGE  # 64 MiB
KPF_BUDDY = 1 << 10
# Functions that a page fault goes through; which of them are inlined varies.
FAULT = (b"handle_mm_fault", b"asm_exc_page_fault", b"do_anonymous_page", b"do_user_addr_fault")
FAULT_STACK = b"handle_mm_fault"
WRITE = (b"shmem_", b"vfs_write", b"generic_perform_write")
SHARE = 0.9999  # share of pages that must be right: an event in an interrupt may be missed


@pytest.fixture(scope="module", autouse=True)
def _enough_memory() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if available < 3 << 20:
        pytest.skip("needs 3 GiB of available memory")


def is_free(pfn: int) -> bool:
    """Return whether the buddy allocator has the page, or nothing shows an owner."""
    words = []
    for name in ("kpageflags", "kpagecount"):
        with Path(f"/proc/{name}").open("rb", buffering=0) as file:
            words.append(int.from_bytes(os.pread(file.fileno(), 8, pfn * 8), sys.byteorder))
    flags, count = words
    return bool(flags & KPF_BUDDY) or (flags == 0 and count == 0)


def key(record: Record) -> tuple[int | None, int | None]:
    """Return a key that tells one allocation of a page from another."""
    return record.pid, record.ts_nsec


def stale(
    mount: KernelMount, pfns: set[int], tgid: int, before: dict[int, Record] | None = None
) -> list[int]:
    """Return free pages that two readings show as the process's; before is the first reading."""
    before = mount.records_of(tgid) if before is None else before
    suspects = {pfn for pfn in pfns & before.keys() if is_free(pfn)}
    if not suspects:
        return []
    after = mount.records_of(tgid)
    return [
        pfn
        for pfn in suspects & after.keys()
        if key(before[pfn]) == key(after[pfn]) and is_free(pfn)
    ]


def assert_owned(
    found: dict[int, Record], pfns: Iterable[int], process: Process, by: tuple[bytes, ...]
) -> None:
    """Nearly all pages are the process's, with a function of ``by`` in their stacks."""
    wanted = set(pfns)
    assert NOT_THERE not in wanted
    wrong: Counter[str] = Counter()
    good = 0
    for pfn in wanted:
        record = found.get(pfn)
        if record is None:
            wrong["no record of it"] += 1
        elif (record.pid, record.tgid, record.comm) != (process.pid, process.pid, COMM):
            wrong[f"{record.pid} {record.tgid} {record.comm!r}"] += 1
        elif record.order or record.gfp_mask & GFP_HIGHUSER_MOVABLE != GFP_HIGHUSER_MOVABLE:
            wrong[f"order {record.order} mask {record.mask!r}"] += 1
        elif not any(name in record.stack for name in by):
            wrong[record.stack.decode()] += 1
        else:
            good += 1
    assert good >= SHARE * len(wanted), wrong.most_common(5)


def test_anonymous(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """Each page has its owner until it is given back."""
    with start() as process:
        address = process.address("anon", NR_ANON)
        pfns = process.pfns(address, NR_ANON)
        assert len(set(pfns)) == NR_ANON
        assert_owned(tracked.records_of(process.pid), pfns, process, FAULT)
        half = NR_ANON // 2
        process.ask("unmap", "-", address, half)
        assert process.pfns(address + half * 4096, NR_ANON - half) == pfns[half:]
        records = tracked.records_of(process.pid)
        assert stale(tracked, set(pfns[:half]), process.pid, records) == []
        assert_owned(records, pfns[half:], process, FAULT)
    assert stale(tracked, set(pfns), process.pid) == []


def test_tmpfs(ours: KernelMount, tmpfs: Path, start: Callable[[], Process]) -> None:
    """Pages of a file belong to the writer until it is truncated, even after the process ended."""
    with start() as process:
        path = tmpfs / "file"
        address = process.address("file", NR_FILE, word=path)
        pfns = process.pfns(address, NR_FILE)
        assert len(set(pfns)) == NR_FILE
        assert_owned(ours.records_of(process.pid), pfns, process, WRITE)
        half = NR_FILE // 2
        process.ask("truncate", path, half)
    assert stale(ours, set(pfns[half:]), process.pid) == []
    assert_owned(ours.records_of(process.pid), pfns[:half], process, WRITE)
    path.unlink()
    assert stale(ours, set(pfns), process.pid) == []


@pytest.fixture(autouse=True)
def quiet_khugepaged() -> Iterator[None]:
    """Keep khugepaged from copying a test's pages into huge pages."""
    path = Path("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs")
    before = path.read_text() if path.exists() else None
    if before is not None:
        path.write_text("3600000")
    yield
    if before is not None:
        path.write_text(before)


def huge_pages(process: Process) -> tuple[int, list[int]]:
    """Give the process huge pages; return the address and PFNs, or skip the test."""
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("needs transparent huge pages")
    address = process.address("huge", NR_HUGE)
    pfns = process.pfns(address, NR_HUGE)
    heads = [pfn for pfn in pfns[::HUGE] if pfn % HUGE == 0]
    if len(heads) < NR_HUGE // HUGE // 2:
        pytest.skip("needs memory for huge pages")
    return address, pfns


def test_huge(ours: KernelMount, start: Callable[[], Process]) -> None:
    """A huge page is one record of order 9 for all its pages."""
    with start() as process:
        _, pfns = huge_pages(process)
        records = ours.records_of(process.pid)
        whole = [pfn for pfn in pfns[::HUGE] if pfn % HUGE == 0]
        assert sum(records[pfn].order == 9 for pfn in whole if pfn in records) == len(whole)
        assert b"handle_mm_fault" in records[whole[0]].stack
        covered = ours.records_at(set(pfns))
        assert {record.tgid for record in covered.values()} == {process.pid}
        assert covered.keys() == set(pfns)
    assert stale(ours, set(pfns), process.pid) == []


def test_split(ours: KernelMount, start: Callable[[], Process]) -> None:
    """A split huge page leaves no stale record and hides nobody's pages."""
    with start() as process:
        address, pfns = huge_pages(process)
        for number in range(0, NR_HUGE, HUGE):
            # Unmapping a part splits the huge page later; MADV_FREE splits it at once.
            process.ask("lazyfree", "-", address + (number + 100) * 4096, 200)
            process.ask("drop", "-", address + (number + 100) * 4096, 300)
        freed = {pfn for n, pfn in enumerate(pfns) if 100 <= n % HUGE < 400 and is_free(pfn)}
        kept = {pfn for n, pfn in enumerate(pfns) if not 100 <= n % HUGE < 400}
        assert {r.tgid for r in ours.records_at(kept).values()} == {process.pid}
        assert ours.records_at(kept).keys() == kept
        if len(freed) < 1000:
            pytest.skip("needs a kernel that splits the huge pages")
        with start() as other:
            other_pfns = other.pfns(other.address("anon", 60_000), 60_000)
            reused = freed & set(other_pfns)
            owners = Counter(r.tgid for r in ours.records_at(reused).values())
            assert owners.keys() <= {other.pid}, f"{owners}, of {other.pid} {process.pid}"
            assert owners[other.pid] >= SHARE * len(reused)


def compact() -> None:
    """Compact all memory."""
    path = Path("/proc/sys/vm/compact_memory")
    if not path.exists():
        pytest.skip("needs a kernel that can compact memory")
    path.write_text("1")


def fragment(process: Process, holes: Process) -> tuple[list[int], list[int]]:
    """Compact memory full of holes; return the PFNs of both processes before and after."""
    hole_address = holes.address("anon", NR_HOLES)
    address = process.address("anon", NR_FILE)
    holes.ask("drop-odd", "-", hole_address, NR_HOLES)
    before = process.pfns(address, NR_FILE) + holes.pfns(hole_address, NR_HOLES)
    compact()
    after = process.pfns(address, NR_FILE) + holes.pfns(hole_address, NR_HOLES)
    return before, after


def test_compaction(ours: KernelMount, start: Callable[[], Process]) -> None:
    """Pages that compaction moves keep their owner, and their records say why they moved."""
    with start() as process, start() as holes:
        before, after = fragment(process, holes)
        moved = {new for old, new in zip(before, after, strict=True) if old != new} - {NOT_THERE}
        if len(moved) < 100:
            pytest.skip("needs something to compact")
        records = ours.records_of(process.pid, holes.pid)
        there = set(after) - {NOT_THERE}
        assert len(records.keys() & there) >= SHARE * len(there)
        line = b"Page has been migrated, last migrate reason: compaction\n"
        told = [pfn for pfn in moved & records.keys() if line in records[pfn].notes]
        assert len(told) >= 0.999 * len(moved)
        assert all(FAULT_STACK in records[pfn].stack for pfn in told)
        assert stale(ours, set(before) - set(after), process.pid) == []
        assert stale(ours, set(before) - set(after), holes.pid) == []


def test_split_and_moved(ours: KernelMount, start: Callable[[], Process]) -> None:
    """If compaction moves pages of a huge page that was split unseen, they hide nothing."""
    with start() as process, start() as other:
        address, before = huge_pages(process)
        for number in range(0, NR_HUGE, HUGE):
            process.ask("lazyfree", "-", address + (number + 100) * 4096, 1)
        _, others = fragment(process, other)
        after = process.pfns(address, NR_HUGE)
        moved = {new for old, new in zip(before, after, strict=True) if old != new} - {NOT_THERE}
        # khugepaged may have copied them into huge pages.
        owners = ours.records_at(moved)
        moved -= {pfn for pfn, record in owners.items() if record.comm == b"khugepaged"}
        if len(moved) < 100:
            pytest.skip("needs compaction to move pages")
        assert len(ours.records_at(moved, process.pid)) >= SHARE * len(moved)
        pids = [process.pid] * NR_FILE + [other.pid] * NR_HOLES
        owners = {pfn: pid for pfn, pid in zip(others, pids, strict=True) if pfn != NOT_THERE}
        found = ours.records_at(set(owners))
        right = sum(record.tgid == owners[pfn] for pfn, record in found.items())
        assert right >= SHARE * len(owners)
