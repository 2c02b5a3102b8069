"""Life of the daemon: readiness, reasons, signals, and clean ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.require("fuse", "shm")]
SIZE = "size=16M"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("foreground", [False, True], ids=["background", "foreground"])
def test_signals_end_it(
    mount_pool: Callable[..., Any], number: signal.Signals, foreground: bool
) -> None:
    """SIGTERM and SIGINT unmount, even several at once and with a reader on an open file."""
    pool = mount_pool("page_owner=on", SIZE, foreground=foreground)
    fd = os.open(pool.path / "page_owner", os.O_RDONLY)
    assert os.read(fd, 100)
    for _ in range(3):
        os.kill(pool.pid, number)
    pool.assert_gone()
    with contextlib.suppress(OSError):  # close() reports that nobody serves the file any more
        os.close(fd)
    if foreground:
        assert pool.child.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_do_not(mount_pool: Callable[..., Any], number: signal.Signals) -> None:
    """A vanishing terminal and signals with an internal meaning do not end the daemon."""
    pool = mount_pool(SIZE)
    os.kill(pool.pid, number)
    assert pool.status()["pid"] == pool.pid
    assert (pool.path / "page_owner_on").read_text() == "0\n"


def test_fusermount_ends_it(mount_pool: Callable[..., Any]) -> None:
    """``fusermount -u`` unmounts as well as our own umount does."""
    pool = mount_pool(SIZE)
    subprocess.run(["fusermount", "-u", pool.path], check=True)
    pool.assert_gone()


def test_umount_names_who_uses_it(mount_pool: Callable[..., Any], pageownerfs: Command) -> None:
    """A busy mount stays, and the error says who keeps it busy."""
    pool = mount_pool("page_owner=on", SIZE)
    with (pool.path / "page_owner").open("rb"):
        done = pageownerfs("umount", pool.path)
        assert done.returncode == 3
        assert f"in use by pid {os.getpid()} (" in done.stderr
    assert pool.status()["pid"] == pool.pid


def test_dead_daemon(mount_pool: Callable[..., Any], pageownerfs: Command) -> None:
    """The mount of a killed daemon says what to do, and umount removes all leftovers."""
    pool = mount_pool(SIZE)
    pool.check_end = False
    os.kill(pool.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pool.pid)] if psutil.pid_exists(pool.pid) else [], 10)
    done = pageownerfs("status", pool.path)
    assert done.returncode == 4
    assert "the daemon is gone; clean up with: pageownerfs umount" in done.stderr
    mounts = json.loads(pageownerfs("status", "--json").stdout)
    assert ["error" in m for m in mounts if str(pool.path) in m["mount_points"]] == [True]
    assert pageownerfs("umount", pool.path).returncode == 0
    assert not pool.shm_path.exists()


def test_next_mount_takes_stale_memory(mount_pool: Callable[..., Any]) -> None:
    """The next mount by the same user removes what a killed daemon left under /dev/shm."""
    pool = mount_pool(SIZE)
    pool.check_end = False
    os.kill(pool.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pool.pid)] if psutil.pid_exists(pool.pid) else [], 10)
    mount_pool(SIZE)
    assert not pool.shm_path.exists()


def test_two_at_once(mount_pool: Callable[..., Any], pageownerfs: Command) -> None:
    """Two pools share nothing, and status lists both."""
    first, second = mount_pool("page_owner=on", SIZE), mount_pool("size=32M")
    assert first.pid != second.pid
    assert first.shm_path != second.shm_path
    listed = json.loads(pageownerfs("status", "--json").stdout)
    sizes = {tuple(mount["mount_points"]): mount.get("size_bytes") for mount in listed}
    assert sizes[(str(first.path),)] == 16 << 20
    assert sizes[(str(second.path),)] == 32 << 20
    text = pageownerfs("status").stdout
    assert str(first.path) in text
    assert "page_owner: on, 16 frames" in text


def test_off_is_said(tmp_path: Path, pageownerfs: Command) -> None:
    """A mount that does not track says so in one line, with both ways to change that."""
    done = pageownerfs("pool", tmp_path, "-o", SIZE)
    try:
        (line,) = (done.stdout + done.stderr).splitlines()
        assert "-o page_owner=on" in line
        assert f"echo 1 > {tmp_path}/page_owner_on" in line
    finally:
        assert pageownerfs("umount", tmp_path).returncode == 0


def test_no_descriptors_leak(mount_pool: Callable[..., Any]) -> None:
    """Opening, reading and closing files leaks no descriptors or threads in the daemon."""
    pool = mount_pool("page_owner=on", SIZE)
    daemon = psutil.Process(pool.pid)
    (pool.path / "page_owner").read_bytes()
    before = daemon.num_fds()
    for _ in range(100):
        (pool.path / "page_owner").read_bytes()
        (pool.path / "stats").read_bytes()
        list(pool.path.iterdir())
    assert daemon.num_fds() == before
    assert daemon.cwd() == "/"
    null = Path(os.devnull)
    assert {Path(f"/proc/{pool.pid}/fd/{fd}").readlink() for fd in (0, 1, 2)} == {null}


def test_bind_mount_is_listed(mount_pool: Callable[..., Any], tmp_path: Path) -> None:
    """mount_points lists every place where the pool is visible."""
    if os.geteuid():
        pytest.skip("needs root: only root can bind mounts")
    pool = mount_pool(SIZE)
    other = tmp_path / "other place"
    other.mkdir()
    subprocess.run(["mount", "--bind", pool.path, other], check=True)
    try:
        assert pool.status()["mount_points"] == [str(pool.path), str(other)]
    finally:
        subprocess.run(["umount", other], check=True)


def test_mount_program(tmp_path: Path, pageownerfs: Command) -> None:
    """The call of mount.fuse works: source, mount point, and one -o with generic options."""
    target = tmp_path / "mount point"
    target.mkdir()
    done = pageownerfs("pool", target, "-o", f"rw,page_owner=on,{SIZE},noatime,dev,suid")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pageownerfs("umount", target).returncode == 0


@pytest.mark.require("root")
def test_mount_command(tmp_path: Path) -> None:
    """mount(8) mounts by type, and umount(8) unmounts."""
    link = Path("/usr/local/bin/pageownerfs")
    program = Path(sys.executable).with_name("pageownerfs")
    if link.exists() or link.is_symlink():
        pytest.skip(f"needs {link} to be absent: it may be another version")
    if not program.exists():
        pytest.skip("needs an installed package: there is no program to mount with")
    link.symlink_to(program)
    try:
        options = f"page_owner=on,{SIZE},nofail,x-systemd.automount"
        line = ["mount", "-t", "fuse.pageownerfs", "pool", tmp_path, "-o", options]
        subprocess.run(line, check=True)
        try:
            assert (tmp_path / "page_owner").read_bytes().startswith(b"Page allocated via ")
        finally:
            subprocess.run(["umount", tmp_path], check=True)
    finally:
        link.unlink()


def test_what_nobody_has_thought_of(tmp_path: Path) -> None:
    """An unhandled error reaches the user as a line that says where it happened."""
    code = (
        "import sys\n"
        "from pageownerfs.cli import main; from pageownerfs.sources.pool import PoolSource\n"
        "def broken(*_): raise OSError(5, 'Input/output error')\n"
        "PoolSource.__init__ = broken\n"
        f"sys.exit(main(['pool', {str(tmp_path)!r}]))"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        "pageownerfs: the daemon failed in broken() (OSError: Input/output error): please report "
        "this line and the log\n"
    )
