"""Tables 3 and 6, and the C part of table 4: the core, measured by benchmarks/native/bench.c."""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .report import (
    Goal,
    Table,
    compared,
    interleaved,
    limited,
    median_ratio,
    spread,
)
from .shape import write_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = Path(__file__).parents[2] / "pageownerfs/native"
# The rooms of the core that a pool needs; a build without tracking has only the first.
ROOMS = ("pool", "base", "tables", "text")
# The same as in setup.py.
CFLAGS = ("-O2", "-std=gnu11", "-pthread", "-Wall", "-Wextra")
SHM = Path("/dev/shm")  # noqa: S108 - each pool has a directory of its own there


class Bench(NamedTuple):
    """The compiled program, with tracking and without, and the directory for its pool."""

    tracking: Path
    without: Path
    pool: Path
    shapes: Path
    """page_owner text for the renderer."""

    def run(self, *args: object, tracking: bool = True) -> str:
        """Run the program and return its output."""
        program = self.tracking if tracking else self.without
        done = subprocess.run(
            [program, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def pairs(self, mode: str, nr: int) -> float:
        """Return the nanoseconds per alloc and free; mode is without, off or on."""
        tracking = mode != "without"
        state = mode if tracking else "off"
        return float(self.run("pairs", state, self.pool, nr, 0, tracking=tracking))

    def parallel(self, mode: str, seconds: float, nr: int) -> float:
        """Return the allocs and frees per second of ``nr`` processes together."""
        return float(self.run("parallel", mode, self.pool, seconds, nr))


@contextlib.contextmanager
def built_bench() -> Iterator[Bench]:
    """Compile both variants into a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        tempfile.TemporaryDirectory(prefix="bench-", dir=SHM) as shm,
    ):
        directory = Path(name)
        bench = Bench(
            directory / "tracking", directory / "without", Path(shm, "pool"), directory / "shapes"
        )
        for program, config in ((bench.tracking, 1), (bench.without, 0)):
            rooms = ROOMS if config else ROOMS[:1]
            sources = [path for room in rooms for path in sorted((NATIVE / room).glob("*.c"))]
            sources.append(Path(__file__).parent / "native/bench.c")
            options = [*CFLAGS, f"-I{NATIVE}", f"-DCONFIG_PAGE_OWNER={config}"]
            subprocess.run(["gcc", *options, "-o", program, *sources], check=True)
        write_shapes(bench.shapes)
        yield bench


def core_table(*, quick: bool) -> Table:
    """Table 3: the same loop in C, compiled without tracking, with tracking off, and on."""
    rounds, nr = (5, 1_000_000) if quick else (61, 4_000_000)
    with built_bench() as bench:
        times = interleaved(
            rounds,
            {mode: functools.partial(bench.pairs, mode, nr) for mode in ("without", "off", "on")},
        )
    without, off, on = (statistics.median(times[mode]) for mode in ("without", "off", "on"))
    rows = [
        compared(
            "tracking off, against compiled without",
            f"{off:.3f} ns",
            f"{without:.3f} ns",
            median_ratio(times["off"], times["without"]),
            Goal(1.02),
        ),
        limited(
            "added by switching on, with a fixed handle",
            on - off,
            "ns",
            Goal(100, unit="ns"),
            f"{off:.3f} ns off",
        ),
    ]
    notes = [f"{mode}: {spread(values, 'ns')}" for mode, values in times.items()]
    return Table("A pair of alloc_pages(0) + free_pages in C", rows, notes)


def render_table(*, quick: bool) -> Table:
    """Table 6: the renderer alone."""
    rounds, nr = (5, 100_000) if quick else (21, 400_000)
    with built_bench() as bench:
        head, *lines = bench.run("render", bench.shapes, nr, rounds).splitlines()
    nr_bytes = int(head.split()[1])
    render, copy, hot = (
        [float(value) / 1e6 for value in column]
        for column in zip(*(line.split() for line in lines), strict=True)
    )
    ours = f"{statistics.median(render):.2f} ms"
    rows = [
        compared(
            "memcpy of the same bytes from a buffer with the whole text",
            ours,
            f"{statistics.median(copy):.2f} ms",
            median_ratio(render, copy),
            Goal(5),
        ),
        compared(
            "memcpy of as many bytes from a cached buffer of 128 KiB",
            ours,
            f"{statistics.median(hot):.2f} ms",
            median_ratio(render, hot),
        ),
    ]
    seconds = statistics.median(render) / 1e3
    return Table(
        "The renderer alone, in C, in steps of 128 KiB (ratio: times the peer's)",
        rows,
        [
            f"{nr} records, {nr_bytes / nr:.0f} bytes each",
            f"{nr_bytes / seconds / 1e6:.0f} MB/s, {nr / seconds / 1e6:.1f} M records/s",
            f"ours: {spread(render, 'ms')}",
        ],
    )
