"""page_owner_sort on a mount: on the file, through a pipe, and next to the kernel's tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.require("fuse", "shm"), pytest.mark.slow]

SORT = (sys.executable, "-m", "pageownerfs.page_owner_sort")
COMM = Path(sys.executable).name[:15]  # comm of the processes that allocate
OPTIONS = (
    *([], ["-m"], ["-a"], ["-p"], ["-P"], ["-n"], ["-s"], ["--cull=st"], ["--cull=st,pid", "-m"]),
    *(["--cull=name,ator"], ["--cull=tgid", "-n"], [f"--name={COMM}", "--cull=pid"]),
)


@pytest.fixture
def leaky_path(
    mount_pool: Callable[..., Any], pageownerfs: Callable[..., Any], request: pytest.FixtureRequest
) -> Path:
    """Return page_owner of a pool in which several processes have left pages of several kinds."""
    options = getattr(request, "param", ())
    path: Path = mount_pool("page_owner=on", "size=64M", "cma=8M", *options).path
    for order, count, gfp in (
        *((0, 700, "GFP_KERNEL"), (3, 20, "GFP_HIGHUSER_MOVABLE"), (0, 9, "GFP_ATOMIC")),
        *((5, 2, "GFP_KERNEL|__GFP_ZERO"), (1, 40, "GFP_USER")),
    ):
        args = ("--order", str(order), "--count", str(count), "--gfp", gfp, "--leak")
        assert pageownerfs("alloc", path, *args).returncode == 0
    return path / "page_owner"


def test_same_as_the_kernels(leaky_path: Path, page_owner_sort: Path, tmp_path: Path) -> None:
    """On the mounted file both tools write and print the same, with every option."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for options in OPTIONS:
        line = [*SORT, *options, leaky_path, ours]
        done = subprocess.run(line, capture_output=True, check=True)
        line = [page_owner_sort, *options, leaky_path, theirs]
        kernels = subprocess.run(line, capture_output=True, check=True)
        assert ours.read_bytes() == theirs.read_bytes(), options
        assert ours.read_bytes().count(b" times, ") >= 1
        assert (done.stdout, done.stderr) == (kernels.stdout, b"")


def test_pipe_from_the_mount(leaky_path: Path) -> None:
    """``cat page_owner | page_owner_sort -m - -`` prints the same as for the file itself."""
    line = f"cat {leaky_path} | {' '.join(SORT)} -m - -"
    piped = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    direct = subprocess.run([*SORT, "-m", leaky_path, "-"], capture_output=True, check=True)
    assert piped.stdout == direct.stdout
    assert (piped.stderr, direct.stderr) == (b"", b"")
    assert piped.stdout.startswith(b"700 times, 700 pages, allocated by OTHERS :\n")


@pytest.mark.parametrize("leaky_path", [("kernel_abi",)], indirect=True)
def test_file_of_size_0(leaky_path: Path) -> None:
    """A file like the kernel's, with size 0 and one record per read, is read to the end."""
    assert leaky_path.stat().st_size == 0
    done = subprocess.run(
        [*SORT, "--cull=name", f"--name={COMM}", leaky_path, "-"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    text = subprocess.run(["cat", leaky_path], capture_output=True, check=True).stdout
    assert int(done.stdout.partition(b" ")[0]) == text.count(f" ({COMM}), ts ".encode()) > 700
