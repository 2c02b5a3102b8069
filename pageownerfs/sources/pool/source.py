"""
The daemon's side of a pool.

The daemon creates the file, switches tracking on, and recovers dead clients twice a second. It has
no part in the allocation of pages.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from pageownerfs import _native
from pageownerfs.client import Pool
from pageownerfs.errors import MountError, PageOwnerOffError, UsageError
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.mm.migratetype import MIGRATETYPE_NAMES
from pageownerfs.mm.need import PAGE_OWNER_OFF, Need
from pageownerfs.mm.stack_depot import format_source_lines, format_stack
from pageownerfs.mm.vmstat import format_pagetypeinfo
from pageownerfs.mm.vocabulary import VOCABULARY
from pageownerfs.mm.zone import PAGEBLOCK_ORDER
from pageownerfs.sources.clock import boot_nsec
from pageownerfs.sources.ticker import Ticker

from .shm import SHM_DIR, default_size_bytes, new_pool_path, remove_stale_pools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from pageownerfs.mm.vmstat import ZoneRow
    from pageownerfs.mm.vocabulary import Vocabulary
    from pageownerfs.mm.zone import Zone

    from .options import PoolOptions

_log = logging.getLogger(__name__)

# XATTR_SIZE_MAX is 64 KiB, and the list of clients must leave room for the rest.
_MAX_CLIENTS_DESCRIBED: Final = 512


# The kernel's own two stacks have no more frames either.
_SPECIAL_STACK_DEPTH: Final = 4


def register_early_stack(pool: Pool) -> int:
    """Store the stack that early pages show, and return its handle."""
    return pool.capture_stack(_SPECIAL_STACK_DEPTH)


def register_failure_stack(pool: Pool) -> int:
    """Store the stack for pages whose own stack can't be stored, and return its handle."""
    return pool.capture_stack(_SPECIAL_STACK_DEPTH)


def init_page_owner(pool: Pool) -> None:
    """
    Switch tracking on, find the early pages, and log both in the kernel's words.

    Mirrors init_page_owner() in mm/page_owner.c; the records of early pages show the names of
    these functions.

    :raises OSError: ENOSPC: there is not enough memory; nothing has changed
    """
    early = pool.enable_page_owner(
        functools.partial(register_early_stack, pool),
        functools.partial(register_failure_stack, pool),
    )
    page_owner_bytes = _native.LAYOUT["struct page_owner"][""]
    _log.info("allocated %d bytes of page_ext", page_owner_bytes * pool.nr_pages)
    for zone, nr_early in zip(pool.all_zones(), early, strict=True):
        if zone.present_pages:
            _log.info(
                "Node %d, zone %8s: page owner found early allocated %d pages",
                zone.nid,
                zone.name,
                nr_early,
            )


class PoolSource:
    """The daemon's side of one pool; a context manager that leaves no file behind."""

    def __init__(self, options: PoolOptions) -> None:
        """
        Create the pool, a file in /dev/shm with mode 0600.

        :raises UsageError: the sizes don't fit together
        :raises MountError: there is not enough memory
        """
        remove_stale_pools()
        self._options = options
        self._size_bytes = (
            default_size_bytes() if options.size_bytes is None else options.size_bytes
        )
        self._pool = self._create()
        self._table: _native.Table | None = None
        self._enabling = threading.Lock()
        self._ticker = Ticker("pool", self.tick)
        if not options.page_owner:
            _log.info("page_owner is disabled")
            return
        try:
            self.enable_page_owner()
        except OSError as error:
            self.close()
            raise self._no_memory(error, "page_owner=on and a pool") from error

    def _create(self) -> Pool:
        options = self._options
        try:
            return Pool.create(
                new_pool_path(),
                self._size_bytes,
                options.movablecore_bytes,
                options.cma_bytes,
                options.stack_depth,
                options.stack_depot_bytes,
            )
        except ValueError as error:
            msg = f"cannot create a pool with these options: {error}"
            raise UsageError(msg) from error
        except OSError as error:
            raise self._no_memory(error, "a pool") from error

    def _no_memory(self, error: OSError, what: str) -> MountError:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            return MountError(
                f"not enough memory in {SHM_DIR} for {what} of {format_size(self._size_bytes)}: "
                f"free some, or mount with a smaller -o size="
            )
        return MountError(f"cannot use {SHM_DIR} for {what}: {error.strerror or error}")

    def __enter__(self) -> Self:
        """Start to recover dead clients; not before fork(), because it starts a thread."""
        self._ticker.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool and remove its file."""
        self.close()

    def close(self) -> None:
        """Remove the file. Clients keep the memory mapped until they detach."""
        self._ticker.stop()
        if not self._pool.closed:
            os.unlink(self._pool.path)  # noqa: PTH108 - a plain system call, no Path needed
            self._pool.close()

    # base.Source

    changes = True

    @property
    def page_owner_on(self) -> bool:
        """Whether owners are tracked."""
        return self._pool.page_owner_on

    def enable_page_owner(self) -> None:
        """Switch tracking on; no-op if it is on.

        :raises OSError: there is not enough memory
        """
        with self._enabling:
            if not self._pool.page_owner_on:
                init_page_owner(self._pool)

    def disable_page_owner(self) -> None:
        """Switch tracking off; no-op if it is off.

        :raises OSError: EPERM: a pool can't be switched off
        """
        if self._pool.page_owner_on:
            raise PermissionError(errno.EPERM, "a pool can't be switched off")

    def table(self) -> _native.Table:
        """Return the table of records.

        :raises PageOwnerOffError: tracking is off
        """
        if not self._pool.page_owner_on:
            raise PageOwnerOffError(PAGE_OWNER_OFF)
        if self._table is None:
            self._table = self._pool.table()
        return self._table

    def lacks(self, need: Need, /) -> str | None:
        """Return that tracking is off; a pool lacks nothing else."""
        off = need in ("owners", "pagetypeinfo") and not self.page_owner_on
        return PAGE_OWNER_OFF if off else None

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Pause the clients between two operations.

        :raises OSError: EBUSY: a client is stopped in the middle of an operation
        """
        self._pool.freeze()
        try:
            yield
        finally:
            self._pool.thaw()

    def snapshot(self, max_bytes: int, /) -> _native.RecordTable:
        """Copy the table."""
        return self.table().snapshot(max_bytes)

    def stack_text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack, innermost frame first."""
        frames = self._pool.stack(handle)
        return format_source_lines(frames) if source_lines else format_stack(frames)

    def stack_counts(self) -> list[tuple[int, int]]:
        """Return the counts that the clients keep, newest stack first."""
        # A client may have died between allocating a page and counting it: recovering corrects it.
        self._recover_clients()
        return self._pool.stack_counts()[::-1]

    def page_state(self, pfn: int, /) -> dict[str, Any]:
        """Return state and reference count from struct page."""
        info = self._pool.page_info(pfn)
        return {"state": info.state, "refcount": info.refcount}

    @property
    def boot_nsec(self) -> int:
        """Offset from CLOCK_MONOTONIC of this machine, which records have, to CLOCK_BOOTTIME."""
        return boot_nsec()

    def zones(self) -> list[Zone]:
        """Return the populated zones."""
        return self._pool.zones

    def buddyinfo(self) -> list[ZoneRow]:
        """Return the free blocks of each zone, without those on clients' order-0 lists."""
        return [(zone.nid, zone.name, zone.free_blocks) for zone in self._pool.zones]

    def pagetypeinfo(self) -> str:
        """Return the text of /proc/pagetypeinfo for the pool, up to the mixed blocks."""
        return format_pagetypeinfo(self._pool.zones, MIGRATETYPE_NAMES, PAGEBLOCK_ORDER)

    @property
    def vocabulary(self) -> Vocabulary:
        """The names of Linux 6.12."""
        return VOCABULARY

    def memcg_lines(self, memcg: int) -> bytes:
        """Return nothing: a pool has no cgroups."""
        del memcg
        return b""

    def update(self) -> None:
        """Do nothing: the clients keep the table up to date."""

    def stats(self) -> Mapping[str, int]:
        """Return the counters since the pool was created, see PoolStats."""
        return self._pool.stats()._asdict()

    def describe(self) -> dict[str, Any]:
        """Return the state of the pool, for status and for clients that attach."""
        zones = self._pool.zones
        managed = sum(zone.managed_pages for zone in zones)
        free = sum(zone.nr_free + zone.nr_pcp for zone in zones)
        clients = [client for client in self._pool.clients if client.tgid != os.getpid()]
        return {
            "shm_path": self._pool.path,
            "size_bytes": self._size_bytes,
            "pages_allocated": managed - free,
            "pages_free": free,
            "page_owner_on": self.page_owner_on,
            "stack_depth": self._pool.stack_depth,
            "stack_depot_bytes": self._options.stack_depot_bytes,
            "zones": self._pool.free_pages_by_order(),
            "stats": self.stats(),
            "nr_clients": len(clients),
            "clients": [
                {"pid": client.pid, "tgid": client.tgid, "comm": client.comm}
                for client in clients[:_MAX_CLIENTS_DESCRIBED]
            ],
        }

    # Twice a second

    def tick(self) -> None:
        """Recover dead clients, and return the memory of large free blocks to the system."""
        self._recover_clients()
        self._pool.report_free_pages()

    def _recover_clients(self) -> None:
        dead = self._pool.dead_clients
        nr_dead = self._pool.recover_clients()
        for client in dead:
            _log.info(
                "client pid %d (%s) died: its order-0 lists were recovered, "
                "its allocated pages stay allocated",
                client.tgid,
                client.comm,
            )
        if nr_dead > len(dead):
            _log.info("%d more clients died", nr_dead - len(dead))
