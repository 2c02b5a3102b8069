"""The pool's Python side: error messages and queries."""

from __future__ import annotations

import errno
import json
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from pageownerfs import (
    BadPageError,
    NotAPoolError,
    OutOfMemoryError,
    Pool,
    VersionMismatchError,
    _native,
    client,
)
from pageownerfs.sources.pool import PoolOptions, PoolSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.require("shm")
MANAGED_BYTES = 8 << 20


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Attach to a small pool that tracks."""
    options = PoolOptions(page_owner=True, size_bytes=MANAGED_BYTES)
    with PoolSource(options) as source, Pool.open(source.describe()["shm_path"]) as opened:
        yield opened


def take_all(pool: Pool, order: int, gfp_mask: int) -> None:
    """Allocate until nothing is left."""
    while True:
        pool.alloc_pages(order, gfp_mask)


def test_out_of_memory(pool: Pool) -> None:
    """The error has order, mask and free blocks, also in its text, and survives pickling."""
    with pytest.raises(OutOfMemoryError) as caught:
        take_all(pool, 10, 0x40CC0)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.order, error.gfp_mask) == (10, 0x40CC0)
    assert error.free == pool.free_pages_by_order()
    assert error.free["DMA"][10] == 0
    text = "page allocation failure: order:10, mode:0x40cc0(GFP_KERNEL|__GFP_COMP); free: DMA: "
    assert str(error).startswith(text)
    assert "\n" not in str(error)


def free_twice(pool: Pool, pfn: int) -> None:
    """Free a block and free it again."""
    pool.free_pages(pfn)
    pool.free_pages(pfn)


@pytest.mark.parametrize(
    ("misuse", "texts"),
    [
        pytest.param(
            free_twice,
            ["PFN {pfn:#x} is not allocated", "allocated by pid ", "last freed by pid "],
            id="double free",
        ),
        pytest.param(
            lambda pool, pfn: pool.free_pages(pfn + 1),
            ["PFN {tail:#x} is inside an allocated block", "its head is PFN {pfn:#x}"],
            id="tail",
        ),
        pytest.param(
            lambda pool, pfn: pool.free_pages(pfn, 1),
            ["PFN {pfn:#x} was allocated with another order", "its order is 2, not 1"],
            id="order",
        ),
        pytest.param(
            lambda pool, _: pool.free_pages(1 << 31),
            ["PFN 0x80000000 is not an allocatable page", "PFNs of this pool are [0, "],
            id="foreign",
        ),
        pytest.param(
            lambda pool, _: pool.free_pages(0),
            ["PFN 0x0 is not an allocatable page"],
            id="reserved",
        ),
    ],
)
def test_bad_pages(pool: Pool, misuse: Callable[[Pool, int], None], texts: list[str]) -> None:
    """The error names the PFN and what is known about it, and the pool stays intact."""
    pfn = pool.alloc_pages(2).pfn
    with pytest.raises(BadPageError) as caught:
        misuse(pool, pfn)
    for text in texts:
        assert text.format(pfn=pfn, tail=pfn + 1) in str(caught.value)
    assert pool.check() == []


def test_zones_add_up(pool: Pool) -> None:
    """Only populated zones are listed, and together they have all pages that the pool manages."""
    pool.alloc_pages()
    zones = pool.zones
    assert [zone.name for zone in zones] == ["DMA"]
    assert sum(zone.managed_pages for zone in zones) == pool.managed_pages
    (zone,) = zones
    assert zone.nr_free == sum(n << order for order, n in enumerate(zone.free_blocks))
    assert zone.nr_pcp == sum(client.nr_pcp for client in pool.clients)
    assert [client.tgid > 0 for client in pool.clients] == [True]


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOTCONN, NotAPoolError, "pageownerfs umount /mnt"),
        (errno.ENODATA, NotAPoolError, "pageownerfs pool /mnt"),
        (errno.ENOENT, NotAPoolError, "No such file"),
        (errno.EACCES, client.PoolAccessError, "allow_other"),
    ],
)
def test_errors_of_mounts(number: int, kind: type[Exception], text: str) -> None:
    """The errno of getxattr() decides which error is raised, and each error says what to do."""
    error = client.mount_error("/mnt", OSError(number, "No such file"))
    assert type(error) is kind
    assert text in str(error)


def test_attach_elsewhere(tmp_path: Path) -> None:
    """A directory without a mount of ours is refused."""
    with pytest.raises(NotAPoolError, match="no pageownerfs is mounted here"):
        Pool.attach(tmp_path)


def test_not_a_pool(tmp_path: Path) -> None:
    """A file that is not a pool is named, and the error says what to do."""
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with pytest.raises(
        NotAPoolError, match=r"file: not a pool; unmount the pool and mount it again"
    ):
        Pool._attach_file("/mnt", str(path))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"abi": -1, "source": "pool", "version": "0.0.1"}, VersionMismatchError, "0.0.1"),
        ({"abi": _native.ABI_VERSION, "source": "trace"}, NotAPoolError, "the source is 'trace'"),
        ({"source": "pool"}, NotAPoolError, "not written by pageownerfs"),
        (["abi", "source"], NotAPoolError, "not written by pageownerfs"),
        (None, NotAPoolError, "not written by pageownerfs"),
    ],
)
def test_what_the_mount_says(
    tmp_path: Path, value: object, kind: type[Exception], message: str
) -> None:
    """Another version, another source and nonsense are refused before memory is mapped."""
    text = b"\xff{" if value is None else json.dumps(value).encode()
    try:
        os.setxattr(tmp_path, client.XATTR, text)
    except OSError as error:
        pytest.skip(
            f"needs extended attributes on the file system of {tmp_path}: {error.strerror}"
        )
    with pytest.raises(kind, match=message):
        Pool.attach(tmp_path)
