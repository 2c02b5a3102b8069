"""Files of pools in /dev/shm: names, sizes, and cleaning up after dead daemons."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import struct
import time
from typing import Final

from pageownerfs.errors import MountError

_log = logging.getLogger(__name__)

SHM_DIR: Final = "/dev/shm"  # noqa: S108 - pools are 0600, and O_EXCL makes them
_PREFIX: Final = "pageownerfs-"
_DEFAULT_SIZE_BYTES: Final = 1 << 30
_SIZE_STEP_BYTES: Final = 4 << 20  # a block of the highest order
# A pool's daemon holds an OFD lock on this byte of the file until it ends: native/pool/layout.h.
_DAEMON_BYTE: Final = 1 << 62
_F_OFD_SETLK: Final = 37
_FLOCK: Final = struct.Struct("@hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
# A new file has no length until its daemon has locked it.
_CREATION_SEC: Final = 60


def new_pool_path() -> str:
    """Return an unused path for a new pool."""
    return f"{SHM_DIR}/{_PREFIX}{secrets.token_hex(8)}"


def default_size_bytes() -> int:
    """
    Return the default size of a pool.

    :return: 1 GiB, or a quarter of the free memory of /dev/shm if that is less
    :raises MountError: /dev/shm does not exist
    """
    try:
        room = os.statvfs(SHM_DIR)
    except OSError as error:
        msg = f"cannot use {SHM_DIR}: {error.strerror}; mount a tmpfs there"
        raise MountError(msg) from error
    quarter = room.f_bavail * room.f_frsize // 4
    return min(_DEFAULT_SIZE_BYTES, quarter // _SIZE_STEP_BYTES * _SIZE_STEP_BYTES)


def remove_stale_pools() -> None:
    """Remove this user's pools whose daemon is dead, that is, does not hold its lock."""
    with contextlib.suppress(OSError), os.scandir(SHM_DIR) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_stale(entry):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - a plain system call
                    _log.info("removed %s, whose daemon is dead", entry.path)


def _is_stale(entry: os.DirEntry[str]) -> bool:
    try:
        st = entry.stat(follow_symlinks=False)
        if not entry.is_file(follow_symlinks=False) or st.st_uid != os.getuid():
            return False
        if st.st_size == 0 and time.time() - st.st_ctime < _CREATION_SEC:
            return False
        return _take_daemon_lock(entry.path)
    except OSError:
        return False


def _take_daemon_lock(path: str) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _DAEMON_BYTE, 1, 0)
        fcntl.fcntl(fd, _F_OFD_SETLK, lock)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)
