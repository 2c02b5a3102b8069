"""What must be in place before a mount; what is not is one line that says what to do."""

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

    :raises MountError: it is not there, or this user may not
    """
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        msg = (
            f"{FUSE_DEVICE} is not there: load the module (modprobe fuse), or give it to the "
            f"container (--device {FUSE_DEVICE} --cap-add SYS_ADMIN)"
        )
        raise MountError(msg) from error
    except PermissionError as error:
        msg = f"{FUSE_DEVICE}: no permission: as root, chmod 666 {FUSE_DEVICE}"
        raise MountError(msg) from error
    except OSError as error:
        msg = f"{FUSE_DEVICE} can't be opened: {error.strerror}; does this kernel have FUSE?"
        raise MountError(msg) from error


def check_fusermount() -> None:
    """
    Find fusermount, with which all but root mount.

    :raises MountError: it is not on PATH
    """
    if os.geteuid() != 0 and not (shutil.which("fusermount") or shutil.which("fusermount3")):
        msg = "fusermount is not there, and only root mounts without it: apt install fuse3"
        raise MountError(msg)


def check_mountpoint(path: str) -> None:
    """
    See that ``path`` is an empty directory on which nothing is mounted.

    :raises MountError: it is not, with what to do
    """
    mount = mount_at(path)
    if mount is not None:
        msg = f"{path}: already a mount point ({mount.fstype}); unmount it, or choose another"
        raise MountError(msg)
    try:
        names = list(Path(path).iterdir())
    except FileNotFoundError as error:
        msg = f"{path}: no such directory; make it: mkdir -p {path}"
        raise MountError(msg) from error
    except NotADirectoryError as error:
        msg = f"{path}: not a directory; give an empty one"
        raise MountError(msg) from error
    except OSError as error:
        msg = f"{path}: can't be used as mount point: {error.strerror}"
        raise MountError(msg) from error
    if names:
        msg = f"{path}: not empty ({len(names)} entries); give an empty directory"
        raise MountError(msg)
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        msg = f"{path}: no permission: give a directory that you may write to"
        raise MountError(msg)


def check_all(mountpoint: str, kind: SourceKind[Any]) -> None:
    """
    Make all checks.

    :param kind: of what is to be mounted
    :raises MountError: the first that fails
    """
    # Who may not make the source need not be told first how to mount.
    kind.check()
    check_mountpoint(mountpoint)
    check_fuse_device()
    check_fusermount()
