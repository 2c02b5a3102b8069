"""Table 12: start-up."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from pageownerfs import PageOwnerError
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.kallsyms import Kallsyms

from .report import Goal, Row, Table, limited, spread

if TYPE_CHECKING:
    from collections.abc import Callable

_IMPORT: Final = (
    "import time; start = time.perf_counter(); import pageownerfs; "
    "print(time.perf_counter() - start)"
)
_NR_QUESTIONS: Final = 10


def _import() -> float:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _types() -> float:
    start = time.process_time()
    with Btf() as types:
        types.enum("pageflags")
        for _ in range(_NR_QUESTIONS):
            types.nr_params("split_page")
    return time.process_time() - start


def _symbols() -> float:
    start = time.process_time()
    Kallsyms()
    return time.process_time() - start


def start_table(*, quick: bool) -> Table:
    """Table 12: the time to import the package and to read the kernel's types and symbols."""
    parts: dict[str, tuple[Callable[[], float], float]] = {
        "import pageownerfs": (_import, 50),
        f"kernel types: load, one enum, {_NR_QUESTIONS} queries; CPU time": (_types, 100),
        "kernel symbols: read; CPU time": (_symbols, 300),
    }
    rows: list[Row] = []
    notes = []
    for name, (measure, limit) in parts.items():
        try:
            msec = [measure() * 1000 for _ in range(3 if quick else 11)]
        except PageOwnerError as error:
            notes.append(f"{name}: {error}")
            continue
        goal = Goal(limit, unit="ms")
        rows.append(limited(name, statistics.median(msec), "ms", goal, digits=1))
        notes.append(f"{name}: {spread(msec, 'ms')}")
    return Table("Start", rows, notes)
