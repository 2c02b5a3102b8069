"""
Check what this machine has, and say what to do about what it lacks.

ok: it works. warn: something that not everybody needs does not. fail: no pool can be mounted;
then the exit code is 1.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.daemon.checks import check_fuse_device, check_shm
from pageownerfs.errors import PROC_ADVICE, MountError
from pageownerfs.fs import load_binding
from pageownerfs.mm.kstrtox import format_size
from pageownerfs.sources.pool.shm import SHM_DIR

from .doctor_check import FAIL, OK, WARN, Check
from .doctor_kernel import run_kernel_checks
from .umount import MTAB, MTAB_ADVICE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_ROOT: Final = Path("/")
_LOW_SHM_BYTES: Final = 64 << 20


def _needed(name: str, check: Callable[[], object], found: str) -> Check:
    # The checks that a mount makes say what to do in the same line.
    try:
        check()
    except MountError as error:
        text, _, advice = str(error).partition(": ")
        return Check(name, FAIL, text, advice)
    return Check(name, OK, found)


def check_libfuse() -> Check:
    """Load the binding, and libfuse with it."""
    try:
        binding = load_binding()
    except MountError as error:
        text, _, advice = str(error).rpartition(": install ")
        return Check("libfuse", FAIL, text, f"install {advice}")
    name = "fusepy" if binding.__name__ == "fuse" else binding.__name__
    return Check("libfuse", OK, f"loaded by {name}")


def check_fusermount() -> Check:
    """Find fusermount, which all but root need."""
    path = shutil.which("fusermount") or shutil.which("fusermount3")
    if path is None:
        state = WARN if os.geteuid() == 0 else FAIL
        return Check("fusermount", state, "not found: only root can mount", "apt install fuse3")
    if not Path(path).stat().st_mode & 0o4000:
        state = WARN if os.geteuid() == 0 else FAIL
        return Check(
            "fusermount", state, f"{path} is not setuid: only root can mount", f"chmod u+s {path}"
        )
    if os.geteuid() != 0 and not MTAB.exists():
        text, _, advice = MTAB_ADVICE.partition(": ")
        return Check("fusermount", WARN, f"{text}: only root can unmount", advice)
    return Check("fusermount", OK, path)


def check_fuse_conf(root: Path = _ROOT) -> Check:
    """See whether users may mount with allow_other."""
    try:
        lines = (root / "etc/fuse.conf").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" in (line.strip() for line in lines):
        return Check("fuse.conf", OK, "users may mount with -o allow_other")
    return Check(
        "fuse.conf",
        WARN,
        "only root may mount with -o allow_other",
        "if users shall: add the line user_allow_other to /etc/fuse.conf",
    )


def check_shm_room() -> Check:
    """See whether pools can be made, and how large."""
    found = _needed(SHM_DIR, check_shm, "")
    if found.state != OK:
        return found
    room = os.statvfs(SHM_DIR)
    total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
    text = f"{format_size(free)} free of {format_size(total)}"
    if free < _LOW_SHM_BYTES:
        advice = f"mount -o remount,size=1G {SHM_DIR}, or docker run --shm-size=1g"
        return Check(SHM_DIR, WARN, text, advice)
    return Check(SHM_DIR, OK, text)


def _kernel_config(root: Path) -> tuple[str, str] | None:
    boot = root / "boot" / f"config-{os.uname().release}"
    packed = root / "proc/config.gz"
    try:
        if boot.exists():
            return str(boot), boot.read_text(errors="replace")
        if packed.exists():
            return str(packed), gzip.decompress(packed.read_bytes()).decode(errors="replace")
    except (OSError, EOFError):
        pass
    return None


def check_kernel_page_owner(root: Path = _ROOT) -> Check:
    """See whether the running kernel has page_owner of its own."""
    name = "kernel page_owner"
    try:
        if (root / "sys/kernel/debug/page_owner").exists():
            return Check(name, OK, "/sys/kernel/debug/page_owner is there")
    except OSError:
        return Check(name, WARN, "/sys/kernel/debug can't be read", "run as root")
    config = _kernel_config(root)
    if config is None:
        return Check(
            name, WARN, "not there, and the kernel's configuration is not readable",
            "a pool does not need it",
        )  # fmt: skip
    return _page_owner_of(name, root, *config)


def _page_owner_of(name: str, root: Path, path: str, text: str) -> Check:
    if "CONFIG_PAGE_OWNER=y" not in text.splitlines():
        advice = "a pool does not need it; else build a kernel with it"
        return Check(name, WARN, f"CONFIG_PAGE_OWNER is not set in {path}", advice)
    try:
        words = (root / "proc/cmdline").read_text(errors="replace").split()
    except OSError as error:
        return Check(name, WARN, f"/proc/cmdline: {error.strerror}", PROC_ADVICE)
    if any(word.startswith("page_owner=") for word in words):
        return Check(name, WARN, "built in and given at boot, but debugfs does not show it",
                     "as root: mount -t debugfs debugfs /sys/kernel/debug")  # fmt: skip
    return Check(
        name, WARN, "built in, but off", "boot with page_owner=on; a pool does not need it"
    )


def run_checks() -> list[Check]:
    """Make all checks."""
    return [
        check_libfuse(),
        check_fusermount(),
        _needed("/dev/fuse", check_fuse_device, "can be opened"),
        check_fuse_conf(),
        check_shm_room(),
        check_kernel_page_owner(),
        *run_kernel_checks(),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and operands."""
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def run(args: argparse.Namespace) -> int:
    """Check, and print what was found."""
    checks = run_checks()
    if args.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for check in checks:
            advice = f"\n{'':7}-> {check.advice}" if check.advice else ""
            sys.stdout.write(f"{check.state:5}  {check.name}: {check.text}{advice}\n")
    return 1 if any(check.state == FAIL for check in checks) else 0
