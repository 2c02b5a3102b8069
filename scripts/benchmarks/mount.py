"""Mounted pools full of records, and the cost of reading them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from pageownerfs import PageOwnerError, Pool
from pageownerfs.client import read_mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PAGE_SIZE = 4096
SCRIPTS = Path(__file__).parents[1]
MODULE = (sys.executable, "-m")
NR_FILLERS = 2
# The allocator keeps its watermarks free, and each page has 64 + 32 bytes of metadata.
SLACK_BYTES = 96 << 20
MARGIN_BYTES = 2 << 30  # memory left to the rest of the machine
_SAMPLE_SEC = 0.005
_IDLE_SEC = 1.2  # the daemon checks its clients twice a second
_MOUNT_SEC = 30


def pageownerfs(*args: str) -> None:
    """Run the pageownerfs command."""
    command = [*MODULE, "pageownerfs", *args]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise PageOwnerError(done.stderr.strip())


@contextlib.contextmanager
def mounted_pool(options: str) -> Iterator[Path]:
    """Yield the mount point of a new pool."""
    mountpoint = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        pageownerfs("pool", os.fspath(mountpoint), "-o", options)
        try:
            yield mountpoint
        finally:
            pageownerfs("umount", os.fspath(mountpoint))
    finally:
        mountpoint.rmdir()


def pool_bytes(nr_records: int) -> int:
    """Return the size of a pool with room for ``nr_records`` pages of order 0."""
    return nr_records * PAGE_SIZE * 102 // 100 + SLACK_BYTES


def records_that_fit(wanted: int) -> int:
    """Return how many records fit into memory: ``wanted``, or a smaller power of 2."""
    room = os.statvfs("/dev/shm")  # noqa: S108 - pools live there
    free = min(room.f_bavail * room.f_frsize, psutil.virtual_memory().available) - MARGIN_BYTES
    nr = wanted
    while nr > 1 and pool_bytes(nr) * 103 // 100 > free:
        nr = 1 << (nr - 1).bit_length() - 1
    return nr


@contextlib.contextmanager
def filled_pool(nr_records: int) -> Iterator[Path]:
    """Yield the mount point of a pool whose page_owner has ``nr_records`` realistic records."""
    with mounted_pool(f"page_owner=on,size={pool_bytes(nr_records)}") as mountpoint:
        with Pool.attach(mountpoint) as pool:
            missing = nr_records - pool.stats().early_pages
        if missing < 0:
            msg = f"a pool has more than {nr_records} records of its own"
            raise PageOwnerError(msg)
        fill(mountpoint, missing)
        yield mountpoint


def fill(mountpoint: Path, nr_records: int) -> None:
    """Let some processes allocate pages and leave them allocated."""
    shares = [nr_records // NR_FILLERS] * NR_FILLERS
    shares[0] += nr_records - sum(shares)
    fillers = [
        subprocess.Popen([*MODULE, "benchmarks.fill", mountpoint, str(share), str(seed)])
        for seed, share in enumerate(shares)
    ]
    for filler in fillers:
        if filler.wait():
            msg = f"filling the pool failed, exit code {filler.returncode}"
            raise PageOwnerError(msg)


@contextlib.contextmanager
def constant_mount(nr_bytes: int, kind: str) -> Iterator[Path]:
    """Yield a file that repeats one constant buffer; see constant.py for ``kind``."""
    mountpoint = Path(tempfile.mkdtemp(prefix="bench-"))
    server = subprocess.Popen([*MODULE, "benchmarks.constant", mountpoint, str(nr_bytes), kind])
    try:
        wait_for_mount(mountpoint, server)
        yield mountpoint / "constant"
    finally:
        fusermount = shutil.which("fusermount") or "fusermount3"
        if mountpoint.is_mount():
            subprocess.run([fusermount, "-u", mountpoint], check=True)
        else:
            server.kill()
        server.wait()
        mountpoint.rmdir()


def wait_for_mount(mountpoint: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until the file system is mounted."""
    until = time.monotonic() + _MOUNT_SEC
    while not mountpoint.is_mount():
        if server.poll() is not None or time.monotonic() > until:
            msg = f"{mountpoint}: the server did not mount it"
            raise PageOwnerError(msg)
        time.sleep(0.01)


def time_cat(path: Path) -> float:
    """Return the seconds that ``cat path >/dev/null`` takes."""
    start = time.perf_counter()
    subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def count_records(path: Path) -> tuple[int, int]:
    """Return the number of records and bytes in a page_owner file."""
    nr_bytes = nr_records = 0
    tail = b""
    with path.open("rb", buffering=0) as file:
        while data := file.read(1 << 20):
            nr_bytes += len(data)
            data = tail + data
            nr_records += data.count(b"\nPFN 0x")
            tail = data[-6:]
    return nr_records, nr_bytes


class RssWatch:
    """
    The peak resident memory of a mount's daemon during a ``with`` block, in MiB.

    The baseline is its memory while nobody reads, taken after it has checked the pool once more.
    """

    def __init__(self, mountpoint: Path) -> None:
        """Watch the daemon of a mount."""
        self._status = Path(f"/proc/{read_mount(mountpoint)['pid']}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.before = self.most = 0.0

    def rss(self) -> float:
        """Return the current RssAnon + RssShmem."""
        fields = dict(line.split(":", 1) for line in self._status.read_text("utf-8").splitlines())
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024

    def __enter__(self) -> Self:
        """Start watching after a quiet moment."""
        time.sleep(_IDLE_SEC)
        self.before = self.most = self.rss()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_SEC):
            self.most = max(self.most, self.rss())
