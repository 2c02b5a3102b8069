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
    """A tracker that stays loaded but is attached only inside ``with tracker.on()``."""

    def __init__(self, tracker: Tracker) -> None:
        """Detach everything."""
        self._tracker = tracker
        self._object = tracker._object  # noqa: SLF001 - only this class attaches and detaches
        self._programs = self._object.attached
        self._total: Counter[str] = Counter()
        self._detach()

    def _detach(self) -> None:
        for program in reversed(self._programs):
            self._object.detach(program)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Attach on entry, detach on exit."""
        try:
            for program in self._programs:
                self._object.attach(program)
            # As a mount does: frees of unknown pages would otherwise count as lost events.
            self._tracker.scan_early()
            before = self._read()
            yield
            self._total.update({key: nr - before[key] for key, nr in self._read().items()})
        finally:
            self._detach()

    def run(self, measure: Callable[[], float]) -> float:
        """Measure while tracking is on."""
        with self.on():
            return measure()

    def _read(self) -> Counter[str]:
        return Counter(self._tracker.counters())

    @property
    def nr_events(self) -> int:
        """Allocations and frees seen while tracking was on."""
        return self._total["alloc_events"] + self._total["free_events"]

    @property
    def nr_allocations(self) -> int:
        """Allocations seen while tracking was on."""
        return self._total["alloc_events"]

    @property
    def nr_missed(self) -> int:
        """Events that the first copy of a program missed."""
        return self._total["events_missed_by_first"]

    @property
    def nr_recovered(self) -> int:
        """Events that the first copy missed and the second copy saw."""
        return self._total["events_recovered"]

    @property
    def nr_lost(self) -> int:
        """Upper bound of the events that neither copy saw, apart from switching on and off."""
        missed = max(0, self.nr_missed - self.nr_recovered)
        return min(self._total["events_missed_by_second"], missed)

    @property
    def nr_stacks_lost(self) -> int:
        """Stacks that could not be captured or stored, or were found wrong."""
        return sum(self._total[name] for name in _STACKS_LOST)

    @property
    def walked(self) -> float:
        """Share of the stacks that were found without unwinding."""
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
        """What the tracker does not see on this kernel."""
        return self._tracker.unseen


@contextlib.contextmanager
def loaded_tracker(options: KernelOptions) -> Iterator[SwitchedTracker]:
    """Load the tracker as a mount does, and find the early pages."""
    zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
    with Btf() as btf:
        tracker = Tracker(options, zones, btf, Kallsyms())
    with contextlib.closing(tracker):
        tracker.scan_early()
        yield SwitchedTracker(tracker)


def end_pfn() -> int:
    """Return the machine's number of PFNs, holes included."""
    return max(zone.end_pfn for zone in read_zoneinfo())
