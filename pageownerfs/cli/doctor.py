"""
Check this machine, and print what to do about each problem.

A line begins with "ok", with "warn" if something optional does not work, or with "fail" if no pool
can be mounted. The exit code is 1 if any check fails.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pageownerfs.daemon.checks import check_fuse_device
from pageownerfs.errors import MountError
from pageownerfs.fs import load_binding
from pageownerfs.sources import SOURCES
from pageownerfs.sources.check import FAIL, OK, WARN, Check, look

from .umount import MTAB, MTAB_ADVICE

if TYPE_CHECKING:
    import argparse

_ROOT: Final = Path("/")


def check_libfuse() -> Check:
    """Check that the FUSE binding and libfuse can be loaded."""
    try:
        binding = load_binding()
    except MountError as error:
        text, _, advice = str(error).rpartition(": install ")
        return Check("libfuse", FAIL, text, f"install {advice}")
    name = "fusepy" if binding.__name__ == "fuse" else binding.__name__
    return Check("libfuse", OK, f"loaded by {name}")


def check_fusermount() -> Check:
    """Check for fusermount, which users other than root need."""
    path = shutil.which("fusermount") or shutil.which("fusermount3")
    if path is None:
        state = WARN if os.geteuid() == 0 else FAIL
        return Check("fusermount", state, "not found; only root can mount", "apt install fuse3")
    if not Path(path).stat().st_mode & 0o4000:
        state = WARN if os.geteuid() == 0 else FAIL
        return Check(
            "fusermount", state, f"{path} is not setuid; only root can mount", f"chmod u+s {path}"
        )
    if os.geteuid() != 0 and not MTAB.exists():
        text, _, advice = MTAB_ADVICE.partition(": ")
        return Check("fusermount", WARN, f"{text}; only root can unmount", advice)
    return Check("fusermount", OK, path)


def check_fuse_conf(root: Path = _ROOT) -> Check:
    """Check whether users may mount with allow_other."""
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
        "to let other users see a mount, add the line user_allow_other to /etc/fuse.conf",
    )


def run_checks() -> list[Check]:
    """Run all checks."""
    return [
        check_libfuse(),
        check_fusermount(),
        look("/dev/fuse", check_fuse_device, "can be opened", FAIL),
        check_fuse_conf(),
        *(check for kind in SOURCES.values() for check in kind.diagnose()),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options and operands."""
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def run(args: argparse.Namespace) -> int:
    """Run all checks, and print the results."""
    checks = run_checks()
    if args.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for check in checks:
            advice = f"\n{'':7}-> {check.advice}" if check.advice else ""
            sys.stdout.write(f"{check.state:5}  {check.name}: {check.text}{advice}\n")
    return 1 if any(check.state == FAIL for check in checks) else 0
