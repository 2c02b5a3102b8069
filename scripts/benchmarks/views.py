"""Table 11: the other files of the mount (stacks, snapshots, sorted, pagetypeinfo) and a dump."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pageownerfs import _native
from pageownerfs.mm.formats import DEFAULT_FORMAT, FORMATS
from pageownerfs.sources.dump import DumpOptions, DumpSource
from pageownerfs.views.page_owner_stacks import PageOwnerStacks

from .mount import filled_pool, mounted_pool, records_that_fit
from .report import Goal, Row, Table, compared, interleaved, limited, median_ratio, spread
from .shape import load_shapes, variant
from .sort import kernel_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NR_RECORDS = 1 << 20
NR_STACKS = 10_000
LARGE_POOL = "16G"
"""4 M pages."""


def views_table(*, quick: bool) -> Table:
    """Table 11: the cost of the other files."""
    rounds = 3 if quick else 15
    nr_records = records_that_fit(1 << 16 if quick else NR_RECORDS)
    rows: list[Row] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        dump = Path(name, "dump")
        write_dump(dump, nr_records)
        rows += dump_rows(dump, rounds, notes)
        rows += stack_rows(dump, rounds, notes)
    with filled_pool(nr_records) as mountpoint:
        rows.append(snapshot_row(mountpoint, rounds, notes))
        rows += sorted_rows(mountpoint, 1 if quick else 5, notes)
        rows.append(pagetypeinfo_row(mountpoint, f"{nr_records:,} allocated", rounds, notes))
    if records_that_fit(1 << 17) == 1 << 17:
        with mounted_pool(f"page_owner=on,size={LARGE_POOL}") as mountpoint:
            rows.append(pagetypeinfo_row(mountpoint, "4 M", rounds, notes, Goal(20, unit="ms")))
    return Table(f"The other files of the mount, {nr_records:,} records", rows, notes)


def write_dump(path: Path, nr_records: int) -> None:
    """Write records of order 0 with NR_STACKS stacks, in runs like a kernel's."""
    shapes = load_shapes()
    many = [variant(shapes[i % len(shapes)], i // len(shapes)) for i in range(NR_STACKS)]
    choose = random.Random(1)  # noqa: S311 - the same in every run
    with path.open("w") as file:
        pfn = 0
        while pfn < nr_records:
            shape = choose.choice(many)
            stack = "".join(f" {frame}\n" for frame in shape.stack)
            for pfn in range(pfn, min(nr_records, pfn + choose.randrange(1, 34))):  # noqa: B020
                file.write(
                    f"Page allocated via order 0, mask {shape.gfp_mask:#x}(GFP_KERNEL), pid 7, "
                    f"tgid 7 (work), ts {pfn + 10**9} ns\nPFN {pfn:#x} type Unmovable Block "
                    f"{pfn >> 9} type Unmovable Flags 0x0(zone=1)\n{stack}\n"
                )
            pfn += 1


def timed(function: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    start = time.perf_counter_ns()
    function()
    return (time.perf_counter_ns() - start) / 1e6


def dump_rows(dump: Path, rounds: int, notes: list[str]) -> Iterator[Row]:
    """Measure loading a dump."""
    nr_bytes = dump.stat().st_size
    process = psutil.Process()
    before = process.memory_info().rss
    source = DumpSource(DumpOptions(path=os.fspath(dump)))
    grown = process.memory_info().rss - before
    times = [
        timed(lambda: DumpSource(DumpOptions(path=os.fspath(dump))))
        for _ in range(max(rounds // 3, 1))
    ]
    rate = nr_bytes / 1e3 / statistics.median(times)
    notes.append(f"dump of {nr_bytes >> 20} MiB: {spread(times, 'ms')}")
    yield limited("dump, read", rate, "MB/s", Goal(300, at_least=True, unit="MB/s"), digits=0)
    nr_records = source.table().nr_records
    yield limited("dump: memory per record (RSS)", grown / nr_records, "B", digits=1)


def stack_rows(dump: Path, rounds: int, notes: list[str]) -> Iterator[Row]:
    """Measure counting and printing stacks."""
    source = DumpSource(DumpOptions(path=os.fspath(dump)))
    table, nr_records = source.table(), source.table().nr_records
    assert isinstance(table, _native.RecordTable)
    times = [timed(table.count_stacks) for _ in range(rounds)]
    notes.append(f"count_stacks(): {spread(times, 'ms')}")
    rate = nr_records / 1e3 / statistics.median(times)
    yield limited("count by stack", rate, "M records/s", Goal(50, at_least=True), digits=0)
    stacks = PageOwnerStacks(source, FORMATS[DEFAULT_FORMAT])
    first = timed(stacks.show_stacks)
    times = [timed(stacks.show_stacks) for _ in range(rounds)]
    notes.append(f"show_stacks of {NR_STACKS:,} stacks: {spread(times, 'ms')}, first {first:.1f}")
    yield limited(
        "show_stacks, including the count",
        statistics.median(times),
        "ms",
        Goal(50, unit="ms"),
        digits=1,
    )


def snapshot_row(mountpoint: Path, rounds: int, notes: list[str]) -> Row:
    """Measure mkdir of a snapshot."""
    path = mountpoint / "snapshots" / "bench"

    def once() -> float:
        elapsed = timed(path.mkdir)
        path.rmdir()
        return elapsed

    times = [once() for _ in range(rounds)]
    notes.append(f"mkdir snapshots/NAME: {spread(times, 'ms')}")
    return limited("snapshot", statistics.median(times), "ms", Goal(50, unit="ms"), digits=1)


def sorted_rows(mountpoint: Path, rounds: int, notes: list[str]) -> Iterator[Row]:
    """Compare sorted/by_memory with a copy of page_owner sorted by the kernel's tool."""
    tool = kernel_tool()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        text, result = Path(name, "text"), Path(name, "sorted")

        def ours() -> float:
            return timed(lambda: shutil.copy(mountpoint / "sorted" / "by_memory", result))

        def peer() -> float:
            def run() -> None:
                shutil.copy(mountpoint / "page_owner", text)
                subprocess.run([tool, "-m", text, result], check=True, stdout=subprocess.DEVNULL)

            return timed(run)

        times = interleaved(rounds, {"ours": ours, "peer": peer})
    for which, name in (("ours", "sorted/by_memory"), ("peer", "cat and page_owner_sort -m")):
        notes.append(f"{name}: {spread(times[which], 'ms')}")
    medians = {which: statistics.median(values) for which, values in times.items()}
    yield compared(
        "sorted/by_memory",
        f"{medians['ours']:.0f} ms",
        f"{medians['peer']:.0f} ms",
        median_ratio(times["peer"], times["ours"]),
        Goal(20, at_least=True),
    )


def pagetypeinfo_row(
    mountpoint: Path, what: str, rounds: int, notes: list[str], goal: Goal | None = None
) -> Row:
    """Measure reading pagetypeinfo, which walks over all records."""
    path = mountpoint / "pagetypeinfo"
    path.read_bytes()  # touch its memory once
    times = [timed(path.read_bytes) for _ in range(rounds)]
    notes.append(f"pagetypeinfo, {what} pages: {spread(times, 'ms')}")
    return limited(f"pagetypeinfo, {what} pages", statistics.median(times), "ms", goal, digits=1)
