"""
The kernel source: track who allocated each page of the running kernel.

While tracking is off, nothing is loaded, at no cost. While it is on, BPF programs keep a record
per page in a table of 64 bytes per PFN, which this process maps and only reads.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pageownerfs import _native
from pageownerfs.errors import PageOwnerOffError
from pageownerfs.mm.migratetype import MR_NEVER
from pageownerfs.mm.need import PAGE_OWNER_OFF, Need
from pageownerfs.mm.page_ext import (
    PAGE_EXT_OWNER_ALLOCATED,
    PAGE_EXT_OWNER_EARLY,
    PageCounts,
    PageExt,
    PageOwner,
)
from pageownerfs.mm.stack_depot import Frame
from pageownerfs.mm.vmstat import STAT_INTERVAL_NSEC, ZoneRow, parse_buddyinfo
from pageownerfs.mm.vocabulary import Vocabulary
from pageownerfs.mm.zone import PAGEBLOCK_ORDER, Zone
from pageownerfs.sources.clock import boot_nsec
from pageownerfs.sources.pid_ns import pid_namespace
from pageownerfs.sources.stack_counts import StackCounts
from pageownerfs.sources.ticker import Ticker

from . import maps
from .btf import Btf
from .kallsyms import Kallsyms
from .refusal import step
from .stacks import KernelStacks
from .tracker import Tracker
from .user_stacks import UserStacks
from .vocabulary import KernelVocabulary
from .zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType, TracebackType

    from pageownerfs.sources.base import StackText

    from .options import KernelOptions

_log = logging.getLogger(__name__)

# Counters of losses; the log says when one of them grows.
_LOSSES: Final = ("stack_wrong", "stack_failed", "stack_depot_full", "events_lost")
_SPECIAL_STACK_DEPTH: Final = 4


def _capture_stack() -> list[Frame]:
    # As in the pool's C core, offsets are bytes of bytecode.
    frames: list[Frame] = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way
    while frame is not None and len(frames) < _SPECIAL_STACK_DEPTH:
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        frames.append(
            Frame(
                code.co_qualname,
                module,
                max(frame.f_lasti, 0),
                len(code.co_code),
                code.co_filename,
                frame.f_lineno or 0,
            )
        )
        frame = frame.f_back
    return frames


def register_early_stack() -> list[Frame]:
    """Return the stack that early pages show."""
    return _capture_stack()


def register_failure_stack() -> list[Frame]:
    """Return the stack for pages whose own stack could not be stored."""
    return _capture_stack()


class KernelSource:
    """The running kernel as a source; a context manager that leaves no program behind."""

    def __init__(self, options: KernelOptions) -> None:
        """
        Start tracking if the options say so.

        :raises MountError: the kernel can't be tracked
        """
        self._options = options
        self._lock = threading.Lock()
        self._tracker: Tracker | None = None
        self._table: _native.KernelTable | None = None
        self._stacks: KernelStacks | None = None
        self._reset_counts()
        self._zones: list[Zone] = []
        self._ticker = Ticker("kernel", self.tick)
        if options.page_owner:
            self.enable_page_owner()
        else:
            _log.info("page_owner is disabled")

    def _reset_counts(self) -> None:
        self._early_pages = self._unknown_pages = self._stale_records = 0
        self._updated_nsec = 0
        self._stats: dict[str, int] = {}
        self._stats_nsec = 0
        self._logged: dict[str, int] = {}
        self._stack_counts = StackCounts()

    def __enter__(self) -> Self:
        """Start to watch the programs; not before fork(), because it starts a thread."""
        self._ticker.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the programs from the kernel."""
        self.close()

    def close(self) -> None:
        """Remove the programs from the kernel; readers find no more records."""
        self._ticker.stop()
        self.disable_page_owner()

    # base.Source

    changes = True

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        return self._table is not None

    def enable_page_owner(self) -> None:
        """
        Load and attach the programs, and find the early pages; no-op if tracking is on.

        Mirrors init_page_owner().

        :raises MountError: the kernel refused; nothing has changed
        """
        with self._lock:
            if self._tracker is None:
                self._init_page_owner()

    def disable_page_owner(self) -> None:
        """
        Remove the programs from the kernel; no-op if tracking is off.

        The kernel frees the table when no open file has it mapped any more.
        """
        with self._lock:
            tracker, table = self._tracker, self._table
            self._tracker = self._table = self._stacks = None
            if tracker is None or table is None:
                return
            table.on = False
            tracker.close()
            _log.info("page_owner is disabled")

    def _init_page_owner(self) -> None:
        options = self._options
        self._reset_counts()
        with step("reading the kernel's zones and symbols"):
            zones = self._zones = [zone for zone in read_zoneinfo() if zone.spanned_pages]
            self._kallsyms = Kallsyms()
        with Btf() as btf:
            kernel = KernelVocabulary(btf)
            tracker = Tracker(options, zones, btf, self._kallsyms)
        try:
            self.vocabulary = Vocabulary(
                kernel.format_gfp,
                kernel.format_page_flags,
                kernel.migratetype_name,
                kernel.migratetype_names,
                kernel.migrate_reason_name,
                kernel.gfp_names,
                kernel.page_flag_names,
                kernel.page_flags_fields,
            )
            special = {
                maps.HANDLE_EARLY: register_early_stack(),
                maps.HANDLE_FAILURE: register_failure_stack(),
            }
            user_stacks = UserStacks(tracker.local_tgid) if options.user_stacks else None
            stacks = KernelStacks(tracker, self._kallsyms, special, user_stacks)
            table = _native.KernelTable(
                tracker.page_ext,
                tracker.end_pfn,
                PAGEBLOCK_ORDER,
                _early_record(tracker.pid, tracker.tgid).pack(),
                tracker.page_scan,
                tracker.scan_pages_fd,
                _node_field(kernel),
            )
            _log.info("allocated %d bytes of page_ext", tracker.table_bytes)
            if not tracker.options.has_filter:
                with step("looking for early pages"):
                    self._find_early_pages(tracker)
        except BaseException:
            tracker.close()
            raise
        for unseen in tracker.unseen:
            _log.info("not seen on this kernel: %s", unseen)
        table.on = True
        self._tracker, self._table, self._stacks = tracker, table, stacks

    def _find_early_pages(self, tracker: Tracker) -> None:
        found: Counter[Zone] = Counter()
        for early in tracker.scan_early():
            found[early.zone] += early.nr_pages
        for zone, nr_pages in found.items():
            self._early_pages += nr_pages
            _log.info(
                "Node %d, zone %8s: page owner found early allocated %d pages",
                zone.nid,
                zone.name,
                nr_pages,
            )

    def lacks(self, need: Need, /) -> str | None:
        """Return that tracking is off, or that a filter hides owners."""
        if need == "owners" and self._table is None:
            return PAGE_OWNER_OFF
        if need == "pagetypeinfo":
            if self._tracker is None:
                return PAGE_OWNER_OFF
            if self._tracker.options.has_filter:
                return "mixed blocks need the owners that the filter leaves out"
        return None

    def zones(self) -> list[Zone]:
        """Return the zones of this machine that have pages."""
        return self._zones

    def buddyinfo(self) -> Sequence[ZoneRow]:
        """Read /proc/buddyinfo."""
        return parse_buddyinfo(Path("/proc/buddyinfo").read_text(encoding="ascii"))

    def pagetypeinfo(self) -> str:
        """Read /proc/pagetypeinfo."""
        return Path("/proc/pagetypeinfo").read_text(encoding="ascii")

    def standing_still(self) -> AbstractContextManager[None]:
        """Do nothing: the kernel can't be paused."""
        return nullcontext()

    def snapshot(self, max_bytes: int, /) -> _native.RecordTable:
        """Copy the table. Each record is consistent, but not all belong to one moment."""
        return self.table().snapshot(max_bytes)

    def stack_counts(self) -> list[tuple[int, int]]:
        """Count the pages of each stack by a pass over the table."""
        return self._stack_counts.count(self.table())

    def page_state(self, pfn: int, /) -> Mapping[str, Any]:
        """Return what a page without a record is if a filter leaves pages out; else nothing."""
        if self._options.has_filter:
            page = PageExt.of(self.table(), pfn)
            if page is not None and not page.allocated:
                return {"state": "free, or left out by the filter"}
        return {}

    @property
    def boot_nsec(self) -> int | None:
        """Offset from a record's times to CLOCK_BOOTTIME; None in another PID namespace.

        Records have pids of the machine's initial namespace.
        """
        return boot_nsec() if pid_namespace().is_initial else None

    def update(self) -> None:
        """
        Find changes that no event has shown, at most once per STAT_INTERVAL_NSEC.

        Allocated pages without a record get that of an early page; records of free pages end. The
        counters unknown_found and stale_found count both.
        """
        with self._lock:
            tracker, now = self._tracker, time.monotonic_ns()
            if tracker is None or now - self._updated_nsec < STAT_INTERVAL_NSEC:
                return
            found = tracker.scan_again()
            self._unknown_pages += sum(early.nr_pages for early in found)
            self._stale_records += sum(early.nr_stale for early in found)
            self._updated_nsec = time.monotonic_ns()

    def table(self) -> _native.KernelTable:
        """Return the table of records."""
        if self._table is None:
            raise PageOwnerOffError(PAGE_OWNER_OFF)
        return self._table

    @property
    def stack_text(self) -> StackText:
        """Return the lines of a stack, innermost frame first."""
        if self._stacks is None:
            raise PageOwnerOffError(PAGE_OWNER_OFF)
        return self._stacks.text

    def memcg_lines(self, memcg: int) -> bytes:
        """Return the lines about the cgroup of a page, as print_page_owner_memcg() prints them."""
        if memcg & maps.PAGE_MEMCG_SLAB:
            return b"Slab cache page\n"
        tracker = self._tracker
        name = tracker.cgroup_name(memcg >> maps.PAGE_MEMCG_ID_SHIFT) if tracker else None
        return b"Charged %sto %smemcg %s\n" % (
            b"(via objcg) " if memcg & maps.PAGE_MEMCG_KMEM else b"",
            b"" if memcg & maps.PAGE_MEMCG_ONLINE else b"offline ",
            b"?" if name is None else name or b"/",
        )

    def stats(self) -> Mapping[str, int]:
        """Return the counters since tracking began, reused for STAT_INTERVAL_NSEC."""
        tracker, table = self._tracker, self._table
        if tracker is None or table is None:
            return {}
        now = time.monotonic_ns()
        if not self._stats or now - self._stats_nsec > STAT_INTERVAL_NSEC:
            self._stats = self._count(tracker, table)
            self._stats_nsec = now
        return self._stats

    def _count(self, tracker: Tracker, table: _native.KernelTable) -> dict[str, int]:
        pages = PageCounts._make(table.states())
        return {
            "pages_allocated": pages.allocated,
            "pages_early": pages.early,
            "pages_freed": pages.freed,
            "early_found": self._early_pages,
            "unknown_found": self._unknown_pages,
            "stale_found": self._stale_records,
            "page_ext_bytes": tracker.table_bytes,
            "stack_depot_bytes": len(tracker.stack_nodes),
            **tracker.counters(),
        }

    def describe(self) -> dict[str, Any]:
        """Return the state, for status."""
        tracker = self._tracker
        return {
            "page_owner_on": self.page_owner_on,
            "stack_depth": self._options.stack_depth,
            "stack_depot_bytes": self._options.stack_depot_bytes,
            "free_stacks": self._options.free_stacks,
            "stats": dict(self.stats()),
            "programs": tracker.programs if tracker else [],
            "unseen": tracker.unseen if tracker else [],
            "filter": self._describe_filter(),
            "size_bytes": tracker.table_bytes if tracker else 0,
        }

    def _describe_filter(self) -> dict[str, Any]:
        options = self._options
        comm = None if options.comm is None else _printable(options.comm.text)
        cgroup = None if options.cgroup is None else _printable(options.cgroup)
        values = {"pid": options.pid, "comm": comm, "cgroup": cgroup, "order": options.order}
        return {name: value for name, value in values.items() if value is not None}

    # Twice a second

    def tick(self) -> None:
        """Log losses, and remember the mappings of processes with user stacks."""
        tracker, stacks = self._tracker, self._stacks
        if tracker is None or stacks is None:
            return
        counters = tracker.counters()
        for name in _LOSSES:
            value, before = counters.get(name, 0), self._logged.get(name, 0)
            # Log a counter when it has doubled: don't flood the log.
            if value > 2 * before:
                _log.warning("%s: %d", name, value)
                self._logged[name] = value
        if stacks.user_stacks is not None:
            stacks.user_stacks.remember(tracker.user_tasks())


def _printable(text: str) -> str:
    return os.fsencode(text).decode(errors="backslashreplace")


def _node_field(kernel: KernelVocabulary) -> tuple[int, int]:
    fields = (field for field in kernel.page_flags_fields if field.name == "node")
    return next(((field.shift, field.width) for field in fields), (0, 0))


def _early_record(pid: int, tgid: int) -> PageOwner:
    with Path("/proc/self/comm").open("rb") as file:
        comm = file.read().rstrip(b"\n")
    return PageOwner(
        ts_nsec=time.monotonic_ns(),
        free_ts_nsec=0,
        gfp_mask=0,
        pid=pid,
        tgid=tgid,
        handle=maps.HANDLE_EARLY,
        free_handle=0,
        free_pid=0,
        free_tgid=0,
        order=0,
        last_migrate_reason=MR_NEVER,
        state=PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY,
        pageblock_migratetype=0,
        comm=comm,
    )
