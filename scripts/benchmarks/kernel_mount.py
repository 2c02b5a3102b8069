"""The cost of mounts of the kernel source: starting, reading, and being idle."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from pageownerfs import _native
from pageownerfs.client import read_mount
from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_FREED, PageOwner
from pageownerfs.mm.zone import PAGEBLOCK_ORDER
from pageownerfs.sources.kernel import maps
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

from .kernel_tracker import end_pfn
from .mount import constant_mount, pageownerfs
from .report import Goal, Row, compared, interleaved, limited, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .kernel_load import Loads

Part: TypeAlias = tuple[list[Row], list[str]]
"""Rows of a table, and notes on them."""
_READ_BYTES: Final = 128 << 10


@contextlib.contextmanager
def mounted_kernel(*options: str) -> Iterator[Path]:
    """Yield the mount point of the running kernel."""
    mountpoint = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        pageownerfs("kernel", os.fspath(mountpoint), *options)
        try:
            yield mountpoint
        finally:
            pageownerfs("umount", os.fspath(mountpoint))
    finally:
        mountpoint.rmdir()


def read_whole(path: Path) -> tuple[int, float]:
    """Read a whole file and return its bytes and the seconds."""
    buffer = bytearray(_READ_BYTES)
    nr_bytes = 0
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while nr := file.readinto(buffer):
            nr_bytes += nr
    return nr_bytes, time.perf_counter() - start


def read_rate(path: Path) -> float:
    """Read a file and return MB/s."""
    nr_bytes, seconds = read_whole(path)
    return nr_bytes / 1e6 / seconds


def cat_part(*, quick: bool) -> Part:
    """Read page_owner of the whole machine, and a constant file of the same size."""
    with mounted_kernel("-o", "page_owner=on") as mountpoint:
        path = mountpoint / "page_owner"
        nr_bytes, _ = read_whole(path)
        with constant_mount(nr_bytes, "ours") as constant:
            rates = interleaved(
                3 if quick else 15,
                {"ours": lambda: read_rate(path), "constant": lambda: read_rate(constant)},
            )
        stats = read_mount(mountpoint)["stats"]
    ours, peer = (statistics.median(rates[name]) for name in ("ours", "constant"))
    row = compared(
        "page_owner of the machine, against a constant buffer",
        f"{ours:.0f} MB/s",
        f"{peer:.0f} MB/s",
        ours / peer,
        Goal(0.5, at_least=True),
    )
    note = (
        f"page_owner: {nr_bytes / 1e6:.0f} MB, {stats['pages_allocated']} pages with an owner, "
        f"{stats['pages_early']} early, of {end_pfn()} PFNs; ours: {spread(rates['ours'], 'MB/s')}"
    )
    return [row], [note]


def _early_record() -> PageOwner:
    return PageOwner(
        ts_nsec=0,
        free_ts_nsec=0,
        gfp_mask=0,
        pid=1,
        tgid=1,
        handle=maps.HANDLE_EARLY,
        free_handle=0,
        free_pid=0,
        free_tgid=0,
        order=0,
        last_migrate_reason=-1,
        state=0,
        pageblock_migratetype=0,
        comm=b"",
    )


def skip_part(*, quick: bool) -> Part:
    """Search a table of the machine's size, in which all pages are free, for a record."""
    nr_pfns = end_pfn()
    early = _early_record()
    free = early._replace(state=PAGE_EXT_OWNER_FREED).pack()
    per_page = free * (mmap.PAGESIZE // len(free))
    size = -(-nr_pfns * len(free) // mmap.PAGESIZE) * mmap.PAGESIZE
    seconds = []
    memory = mmap.mmap(-1, size)
    # Small pages, like the kernel's.
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset : offset + mmap.PAGESIZE] = per_page
    scan = mmap.mmap(-1, ctypes.sizeof(maps.PageScan))
    table = _native.KernelTable(memory, nr_pfns, PAGEBLOCK_ORDER, early.pack(), scan, -1)
    renderer = _native.Renderer(table, lambda _kind, _value: b"")
    for _ in range(5 if quick else 21):
        start = time.perf_counter()
        found = renderer.reader().record(0)
        seconds.append(time.perf_counter() - start)
        assert found is None
    rate = nr_pfns / statistics.median(seconds) / 1e6
    row = limited(
        "free pages skipped", rate, "M/s", Goal(100, at_least=True, unit="M/s"), digits=0
    )
    return [row], [f"free pages: {nr_pfns} PFNs, {spread(seconds, 's')}"]


def start_part(*, quick: bool) -> Part:
    """Switch tracking on through page_owner_on: load, attach, find the early pages."""
    seconds = []
    for _ in range(2 if quick else 5):
        with mounted_kernel() as mountpoint:
            start = time.perf_counter()
            (mountpoint / "page_owner_on").write_bytes(b"1\n")
            seconds.append(time.perf_counter() - start)
    size = sum(zone.present_pages for zone in read_zoneinfo()) * mmap.PAGESIZE / 2**30
    row = limited(
        f"start: echo 1 > page_owner_on, {size:.1f} GiB",
        statistics.median(seconds),
        "s",
        Goal(2, unit="s"),
    )
    return [row], [f"start: {spread(seconds, 's')}"]


def bpf_objects(pid: int) -> int:
    """Count the BPF programs, maps and links that a process holds."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.fspath(entry.readlink()))
    return sum("bpf" in link for link in links)


def idle_part(loads: Loads, *, quick: bool) -> Part:
    """Mount with page_owner off: nothing is loaded, and nothing costs anything."""
    times: dict[str, list[float]] = {"mounted": [], "unmounted": []}
    nr_bpf = nr_bytes = 0
    for _ in range(3 if quick else 11):
        times["unmounted"].append(loads.run("anon").ns_per_page)
        with mounted_kernel() as mountpoint:
            mount = read_mount(mountpoint)
            nr_bpf = max(nr_bpf, bpf_objects(mount["pid"]), len(mount["programs"]))
            nr_bytes = max(nr_bytes, mount["size_bytes"])
            times["mounted"].append(loads.run("anon").ns_per_page)
    mounted, unmounted = (statistics.median(times[name]) for name in ("mounted", "unmounted"))
    rows = [
        limited("mounted, off: BPF programs, maps and links", nr_bpf, "", Goal(0), digits=0),
        limited("mounted, off: page_ext", nr_bytes, "B", Goal(0, unit="B"), digits=0),
        compared(
            "mounted, off: page faults, per page",
            f"{mounted:.0f} ns",
            f"{unmounted:.0f} ns unmounted",
            mounted / unmounted,
        ),
    ]
    return rows, []
