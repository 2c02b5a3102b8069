"""Alternate measurements, and print the results: one table per question."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HEADINGS = ("", "ours", "peer", "ratio", "goal", "")


class Goal(NamedTuple):
    """The limit that a value must reach."""

    limit: float
    at_least: bool = False
    """False: the value must not exceed the limit."""
    unit: str = ""

    def reached(self, value: float) -> bool:
        """Return whether a value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        """Format the goal, as in ``<= 64 B``."""
        return f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}".rstrip()


class Row(NamedTuple):
    """One line of a table; each cell is text with its unit."""

    name: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    verdict: str = ""
    """``reached``, ``MISSED``, or empty if there is no goal."""


class Table(NamedTuple):
    """The answer to one question."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    """Printed below the table: what was measured, and how often."""


def compared(name: str, ours: str, peer: str, ratio: float, goal: Goal | None = None) -> Row:
    """Make a row judged by its ratio, or not judged at all."""
    return Row(name, ours, peer, f"{ratio:.3g}", str(goal or ""), _verdict(ratio, goal))


def limited(  # noqa: PLR0913, PLR0917 - the cells of a row
    name: str,
    value: float,
    unit: str,
    goal: Goal | None = None,
    peer: str = "",
    digits: int = 3,
) -> Row:
    """Make a row judged by its own value."""
    text = f"{value:.{digits}f} {unit}".rstrip()
    return Row(name, text, peer, "", str(goal or ""), _verdict(value, goal))


def _verdict(value: float, goal: Goal | None) -> str:
    if goal is None:
        return ""
    return "reached" if goal.reached(value) else "MISSED"


def interleaved(rounds: int, runs: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """
    Run each function ``rounds`` times, alternating between them.

    Every other round runs in reverse order, so that none always follows the same one.
    """
    results: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            results[name].append(runs[name]())
    return results


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(above) / statistics.median(below)


def spread(values: Sequence[float], unit: str) -> str:
    """Describe the values of a row: median, minimum, maximum and count."""
    return (
        f"median {statistics.median(values):.4g} {unit} (min {min(values):.4g}, "
        f"max {max(values):.4g}; {len(values)} runs)"
    )


def print_table(number: int, table: Table) -> None:
    """Print a table: text aligned left, numbers aligned right."""
    cells = [HEADINGS, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    print(f"\n{number}. {table.title}")
    for row in cells:
        name, *numbers, verdict = (
            text.ljust(width) if column in {0, 5} else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("   " + "  ".join([name, *numbers, verdict]).rstrip())
    for note in table.notes:
        print(f"   {note}")
