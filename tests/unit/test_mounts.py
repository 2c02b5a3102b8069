"""Mounts of this system, from /proc/self/mountinfo."""

from __future__ import annotations

from pageownerfs.daemon.mounts import mount_at, read_mounts
from pageownerfs.mountinfo import Mount, parse_mountinfo

MOUNTINFO = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
98 22 0:45 / /mnt/with\040blank\134 rw,nosuid master:2 propagate_from:3 - fuse.pageownerfs pool rw
"""


def test_parse() -> None:
    """The number of optional fields varies, and paths have escapes."""
    assert parse_mountinfo(MOUNTINFO) == [
        Mount("8:1", "/", "/", "ext4", "/dev/sda1"),
        Mount("0:45", "/", "/mnt/with blank\\", "fuse.pageownerfs", "pool"),
    ]


def test_this_system() -> None:
    """The real file can be parsed, and contains /proc."""
    assert any(mount.mountpoint == "/proc" for mount in read_mounts())
    proc = mount_at("/proc/")
    assert proc is not None
    assert proc.fstype == "proc"
    assert mount_at("/proc/self/fd") is None
