"""Read files of tracefs and securityfs, mounted or not."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACEFS_PATHS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
SECURITYFS_PATHS: Final = ("/sys/kernel/security",)

# The same on every architecture (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_FSCONFIG_CMD_CREATE: Final = 6


def read_tracefs(path: str) -> str:
    """
    Read a file of tracefs.

    :param path: below the root of tracefs: ``events/kmem/mm_page_alloc/format``
    :raises OSError: there is no tracefs, no such file, or no permission
    """
    return _read("tracefs", TRACEFS_PATHS, path)


def read_securityfs(path: str) -> str:
    """
    Read a file of securityfs.

    :param path: below the root of securityfs: ``lockdown``
    :raises OSError: there is no securityfs, no such file, or no permission
    """
    return _read("securityfs", SECURITYFS_PATHS, path)


def _read(fstype: str, roots: Iterable[str], path: str) -> str:
    # If it is not mounted, mount it detached, visible only here, until this returns.
    for root in roots:
        try:
            return Path(root, path).read_text(encoding="ascii")
        except OSError:
            continue
    root_fd = _mount(fstype)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root_fd)) as file:  # noqa: PTH123 - of a directory without path
            return file.read()
    finally:
        os.close(root_fd)


def _mount(fstype: str) -> int:
    """Mount a file system outside any namespace; closing the returned descriptor unmounts it."""
    context = _syscall(fstype, _SYS_FSOPEN, fstype.encode(), _CLOEXEC)
    try:
        _syscall(fstype, _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(fstype, _SYS_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _syscall(fstype: str, number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    # syscall() reads whole registers, but ctypes would pass an int as 32 bits.
    wide = (ctypes.c_long(value) if isinstance(value, int) else value for value in arguments)
    result = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), fstype)
    return int(result)
