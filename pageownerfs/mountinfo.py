"""Mounts of this system, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from pageownerfs.errors import PROC_ADVICE, MountError

_MOUNTINFO: Final = "/proc/self/mountinfo"
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of the file."""

    device: str
    """major:minor, the same for all mount points of one file system."""
    root: str
    """Directory of the file system that is mounted."""
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
        device, root, mountpoint = fields[2].decode(), _unescape(fields[3]), _unescape(fields[4])
        mounts.append(Mount(device, root, mountpoint, fs[0].decode(), _unescape(fs[1])))
    return mounts


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda m: bytes([int(m[1], 8)]), field))


def read_mountinfo() -> list[Mount]:
    """
    Read the mounts that this process sees, oldest first.

    :raises MountError: /proc/self/mountinfo can't be read
    """
    try:
        text = Path(_MOUNTINFO).read_bytes()
    except OSError as error:
        raise MountError(f"{_MOUNTINFO}: {error.strerror}: {PROC_ADVICE}") from error
    return parse_mountinfo(text)
