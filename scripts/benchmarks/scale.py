"""Table 8: from few records to many, and the daemon's memory while they are read."""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, NamedTuple

from .mount import RssWatch, count_records, filled_pool, records_that_fit, time_cat
from .report import Goal, Row, Table, compared, interleaved, limited

if TYPE_CHECKING:
    from pathlib import Path

ORDERS, BASE_ORDER = (14, 16, 20, 22), 18
QUICK_ORDERS, QUICK_BASE_ORDER = (14, 16), 15
GOAL_RATIO = Goal(1.3)
GOAL_RSS = Goal(32, unit="MiB")
# A small file gets more runs than a large one.
RUNS_RECORDS = 1 << 24
MIN_RUNS, MAX_RUNS = 7, 101
RSS_RUNS = 3
WARM_SECONDS = 0.05


class Measured(NamedTuple):
    """The measurement of one size."""

    nr_records: int
    per_record: float
    """Nanoseconds to cat one record, without the start-up of cat; the median."""
    base_per_record: float
    """The same for the base, measured in alternation."""
    start: float
    """Milliseconds to cat a file of two bytes."""
    nr_runs: int

    @property
    def ratio(self) -> float:
        """Time per record divided by the base's."""
        return self.per_record / self.base_per_record


def warm_cat(path: Path) -> float:
    """Time a cat that follows others of the same file."""
    warmed = 0.0
    while warmed < WARM_SECONDS:
        warmed += time_cat(path)
    return time_cat(path)


def measure(mountpoint: Path, base: Path, nr_runs: int) -> Measured:
    """
    Measure one pool in alternation with the base and with a two-byte file.

    Uncounted runs come before each: the CPU's caches hold what another daemon has just read, which
    would slow down a small file but not a large one.
    """
    paths = {
        "pool": mountpoint / "page_owner",
        "base": base / "page_owner",
        "start": mountpoint / "page_owner_on",
    }
    nr_records, nr_base = (count_records(paths[name])[0] for name in ("pool", "base"))
    times = interleaved(
        nr_runs, {name: functools.partial(warm_cat, path) for name, path in paths.items()}
    )
    pool, base_time, start = (statistics.median(times[name]) for name in paths)
    return Measured(
        nr_records,
        (pool - start) / nr_records * 1e9,
        (base_time - start) / nr_base * 1e9,
        start * 1e3,
        nr_runs,
    )


def rss_row(mountpoint: Path) -> Row:
    """Compare the daemon's idle memory with its peak while it is read."""
    path = mountpoint / "page_owner"
    watches = [RssWatch(mountpoint) for _ in range(RSS_RUNS)]
    for watch in watches:
        with watch:
            time_cat(path)
    worst = max(watches, key=lambda watch: watch.most - watch.before)
    return limited(
        f"{count_records(path)[0]} records: RSS added to the idle daemon by reading",
        worst.most - worst.before,
        "MiB",
        GOAL_RSS,
        f"{worst.before:.1f} MiB idle",
        digits=1,
    )


def scale_table(*, quick: bool) -> Table:
    """Table 8: time per record and resident memory, by number of records."""
    orders, base_order = (QUICK_ORDERS, QUICK_BASE_ORDER) if quick else (ORDERS, BASE_ORDER)
    notes, found, rss = [], [], []
    with filled_pool(1 << base_order) as base:
        rss.append(rss_row(base))
        for order in orders:
            nr_records = records_that_fit(1 << order)
            if nr_records < 1 << order:
                notes.append(f"2^{order} records left out: not enough memory")
                continue
            nr_runs = MIN_RUNS if quick else min(max(RUNS_RECORDS >> order, MIN_RUNS), MAX_RUNS)
            with filled_pool(nr_records) as mountpoint:
                found.append(measure(mountpoint, base, nr_runs))
                rss.append(rss_row(mountpoint))
    return Table("Time per record to cat page_owner", time_rows(found, base_order) + rss, notes)


def time_rows(found: list[Measured], base_order: int) -> list[Row]:
    """Make the rows of the times; only the worst ratio is judged."""
    rows = [
        compared(
            f"{one.nr_records} records, {one.nr_runs} runs, against 2^{base_order}",
            f"{one.per_record:.1f} ns/record",
            f"{one.base_per_record:.1f} ns/record",
            one.ratio,
        )
        for one in found
    ]
    ratios = [1.0, *(one.ratio for one in found)]
    start = f"{statistics.median(one.start for one in found):.2f} ms" if found else ""
    worst = compared("slowest / fastest", "", "", max(ratios) / min(ratios), GOAL_RATIO)
    return [*rows, worst, Row("start-up of cat, not included above", start)]
