"""Table 8: from few records to many, and the daemon's memory meanwhile."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from bench_mount import RssWatch, count_records, filled_pool, records_that_fit, time_cat
from bench_report import Goal, Row, Table, limited

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = (14, 16, 18, 20, 22)
QUICK_ORDERS = (14, 15, 16)
BASE_ORDER = 18
GOAL_RATIO = Goal(1.3)
GOAL_RSS = Goal(32, unit="MiB")
# For a small file as many runs as give it as much time as a large one.
RUNS_RECORDS = 1 << 24
MIN_RUNS, MAX_RUNS = 5, 101


class Measured(NamedTuple):
    """What was found for one size."""

    nr_records: int
    nr_bytes: int
    runs: list[float]
    """Seconds of each cat."""
    start: float
    """Seconds of a cat of a file of two bytes."""
    rss_growth: float
    """MiB, the most of all runs."""

    @property
    def per_record(self) -> float:
        """Nanoseconds per record, without the start of cat."""
        return (statistics.median(self.runs) - self.start) / self.nr_records * 1e9


def measure(mountpoint: Path, nr_runs: int) -> Measured:
    """Measure one pool; each cat by turns with one of a file of two bytes."""
    path = mountpoint / "page_owner"
    nr_records, nr_bytes = count_records(path)
    runs, starts, growth = [], [], 0.0
    for _ in range(nr_runs):
        starts.append(time_cat(mountpoint / "page_owner_on"))
        runs.append(time_cat(path))
    # Apart from the timed runs: looking at the daemon costs time, too.
    for _ in range(min(nr_runs, MIN_RUNS)):
        with RssWatch(mountpoint) as watch:
            time_cat(path)
        growth = max(growth, watch.growth)
    return Measured(nr_records, nr_bytes, runs, statistics.median(starts), growth)


def scale_table(*, quick: bool) -> Table:
    """Table 8: time per record, and resident memory, by number of records."""
    notes, found = [], []
    for order in QUICK_ORDERS if quick else ORDERS:
        if records_that_fit(1 << order) < 1 << order:
            notes.append(f"no memory for 2^{order} records: left out")
            continue
        nr_runs = MIN_RUNS if quick else RUNS_RECORDS >> order
        with filled_pool(1 << order) as mountpoint:
            found.append(measure(mountpoint, min(max(nr_runs, MIN_RUNS), MAX_RUNS)))
    times = [one.per_record for one in found]
    rows = [
        Row(
            f"{one.nr_records} records",
            f"{one.per_record:.1f} ns/record",
            f"{one.nr_bytes / statistics.median(one.runs) / 1e6:.0f} MB/s",
            f"{one.per_record / min(times):.3f}",
        )
        for one in found
    ]
    ratio = max(times) / min(times)
    verdict = "reached" if GOAL_RATIO.reached(ratio) else "MISSED"
    rows.append(Row("slowest / fastest", "", "", f"{ratio:.3f}", str(GOAL_RATIO), verdict))
    growth = max(one.rss_growth for one in found)
    rows.append(limited("the daemon's RSS grows while reading by", growth, "MiB", GOAL_RSS))
    notes += [
        f"{one.nr_records} records: cat {statistics.median(one.runs) * 1e3:.2f} ms "
        f"({len(one.runs)} runs), of which its start {one.start * 1e3:.2f} ms (not counted); "
        f"RSS +{one.rss_growth:.1f} MiB"
        for one in found
    ]
    return Table("Time per record to cat page_owner", rows, notes)
