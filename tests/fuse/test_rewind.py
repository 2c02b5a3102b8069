"""A reader that goes back gets a new text, with the pages allocated since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pageownerfs import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from mounts import Mount

pytestmark = pytest.mark.require("fuse", "shm")

NR_PAGES = 2000


def read_from(fd: int, offset: int, size: int) -> bytes:
    """Read from an offset to the end."""
    os.lseek(fd, offset, os.SEEK_SET)
    parts = []
    while data := os.read(fd, size):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 4096, 10_000, 131_072])
def test_rewound(mount_pool: Callable[..., Mount], size: int) -> None:
    """A second read shows pages allocated below the point where the first one began."""
    path = mount_pool("page_owner=on", "size=64M").path / "page_owner"
    with path.open("rb", buffering=0) as file, Pool.attach(path.parent) as pool:
        before = read_from(file.fileno(), 0, size)
        pages = [pool.alloc_pages(0) for _ in range(NR_PAGES)]
        grown = read_from(file.fileno(), 0, size)
        assert grown.count(b"Page allocated") == before.count(b"Page allocated") + NR_PAGES
        assert grown == path.read_bytes()
        for page in pages[::2]:
            pool.free_pages(page)
        assert read_from(file.fileno(), 0, size) == path.read_bytes()


@pytest.mark.parametrize("size", [4096, 131_072])
def test_first_record_again(mount_pool: Callable[..., Mount], size: int) -> None:
    """Two reads from the beginning give different records if the first page has changed."""
    path = mount_pool("page_owner=on", "size=64M").path / "page_owner"
    with Pool.attach(path.parent) as pool, path.open("rb", buffering=0) as file:
        pages = [pool.alloc_pages(0) for _ in range(NR_PAGES)]
        low = min(pages, key=lambda page: page.pfn)
        pool.free_pages(low)
        first = os.pread(file.fileno(), size, 0)
        assert pool.alloc_pages(0).pfn == low.pfn
        again = os.pread(file.fileno(), size, 0)
        assert first
        assert again[: len(first)] != first
        assert again == path.read_bytes()[: len(again)]


def test_places_are_those_of_the_text_that_was_read_last(
    mount_pool: Callable[..., Mount],
) -> None:
    """After the text grew and was read again, a seek leads to the same bytes."""
    path = mount_pool("page_owner=on", "size=64M").path / "page_owner"
    with path.open("rb", buffering=0) as file, Pool.attach(path.parent) as pool:
        read_from(file.fileno(), 0, 131_072)
        pages = [pool.alloc_pages(0) for _ in range(NR_PAGES)]
        for text in (read_from(file.fileno(), 0, 131_072), read_from(file.fileno(), 0, 131_072)):
            for offset in (len(text) - 1, 700_001, 300_000, len(text) // 2, 1):
                assert os.pread(file.fileno(), 5000, offset) == text[offset : offset + 5000]
        for page in pages:
            pool.free_pages(page)
        text = read_from(file.fileno(), 0, 131_072)
        for offset in (len(text), len(text) - 1, 700_001, 300_000):
            assert os.pread(file.fileno(), 5000, offset) == text[offset : offset + 5000]
