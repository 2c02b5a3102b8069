"""Find pageownerfs mounts of this system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import MountError
from pageownerfs.fs import FSTYPE
from pageownerfs.mountinfo import read_mountinfo

if TYPE_CHECKING:
    from collections.abc import Collection

    from pageownerfs.mountinfo import Mount

_MAX_LINKS: Final = 40  # MAXSYMLINKS


def read_mounts(*, ours: bool = False) -> list[Mount]:
    """
    Read the mounts that this process sees, oldest first.

    :param ours: return only pageownerfs mounts
    :raises MountError: /proc/self/mountinfo can't be read
    """
    return [mount for mount in read_mountinfo() if not ours or mount.fstype == FSTYPE]


def mount_at(mountpoint: str) -> Mount | None:
    """Return the topmost mount at a path, without asking its daemon, which may be dead."""
    mounts = read_mounts()
    path = _resolve(mountpoint, {mount.mountpoint for mount in mounts})
    found = [mount for mount in mounts if mount.mountpoint == path]
    return found[-1] if found else None


def resolve_mountpoint(path: str) -> str:
    """Return the real path of a mount point, without accessing a mount there."""
    return _resolve(path, {mount.mountpoint for mount in read_mounts()})


def _resolve(path: str, mountpoints: Collection[str]) -> str:
    # realpath() would stat the last component, a mount whose daemon may be stopped.
    if not os.path.isabs(path):  # noqa: PTH117
        try:
            path = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118
        except OSError as error:
            raise MountError(
                f"{path}: the current directory no longer exists: use an absolute path"
            ) from error
    for _ in range(_MAX_LINKS):
        parent, name = os.path.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            break
        path = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
        if path in mountpoints:
            return path
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120
        except OSError:
            return path
    return os.path.realpath(path)


def mount_points_of(mountpoint: str) -> list[str]:
    """Return every path where the file system of ``mountpoint`` is mounted, itself included."""
    mount = mount_at(mountpoint)
    if mount is None:
        return []
    return [other.mountpoint for other in read_mounts() if other.device == mount.device]
