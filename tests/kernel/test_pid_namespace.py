"""The kernel source in a container that has its own PID namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "root", "unshare", "bpf"), pytest.mark.slow]

MODULE = f"{sys.executable} -m pageownerfs"
SORT = f"{MODULE}.page_owner_sort"


def in_namespace(script: str) -> str:
    """Run a shell script as the first process of a PID namespace; return its output."""
    done = subprocess.run(
        ["unshare", "-pfm", "--mount-proc", "sh", "-ec", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_mount(tmp_path: Path) -> None:
    """It mounts, and records have the machine's pids, as in the kernel's own page_owner."""
    text = in_namespace(
        f"{MODULE} kernel {tmp_path} -o page_owner=on\n"
        f"{sys.executable} -c 'x = bytearray(40 << 20); import os, time; "
        f'open("/proc/self/comm", "w").write("in_namespace"); y = bytearray(8 << 20); '
        f'os.write(1, b"ready\\n"); time.sleep(100)\' > {tmp_path}.out &\n'
        f"until [ -s {tmp_path}.out ]; do sleep 0.1; done\n"
        f"grep -c '(in_namespace)' {tmp_path}/page_owner\n"
        f"pfn=$(grep -A1 '(in_namespace)' {tmp_path}/page_owner | grep -m1 -o '^PFN 0x[^ ]*')\n"
        f"cat {tmp_path}/pages/${{pfn#PFN }}\n"
        f"{MODULE} umount {tmp_path}\n"
    )
    number, _, page = text.partition("\n")
    assert int(number) > 0
    assert "(in_namespace)" in page
    # The pid is the machine's; here it may be another process or none.
    assert "process " not in page


def test_alone(tmp_path: Path) -> None:
    """The first process itself can mount, and is told that everything ends with it."""
    done = subprocess.run(
        [
            "unshare",
            "-pfm",
            "--mount-proc",
            *MODULE.split(),
            "kernel",
            tmp_path,
            "-o",
            "page_owner=on",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "PID namespace" in done.stderr
    assert not os.path.ismount(tmp_path)


def test_filter(tmp_path: Path) -> None:
    """-o pid= takes a pid of this namespace."""
    text = in_namespace(
        f"{MODULE} kernel {tmp_path} -o page_owner=on,pid=$$\n"
        "x=$(seq 20000)\n"
        f"grep -c '(sh)' {tmp_path}/page_owner\n"
        f"grep '^Page' {tmp_path}/page_owner | grep -vc '(sh)' || true\n"
        f"{MODULE} umount {tmp_path}\n"
    )
    own, others = map(int, text.split())
    assert own > 0
    assert others == 0


def test_user_stacks(tmp_path: Path) -> None:
    """User stacks use the mappings of the process itself, not of the one with that pid here."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    # A name that no process outside of the namespace has.
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / "sleeps_inside")
    text = in_namespace(
        f"{MODULE} kernel {mountpoint} -o page_owner=on,user_stacks=on\n"
        f"{program} 1000 & sleep 1.5\n"
        f"{SORT} --name=sleeps_inside {mountpoint}/page_owner - | grep -F '[user]'\n"
        f"{MODULE} umount {mountpoint}\n"
    )
    assert text
    files = (".so", "sleeps_inside+0x", "[vdso]+0x")
    assert all(any(file in line for file in files) for line in text.splitlines()), text
