"""
The client's side of a pool: the page allocator of mm/page_alloc.c over shared memory.

The allocator itself is written in C (_native.Pool). This module adds attach(), the exceptions,
and methods to inspect a pool.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pageownerfs import _native
from pageownerfs.errors import (
    BadPageError,
    NotAPoolError,
    OutOfMemoryError,
    PageOwnerError,
    PoolAccessError,
    VersionMismatchError,
)

from .mm.dump_page import PAGE_STATES, PageInfo, dump_page
from .mm.gfp import format_gfp
from .mm.page_ext import PID_MAX_LIMIT, PageOwner
from .mm.stack_depot import Frame
from .mm.zone import POOL_ZONE_NAMES, Zone, format_free_blocks

if TYPE_CHECKING:
    from types import TracebackType

XATTR: Final = "user.pageownerfs"
"""Extended attribute of a mount's root directory: JSON that describes the mount."""

# Keys that every version provides, and keys that a version may leave out.
_MOUNT_KEYS: Final = {"abi": int, "source": str}
_MORE_MOUNT_KEYS: Final = {"version": str, "pid": int}

_BAD_PAGE: Final = {
    _native.BAD_PFN: "is not an allocatable page of this pool",
    _native.BAD_FREE: "is not allocated: it never was, or it has been freed",
    _native.BAD_TAIL: "is inside an allocated block; pass the head of the block",
    _native.BAD_ORDER: "was allocated with another order",
    _native.BAD_COMPOUND: "is a compound page (__GFP_COMP), which cannot be split",
    _native.BAD_COUNT: "has a reference count that does not allow this",
}


class Client(NamedTuple):
    """A process that is attached to a pool and has allocated or freed pages."""

    pid: int
    """Thread id of the thread that attached."""
    tgid: int
    """Process id."""
    comm: str
    """Thread name at that time, up to 15 bytes; bytes that are not UTF-8 are escaped."""
    nr_pcp: int
    """Free pages on the client's order-0 lists."""
    attached_nsec: int
    """Time of the attach: CLOCK_MONOTONIC in nanoseconds."""


class PoolStats(NamedTuple):
    """Counters of a pool since it was created, in the order of the file ``stats``."""

    pgalloc: int
    """Base pages allocated."""
    pgfree: int
    """Base pages freed."""
    pgsplit: int
    """Base pages of blocks that split_page() has split."""
    oom: int
    """Allocations that failed."""
    commit_failed: int
    """Times that /dev/shm had no memory to commit for a free block."""
    dead_clients: int
    """Clients that died while attached."""
    recovered_pages: int
    """Pages recovered from the order-0 lists of dead clients."""
    zone_rebuilds: int
    """Times that a zone's free lists were rebuilt because a client died holding its lock."""
    reported_pages: int
    """Free pages whose memory was returned to the system."""
    early_pages: int
    """Pages that were allocated before tracking began."""
    page_ext_bytes: int
    """Memory used by the records."""
    stack_depot_stacks: int
    """Distinct stacks in the stack depot."""
    stack_depot_bytes: int
    """Memory used by the stack depot."""
    stack_depot_max_bytes: int
    """Upper limit of stack_depot_bytes."""
    stack_depot_failed: int
    """Stacks that did not fit into the stack depot."""


def read_mount(mountpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read the description of a mount: the JSON in XATTR, which the daemon writes on each read.

    :return: a dict with at least the keys abi and source
    :raises NotAPoolError: no pageownerfs is mounted there, or its daemon is gone
    :raises PoolAccessError: this user may not access the mount
    """
    where = os.fspath(mountpoint)
    try:
        text = os.getxattr(where, XATTR)
    except OSError as error:
        raise mount_error(where, error) from error
    return parse_mount(where, text)


def parse_mount(where: str, text: bytes) -> dict[str, Any]:
    """
    Parse the description that the mount at ``where`` returned.

    :raises NotAPoolError: the text is not a description of a pageownerfs mount
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not _is_mount(data):
        msg = f"{where}: the extended attribute {XATTR} was not written by pageownerfs"
        raise NotAPoolError(msg)
    return data


def _is_mount(data: dict[str, Any]) -> bool:
    return (
        all(isinstance(data.get(key), kind) for key, kind in _MOUNT_KEYS.items())
        and all(
            isinstance(data[key], kind) for key, kind in _MORE_MOUNT_KEYS.items() if key in data
        )
        and 0 < data.get("pid", 1) <= PID_MAX_LIMIT
    )


def mount_error(where: str, error: OSError) -> PageOwnerError:
    """Return the exception for an OSError raised when a mount was asked for its description."""
    if error.errno == errno.ENOTCONN:
        return NotAPoolError(
            f"{where}: the daemon is gone; clean up with: pageownerfs umount {where}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PoolAccessError(
            f"{where}: permission denied: the mount belongs to another user; "
            "run as that user, or have it mounted with -o allow_other"
        )
    if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
        return NotAPoolError(
            f"{where}: no pageownerfs is mounted here; mount a pool with: pageownerfs pool {where}"
        )
    return NotAPoolError(f"{where}: {error.strerror}; pass the mount point of a pool")


class Pool(_native.Pool):
    """
    A process's attachment to a pool; create one with attach(), in a ``with`` statement.

    Threads may share it. After fork(), the child continues with its own order-0 lists.
    """

    @classmethod
    def attach(cls, mountpoint: str | os.PathLike[str]) -> Self:
        """
        Attach to the pool that is mounted at ``mountpoint``.

        The end of a ``with`` block closes the attachment. Allocated pages stay allocated.

        :raises NotAPoolError: no pool is mounted there
        :raises VersionMismatchError: the pool was mounted by an incompatible version
        :raises PoolAccessError: this user may not attach to the pool
        """
        where = os.fspath(mountpoint)
        mount = read_mount(where)
        if mount["abi"] != _native.ABI_VERSION:
            msg = (
                f"{where}: mounted by pageownerfs {mount.get('version')} with pool layout "
                f"{mount['abi']}, but this version has layout {_native.ABI_VERSION}; "
                "use the same version for both"
            )
            raise VersionMismatchError(msg)
        if "shm_path" not in mount:
            msg = f"{where}: the source is {mount['source']!r}; only a pool can allocate pages"
            raise NotAPoolError(msg)
        return cls._attach_file(where, mount["shm_path"])

    @classmethod
    def _attach_file(cls, where: str, path: str) -> Self:
        try:
            return cls.open(path)
        except PermissionError as error:
            msg = (
                f"{where}: permission denied for {path}: only the user who mounted the pool may "
                "attach to it"
            )
            raise PoolAccessError(msg) from error
        except OSError as error:
            msg = (
                f"{where}: cannot open {path}: {error.strerror}; "
                "unmount the pool and mount it again"
            )
            raise NotAPoolError(msg) from error
        except ValueError as error:
            msg = f"{where}: {error}; unmount the pool and mount it again"
            raise NotAPoolError(msg) from error

    def __enter__(self) -> Self:
        """Return this pool."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach from the pool."""
        self.close()

    def all_zones(self) -> list[Zone]:
        """Return all zones by number, empty ones included, with their free blocks now."""
        return [
            Zone(0, name, *info)
            for name, info in zip(POOL_ZONE_NAMES, self._zone_info(), strict=True)
        ]

    @property
    def zones(self) -> list[Zone]:
        """The populated zones with their free blocks now, as in /proc/zoneinfo."""
        return [zone for zone in self.all_zones() if zone.present_pages]

    def free_pages_by_order(self) -> dict[str, list[int]]:
        """Return zone name -> number of free blocks of each order 0..10, as in /proc/buddyinfo."""
        return {zone.name: list(zone.free_blocks) for zone in self.zones}

    @property
    def clients(self) -> list[Client]:
        """The live processes that have allocated or freed pages, by client slot."""
        return self._clients(alive=True)

    @property
    def dead_clients(self) -> list[Client]:
        """The dead processes that recover_clients() has not recovered yet."""
        return self._clients(alive=False)

    def _clients(self, *, alive: bool) -> list[Client]:
        return [
            Client(pid, tgid, comm.decode("utf-8", "backslashreplace"), *more)
            for lives, pid, tgid, comm, *more in self._client_info()
            if lives == alive
        ]

    def page_info(self, pfn: int) -> PageInfo:
        """
        Return the state of one page, read without a lock.

        :param pfn: any page frame of the pool, ``[0, nr_pages)``
        :raises ValueError: ``pfn`` is out of range
        """
        number, *middle, record = self._page_info(pfn)
        state = PAGE_STATES[number] if number < len(PAGE_STATES) else "corrupt"
        owner = None if record is None else PageOwner.unpack(record)
        return PageInfo._make((state, *middle, owner))

    def stats(self) -> PoolStats:
        """Return the counters since the pool was created."""
        return PoolStats._make(self._stats())

    def stack(self, handle: int) -> list[Frame]:
        """
        Fetch a call stack from the stack depot, as stack_depot_fetch() does.

        :param handle: ``depot_stack_handle_t``
        :return: frames, innermost first
        :raises ValueError: no stack has this handle
        """
        return [Frame(*frame) for frame in self.depot_stack(handle)]

    def dump_page(self, pfn: int) -> str:
        """
        Describe one page, allocated or free: its state, its owner and both stacks.

        See mm.dump_page for the format.

        :param pfn: any page frame of the pool, ``[0, nr_pages)``
        :return: lines of text, with file and line of each frame
        :raises ValueError: ``pfn`` is out of range
        """
        return dump_page(pfn, self.page_info(pfn), self.stack if self.page_owner_on else None)

    # The C core calls these to make the exceptions that it raises.

    def _out_of_memory(self, order: int, gfp_mask: int, errnum: int) -> OutOfMemoryError:
        zones = self.zones
        text = f"page allocation failure: order:{order}, mode:{format_gfp(gfp_mask)}"
        if errnum == errno.ENOSPC:
            text += f"; no room in {Path(self.path).parent} for the pool's memory"
        text += f"; free: {format_free_blocks(zones)}"
        free = {zone.name: list(zone.free_blocks) for zone in zones}
        return OutOfMemoryError(text, order=order, gfp_mask=gfp_mask, free=free)

    def _bad_page(self, reason: int, pfn: int, order: int) -> BadPageError:
        text = f"PFN {pfn:#x} {_BAD_PAGE.get(reason, 'is not the page that was expected')}"
        if reason != _native.BAD_PFN:
            text += "".join(f"; {fact}" for fact in self._known_of(pfn, order))
        elif not 0 <= pfn < self.nr_pages:
            text += f"; the PFNs of this pool are [0, {self.nr_pages:#x})"
        return BadPageError(text, pfn=pfn)

    def _known_of(self, pfn: int, order: int) -> list[str]:
        # Read without a lock: a hint for the person who debugs, possibly outdated.
        info = self.page_info(pfn)
        facts = []
        if info.state == "allocated":
            facts.append(f"its order is {info.order}")
            if order >= 0 and order != info.order:
                facts[0] += f", not {order}"
        elif info.state == "buddy":
            facts.append(f"it is the head of a free block of order {info.order}")
        elif info.state == "pcp":
            facts.append("it is on a client's list of free pages")
        if info.head != pfn:
            facts.append(f"its head is PFN {info.head:#x}")
        if info.state == "allocated" and info.refcount != 1:
            facts.append(f"its reference count is {info.refcount}")
        owner = info.page_owner
        if owner is not None and owner.handle:
            comm = owner.comm.decode("utf-8", "backslashreplace")
            facts.append(f"allocated by pid {owner.pid} ({comm}) at ts {owner.ts_nsec} ns")
            if owner.free_handle:
                facts.append(f"last freed by pid {owner.free_pid} at ts {owner.free_ts_nsec} ns")
        return facts
