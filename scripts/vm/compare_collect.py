"""Take dumps of the kernel's page_owner and of ours; see scripts/compare-page-owner."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL_FILE: Final = Path("/sys/kernel/debug/page_owner")
MODULE: Final = [sys.executable, "-m", "pageownerfs"]
_READ_BYTES: Final = 4096
_SETTLE_SEC: Final = 0.7

# Name, kind, and amount for 1.5 GiB of memory or more.
LOADS: Final = (
    ("anonhog", "anon", 40),
    ("my app (1)", "anon", 8),
    ("thpuser", "thp", 32),
    ("thpsplit", "thp", 24),
    ("tmpfsw", "file", 24),
    ("pipehog", "pipes", 60),
    ("sockhog", "sockets", 80),
    ("tcphog", "tcp", 24),
    ("threads", "threads", 8),
    ("forker", "forks", 8),
    ("mklots", "inodes", 3000),
    ("memfdhog", "memfd", 12),
    ("locked", "locked", 8),
    ("descriptors", "descriptors", 600000),
    ("fragger", "fragments", 160),
)
# With less memory the kernel has to reclaim: the fragments exceed what fits.
_PRESSURE_FRAGMENTS: Final = 260
_ROOMY_KB: Final = 1 << 20


def say(text: str) -> None:
    """Report progress."""
    print(f"{time.monotonic():8.2f} {text}", flush=True)


def read_kernel_file(target: Path) -> int:
    """Copy the kernel's file with one record per read(); return the number of records."""
    nr = 0
    with KERNEL_FILE.open("rb", buffering=0) as source, target.open("wb") as file:
        while record := source.read(_READ_BYTES):
            file.write(record)
            nr += 1
    return nr


def vmstat() -> dict[str, int]:
    """Read the counters of /proc/vmstat."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def memory_kb() -> int:
    """Return the machine's memory."""
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) if found else 0


@contextlib.contextmanager
def mounted(directories: list[Path], options: str) -> Iterator[None]:
    """Mount our source on each directory; unmount at the end."""
    try:
        for directory in directories:
            directory.mkdir(exist_ok=True)
            subprocess.run([*MODULE, "kernel", directory, "-o", options], check=True)
        yield
    finally:
        for directory in directories:
            subprocess.run([*MODULE, "umount", directory], check=False)


class Load:
    """Processes that hold memory of all kinds."""

    def __init__(self, program: str, work: Path) -> None:
        """Prepare the load without starting a process."""
        self._program = program
        self._work = work
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self) -> None:
        """Start all processes and wait until they hold their memory."""
        pressure = memory_kb() < _ROOMY_KB
        for name, kind, amount in LOADS:
            much = _PRESSURE_FRAGMENTS if pressure and kind == "fragments" else amount
            command = ["bash", "-c", 'exec -a "$0" "$@"', name, self._program, kind, str(much)]
            command.append(f"/dev/shm/compare-{kind}")  # noqa: S108 - inside a virtual machine
            self.processes[name] = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
            )
        for name, process in self.processes.items():
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                say(f"{name} did not get all its memory")

    def disturb(self) -> None:
        """Split blocks, compact, read files, run short programs, take huge pages."""
        before = vmstat()
        self._read_files()
        for _ in range(30):
            subprocess.run(["true"], check=True)
        with contextlib.suppress(OSError):
            Path("/proc/sys/vm/nr_hugepages").write_text("4")
        self._split_huge_pages()
        for _ in range(2):
            Path("/proc/sys/vm/compact_memory").write_text("1")
        after = vmstat()
        names = ("pgmigrate_success", "thp_split_page", "pgscan_kswapd", "pgscan_direct")
        say(", ".join(f"{name} +{after.get(name, 0) - before.get(name, 0)}" for name in names))

    def _read_files(self) -> None:
        total = 0
        for path in sorted(Path(sys.base_prefix, "lib").rglob("*.py")):
            total += len(path.read_bytes())
            if total > 24 << 20:
                break

    def _split_huge_pages(self) -> None:
        process = self.processes["thpsplit"]
        control = Path("/sys/kernel/debug/split_huge_pages")
        if not control.exists():
            return
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            start, end = (int(text, 16) for text in line.split()[0].split("-"))
            if end - start >= 20 << 20:
                with contextlib.suppress(OSError):
                    control.write_text(f"{process.pid},{start:#x},{end:#x}")
                return

    def freeze(self) -> None:
        """Stop the processes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGSTOP)
        time.sleep(_SETTLE_SEC)

    def end(self) -> None:
        """Kill the processes."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def take_gigantic_page() -> None:
    """Take a 1 GiB page from the running system, which calls alloc_contig_range()."""
    pool = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")
    pool.write_text("1")
    say(f"pages of 1 GiB: {pool.read_text().strip()}")


def collect(args: argparse.Namespace, out: Path, work: Path) -> None:
    """Mount, load, freeze and dump."""
    mounts = [work / f"mnt{number}" for number in range(args.mounts)]
    load = Load(args.load, work)
    with mounted(mounts, f"page_owner=on{args.options}"):
        say(f"attached: {json.loads(_status(mounts[0]))['programs']}")
        try:
            load.start()
            load.disturb()
            if args.gigantic:
                take_gigantic_page()
            load.freeze()
            dump(out, mounts)
        finally:
            load.end()


def _status(mount: Path) -> str:
    return subprocess.run(
        [*MODULE, "status", "--json", mount], check=True, capture_output=True, text=True
    ).stdout


def dump(out: Path, mounts: list[Path]) -> None:
    """Dump ours, the kernel's twice, and ours again: records that are equal in both are stable."""
    for moment in ("before", "after"):
        for number, mount in enumerate(mounts):
            text = (mount / "page_owner").read_bytes()
            if moment == "before" and KERNEL_FILE.exists():
                # The first look at a page names its stack and cgroup; later looks allocate less.
                text = (mount / "page_owner").read_bytes()
            (out / f"ours{number}.{moment}").write_bytes(text)
        if KERNEL_FILE.exists():
            nr = read_kernel_file(out / f"kernel.{moment}")
            say(f"{nr} records in the kernel's own file, {moment}")
    for number, mount in enumerate(mounts):
        (out / f"ours{number}.stats").write_bytes((mount / "stats").read_bytes())
        (out / f"ours{number}.status").write_text(_status(mount))


def main() -> int:
    """Run inside the machine that is examined."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for the dumps")
    parser.add_argument("--load", required=True, help="path of the program compare_load")
    parser.add_argument("--mounts", type=int, default=1, help="number of mounts to compare")
    parser.add_argument("--options", default="", help="more mount options, such as ,hooks=off")
    parser.add_argument("--gigantic", action="store_true", help="take a 1 GiB page, too")
    args = parser.parse_args()
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as work:
        collect(args, args.out, Path(work))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
