"""
Unmount, and wait for the daemon to end.

This also cleans up a mount whose daemon has died.
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
"""fusermount looks up here who mounted what, unless root runs it."""
MTAB_ADVICE: Final = f"{MTAB} does not exist: as root, ln -s /proc/self/mounts {MTAB}"
"""Advice when it is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options and operands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="mount point to unmount")


def run(args: argparse.Namespace) -> int:
    """Unmount, wait for the daemon, and clean up."""
    mount = mount_at(args.mountpoint)
    if mount is None or mount.fstype != FSTYPE:
        msg = f"{args.mountpoint}: no pageownerfs is mounted here; see pageownerfs status"
        raise NotAPoolError(msg)
    daemon = _open_daemon(mount.mountpoint)
    try:
        _unmount(mount.mountpoint)
        if daemon is not None and not select.select([daemon], [], [], _PATIENCE_SEC)[0]:
            msg = f"{args.mountpoint}: unmounted, but the daemon is still running"
            raise MountError(msg)
    finally:
        if daemon is not None:
            os.close(daemon)
    if daemon is None:  # it may have died and left its shared memory
        for kind in SOURCES.values():
            kind.clean_up()
    return 0


def _open_daemon(mountpoint: str) -> int | None:
    # Before unmounting: afterwards nothing reveals the pid, and it may be reused.
    # The pid of a daemon in another PID namespace means nothing here.
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
            text += f"; in use by {', '.join(users)}; end them first"
        raise MountError(text)


def _users_of(mountpoint: str) -> list[str]:
    # This reads only links in /proc: nothing here accesses the mount itself.
    import psutil  # noqa: PLC0415 - slow to import, and needed only after a failure

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
