"""Find pageownerfs mounts of this system in /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pageownerfs.errors import PROC_ADVICE, MountError
from pageownerfs.fs import FSTYPE

if TYPE_CHECKING:
    from collections.abc import Collection

_MOUNTINFO: Final = "/proc/self/mountinfo"
_MAX_LINKS: Final = 40  # MAXSYMLINKS
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: str
    """major:minor, the same for all mount points of one file system."""
    mountpoint: str
    """Absolute path."""
    fstype: str
    """File system type; fuse.pageownerfs for this package's mounts."""
    source: str
    """Name of the mounted source, such as pool."""


def parse_mountinfo(text: bytes) -> list[Mount]:
    r"""Parse the text of /proc/PID/mountinfo, where a blank in a path is written as ``\040``."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields, fs = left.split(b" "), right.split(b" ")
        device, mountpoint = fields[2].decode(), _unescape(fields[4])
        mounts.append(Mount(device, mountpoint, fs[0].decode(), _unescape(fs[1])))
    return mounts


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda m: bytes([int(m[1], 8)]), field))


def read_mounts(*, ours: bool = False) -> list[Mount]:
    """
    Read the mounts that this process sees, oldest first.

    :param ours: return only pageownerfs mounts
    :raises MountError: /proc/self/mountinfo can't be read
    """
    try:
        text = Path(_MOUNTINFO).read_bytes()
    except OSError as error:
        raise MountError(f"{_MOUNTINFO}: {error.strerror}: {PROC_ADVICE}") from error
    mounts = parse_mountinfo(text)
    return [mount for mount in mounts if not ours or mount.fstype == FSTYPE]


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
