"""Checks before a mount; each failure is one line that says what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageownerfs.errors import MountError

from .mounts import mount_at

if TYPE_CHECKING:
    from pageownerfs.sources.base import SourceKind

FUSE_DEVICE = "/dev/fuse"


def check_fuse_device() -> None:
    """
    Open and close /dev/fuse, as libfuse will.

    :raises MountError: /dev/fuse is missing, or this user may not open it
    """
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        msg = (
            f"{FUSE_DEVICE} does not exist: load the module (modprobe fuse), or pass it to the "
            f"container (--device {FUSE_DEVICE} --cap-add SYS_ADMIN)"
        )
        raise MountError(msg) from error
    except PermissionError as error:
        msg = f"{FUSE_DEVICE}: permission denied: as root, chmod 666 {FUSE_DEVICE}"
        raise MountError(msg) from error
    except OSError as error:
        msg = f"cannot open {FUSE_DEVICE} ({error.strerror}): use a kernel with FUSE"
        raise MountError(msg) from error


def check_fusermount() -> None:
    """
    Check that fusermount, which users other than root need to mount, is in PATH.

    :raises MountError: there is no fusermount
    """
    if os.geteuid() != 0 and not (shutil.which("fusermount") or shutil.which("fusermount3")):
        msg = "fusermount not found, and only root can mount without it: apt install fuse3"
        raise MountError(msg)


def check_mountpoint(path: str) -> None:
    """
    Check that ``path`` is an empty directory with nothing mounted on it.

    :raises MountError: it is not; says what to do
    """
    mount = mount_at(path)
    if mount is not None:
        msg = f"{path}: already a mount point ({mount.fstype}); unmount it, or choose another one"
        raise MountError(msg)
    try:
        names = list(Path(path).iterdir())
    except FileNotFoundError as error:
        msg = f"{path}: no such directory; create it with: mkdir -p {path}"
        raise MountError(msg) from error
    except NotADirectoryError as error:
        msg = f"{path}: not a directory; choose an empty directory"
        raise MountError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be used as a mount point: {error.strerror}"
        raise MountError(msg) from error
    if names:
        msg = f"{path}: directory not empty ({len(names)} entries); choose an empty directory"
        raise MountError(msg)
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        msg = f"{path}: permission denied; choose a directory that you may write to"
        raise MountError(msg)


def check_all(mountpoint: str, kind: SourceKind[Any]) -> None:
    """
    Run all checks.

    :param kind: kind of the source to mount
    :raises MountError: a check failed
    """
    # First the source: without it, advice about mounting would be of no use.
    kind.check()
    check_mountpoint(mountpoint)
    check_fuse_device()
    check_fusermount()
