"""Run a long storm on one mounted pool: clients are killed at any moment while readers read.

For MINUTES, workers allocate, fill and free pages until they are killed (SIGKILL) and replaced.
Meanwhile readers cat page_owner and check every record, and snapshots are taken and checked for
consistency. After every few kills the pool's invariants are checked, and the pages of the dead are
checked against what they had written, then freed. At the end it prints the figures; the exit
code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from soak_worker import page_pattern, work

from pageownerfs import Pool
from pageownerfs.client import read_mount
from pageownerfs.page_owner_sort import parse_records, read_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerProcess

EARLY: Final = 4  # PAGE_EXT_OWNER_EARLY
KILLS_PER_CHECK: Final = 10
MAX_PAUSE_SEC: Final = 0.05
EXIT_SEC: Final = 30


class Figures:
    """Counters of the run; each has one writer."""

    def __init__(self) -> None:
        """Start from zero."""
        self.kills = self.checks = self.leaked_pages = self.snapshots = 0
        self.reads = self.records = self.read_bytes = 0
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        """Report a problem now and remember it for the end."""
        print(f"soak: {text}", file=sys.stderr, flush=True)
        self.problems.append(text)


class Reader(threading.Thread):
    """Reads the whole of page_owner over and over with cat."""

    def __init__(self, path: Path, figures: Figures) -> None:
        """Read ``path``."""
        super().__init__(name="reader")
        self._path = path
        self._figures = figures
        self.stop = threading.Event()

    def run(self) -> None:
        """Read until told to stop."""
        while not self.stop.is_set():
            done = subprocess.run(["cat", self._path], check=False, capture_output=True)
            if done.returncode:
                self._figures.problem(f"cat: {done.stderr.decode(errors='replace').strip()}")
            self._look_at(done.stdout)

    def _look_at(self, text: bytes) -> None:
        figures = self._figures
        figures.reads += 1
        figures.read_bytes += len(text)
        if text and not text.endswith(b"\n\n"):
            figures.problem(f"the text ends in the middle of a record: {text[-80:]!r}")
        for record in parse_records(text, lambda damage: figures.problem(f"torn {damage}")):
            figures.records += 1
            # A worker's comm contains its pid, and each worker has one thread.
            kind, _, pid = (record.comm or b"").partition(b" ")
            if kind == b"soak" and not int(pid) == record.pid == record.tgid:
                figures.problem(f"torn record: {record.text!r}")


class Snapshots(threading.Thread):
    """Takes snapshots during the storm and checks that each is consistent."""

    def __init__(self, mountpoint: Path, figures: Figures) -> None:
        """Take snapshots of a mount."""
        super().__init__(name="snapshots")
        self.stop = threading.Event()
        self._path = mountpoint / "snapshots" / "soak"
        self._figures = figures

    def run(self) -> None:
        """Take one snapshot after the other."""
        while not self.stop.is_set():
            try:
                self._path.mkdir()
            except OSError as error:
                # EBUSY: a client is stopped inside an operation or was just killed in one.
                if error.errno != errno.EBUSY:
                    self._figures.problem(f"mkdir {self._path}: {error}")
                continue
            self._look_at(self._path)
            self._path.rmdir()
            self._figures.snapshots += 1

    def _look_at(self, path: Path) -> None:
        behind, pages = 0, 0
        for record in read_records(str(path / "page_owner")):
            if record.pfn is None or record.pfn < behind:
                self._figures.problem(f"a snapshot has overlapping blocks at PFN {record.pfn}")
            behind = (record.pfn or 0) + record.nr_base_pages
            if b" register_early_stack" not in record.stack:
                pages += record.nr_base_pages
        shown = (path / "page_owner_stacks" / "show_stacks").read_bytes()
        counted = sum(map(int, re.findall(rb"^nr_base_pages: (\d+)$", shown, re.MULTILINE)))
        if counted != pages:
            self._figures.problem(f"a snapshot has {pages} pages, but its stacks count {counted}")


class Storm:
    """The workers, and the code that kills them."""

    def __init__(self, mountpoint: Path, pool: Pool, seed: int, figures: Figures) -> None:
        """Prepare the storm; no worker runs yet."""
        self._mountpoint = mountpoint
        self._pool = pool
        self._random = random.Random(seed)  # noqa: S311 - the seed is printed, for a repeat
        self._figures = figures
        # Not fork: threads of the readers may hold any lock.
        self._context = multiprocessing.get_context("forkserver")
        self._workers: list[ForkServerProcess] = []

    def start_worker(self) -> None:
        """Start one more worker."""
        seed = self._random.getrandbits(32)
        worker = self._context.Process(target=work, args=(os.fspath(self._mountpoint), seed))
        worker.start()
        self._workers.append(worker)

    def run(self, nr_workers: int, until: float) -> None:
        """Kill and replace workers until the deadline, and check the pool."""
        for _ in range(nr_workers):
            self.start_worker()
        while time.monotonic() < until:
            time.sleep(self._random.random() * MAX_PAUSE_SEC)
            clients = {client.tgid for client in self._pool.clients}
            at_work = [worker for worker in self._workers if worker.pid in clients]
            if not at_work:
                continue
            self.kill(self._random.choice(at_work))
            self.start_worker()
            if self._figures.kills % KILLS_PER_CHECK == 0:
                self.check()

    def kill(self, victim: ForkServerProcess) -> None:
        """Kill a worker, which must not have ended earlier."""
        self._workers.remove(victim)
        victim.kill()
        victim.join()
        if victim.exitcode != -signal.SIGKILL:
            self._figures.problem(f"worker {victim.pid} ended early, exit code {victim.exitcode}")
        self._figures.kills += 1

    def finish(self) -> None:
        """Kill all workers and free their pages; nothing else may be allocated after that."""
        while self._workers:
            self.kill(self._workers[-1])
        self.check()

    def check(self) -> None:
        """Check the pool and free the pages of the dead."""
        figures, pool = self._figures, self._pool
        figures.checks += 1
        pool.recover_clients()
        for problem in pool.check():
            figures.problem(problem)
        living = {worker.pid for worker in self._workers}
        pfn = 1
        while pfn < pool.nr_pages:
            info = pool.page_info(pfn)
            owner = info.page_owner
            nr = 1 << info.order if info.state in {"allocated", "buddy"} else 1
            if info.state == "allocated":
                if owner is None or not owner.handle:
                    figures.problem(f"PFN {pfn:#x} is allocated but has no owner")
                elif not owner.state & EARLY and owner.tgid not in living:
                    self._free(pfn, owner.tgid)
            pfn += nr

    def _free(self, pfn: int, tgid: int) -> None:
        page = self._pool.page(pfn)
        nr_pages = 1 << page.order
        with page.buffer as data:
            found = bytes(data[: len(page_pattern(tgid, pfn))])
        # Zeroes or older data: the worker was killed between allocating and writing.
        if found.startswith(b"soak") and found != page_pattern(tgid, pfn):
            other = found.split()[1:2]
            if other and other[0] in {str(w.pid).encode() for w in self._workers}:
                self._figures.problem(f"PFN {pfn:#x} of {tgid} holds data of another: {found!r}")
        self._pool.free_pages(pfn)
        self._figures.leaked_pages += nr_pages


def daemon_process(mountpoint: Path) -> psutil.Process:
    """Return the process that serves a mount."""
    return psutil.Process(int(read_mount(mountpoint)["pid"]))


def command(*args: str) -> None:
    """Run the pageownerfs command."""
    subprocess.run([sys.executable, "-m", "pageownerfs", *args], check=True)


def storm(mountpoint: Path, args: argparse.Namespace, figures: Figures) -> None:
    """Run the storm on a mounted pool."""
    daemon = daemon_process(mountpoint)
    rss, fds = daemon.memory_info().rss, daemon.num_fds()
    readers: list[Reader | Snapshots] = [Snapshots(mountpoint, figures)]
    readers += [Reader(mountpoint / "page_owner", figures) for _ in range(args.readers)]
    with Pool.attach(mountpoint) as pool:
        for reader in readers:
            reader.start()
        work = Storm(mountpoint, pool, args.seed, figures)
        try:
            work.run(args.workers, time.monotonic() + args.minutes * 60)
        finally:
            for reader in readers:
                reader.stop.set()
            for reader in readers:
                reader.join()
            work.finish()
        report(pool, figures)
    print(f"daemon RSS        {rss >> 20} MiB before, {daemon.memory_info().rss >> 20} MiB after")
    print(f"daemon open files {fds} before, {daemon.num_fds()} after")
    if daemon.num_fds() > fds:
        figures.problem("the daemon has more open files than before")


def report(pool: Pool, figures: Figures) -> None:
    """Print the figures and check that all pages are free again."""
    stats = pool.stats()
    pool.drain_local_pages()
    zones = pool.zones
    managed = sum(zone.managed_pages for zone in zones)
    free = sum(zone.nr_free + zone.nr_pcp for zone in zones)
    early = stats.early_pages
    if free + early != managed:
        figures.problem(f"{managed - free - early} of {managed} pages are lost")
    counts = {handle: nr for handle, nr in pool.stack_counts() if nr}
    counted = {handle: nr for handle, nr, _ in pool.table().count_stacks()}
    if counts != counted:
        figures.problem(f"the stacks count {counts} pages, the records {counted}")
    print(f"kills             {figures.kills}")
    print(f"checks            {figures.checks}")
    print(f"pages allocated   {stats.pgalloc}, freed {stats.pgfree}")
    print(f"left by the dead  {figures.leaked_pages} pages, all freed")
    print(f"recovered         {stats.recovered_pages} pages of {stats.dead_clients} clients")
    print(f"zones rebuilt     {stats.zone_rebuilds} times")
    print(f"out of memory     {stats.oom} times")
    print(f"snapshots         {figures.snapshots}, all consistent")
    print(f"reads             {figures.reads}, {figures.records} records, {figures.read_bytes} B")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument(
        "minutes", nargs="?", type=float, default=10.0, metavar="MINUTES", help="default 10"
    )
    parser.add_argument("--workers", type=int, default=4, help="workers at a time (default 4)")
    parser.add_argument("--readers", type=int, default=2, help="readers at a time (default 2)")
    parser.add_argument("--size", default="64M", help="size of the pool (default 64M)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Mount, run the storm, and unmount."""
    args = parse(argv)
    figures = Figures()
    print(f"{args.minutes:g} minutes, {args.workers} workers, seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        options = f"page_owner=on,size={args.size},movablecore=8M,cma=4M"
        command("pool", name, "-o", options)
        daemon = daemon_process(Path(name))
        shm = Path(read_mount(name)["shm_path"])
        try:
            storm(Path(name), args, figures)
        finally:
            command("umount", name)
        with contextlib.suppress(psutil.NoSuchProcess):
            daemon.wait(EXIT_SEC)
    if shm.exists():
        figures.problem(f"{shm} still exists after the unmount")
    print(f"problems          {len(figures.problems)}")
    return 1 if figures.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
