"""The two sets of required programs: on raw tracepoints, and called by perf."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_ALLOCATED, PAGE_OWNER_STRUCT, PageOwner
from pageownerfs.sources.kernel import features, tracker
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.features import CALLED_BY_PERF, PREEMPTED, RAW, select_trackers
from pageownerfs.sources.kernel.kallsyms import Kallsyms
from pageownerfs.sources.kernel.options import KernelOptions
from pageownerfs.sources.kernel.tracker import Tracker, pfns_of
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.sources.kernel.features import Trackers

pytestmark = [pytest.mark.require("root", "bpf"), pytest.mark.slow]

NR: Final = 4096
GUARD: Final = "class_srcu_fast_notrace_t"
SETS: Final = (RAW, CALLED_BY_PERF)


@contextlib.contextmanager
def tracking(monkeypatch: pytest.MonkeyPatch, programs: Trackers) -> Iterator[Tracker]:
    """Track with these programs, whatever this kernel needs."""
    monkeypatch.setattr(tracker, "select_trackers", lambda _: (programs, ""))
    zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
    with Btf() as btf:
        tracking = Tracker(KernelOptions(), zones, btf, Kallsyms())
    with contextlib.closing(tracking):
        yield tracking


def touched() -> mmap.mmap:
    """Return memory of NR pages that were allocated one by one."""
    memory = mmap.mmap(-1, NR * mmap.PAGESIZE, mmap.MAP_PRIVATE)
    with contextlib.suppress(OSError):  # no CONFIG_TRANSPARENT_HUGEPAGE
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.write(bytes(len(memory)))
    return memory


def records(tracking: Tracker, pfns: list[int]) -> list[PageOwner]:
    """Return the records of these pages."""
    size = PAGE_OWNER_STRUCT.size
    return [PageOwner.unpack(tracking.page_ext[pfn * size : (pfn + 1) * size]) for pfn in pfns]


@pytest.mark.parametrize("programs", SETS, ids=("raw", "perf"))
def test_pages_of_a_process(monkeypatch: pytest.MonkeyPatch, programs: Trackers) -> None:
    """Either set sees the allocation of each page with its stack, and its free."""
    with tracking(monkeypatch, programs) as tracker:
        assert set(programs) <= set(tracker.programs)
        for _ in range(3):  # the first walks learn
            touched().close()
        with touched() as memory:
            pfns = pfns_of(memory)
            owners = records(tracker, pfns)
            good = [owner for owner in owners if owner.tgid == tracker.tgid]
            assert len(good) >= NR - 10  # pages may migrate meanwhile
            assert {(owner.order, owner.comm.rstrip(b"\0")) for owner in good} == {
                (0, Path("/proc/self/comm").read_bytes().rstrip(b"\n"))
            }
            handles = {owner.handle for owner in good}
            assert {innermost(tracker, handle) for handle in handles} == {
                "__traceiter_mm_page_alloc"
            }
        freed = [owner for owner in records(tracker, pfns) if owner.free_tgid == tracker.tgid]
        assert len(freed) >= NR - 10
        assert sum(not owner.state & PAGE_EXT_OWNER_ALLOCATED for owner in freed) > NR // 2
        counters = tracker.counters()
    assert counters["events_lost"] == counters["stack_wrong"] == counters["stack_failed"] == 0
    if os.uname().machine == "x86_64":
        assert counters["stack_walked"] > counters["stack_unwound"]


def innermost(tracker: Tracker, handle: int) -> str:
    """Return the innermost function of a stack."""
    return Kallsyms().frame(tracker.text_base | tracker.stack_words(handle)[0]).name


def test_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's types tell which set it needs."""
    with Btf() as btf:
        monkeypatch.setattr(btf, "has_typedef", lambda name: name != GUARD)
        assert select_trackers(btf) == (RAW, "")
        monkeypatch.setattr(btf, "has_typedef", lambda name: name == GUARD)
        assert select_trackers(btf) == (CALLED_BY_PERF, "")


def test_tracepoint_can_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without perf events, raw programs do, and the row "not seen" says what is missed."""

    def refuse(name: str) -> int:
        raise OSError(1, "Operation not permitted", name)

    monkeypatch.setattr(features, "open_tracepoint", refuse)
    with Btf() as btf:
        monkeypatch.setattr(btf, "has_typedef", lambda _: True)
        assert select_trackers(btf) == (RAW, f"{PREEMPTED} (Operation not permitted)")


class Busy:
    """Programs of which the first copy misses an event between the first two readings."""

    def __init__(self) -> None:
        self.attached = list(RAW)
        self.missed = 0

    def recursion_misses(self, name: str) -> int:
        """Return how often the kernel has skipped a program."""
        if name == RAW.alloc:
            self.missed = min(self.missed + 1, 2)
            return self.missed
        return 2 if name == RAW.alloc_again else 0


def test_missed_while_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is missed and recovered while the counters are read is not lost."""
    busy = Busy()
    tracking: Any = Tracker.__new__(Tracker)
    tracking._trackers, tracking._object = RAW, busy
    tracking._states, tracking._nr_states = (), 0
    monkeypatch.setattr(tracker, "sum_counters", lambda *_: Counter(events_recovered=busy.missed))
    counters = tracking.counters()
    assert counters["events_missed_by_first"] == counters["events_recovered"] == 2
    assert counters["events_lost"] == 0
