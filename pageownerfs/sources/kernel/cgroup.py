"""``-o cgroup=``: find a cgroup of version 2 by its path."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from pageownerfs.errors import MountError
from pageownerfs.mountinfo import read_mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pageownerfs.mountinfo import Mount

_FSTYPE: Final = "cgroup2"


def parse_cgroup(text: str) -> str:
    """
    Check the value of the option.

    :raises ValueError: it is not an absolute path, or it leads out of the cgroup namespace
    """
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path, like /system.slice")
    if ".." in text.split("/"):
        raise ValueError(f"{text!r} is outside of this cgroup namespace: mount outside of it")
    return text


def _below(path: str, directory: str) -> str | None:
    # The rest of a path at or below a directory; it is empty or begins with a slash.
    rest = path.removeprefix(directory.rstrip("/"))
    is_below = path.startswith(directory.rstrip("/")) and rest[:1] in ("", "/")
    return rest if is_below else None


def cgroup_directory(path: str, mounts: Iterable[Mount]) -> str | None:
    """
    Return the directory of a cgroup.

    :param path: path as in /proc/PID/cgroup, or of the directory itself
    :param mounts: mounts of this system
    :return: absolute path; None if no mount shows this cgroup
    """
    ours = [mount for mount in mounts if mount.fstype == _FSTYPE]
    if any(_below(path, mount.mountpoint) is not None for mount in ours):
        return path
    for mount in ours:
        rest = _below(path, mount.root)
        if rest is not None:
            return mount.mountpoint + rest
    return None


@contextlib.contextmanager
def opened_cgroup(path: str) -> Iterator[int]:
    """
    Open the directory of a cgroup.

    :param path: path as in /proc/PID/cgroup, or of the directory itself
    :return: a file descriptor, until the ``with`` block ends
    :raises MountError: there is no such cgroup; says where it was looked for
    """
    directory = cgroup_directory(path, read_mountinfo())
    if directory is None:
        raise MountError(
            f"cgroup={path}: no mounted cgroup2 file system shows this cgroup: "
            "mount -t cgroup2 none /sys/fs/cgroup"
        )
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else f"({error.strerror})"
        raise MountError(
            f"cgroup={path}: the cgroup {directory} {reason}: use the path after 0:: in "
            "/proc/PID/cgroup of a process that you want to track"
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)
