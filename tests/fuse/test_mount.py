"""The mount: its files, its permissions, and how it is read."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs import GFP_HIGHUSER_MOVABLE, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.require("fuse", "shm")]
ON = ("page_owner=on", "size=64M")
MountPool = Any


@pytest.fixture
def mnt(mount_pool: Callable[..., MountPool]) -> Path:
    """Mount a pool that tracks, with a thousand pages that stay allocated."""
    path: Path = mount_pool(*ON).path
    with Pool.attach(path) as pool:
        for _ in range(1000):
            pool.alloc_pages(0, GFP_HIGHUSER_MOVABLE)
    return path


def test_proc_mounts(mnt: Path) -> None:
    """Type, device and options in /proc/mounts are what umount and mount(8) expect."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    (line,) = [line for line in lines if line[1] == str(mnt)]
    assert line[0] == "pool"
    assert line[2] == "fuse.pageownerfs"
    assert "default_permissions" in line[3].split(",")


def test_files_and_modes(mnt: Path) -> None:
    """All files have the kernel's modes and belong to the daemon's user."""
    modes = {path.name: path.stat().st_mode & 0o7777 for path in mnt.iterdir()}
    assert modes == {
        "page_owner": 0o600,
        "page_owner_on": 0o600,
        "page_owner_stacks": 0o555,
        "pages": 0o500,
        "pagetypeinfo": 0o400,
        "buddyinfo": 0o444,
        "extfrag": 0o555,
        "sorted": 0o555,
        "snapshots": 0o700,
        "stats": 0o400,
    }
    assert {path.stat().st_uid for path in mnt.iterdir()} == {os.getuid()}
    assert (mnt / "page_owner").stat().st_blksize == 128 << 10


def test_off_means_absent(mount_pool: Callable[..., MountPool]) -> None:
    """Without page_owner=on there is no page_owner; writing 1 creates it, with the early pages."""
    path = mount_pool("size=64M").path
    with Pool.attach(path) as pool:
        pfns = [pool.alloc_pages().pfn for _ in range(7)]
        assert not (path / "page_owner").exists()
        with pytest.raises(FileNotFoundError):
            (path / "page_owner").read_bytes()
        assert (path / "page_owner_on").read_text() == "0\n"
        subprocess.run(["sh", "-c", f"echo 1 > {path}/page_owner_on"], check=True)
        assert (path / "page_owner_on").read_text() == "1\n"
        records = (path / "page_owner").read_text().split("\n\n")
        early = [r for r in records if any(f"PFN {pfn:#x} " in r for pfn in pfns)]
        assert len(early) == len(pfns)
        assert all("order 0, mask 0x0(), pid " in record for record in early)
        assert all("register_early_stack+0x" in record for record in early)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", errno.EPERM), ("off", errno.EPERM), ("x", errno.EINVAL), ("1", 0), ("yes\n", 0)],
)
def test_page_owner_on_takes_booleans(mnt: Path, text: str, number: int) -> None:
    """A true value is accepted, tracking cannot be stopped, and other text is invalid."""
    fd = os.open(mnt / "page_owner_on", os.O_WRONLY | os.O_TRUNC)
    try:
        if number:
            with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
                os.write(fd, text.encode())
        else:
            assert os.write(fd, text.encode()) == len(text)
    finally:
        os.close(fd)
    assert (mnt / "page_owner_on").read_text() == "1\n"


def test_size_follows_a_freeze(mnt: Path) -> None:
    """A size that was looked at while the pool was frozen is not taken for a later one."""
    path = mnt / "page_owner"
    with Pool.attach(mnt) as pool:
        pool.freeze()
        try:
            path.stat()
        finally:
            pool.thaw()
        pool.alloc_pages(1)
        assert path.stat().st_size == len(path.read_bytes())


def test_size_is_the_length(mnt: Path) -> None:
    """st_size is the current length of the text, even for an open file."""
    path = mnt / "page_owner"
    with path.open("rb", buffering=0) as file, Pool.attach(mnt) as pool:
        before = os.fstat(file.fileno()).st_size
        page = pool.alloc_pages()
        assert os.fstat(file.fileno()).st_size > before
        pool.free_pages(page)
        assert os.fstat(file.fileno()).st_size == before
    for _ in range(3):
        assert path.stat().st_size == len(path.read_bytes())
        with Pool.attach(mnt) as pool:
            pool.alloc_pages()


@pytest.mark.parametrize(
    "command",
    [
        "cat {}",
        "dd if={} bs=1 count=9999 status=none; dd if={} skip=9999 iflag=skip_bytes status=none",
        "dd if={} bs=64 status=none",
        "dd if={} bs=4096 status=none",
        "dd if={} bs=1M status=none",
        "head -c 5000 {}; tail -c +5001 {}",
        "cp {} /dev/stdout",
        "busybox cat {}",
        "python3 -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' {} $OUT && cat $OUT",
    ],
)
def test_tools_read_the_same_text(mnt: Path, tmp_path: Path, command: str) -> None:
    """Every tool gets the same bytes, with any read size, by read() or by sendfile()."""
    path = mnt / "page_owner"
    text = path.read_bytes()
    if shutil.which(command.split(maxsplit=1)[0]) is None:
        pytest.skip(f"needs {command.split(maxsplit=1)[0]} on PATH")
    line = command.replace("{}", str(path))
    environment = {**os.environ, "OUT": str(tmp_path / "out")}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, check=True)
    assert done.stdout == text


@pytest.mark.parametrize(
    "command",
    [
        "tail -n 20",
        "tail -n 1",
        "tail -n 3000",
        "tail -c 10000",
        "tail -c 1",
        "wc -c",
        "wc",
        "grep -c ^PFN",
        "head -n 30",
        "tac",
        "md5sum",
        "awk 'END { print NR }'",
        "xxd -s 4000 -l 200",
        "python3 -c 'import sys; print(open(sys.argv[1]).read())'",
        "less",
    ],
)
def test_tools_as_on_a_copy(mnt: Path, tmp_path: Path, command: str) -> None:
    """Tools that seek, count and search print the same for the mount as for a copy."""
    if shutil.which(command.split(" ", maxsplit=1)[0]) is None:
        pytest.skip(f"needs {command.split(maxsplit=1)[0]} on PATH")
    copy = tmp_path / "page_owner"
    copy.write_bytes((mnt / "page_owner").read_bytes())
    outputs = [
        subprocess.run(
            ["sh", "-c", f"{command} page_owner"], cwd=where, capture_output=True, check=True
        ).stdout
        for where in (mnt, tmp_path)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0]


def test_small_buffers_get_one_record(mnt: Path) -> None:
    """A buffer of up to 4096 bytes gets one record per read(), as in the kernel; 64 KiB many."""
    with (mnt / "page_owner").open("rb", buffering=0) as file:
        first = file.read(4096)
        second = file.read(4096)
        many = file.read(65536)
    for record in (first, second):
        assert record.startswith(b"Page allocated via ")
        assert record.count(b"PFN 0x") == 1
    assert many.startswith(b"Page allocated via ")
    assert many.count(b"PFN 0x") > 50
    for text in (first, second, many):
        assert text.endswith(b"\n\n")


def test_any_offset(mnt: Path) -> None:
    """pread() returns the bytes at its offset, whatever was read before."""
    path = mnt / "page_owner"
    text = path.read_bytes()
    chance = random.Random(23)
    fd = os.open(path, os.O_RDONLY)
    try:
        for _ in range(500):
            offset = chance.randrange(len(text) + 100)
            size = chance.choice([1, 10, 1000, 4096, 8192, 100_000])
            data = os.pread(fd, size, offset)
            assert data == text[offset : offset + size]
    finally:
        os.close(fd)


def test_several_readers(mnt: Path) -> None:
    """Readers do not disturb each other, even if one stops half-way."""
    path = mnt / "page_owner"
    text = path.read_bytes()
    slow = os.open(path, os.O_RDONLY)
    first = os.read(slow, 5000)
    results: list[bytes] = []
    readers = [
        threading.Thread(target=lambda: results.append(path.read_bytes())) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert results == [text] * 4
    with os.fdopen(slow, "rb") as stream:
        assert first + stream.read() == text


def test_nothing_else_is_allowed(mnt: Path) -> None:
    """Names cannot be created, moved or removed; the errno is debugfs's."""
    path = mnt / "page_owner"
    attempts: list[tuple[int, Callable[[], object]]] = [
        (errno.EACCES, lambda: os.open(mnt / "new", os.O_CREAT | os.O_RDWR)),
        (errno.EPERM, path.unlink),
        (errno.EPERM, lambda: path.rename(mnt / "new")),
        (errno.EPERM, (mnt / "new").mkdir),
        (errno.EPERM, lambda: (mnt / "new").symlink_to("x")),
        (errno.ENOENT, (mnt / os.fsdecode(b"\xff\xfe")).stat),
        (errno.ENODATA, lambda: os.getxattr(path, "user.pageownerfs")),
    ]
    if os.geteuid():
        pytest.skip("needs root: the errnos are root's")
    for number, attempt in attempts:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is checked below
            attempt()
        assert caught.value.errno == number


def test_xattr_describes(mnt: Path) -> None:
    """The root's only extended attribute is the one that clients attach by."""
    assert os.listxattr(mnt) == ["user.pageownerfs"]
    data = json.loads(os.getxattr(mnt, "user.pageownerfs"))
    assert data["source"] == "pool"
    assert data["mount_points"] == [str(mnt)]
    assert data["page_owner_on"] is True
    assert Path(data["shm_path"]).exists()


def test_stats(mnt: Path) -> None:
    """Each line has a name and a number, as in /proc/vmstat."""
    lines = [line.split(" ") for line in (mnt / "stats").read_text().splitlines()]
    stats = {name: int(value) for name, value in lines}
    assert stats["pgalloc"] == 1000
    assert stats["early_pages"] > 0


def test_read_only(mount_pool: Callable[..., MountPool]) -> None:
    """With -o ro, tracking cannot be switched on."""
    path = mount_pool("size=16M", "ro").path
    with pytest.raises(OSError, match="Read-only"):
        (path / "page_owner_on").write_text("1")
