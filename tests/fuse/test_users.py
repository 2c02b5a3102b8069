"""An ordinary user can mount and attach, and is kept out of what belongs to others."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]

# ordinary_user comes before mount_pool, whose cleanup still needs the user's program.
pytestmark = pytest.mark.require("fuse", "shm", "user", "root")


def test_user_mounts_and_attaches(
    ordinary_user: Any, mount_pool: Callable[..., Any], pageownerfs: Command
) -> None:
    """A user's mount works for that user, but not for root without allow_root."""
    path = ordinary_user.directory / "mnt"
    subprocess.run([*ordinary_user.python, "-c", f"import os; os.mkdir('{path}')"], check=True)
    mount_pool("page_owner=on", "size=16M", path=path, command=ordinary_user.pageownerfs)
    done = pageownerfs("alloc", path, "--leak", command=ordinary_user.pageownerfs)
    assert done.returncode == 0, done.stderr
    code = f"print(open('{path}/page_owner').read())"
    done = subprocess.run(
        [*ordinary_user.python, "-c", code], capture_output=True, text=True, check=True
    )
    assert "[pageownerfs.cli.alloc]" in done.stdout
    assert pageownerfs("alloc", path).returncode == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "the mount belongs to another user"),
        (("allow_other",), "only the user who mounted the pool may attach"),
    ],
    ids=["private", "allow_other"],
)
def test_user_is_kept_out(
    ordinary_user: Any,
    mount_pool: Callable[..., Any],
    pageownerfs: Command,
    options: tuple[str, ...],
    message: str,
) -> None:
    """Root's pool and its files are closed to the user; allow_other opens only the names."""
    path = ordinary_user.directory / "root"
    path.mkdir()
    mount_pool("page_owner=on", "size=16M", *options, path=path)
    done = pageownerfs("alloc", path, command=ordinary_user.pageownerfs)
    assert done.returncode == 6
    assert message in done.stderr
    code = f"open('{path}/page_owner')"
    done = subprocess.run(
        [*ordinary_user.python, "-c", code], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr


@pytest.mark.require("unshare")
def test_without_mtab(ordinary_user: Any) -> None:
    """Without /etc/mtab fusermount cannot unmount for a user, and umount says what to do."""
    home = ordinary_user.directory
    program = " ".join(ordinary_user.pageownerfs)
    script = (
        f"mkdir {home}/etc && cp -a /etc/. {home}/etc && rm -f {home}/etc/mtab\n"
        f"mount --bind {home}/etc /etc && mkdir -m 777 {home}/mnt\n"
        f"{program} pool {home}/mnt -o size=16M 2>/dev/null || exit 9\n"
        f"{program} umount {home}/mnt; code=$?\n"
        f"{program} doctor\n"
        f"umount -l {home}/mnt; exit $code\n"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    advice = "as root, ln -s /proc/self/mounts /etc/mtab"
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(f"/etc/mtab does not exist: {advice}\n")
    assert f"-> {advice}" in done.stdout
