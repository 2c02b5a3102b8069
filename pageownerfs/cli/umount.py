"""
Unmount, and wait until nothing is left: no process, no shared memory.

Also cleans up a mount whose daemon is dead.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.daemon.ask import ask_mount
from pageownerfs.daemon.mounts import mount_at
from pageownerfs.errors import MountError, NotAPoolError, PageOwnerError
from pageownerfs.fs import FSTYPE
from pageownerfs.sources import SOURCES
from pageownerfs.sources.pid_ns import pid_namespace

if TYPE_CHECKING:
    import argparse

_PATIENCE_SEC: Final = 10
MTAB: Final = Path("/etc/mtab")
"""fusermount looks there for who has mounted what, unless it is run by root."""
MTAB_ADVICE: Final = f"{MTAB} is not there: as root, ln -s /proc/self/mounts {MTAB}"
"""What to do without it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and operands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where it is mounted")


def run(args: argparse.Namespace) -> int:
    """Unmount it."""
    mount = mount_at(args.mountpoint)
    if mount is None or mount.fstype != FSTYPE:
        msg = f"{args.mountpoint}: no pageownerfs is mounted here; pageownerfs status lists them"
        raise NotAPoolError(msg)
    daemon = _open_daemon(mount.mountpoint)
    try:
        _unmount(mount.mountpoint)
        if daemon is not None and not select.select([daemon], [], [], _PATIENCE_SEC)[0]:
            msg = f"{args.mountpoint}: unmounted, but its daemon still runs"
            raise MountError(msg)
    finally:
        if daemon is not None:
            os.close(daemon)
    if daemon is None:  # it was dead, and has left its memory
        for kind in SOURCES.values():
            kind.clean_up()
    return 0


def _open_daemon(mountpoint: str) -> int | None:
    # Before unmounting: afterwards nobody tells the pid, and it may be another process's.
    # Nor is one of another PID namespace known here.
    try:
        mount = ask_mount(mountpoint)
        if mount.get("pid_ns", pid_namespace().inode) != pid_namespace().inode:
            return None
        return os.pidfd_open(mount["pid"])
    except (PageOwnerError, OSError, KeyError):
        return None


def _unmount(mountpoint: str) -> None:
    fusermount = shutil.which("fusermount") or shutil.which("fusermount3")
    command = [fusermount, "-u"] if fusermount else ["umount"]
    done = subprocess.run(
        [*command, mountpoint],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if done.returncode:
        users = _users_of(mountpoint)
        text = done.stderr.strip() or f"{command[0]} failed"
        if os.geteuid() != 0 and not MTAB.exists():
            text += f"; {MTAB_ADVICE}"
        if users:
            text += f"; in use by {', '.join(users)}: end them first"
        raise MountError(text)


def _users_of(mountpoint: str) -> list[str]:
    # Links of /proc only: nothing here asks the mount itself.
    import psutil  # noqa: PLC0415 - slow to import, and only wanted when it went wrong

    below = mountpoint.rstrip("/") + "/"
    users = []
    for process in psutil.process_iter(["pid", "name"]):
        proc = Path("/proc", str(process.pid))
        try:
            targets = [str(link.readlink()) for link in (proc / "cwd", *(proc / "fd").iterdir())]
        except OSError:
            continue
        if any(target == mountpoint or target.startswith(below) for target in targets):
            users.append(f"pid {process.pid} ({process.info['name']})")
    return users
