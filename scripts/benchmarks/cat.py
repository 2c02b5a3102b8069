"""Table 5: `cat page_owner` with a million records."""

from __future__ import annotations

import statistics

from .mount import (
    constant_mount,
    count_records,
    filled_pool,
    records_that_fit,
    time_cat,
)
from .report import Goal, Row, Table, compared, interleaved, median_ratio, spread

NR_RECORDS = 1 << 20


def cat_table(*, quick: bool) -> Table:
    """Table 5: page_owner and the same number of bytes from a constant buffer."""
    rounds, wanted = (5, 1 << 16) if quick else (21, NR_RECORDS)
    nr_records = records_that_fit(wanted)
    with filled_pool(nr_records) as mountpoint:
        path = mountpoint / "page_owner"
        found, nr_bytes = count_records(path)
        with constant_mount(nr_bytes, "ours") as ours, constant_mount(nr_bytes, "plain") as plain:
            times = interleaved(
                rounds,
                {
                    "page_owner": lambda: time_cat(path),
                    "ours": lambda: time_cat(ours),
                    "plain": lambda: time_cat(plain),
                },
            )
    speed = {name: nr_bytes / 1e6 / statistics.median(values) for name, values in times.items()}
    rows = [
        compared(
            f"MB/s, against a constant buffer {how}",
            f"{speed['page_owner']:.0f} MB/s",
            f"{speed[kind]:.0f} MB/s",
            median_ratio(times[kind], times["page_owner"]),
            Goal(0.6, at_least=True),
        )
        for kind, how in (
            ("ours", "through our mount code"),
            ("plain", "through the FUSE binding alone"),
        )
    ]
    rate = found / statistics.median(times["page_owner"]) / 1e6
    goal = Goal(1.5, at_least=True, unit="M/s")
    verdict = "reached" if goal.reached(rate) else "MISSED"
    rows.append(Row("records per second", f"{rate:.3f} M/s", goal=str(goal), verdict=verdict))
    notes = [f"{found} records, {nr_bytes / found:.0f} bytes each"]
    notes += [f"{name}: {spread(values, 's')}" for name, values in times.items()]
    if nr_records < wanted:
        notes.append(f"not enough memory for {wanted} records: scaled down to {nr_records}")
    return Table("cat page_owner >/dev/null", rows, notes)
