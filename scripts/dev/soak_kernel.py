"""Load the whole machine under the kernel source, then look for lost events and stale records.

Prints the counters. The exit code is 0 if nothing was lost and at most ten records in a million
are of free pages, 1 if not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

_LIB: Final = Path(__file__).resolve().parents[2] / "tests" / "lib"
_MODULE: Final = [sys.executable, "-m", "pageownerfs"]
_STALE_PER_MILLION: Final = 10
# Counters of lost events and stacks; all must be 0.
_LOSSES: Final = ("events_lost", "stack_wrong", "stack_failed", "stack_depot_full")


def _stats(mount: Path) -> dict[str, int]:
    lines = (mount / "stats").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def _run(mount: Path, work: Path, minutes: float) -> bool:
    sys.path.insert(0, str(_LIB))
    load: Any = importlib.import_module("kernel_load")
    status = subprocess.run(
        [*_MODULE, "status", "--json", mount], check=True, capture_output=True, text=True
    )
    pid = json.loads(status.stdout)["pid"]
    found = load.check_under_load(pid, work, minutes * 60, page_owner=mount / "page_owner")
    stats = _stats(mount)
    for name, value in {**found, **stats}.items():
        print(f"{name:26} {value}")
    lost = {name: stats[name] for name in _LOSSES if stats[name]}
    if lost:
        print(f"lost: {lost}")
    return found["stale_per_million"] <= _STALE_PER_MILLION and not lost


def main() -> int:
    """Return 0 if nothing was lost and at most 10 records in a million are of free pages."""
    parser = argparse.ArgumentParser(prog="soak kernel", description=__doc__)
    parser.add_argument(
        "minutes", metavar="MINUTES", nargs="?", type=float, default=10, help="default 10"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        mount, work = Path(directory, "mnt"), Path(directory, "work")
        mount.mkdir()
        work.mkdir()
        subprocess.run([*_MODULE, "kernel", mount, "-o", "page_owner=on"], check=True)
        try:
            good = _run(mount, work, args.minutes)
        finally:
            subprocess.run([*_MODULE, "umount", mount], check=True)
    print("nothing is wrong" if good else "WRONG, see above")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
