"""The pool as a source: checks, and rows of status and doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pageownerfs.errors import MountError
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.sources.base import Row, SourceKind
from pageownerfs.sources.check import FAIL, OK, WARN, Check, look
from pageownerfs.sources.tracking import format_tracking

from .options import OPTIONS, PoolOptions
from .shm import SHM_DIR, remove_stale_pools
from .source import PoolSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pageownerfs.text.progress import Progress

_LOW_SHM_BYTES: Final = 64 << 20


def check_shm() -> None:
    """
    Check that pools can be created in /dev/shm.

    :raises MountError: /dev/shm is missing or not writable
    """
    if not os.path.isdir(SHM_DIR):  # noqa: PTH112
        msg = f"{SHM_DIR} does not exist: mount a tmpfs on it (mount -t tmpfs tmpfs {SHM_DIR})"
        raise MountError(msg)
    if not os.access(SHM_DIR, os.W_OK | os.X_OK):
        msg = f"{SHM_DIR}: permission denied: as root, chmod 1777 {SHM_DIR}"
        raise MountError(msg)


def diagnose() -> list[Check]:
    """Check whether pools can be created, and how large."""
    found = look(SHM_DIR, check_shm, "", FAIL)
    if found.state != OK:
        return [found]
    room = os.statvfs(SHM_DIR)
    total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
    text = f"{format_size(free)} free of {format_size(total)}"
    if free < _LOW_SHM_BYTES:
        advice = f"mount -o remount,size=1G {SHM_DIR}, or docker run --shm-size=1g"
        return [Check(SHM_DIR, WARN, text, advice)]
    return [Check(SHM_DIR, OK, text)]


def status_rows(mount: Mapping[str, Any]) -> list[Row]:
    """Return the rows of status for the values of PoolSource.describe()."""
    return [
        ("size", format_size(mount["size_bytes"])),
        ("pages", f"{mount['pages_allocated']} allocated, {mount['pages_free']} free"),
        ("page_owner", format_tracking(mount)),
        ("memory", mount["shm_path"]),
        ("clients", _format_clients(mount)),
    ]


def _format_clients(mount: Mapping[str, Any]) -> str:
    shown = [f"{client['tgid']} ({client['comm']})" for client in mount["clients"]]
    more = mount["nr_clients"] - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def _make(options: PoolOptions, progress: Progress) -> PoolSource:
    del progress
    return PoolSource(options)


KIND: Final = SourceKind(
    name="pool",
    help="shared memory in which processes allocate pages",
    options_type=PoolOptions,
    options=OPTIONS,
    check=check_shm,
    make=_make,
    status_rows=status_rows,
    diagnose=diagnose,
    clean_up=remove_stale_pools,
)
