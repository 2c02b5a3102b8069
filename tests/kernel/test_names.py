"""Whom a record names: threads, children, ended processes, and names of any bytes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kernel_process import read_pagemap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernel_mount import KernelMount
    from kernel_process import Process

    from pageownerfs.page_owner_sort import Record

pytestmark = [pytest.mark.require("fuse", "root", "bpf"), pytest.mark.slow]

NR_THREADS = 20
NR_CHILDREN = 300
NR_COPIED = 500
COMMS = (
    *(b"two\nlines", b"\n\nPFN 0x1 type", b"a) (b), ts 1 ns", b"), ts 7 ns\n", b"\xff\xfe\x80"),
    *(b"\xc3(", b"\x01\x1b[31m", b"", b"a, pid 1", b"exactly_15bytes"),
)
Name = "tuple[int | None, int | None, bytes | None]"


def names(records: dict[int, Record], pfns: Iterable[int]) -> Counter[Name]:
    """Count the names in the records of pages."""
    found = [records.get(pfn) for pfn in pfns]
    return Counter((r.pid, r.tgid, r.comm) if r else (None, None, None) for r in found)


def test_threads(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """A thread is named by its own id and name, with the id of its process."""
    process = start()
    words = process.ask("threads", "-", NR_THREADS, 50)
    records = tracked.records_of(process.pid)
    for number, (tid, address) in enumerate(zip(words[::2], words[1::2], strict=True)):
        assert int(tid) != process.pid
        wanted = (int(tid), process.pid, b"thread (%d)" % number)
        found = names(records, process.pfns(int(address, 16), 50))
        assert found == {wanted: 50}


def test_copied_on_write(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """A page that a child writes to is the child's; the others stay the parent's."""
    process = start()
    process.name(b"parent")
    address = process.address("anon", 2 * NR_COPIED)
    before = process.pfns(address, 2 * NR_COPIED)
    child = int(process.ask("copy", "-", address, NR_COPIED)[0])
    pfns = read_pagemap(child, address, 2 * NR_COPIED)
    assert pfns[NR_COPIED:] == before[NR_COPIED:]
    records = tracked.records_of(process.pid, child)
    assert names(records, pfns[:NR_COPIED]) == {(child, child, b"parent"): NR_COPIED}
    parents = {(process.pid, process.pid, b"parent"): NR_COPIED}
    assert names(records, pfns[NR_COPIED:]) == parents
    assert names(records, before[:NR_COPIED]) == parents


def test_gone_processes(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """Pages of 300 processes that ended long ago have the names of their allocation."""
    process = start()
    first, *pids = process.ask("children", "-", NR_CHILDREN, 4)
    assert len(pids) == NR_CHILDREN
    pfns = process.pfns(int(first, 16), 4 * NR_CHILDREN)
    records = tracked.records_of(*map(int, pids))
    found = names(records, pfns)
    wanted = {(int(pid), int(pid), b"short-%d" % n): 4 for n, pid in enumerate(pids)}
    assert sum((found - Counter(wanted)).values()) <= 1


def test_any_bytes(tracked: KernelMount, start: Callable[[], Process]) -> None:
    """A thread's name may contain any byte but NUL, and appears unchanged."""
    process = start()
    pages = {}
    for comm in COMMS:
        process.name(comm)
        pages[comm] = process.pfns(process.address("anon", 100), 100)
    text = b"".join(tracked.texts_of(process.pid))
    for comm, pfns in pages.items():
        needle = b"pid %d, tgid %d (%b), ts " % (process.pid, process.pid, comm)
        assert text.count(needle) >= len(pfns)
        for pfn in pfns:
            place = text.index(b"\nPFN 0x%x type Movable Block " % pfn)
            start_of_record = text.rindex(b"Page allocated via order ", 0, place)
            assert needle in text[start_of_record:place]
