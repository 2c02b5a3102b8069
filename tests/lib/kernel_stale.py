"""
Check that the records of a kernel mount fit the pages. A program: PID of the daemon -> JSON.

A second tracker, whose filter lets nothing in, is asked which pages are in use: it looks at the
reference count of each page, which /proc does not show. It does so between two looks at the
daemon's table, so that only records that did not change meanwhile count.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kernel_bpf import mapped_map
from kernel_process import compile_c

from pageownerfs.mm.page_ext import PAGE_EXT_OWNER_ALLOCATED, PAGE_EXT_OWNER_FREED
from pageownerfs.sources.kernel.btf import Btf
from pageownerfs.sources.kernel.comm_filter import parse_comm
from pageownerfs.sources.kernel.kallsyms import Kallsyms
from pageownerfs.sources.kernel.options import KernelOptions
from pageownerfs.sources.kernel.tracker import Tracker
from pageownerfs.sources.kernel.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from pageownerfs.mm.zone import Zone

_RECORD_BYTES: Final = 64
_ORDER_OFFSET: Final = 44
_STATE_OFFSET: Final = 46
_MAX_STALE: Final = 1000
# A page about to be freed, or just allocated, gets its event within this time.
_SETTLE_SEC: Final = 0.3
_KPF_BUDDY: Final = 1 << 10


class _Counts(ctypes.Structure):
    _fields_ = (
        ("allocated", ctypes.c_uint64),
        ("stale", ctypes.c_uint64),
        ("unseen", ctypes.c_uint64),
    )


def _load_library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="pageownerfs-") as name:
        source = Path(__file__).with_suffix(".c")
        program = compile_c(source, Path(name) / "kernel_stale.so", "-O2", "-shared", "-fPIC")
        return ctypes.CDLL(str(program))


def _address(memory: mmap.mmap) -> Any:
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))


def _kpageflags(pfn: int) -> int:
    with Path("/proc/kpageflags").open("rb", buffering=0) as file:
        return int.from_bytes(os.pread(file.fileno(), 8, pfn * 8), sys.byteorder)


def _looks_free(pfn: int) -> bool:
    # Free pages on a CPU's lists have no flags, and neither have some that the kernel uses.
    return _kpageflags(pfn) in (0, _KPF_BUDDY)


def _forge(table: mmap.mmap, nr_wanted: int) -> dict[int, bytes]:
    """Mark some free pages as allocated, to check that this is noticed."""
    if nr_wanted == 0:
        return {}
    states = table[_STATE_OFFSET::_RECORD_BYTES]
    freed = [match.start() for match in re.finditer(bytes([PAGE_EXT_OWNER_FREED]), states)]
    forged: dict[int, bytes] = {}
    for pfn in random.sample(freed, min(len(freed), 10 * nr_wanted)):
        if len(forged) < nr_wanted and _looks_free(pfn):
            place = pfn * _RECORD_BYTES
            table[place + _ORDER_OFFSET] = 0
            table[place + _STATE_OFFSET] |= PAGE_EXT_OWNER_ALLOCATED
            forged[pfn] = table[place : place + _RECORD_BYTES]
    return forged


def _unforge(table: mmap.mmap, forged: dict[int, bytes]) -> int:
    """Undo that; count the records that no event had undone while their page stayed free."""
    nr_left = 0
    for pfn, record in forged.items():
        place = pfn * _RECORD_BYTES
        if table[place : place + _RECORD_BYTES] == record:
            nr_left += _looks_free(pfn)
            table[place + _STATE_OFFSET] &= ~PAGE_EXT_OWNER_ALLOCATED & 0xFF
    return nr_left


def _new_tracker(zones: list[Zone]) -> Tracker:
    options = KernelOptions(stack_depth=0, comm=parse_comm("(nobody)"))
    with Btf() as btf:
        return Tracker(options, zones, btf, Kallsyms())


def look(pid: int, nr_forged: int = 0, page_owner: Path | None = None) -> dict[str, Any]:
    """
    Compare the table of a daemon with the pages.

    :param nr_forged: records of free pages to mark as allocated in between
    :param page_owner: file to open after that
    """
    library = _load_library()
    zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
    nr = max(zone.start_pfn + zone.spanned_pages for zone in zones)
    # Everything that takes memory comes first.
    size = (nr * _RECORD_BYTES + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
    digests = (ctypes.c_uint64 * nr)()
    ctypes.memset(digests, 1, ctypes.sizeof(digests))
    stale = (ctypes.c_uint64 * _MAX_STALE)()
    counts = _Counts()
    tracker = _new_tracker(zones)
    try:
        with (
            mapped_map(pid, "page_ext", size) as table,
            mmap.mmap(tracker._object.map_fd("page_ext"), size) as used,
        ):
            owner = _address(table)
            forged = _forge(table, nr_forged)
            if page_owner is not None:
                page_owner.open("rb").close()
            library.take_digests(owner, ctypes.c_size_t(nr), digests)
            time.sleep(_SETTLE_SEC)
            tracker.scan_early()
            time.sleep(_SETTLE_SEC)
            library.compare(
                owner, _address(used), ctypes.c_size_t(nr), digests, ctypes.byref(counts), stale,
                ctypes.c_size_t(_MAX_STALE),
            )  # fmt: skip
            shown = [
                _show(pfn, table[pfn * _RECORD_BYTES : (pfn + 1) * _RECORD_BYTES])
                for pfn in stale[: min(counts.stale, _MAX_STALE)]
            ]
            nr_left = _unforge(table, forged)
    finally:
        tracker.close()
    return {
        "allocated": counts.allocated,
        "stale": counts.stale,
        "unseen": counts.unseen,
        "made": len(forged),
        "forged": nr_left,
        "buddy": sum(bool(record["kpageflags"] & _KPF_BUDDY) for record in shown),
        "stale_records": shown,
    }


def _show(pfn: int, record: bytes) -> dict[str, Any]:
    pid, tgid = (int.from_bytes(record[at : at + 4], "little", signed=True) for at in (20, 24))
    return {
        "pfn": pfn,
        "pid": pid,
        "tgid": tgid,
        "ts_nsec": int.from_bytes(record[:8], "little"),
        "gfp_mask": int.from_bytes(record[16:20], "little"),
        "order": record[44],
        "state": record[46],
        "comm": record[48:].rstrip(b"\0").decode(errors="backslashreplace"),
        "kpageflags": _kpageflags(pfn),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pid", type=int, help="pid of the daemon")
    parser.add_argument("--forge", type=int, default=0, help="wrong records to make in between")
    parser.add_argument("--open", type=Path, help="page_owner file to open after that")
    arguments = parser.parse_args()
    print(json.dumps(look(arguments.pid, arguments.forge, arguments.open)))
