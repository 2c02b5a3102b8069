"""
The kernel source next to the kernel's own page_owner, in two boots of a virtual machine.

scripts/vm/bench-vm runs this. A machine booted with page_owner=off alternates between off and
ours; one booted with page_owner=on measures the kernel's own. The result is CPU time per page,
divided by that of off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.sources.kernel.options import KernelOptions

from .kernel_load import built_loads
from .kernel_tracker import loaded_tracker

if TYPE_CHECKING:
    from .kernel_load import Loads
    from .kernel_tracker import SwitchedTracker

LOADS: Final = ("anon", "tmpfs", "fork")
_SECONDS: Final = 0.6
_ROUNDS: Final = 7
_GOAL: Final = 1.20


def _ours(loads: Loads, what: str, tracker: SwitchedTracker) -> tuple[float, list[float]]:
    off = [loads.run(what).ns_per_page]
    ratios = []
    for _ in range(_ROUNDS):
        ours = tracker.run(lambda: loads.run(what).ns_per_page)
        off.append(loads.run(what).ns_per_page)
        ratios.append(ours / ((off[-2] + off[-1]) / 2))
    return statistics.median(off), ratios


def measure(kind: str) -> dict[str, float]:
    """Measure in the guest: off and ours, or the kernel's own."""
    figures = {}
    # Huge pages would avoid the page faults.
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge.exists():
        huge.write_text("madvise")
    with built_loads(_SECONDS) as loads:
        if kind == "own":
            for what in LOADS:
                loads.run(what)
                runs = [loads.run(what).ns_per_page for _ in range(_ROUNDS)]
                figures[what] = statistics.median(runs)
            return figures
        for name, depth in (("16 frames", 16), ("no stacks", 0)):
            with loaded_tracker(KernelOptions(stack_depth=depth)) as tracker:
                for what in LOADS:
                    tracker.run(lambda what=what: loads.run(what).ns_per_page)  # type: ignore[misc]
                    off, ratios = _ours(loads, what, tracker)
                    figures[f"{what} off"] = off
                    figures[f"{what} {name}"] = statistics.median(ratios)
    return figures


def report(off: dict[str, float], own: dict[str, float]) -> bool:
    """Print the ratios and return whether the goal was reached."""
    print(f"{'CPU per page / off':20} {'ours':>8} {'no stacks':>10} {'page_owner=on':>14}")
    for what in LOADS:
        theirs = own[what] / off[f"{what} off"]
        print(
            f"{what:20} {off[f'{what} 16 frames']:8.2f} {off[f'{what} no stacks']:10.2f} "
            f"{theirs:14.2f}"
        )
    reached = off["anon 16 frames"] <= _GOAL
    print(f"anon: goal <= {_GOAL:.2f}: {'reached' if reached else 'MISSED'}")
    return reached


def main() -> int:
    """Measure and write the figures, or print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("off", "own", "report"))
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    if args.what != "report":
        figures = measure(args.what)
        (args.directory / f"{args.what}.json").write_text(json.dumps(figures))
        print(figures, file=sys.stderr)
        return 0
    off, own = (json.loads((args.directory / f"{k}.json").read_text()) for k in ("off", "own"))
    report(off, own)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
