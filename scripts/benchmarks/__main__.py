"""Measure the cost of pageownerfs next to its peers and print a table per question.

The exit code is 0 if everything could be measured, 1 if not, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import functools
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

from pageownerfs import PageOwnerError

from .alloc import pairs_table, tracking_table
from .cat import cat_table
from .core import core_table, render_table
from .kernel import kernel_table
from .memory import memory_table
from .parallel import parallel_table
from .report import print_table
from .scale import scale_table
from .sort import sort_table
from .start import start_table
from .views import views_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .report import Table


class Measure(Protocol):
    """The function that produces a table."""

    def __call__(self, *, quick: bool) -> Table:
        """Measure and return the table."""
        ...


# By their names on the command line, in the order of their numbers.
TABLES: Final[Mapping[str, Measure]] = {
    "alloc": pairs_table,
    "tracking": tracking_table,
    "core": core_table,
    "parallel": parallel_table,
    "cat": cat_table,
    "render": render_table,
    "memory": memory_table,
    "scale": scale_table,
    "sort": sort_table,
    "kernel": kernel_table,
    "views": views_table,
    "start": start_table,
}


def make_parser() -> argparse.ArgumentParser:
    """Declare options and operands."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}; all by default"
    )
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        "--quick", action="store_true", help="few rounds and small pools: a test run"
    )
    much.add_argument(
        "--full",
        action="store_true",
        help="sort: run the kernel's tool on the largest text as often as ours",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; return 0 if all were measured, 1 if some were not, 2 for wrong usage."""
    parser = make_parser()
    args = parser.parse_args(argv)
    unknown = [name for name in args.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table {unknown[0]!r}; choose from {', '.join(TABLES)}")
    # Handle SIGTERM like Ctrl-C, so that mounts and files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = False
    tables = {**TABLES, "sort": functools.partial(sort_table, full=args.full)}
    for number, (name, measure) in enumerate(tables.items(), 1):
        if args.tables and name not in args.tables:
            continue
        start = time.monotonic()
        try:
            table = measure(quick=args.quick)
        except (PageOwnerError, OSError, subprocess.SubprocessError) as error:
            print(f"\n{number}. {name}: could not be measured: {error}", file=sys.stderr)
            failed = True
            continue
        print_table(number, table)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
