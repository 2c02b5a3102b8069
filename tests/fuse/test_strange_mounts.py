"""Mounts that don't answer or give a strange answer take one line each and don't block."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from mounts import ROOT, is_mounted, served

from pageownerfs.daemon import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mounts import Mount

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

POOL = {"version": "9", "abi": 1, "source": "pool", "pid": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "was not written by pageownerfs"),
        ("[1, 2]", "was not written by pageownerfs"),
        ("[" * 50_000, "was not written by pageownerfs"),
        (json.dumps(POOL | {"pid": "1"}), "was not written by pageownerfs"),
        (json.dumps(POOL | {"pid": 1 << 70}), "was not written by pageownerfs"),
        (json.dumps(POOL), "the description of the mount (KeyError: 'size_bytes')"),
        (
            json.dumps(POOL | {"source": "kernel", "page_owner_on": 1}),
            "cannot interpret the description",
        ),
        (
            json.dumps(POOL | {"source": "x", "stats": 1, "path": 1}),
            "cannot interpret the description",
        ),
    ],
)
def test_foreign(
    mount_pool: Callable[..., Mount],
    pageownerfs: Command,
    tmp_path: Path,
    text: str,
    said: str,
) -> None:
    """A mount with an unknown status takes one line, and the others are shown as usual."""
    pool = mount_pool()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with served("foreign_mount.py", foreign, text):
        done = pageownerfs("status")
        assert done.returncode == 0
        assert f"  daemon:     pid {pool.pid}" in done.stdout
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(str(foreign))]
        assert said in line
        one = pageownerfs("status", foreign)
        assert one.returncode == 4
        assert said in one.stderr
        assert len(one.stderr.splitlines()) == 1
        pids = [mount.get("pid") for mount in json.loads(pageownerfs("status", "--json").stdout)]
        assert pool.pid in pids


@pytest.mark.slow
def test_stopped(mount_pool: Callable[..., Mount], pageownerfs: Command, tmp_path: Path) -> None:
    """The wait for a stopped daemon is limited, and its mount can be removed."""
    pool, stopped = mount_pool(), mount_pool()
    link = tmp_path / "link"
    link.symlink_to(stopped.path)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        done = pageownerfs("status")
        assert done.returncode == 0
        assert f"  daemon:     pid {pool.pid}" in done.stdout
        assert f"{stopped.path}: the daemon did not answer within" in done.stdout
        for where in (stopped.path, link):
            one = pageownerfs("status", where)
            assert one.returncode == 4
            assert "the daemon did not answer within" in one.stderr
            again = pageownerfs("pool", where)
            assert again.returncode == 3
            assert "already a mount point" in again.stderr
        assert pageownerfs("umount", link).returncode == 0
        assert not is_mounted(stopped.path)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)


def test_nobody_is_left(mount_pool: Callable[..., Mount]) -> None:
    """No process that waited for an answer is left."""
    pool = mount_pool()
    os.kill(pool.pid, signal.SIGSTOP)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ask, "ANSWER_SEC", 0.2)
            answers = ask.ask_mounts([str(pool.path)] * 3)
        assert all("did not answer" in str(answer) for answer in answers)
        assert not [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    finally:
        os.kill(pool.pid, signal.SIGCONT)


def test_deleted_directory(tmp_path: Path) -> None:
    """A relative path in a deleted directory is a one-line error."""
    line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "
    for verb in ("pool", "umount"):
        command = f"{sys.executable} -m pageownerfs {verb} x"
        done = subprocess.run(
            ["sh", "-c", line + command],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1] == (
            "pageownerfs: x: the current directory no longer exists: use an absolute path"
        )
