"""The pool's memory is sparse, committed when allocated, returned, and never a SIGBUS."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pageownerfs.errors import OutOfMemoryError
from pageownerfs.mm import gfp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pageownerfs import _native
    from pageownerfs.client import Pool

pytestmark = pytest.mark.require("shm")

MIB = 1 << 20
PAGEBLOCK_BYTES = 2 * MIB
TMPFS_BYTES = 24 * MIB


def committed(pool: Pool) -> int:
    """Return the bytes that the file takes."""
    return Path(pool.path).stat().st_blocks * 512


def test_file(make_pool: Callable[..., Pool]) -> None:
    """The file has mode 0600, is sparse, and has its full size as soon as its path exists."""
    pool = make_pool(1024)
    status = Path(pool.path).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size > 1024 * MIB
    # struct page is there from the start, 32 bytes per page, plus less than one pageblock.
    assert committed(pool) < pool.nr_pages * 32 + PAGEBLOCK_BYTES + MIB


def test_committed_when_allocated(make_pool: Callable[..., Pool]) -> None:
    """Memory grows with allocations, by pageblocks; a freed block needs no new one."""
    pool = make_pool(256)
    warm_up = pool.alloc_pages(10)
    before = committed(pool)
    pages = [pool.alloc_pages(10) for _ in range(8)]
    assert committed(pool) == before + 8 * 4 * MIB
    for page in pages:
        pool.free_pages(page)
    pages = [pool.alloc_pages(9) for _ in range(16)]
    assert committed(pool) == before + 8 * 4 * MIB
    for page in (*pages, warm_up):
        pool.free_pages(page)


def test_one_page_commits_one_pageblock(make_pool: Callable[..., Pool]) -> None:
    """The first page of a pool costs a pageblock and a client slot."""
    pool = make_pool(256)
    before = committed(pool)
    pool.alloc_pages()
    assert PAGEBLOCK_BYTES <= committed(pool) - before < PAGEBLOCK_BYTES + 64 * 1024


def test_tracking_costs_memory_only_when_on(make_pool: Callable[..., Pool]) -> None:
    """page_ext and depot take no memory until tracking is on; then it is 64 bytes per page."""
    pool = make_pool(256, stack_depot_bytes=32 * MIB)
    before = committed(pool)
    assert pool.stats().page_ext_bytes == pool.stats().stack_depot_bytes == 0
    pool.enable_page_owner(pool.capture_stack, pool.capture_stack)
    page_ext_bytes = pool.stats().page_ext_bytes
    assert 0 <= page_ext_bytes - pool.nr_pages * 64 < 8192
    # The depot: its hash table, and an initial 1 MiB.
    assert page_ext_bytes <= committed(pool) - before < page_ext_bytes + 2 * MIB


def test_report_free_pages(make_pool: Callable[..., Pool]) -> None:
    """Free blocks of order 9 and above return their memory, all but two per zone at once."""
    pool = make_pool(64)
    kept = pool.alloc_pages(0)
    kept.buffer[:4] = b"kept"
    before = committed(pool)
    pages = [pool.alloc_pages(10) for _ in range(8)]
    for page in pages:
        page.buffer[:4] = b"gone"
        pool.free_pages(page)
    assert committed(pool) <= before + 2 * 4 * MIB
    assert pool.report_free_pages() >= 2 * 1024
    assert committed(pool) <= before
    assert pool.report_free_pages() == 0
    assert bytes(kept.buffer[:4]) == b"kept"
    assert pool.stats().reported_pages >= 8 * 1024
    page = pool.alloc_pages(10)
    assert bytes(page.buffer) == bytes(4 * MIB)


@pytest.fixture
def tmpfs(require: Callable[[str], None], tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of 24 MiB."""
    require("tmpfs")
    path = tmp_path / "tmpfs"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(path)]
    subprocess.run(mount, check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def small(tmpfs: Path, make_pool: Callable[..., Pool]) -> Iterator[Pool]:
    """Make a pool of 64 MiB on it, which must be removed before the tmpfs."""
    pool = make_pool(64, directory=tmpfs)
    yield pool
    if not pool.closed:
        pool.recover_clients()
        assert pool.check() == []
        pool.close()
    Path(pool.path).unlink()


def take_all(
    pool: Pool, order: int, gfp_mask: int = gfp.GFP_KERNEL
) -> tuple[list[_native.Page], str]:
    """Allocate until there is no room, writing to every page; return pages and error text."""
    pages = []
    try:
        while True:
            page = pool.alloc_pages(order, gfp_mask)
            page.buffer[:] = page.pfn.to_bytes(8, "little") * (512 << order)
            pages.append(page)
    except OutOfMemoryError as error:
        return pages, str(error)


@pytest.mark.parametrize("order", [0, 4, 9, 10])
@pytest.mark.parametrize("gfp_mask", [gfp.GFP_KERNEL, gfp.GFP_KERNEL | gfp.__GFP_ZERO])
def test_full_tmpfs(small: Pool, order: int, gfp_mask: int) -> None:
    """A full file system is an OutOfMemoryError that says so, and freeing makes room again."""
    pages, error = take_all(small, order, gfp_mask)
    assert "no room in" in error
    nr_pages = len(pages) << order
    assert TMPFS_BYTES // 2 < nr_pages * 4096 <= TMPFS_BYTES
    assert all(bytes(page.buffer[-8:]) == page.pfn.to_bytes(8, "little") for page in pages)
    assert small.stats().commit_failed > 0
    assert small.check() == []
    for page in pages:
        small.free_pages(page)
    small.drain_local_pages()
    small.report_free_pages()
    assert small.stats().reported_pages * 4096 >= TMPFS_BYTES // 2
    assert len(take_all(small, order, gfp_mask)[0]) << order >= nr_pages - 1024


def test_own_free_memory_in_the_way(small: Pool) -> None:
    """Without room, an allocation may use the memory of other free blocks."""
    dma, _ = take_all(small, 9, gfp.GFP_KERNEL | gfp.GFP_DMA)
    assert dma
    rest, error = take_all(small, 9)
    assert "no room in" in error
    for page in dma:
        small.free_pages(page)
    again = [small.alloc_pages(9, gfp.GFP_KERNEL) for _ in dma]
    assert len(again) == len(dma)
    for page in (*again, *rest):
        page.buffer[:] = bytes(len(page.buffer))


def fill_up(directory: Path) -> Path:
    """Take all the room that a file system has."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path


def refused(path: str) -> str:
    """Attach, allocate and free in a pool that has no room for another client."""
    from pageownerfs.client import Pool

    with Pool.open(path) as pool:
        with pytest.raises(OutOfMemoryError) as caught:
            pool.alloc_pages()
        assert pool._client_info() == []
        return str(caught.value)


def test_no_room_for_a_client(small: Pool, tmpfs: Path, fork: Callable[..., Any]) -> None:
    """A process that cannot get a client slot gets an error; the next one, with room, works."""
    filler = fill_up(tmpfs)
    assert "no room in" in fork(refused, small.path).result()
    filler.unlink()
    small.alloc_pages()
    assert len(small._client_info()) == 1


def test_no_room_for_page_ext(small: Pool, tmpfs: Path) -> None:
    """Tracking that cannot be switched on for lack of room stays off and takes nothing."""
    page = small.alloc_pages(3)
    filler = fill_up(tmpfs)
    before = (small.all_zones(), committed(small), small.stats())
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            small.enable_page_owner(small.capture_stack, small.capture_stack)
        assert caught.value.errno == errno.ENOSPC
        assert not small.page_owner_on
        assert (small.all_zones(), committed(small), small.stats()) == before
        assert small.page_info(page.pfn).page_owner is None
    filler.unlink()
    assert sum(small.enable_page_owner(small.capture_stack, small.capture_stack)) >= 8
    assert small.page_owner_on


def test_no_room_for_the_depot(small: Pool, tmpfs: Path) -> None:
    """If only the stack depot has no room, tracking stays off and page_ext is given back."""
    page_ext_bytes = small.nr_pages * 64
    filler = fill_up(tmpfs)
    os.truncate(filler, filler.stat().st_size - page_ext_bytes - 128 * 1024)
    before = (small.all_zones(), committed(small), small.stats())
    with pytest.raises(OSError, match="No space left"):
        small.enable_page_owner(small.capture_stack, small.capture_stack)
    assert not small.page_owner_on
    assert (small.all_zones(), committed(small), small.stats()) == before
    filler.unlink()


def test_no_room_for_a_pool(tmpfs: Path) -> None:
    """A pool without room for struct page is an OSError and leaves no file."""
    from pageownerfs.client import Pool

    filler = fill_up(tmpfs)
    with pytest.raises(OSError, match="No space left"):
        Pool.create(str(tmpfs / "pool"), 64 * MIB, 0, 0, 16, MIB)
    assert [path.name for path in tmpfs.iterdir()] == [filler.name]


def deep_stack(pool: Pool, number: int) -> _native.Page:
    """Allocate from a function that no other call shares."""
    space: dict[str, Any] = {}
    exec(f"def function_{number:0900}(pool): return pool.alloc_pages()", space)
    page: _native.Page = space[f"function_{number:0900}"](pool)
    return page


def test_full_depot(make_pool: Callable[..., Pool]) -> None:
    """In a full depot, new stacks become the failure stack and are counted; old ones work."""
    pool = make_pool(32, stack_depot_bytes=64 * 1024, page_owner=True)
    handles = []
    for number in range(200):
        page = deep_stack(pool, number)
        handles.append(pool.page_info(page.pfn).page_owner.handle)
    failed = [handle for handle in handles if handles.count(handle) > 1]
    stats = pool.stats()
    assert len(set(failed)) == 1
    assert len(failed) > 50
    assert stats.stack_depot_failed == len(failed)
    assert stats.stack_depot_bytes <= stats.stack_depot_max_bytes
    assert len(pool.depot_stack(failed[0])) > 0
    good = handles[0]
    assert pool.depot_stack(good)[0][0].startswith("function_000")
    assert pool.check() == []


def test_depot_without_room_for_its_first_stack(make_pool: Callable[..., Pool]) -> None:
    """If not even its own stacks fit, tracking stays off and takes nothing."""
    pool = make_pool(32, stack_depot_bytes=64 * 1024, stack_depth=64)
    before = committed(pool)
    space: dict[str, Any] = {}
    calls = "".join(
        f"def f{nr}{'x' * 1000}(pool): return f{nr + 1}{'x' * 1000}(pool)\n" for nr in range(80)
    )
    exec(f"{calls}def f80{'x' * 1000}(pool): return pool.capture_stack()", space)

    def capture() -> int:
        handle: int = space["f0" + "x" * 1000](pool)
        return handle

    with pytest.raises(ValueError, match="no room for the first stacks"):
        pool.enable_page_owner(capture, capture)
    assert not pool.page_owner_on
    assert committed(pool) == before
