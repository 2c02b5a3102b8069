"""With kernel_abi, the mounted file behaves like the kernel's, as far as FUSE allows."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.require("fuse", "shm", "root")]


@pytest.fixture
def path(mount_pool: Callable[..., Any]) -> Path:
    """Mount, allocate ten pages, and return the path of page_owner."""
    mnt: Path = mount_pool("page_owner=on", "size=32M", "kernel_abi").path
    with Pool.attach(mnt) as pool:
        for _ in range(10):
            pool.alloc_pages()
    return mnt / "page_owner"


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    """Open page_owner."""
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def errno_of(call: Callable[[], object]) -> int:
    """Call the function and return the errno, or 0 for success."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def test_stat(path: Path) -> None:
    """The file has size 0, block size 4096, no blocks and mode 0400."""
    st = path.stat()
    assert (st.st_size, st.st_blksize, st.st_blocks, st.st_nlink) == (0, 4096, 0, 1)
    assert st.st_mode == 0o100400


def test_reads(fd: int) -> None:
    """A read returns one record, ENOMEM does not move, and a position after a seek is a PFN."""
    first = os.read(fd, 65536)
    assert first.count(b"PFN 0x") == 1
    pfn = int(first.split(b"PFN ")[1].split()[0], 16)
    for size in (1, 100, 10):
        assert errno_of(lambda size=size: os.read(fd, size)) == errno.ENOMEM  # type: ignore[misc]
    assert f"PFN {pfn + 1:#x} ".encode() in os.read(fd, 4096)
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, len(first) + 1) == first
    assert f"PFN {pfn + 5:#x} ".encode() in os.pread(fd, 4096, pfn + 5)
    assert f"PFN {pfn + 1:#x} ".encode() in os.read(fd, 4096)
    assert os.pread(fd, 4096, 1 << 40) == b""
    assert errno_of(lambda: os.pread(fd, 4096, (1 << 63) - 1)) == errno.EINVAL


@pytest.mark.parametrize(
    ("flags", "write", "read", "truncate"),
    [
        pytest.param(os.O_WRONLY, errno.EINVAL, errno.EBADF, 0, id="O_WRONLY"),
        pytest.param(os.O_RDWR, errno.EINVAL, 0, 0, id="O_RDWR"),
        pytest.param(os.O_WRONLY | os.O_TRUNC, errno.EINVAL, errno.EBADF, 0, id="O_TRUNC"),
        pytest.param(os.O_NONBLOCK, errno.EBADF, 0, errno.EINVAL, id="O_NONBLOCK"),
    ],
)
def test_open_modes(path: Path, flags: int, write: int, read: int, truncate: int) -> None:
    """Root gets the kernel's result for each open mode."""
    fd = os.open(path, flags)
    try:
        assert errno_of(lambda: os.write(fd, b"x")) == write
        assert errno_of(lambda: os.read(fd, 4096)) == read
        assert errno_of(lambda: os.ftruncate(fd, 0)) == truncate
        assert errno_of(lambda: os.fsync(fd)) == errno.EINVAL
    finally:
        os.close(fd)


def test_direct(path: Path) -> None:
    """O_DIRECT is refused."""
    assert errno_of(lambda: os.open(path, os.O_RDONLY | os.O_DIRECT)) == errno.EINVAL


def test_chmod(path: Path) -> None:
    """The mode can be changed."""
    path.chmod(0o444)
    assert path.stat().st_mode == 0o100444
