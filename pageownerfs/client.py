"""
The pool as a client sees it: the page allocator of mm/page_alloc.c over shared memory.

The allocator itself is C (_native.Pool); here are the way in (attach), the errors, and what can
be looked at.
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
"""Extended attribute of the root of a mount: a JSON text that says what is mounted."""

# What each version says, and what it may leave out.
_MOUNT_KEYS: Final = {"abi": int, "source": str}
_MORE_MOUNT_KEYS: Final = {"version": str, "pid": int}

_BAD_PAGE: Final = {
    _native.BAD_PFN: "is not a page of this pool that can be allocated",
    _native.BAD_FREE: "is not allocated: it never was, or it has been freed",
    _native.BAD_TAIL: "is inside of an allocated block, only its head can be given",
    _native.BAD_ORDER: "is allocated with another order",
    _native.BAD_COMPOUND: "is a compound page (__GFP_COMP), which can't be split",
    _native.BAD_COUNT: "has a reference count that does not allow this",
}


class Client(NamedTuple):
    """One process that is attached to a pool and has allocated or freed."""

    pid: int
    """Thread that attached."""
    tgid: int
    """Process."""
    comm: str
    """Its name then, at most 15 bytes; what is not UTF-8 is escaped."""
    nr_pcp: int
    """Free pages on its order-0 lists."""
    attached_nsec: int
    """When, CLOCK_MONOTONIC."""


class PoolStats(NamedTuple):
    """Counters of a pool since it was made, in the order in which they are shown."""

    pgalloc: int
    """Blocks allocated."""
    pgfree: int
    """Blocks freed."""
    pgsplit: int
    """Blocks that split_page() has split."""
    oom: int
    """Allocations that failed."""
    commit_failed: int
    """Times that there was no memory behind a free block."""
    dead_clients: int
    """Clients that have died attached."""
    recovered_pages: int
    """Pages of their order-0 lists that came back."""
    zone_rebuilds: int
    """Zones whose free lists were made anew, since a client died with the lock."""
    reported_pages: int
    """Free pages whose memory was given to the system."""
    early_pages: int
    """Pages that were allocated before tracking."""
    page_ext_bytes: int
    """Memory of the records."""
    stack_depot_stacks: int
    """Stacks in the depot."""
    stack_depot_bytes: int
    """Memory of the depot."""
    stack_depot_max_bytes: int
    """The most that it may take."""
    stack_depot_failed: int
    """Stacks that found no room in it."""


def read_mount(mountpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Ask a mount what it is: the JSON of XATTR, made by the daemon at this moment.

    :return: at least abi and source
    :raises NotAPoolError: nothing of this type is mounted there, or nobody serves it any more
    :raises PoolAccessError: no permission
    """
    where = os.fspath(mountpoint)
    try:
        text = os.getxattr(where, XATTR)
    except OSError as error:
        raise mount_error(where, error) from error
    return parse_mount(where, text)


def parse_mount(where: str, text: bytes) -> dict[str, Any]:
    """
    Parse what the mount at ``where`` has said.

    :raises NotAPoolError: no pageownerfs says that
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not _is_mount(data):
        msg = f"{where}: its attribute {XATTR} is not from a pageownerfs mount"
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
    """Say what an error means that came in place of an answer."""
    if error.errno == errno.ENOTCONN:
        return NotAPoolError(
            f"{where}: its daemon is gone; clean up with: pageownerfs umount {where}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PoolAccessError(
            f"{where}: no permission: the mount belongs to another user; "
            "run as that user, or have it mounted with -o allow_other"
        )
    if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
        return NotAPoolError(
            f"{where}: no pageownerfs is mounted here; mount one with: pageownerfs pool {where}"
        )
    return NotAPoolError(f"{where}: {error.strerror}; give the mount point of a pool")


class Pool(_native.Pool):
    """
    One process's attachment to a pool; use attach() and ``with``.

    Threads may share one; after fork() the child goes on with its own order-0 lists.
    """

    @classmethod
    def attach(cls, mountpoint: str | os.PathLike[str]) -> Self:
        """
        Attach to the pool that is mounted at ``mountpoint``.

        Closed at the end of a ``with`` block; allocated pages stay allocated.

        :raises NotAPoolError: no pool is mounted there
        :raises VersionMismatchError: by another version of this package
        :raises PoolAccessError: no permission
        """
        where = os.fspath(mountpoint)
        mount = read_mount(where)
        if mount["abi"] != _native.ABI_VERSION:
            msg = (
                f"{where}: mounted by pageownerfs {mount.get('version')} with pool layout "
                f"{mount['abi']}, this is layout {_native.ABI_VERSION}; use one version in both"
            )
            raise VersionMismatchError(msg)
        if "shm_path" not in mount:
            msg = (
                f"{where}: its source is {mount['source']}, pages can be allocated in a pool only"
            )
            raise NotAPoolError(msg)
        return cls._attach_file(where, mount["shm_path"])

    @classmethod
    def _attach_file(cls, where: str, path: str) -> Self:
        try:
            return cls.open(path)
        except PermissionError as error:
            msg = (
                f"{where}: no permission for {path}: only the user who mounted the pool may attach"
            )
            raise PoolAccessError(msg) from error
        except OSError as error:
            msg = f"{where}: {path} can't be opened: {error.strerror}; mount the pool anew"
            raise NotAPoolError(msg) from error
        except ValueError as error:
            msg = f"{where}: {error}; mount the pool anew"
            raise NotAPoolError(msg) from error

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def all_zones(self) -> list[Zone]:
        """Give the zones by number, with what is free in them now; also those without pages."""
        return [
            Zone(0, name, *info)
            for name, info in zip(POOL_ZONE_NAMES, self._zone_info(), strict=True)
        ]

    @property
    def zones(self) -> list[Zone]:
        """The populated zones with what is free in them now, as /proc/zoneinfo."""
        return [zone for zone in self.all_zones() if zone.present_pages]

    def free_pages_by_order(self) -> dict[str, list[int]]:
        """Free blocks of order 0..10 by name of zone, as /proc/buddyinfo."""
        return {zone.name: list(zone.free_blocks) for zone in self.zones}

    @property
    def clients(self) -> list[Client]:
        """The living processes that have allocated or freed, by slot."""
        return self._clients(alive=True)

    @property
    def dead_clients(self) -> list[Client]:
        """The dead ones that recover_clients() has not yet taken care of."""
        return self._clients(alive=False)

    def _clients(self, *, alive: bool) -> list[Client]:
        return [
            Client(pid, tgid, comm.decode("utf-8", "backslashreplace"), *more)
            for lives, pid, tgid, comm, *more in self._client_info()
            if lives == alive
        ]

    def page_info(self, pfn: int) -> PageInfo:
        """
        Tell what is known of one page, read without a lock.

        :param pfn: any page frame of the pool, ``[0, nr_pages)``
        :raises ValueError: out of range
        """
        number, *middle, record = self._page_info(pfn)
        state = PAGE_STATES[number] if number < len(PAGE_STATES) else "corrupt"
        owner = None if record is None else PageOwner.unpack(record)
        return PageInfo._make((state, *middle, owner))

    def stats(self) -> PoolStats:
        """Count what has happened since the pool was made."""
        return PoolStats._make(self._stats())

    def stack(self, handle: int) -> list[Frame]:
        """
        Fetch a call stack from the depot, as stack_depot_fetch().

        :param handle: ``depot_stack_handle_t``
        :return: frames, innermost first
        :raises ValueError: no stack has this handle
        """
        return [Frame(*frame) for frame in self.depot_stack(handle)]

    def dump_page(self, pfn: int) -> str:
        """
        Tell all that is known of one page, allocated or not: see mm.dump_page.

        :param pfn: any page frame of the pool, ``[0, nr_pages)``
        :return: lines of text, with file and line of each frame
        :raises ValueError: out of range
        """
        return dump_page(pfn, self.page_info(pfn), self.stack if self.page_owner_on else None)

    # The exceptions that the C core raises.

    def _out_of_memory(self, order: int, gfp_mask: int, errnum: int) -> OutOfMemoryError:
        zones = self.zones
        text = f"page allocation failure: order:{order}, mode:{format_gfp(gfp_mask)}"
        if errnum == errno.ENOSPC:
            text += f"; no room in {Path(self.path).parent} for the pool's memory"
        text += f"; free: {format_free_blocks(zones)}"
        free = {zone.name: list(zone.free_blocks) for zone in zones}
        return OutOfMemoryError(text, order=order, gfp_mask=gfp_mask, free=free)

    def _bad_page(self, reason: int, pfn: int, order: int) -> BadPageError:
        text = f"PFN {pfn:#x} {_BAD_PAGE.get(reason, 'is not what was asked for')}"
        if reason != _native.BAD_PFN:
            text += "".join(f"; {fact}" for fact in self._known_of(pfn, order))
        elif not 0 <= pfn < self.nr_pages:
            text += f"; PFNs of this pool are [0, {self.nr_pages:#x})"
        return BadPageError(text, pfn=pfn)

    def _known_of(self, pfn: int, order: int) -> list[str]:
        # Read without a lock: it says what was, for a person to go on from.
        info = self.page_info(pfn)
        facts = []
        if info.state == "allocated":
            facts.append(f"its order is {info.order}")
            if order >= 0 and order != info.order:
                facts[0] += f", order {order} was given"
        elif info.state == "buddy":
            facts.append(f"it begins a free block of order {info.order}")
        elif info.state == "pcp":
            facts.append("a client has it on its list of free pages")
        if info.head != pfn:
            facts.append(f"its head is PFN {info.head:#x}")
        if info.state == "allocated" and info.refcount != 1:
            facts.append(f"reference count {info.refcount}")
        owner = info.page_owner
        if owner is not None and owner.handle:
            comm = owner.comm.decode("utf-8", "backslashreplace")
            facts.append(f"allocated by pid {owner.pid} ({comm}) at ts {owner.ts_nsec} ns")
            if owner.free_handle:
                facts.append(f"last freed by pid {owner.free_pid} at ts {owner.free_ts_nsec} ns")
        return facts
