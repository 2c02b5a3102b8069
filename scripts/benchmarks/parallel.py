"""Table 4: two processes on two cores."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from pageownerfs import Pool

from .alloc import bare_pool, time_pairs
from .core import built_bench
from .report import Goal, Table, compared, interleaved, median_ratio

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext
    from multiprocessing.synchronize import Barrier

    from .core import Bench
    from .report import Row

PER_LOOK = 2000
GOAL = Goal(1.7, at_least=True)


def work(path: str, cpu: int, seconds: float, barrier: Barrier, rates: Any) -> None:  # noqa: ANN401
    """Allocate and free for ``seconds`` on one CPU; put the pairs per second into ``rates``."""
    os.sched_setaffinity(0, {cpu})
    with Pool.open(path) if path else contextlib.nullcontext() as pool:
        do_some = functools.partial(time_pairs, pool) if pool else count
        do_some(PER_LOOK)
        barrier.wait()
        start = now = time.perf_counter()
        nr = 0
        while now < start + seconds:
            do_some(PER_LOOK)
            nr += PER_LOOK
            now = time.perf_counter()
        rates.put(nr / (now - start))
        barrier.wait()


def count(nr: int) -> None:
    """Count to ``nr``, which needs nothing that processes share."""
    for _ in itertools.repeat(None, nr):
        pass


def python_rate(context: SpawnContext, path: str, seconds: float, nr: int) -> float:
    """Pairs per second of ``nr`` processes together; without a pool, turns of an empty loop."""
    barrier, rates = context.Barrier(nr), context.Queue()
    cpus = sorted(os.sched_getaffinity(0))[:nr]
    workers = [
        context.Process(target=work, args=(path, cpu, seconds, barrier, rates)) for cpu in cpus
    ]
    for worker in workers:
        worker.start()
    total: float = sum(rates.get(timeout=seconds + 60) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def rate_row(name: str, rates: dict[str, list[float]], goal: Goal | None = GOAL) -> Row:
    """Compare the rate of two processes with that of one."""
    two, one = (f"{statistics.median(rates[nr]) / 1e6:.2f} M/s" for nr in ("2", "1"))
    return compared(name, two, one, median_ratio(rates["2"], rates["1"]), goal)


def measure_python(path: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Alternate between one process and two."""
    context = multiprocessing.get_context("spawn")
    return interleaved(
        rounds,
        {str(nr): functools.partial(python_rate, context, path, seconds, nr) for nr in (1, 2)},
    )


def measure_core(bench: Bench, mode: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Alternate between one process and two."""
    return interleaved(
        rounds,
        {str(nr): functools.partial(bench.parallel, mode, seconds, nr) for nr in (1, 2)},
    )


def parallel_table(*, quick: bool) -> Table:
    """Table 4: pairs per second of two processes, against one."""
    nr_cpus = len(os.sched_getaffinity(0))
    if nr_cpus < 2:
        return Table(
            "Two processes on two cores", [], [f"not measured: this machine has {nr_cpus} core"]
        )
    rounds, seconds = (3, 0.2) if quick else (9, 0.5)
    rows = []
    for mode in ("off", "on"):
        with bare_pool(tracking=mode == "on") as pool:
            rates = measure_python(pool.path, rounds, seconds)
        rows.append(rate_row(f"Python, tracking {mode}", rates))
    with built_bench() as bench:
        for mode in ("off", "on"):
            rates = measure_core(bench, mode, rounds, seconds)
            rows.append(rate_row(f"C, tracking {mode}", rates))
    rows.append(
        rate_row(
            "an empty loop (what the machine can do)", measure_python("", rounds, seconds), None
        )
    )
    return Table(
        "Pairs per second of 2 processes on 2 cores, against 1 process",
        rows,
        [f"{rounds} rounds of {seconds} s each"],
    )
