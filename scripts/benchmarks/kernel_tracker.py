"""The programs of the kernel source, switched on and off between runs of one process."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.kallsyms import Kallsyms
from pageownerfs.sources.kernel.tracker import Tracker
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs.sources.kernel.options import KernelOptions

_STACKS_LOST: Final = ("stack_failed", "stack_depot_full", "stack_wrong")


class SwitchedTracker:
    """A tracker that is loaded all the time, but attached only in ``with tracker.on()``."""

    def __init__(self, tracker: Tracker) -> None:
        """Detach what is attached."""
        self._tracker = tracker
        self._object = tracker._object  # noqa: SLF001 - nobody else attaches and detaches
        self._programs = self._object.attached
        self._total: Counter[str] = Counter()
        self._detach()

    def _detach(self) -> None:
        for program in reversed(self._programs):
            self._object.detach(program)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Attach, and detach."""
        try:
            for program in self._programs:
                self._object.attach(program)
            # As a mount does: pages of which it knows nothing would count as lost when missed.
            self._tracker.scan_early()
            before = self._read()
            yield
            self._total.update({key: nr - before[key] for key, nr in self._read().items()})
        finally:
            self._detach()

    def run(self, measure: Callable[[], float]) -> float:
        """Measure while it is on."""
        with self.on():
            return measure()

    def _read(self) -> Counter[str]:
        return Counter(self._tracker.counters())

    @property
    def nr_events(self) -> int:
        """Allocations and frees seen while it was on."""
        return self._total["alloc_events"] + self._total["free_events"]

    @property
    def nr_allocations(self) -> int:
        """Allocations seen."""
        return self._total["alloc_events"]

    @property
    def nr_missed(self) -> int:
        """Events that the first copy of a program has missed."""
        return self._total["events_missed_by_first"]

    @property
    def nr_recovered(self) -> int:
        """Those of them that the second copy has seen."""
        return self._total["events_recovered"]

    @property
    def nr_lost(self) -> int:
        """Events that neither copy has seen, at most, without those of switching on and off."""
        missed = max(0, self.nr_missed - self.nr_recovered)
        return min(self._total["events_missed_by_second"], missed)

    @property
    def nr_stacks_lost(self) -> int:
        """Stacks that could not be taken or stored, or were found wrong."""
        return sum(self._total[name] for name in _STACKS_LOST)

    @property
    def walked(self) -> float:
        """Share of the stacks that were found without an unwinding."""
        walked, unwound = self._total["stack_walked"], self._total["stack_unwound"]
        return walked / max(walked + unwound, 1)

    @property
    def page_ext_bytes(self) -> int:
        """Memory of the records."""
        return len(self._tracker.page_ext)

    @property
    def stack_depot_bytes(self) -> int:
        """Memory of the stack depot."""
        return len(self._tracker.stack_nodes)

    @property
    def unseen(self) -> list[str]:
        """What it doesn't see on this kernel."""
        return self._tracker.unseen


@contextlib.contextmanager
def loaded_tracker(options: KernelOptions) -> Iterator[SwitchedTracker]:
    """Load it as a mount does, with the early pages found."""
    zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
    with Btf() as btf:
        tracker = Tracker(options, zones, btf, Kallsyms())
    with contextlib.closing(tracker):
        tracker.scan_early()
        yield SwitchedTracker(tracker)


def end_pfn() -> int:
    """Give the number of PFNs of the machine, holes included."""
    return max(zone.end_pfn for zone in read_zoneinfo())
