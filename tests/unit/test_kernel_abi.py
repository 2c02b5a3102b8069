"""The kernel's read() of page_owner, on a pool without a mount."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from open_files import read_at

from pageownerfs import Pool
from pageownerfs.sources.pool import PoolOptions, PoolSource
from pageownerfs.views import OpenFile, ViewError, make_tree
from pageownerfs.views.page_owner import PageOwnerView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageownerfs.views import OpenFile

pytestmark = pytest.mark.require("shm")
PAGE = 4096
PFN_AT = b"PFN 0x"


class Opened:
    """An open page_owner, with the file position that the kernel's FUSE would keep."""

    def __init__(self, file: OpenFile) -> None:
        """Start at 0."""
        self.file = file
        self.position = 0

    def read(self, size: int = 65536) -> bytes:
        """Read and advance like read()."""
        data = read_at(self.file, size, self.position)
        self.position += len(data)
        return data

    def read_pfn(self) -> int:
        """Read a record and return its PFN."""
        return pfn_of(self.read())


def pfn_of(record: bytes) -> int:
    """Return the PFN of a single record."""
    assert record.count(PFN_AT) == 1
    assert record.startswith(b"Page allocated via order ")
    assert record.endswith(b"\n\n")
    return int(record.split(PFN_AT)[1].split()[0], 16)


@pytest.fixture
def source() -> Iterator[PoolSource]:
    """Make a small pool that tracks."""
    with PoolSource(PoolOptions(page_owner=True, size_bytes=8 << 20)) as made:
        yield made


@pytest.fixture
def pfns(source: PoolSource) -> Iterator[list[int]]:
    """Allocate five pages, lowest first; early pages come after them."""
    with Pool.open(source.describe()["shm_path"]) as pool:
        yield sorted(pool.alloc_pages().pfn for _ in range(5))


def open_page_owner(source: PoolSource) -> OpenFile:
    """Open page_owner with kernel_abi."""
    view = make_tree(source, kernel_abi=True).lookup("page_owner")
    assert isinstance(view, PageOwnerView)
    return view.open()


@pytest.fixture
def opened(source: PoolSource, pfns: list[int]) -> Opened:
    """Open page_owner with kernel_abi, after the five allocations."""
    assert pfns
    return Opened(open_page_owner(source))


def test_one_record_per_read(opened: Opened, pfns: list[int]) -> None:
    """A read returns one record, whatever the size of the buffer."""
    assert [opened.read_pfn() for _ in pfns] == pfns


def test_small_buffer(opened: Opened, pfns: list[int]) -> None:
    """The buffer must exceed the record by one byte; ENOMEM does not move the position."""
    length = len(opened.read())
    opened.position = 0
    for size in (0, 1, length - 1, length):
        with pytest.raises(ViewError) as caught:
            opened.read(size)
        assert caught.value.errno == errno.ENOMEM
    assert pfn_of(opened.read(length + 1)) == pfns[0]
    assert opened.read_pfn() == pfns[1]


def test_position_is_a_pfn(opened: Opened, pfns: list[int]) -> None:
    """A seek leads to the first record at or after a PFN, and reading continues from there."""
    opened.position = pfns[2]
    assert [opened.read_pfn() for _ in range(3)] == pfns[2:]
    opened.position = 0
    assert opened.read_pfn() == pfns[0]


def test_pread_does_not_disturb(opened: Opened, pfns: list[int]) -> None:
    """pread() of any PFN does not affect the sequence of reads."""
    assert opened.read_pfn() == pfns[0]
    for pfn in (pfns[3], pfns[4], 0, pfns[3] + 1):
        assert pfn_of(read_at(opened.file, PAGE, pfn)) == min(p for p in pfns if p >= pfn)
    assert [opened.read_pfn() for _ in pfns[1:]] == pfns[1:]


def test_end_is_not_sticky(opened: Opened, source: PoolSource) -> None:
    """After the end, a page allocated at a higher PFN is still found."""
    with Pool.open(source.describe()["shm_path"]) as pool:
        last = 0
        while record := opened.read():
            last = pfn_of(record)
        assert opened.read() == b""
        assert opened.read(1) == b""
        end = opened.position
        assert read_at(opened.file, PAGE, last + 1) == b""
        assert opened.position == end
        assert pool.nr_pages > last


@pytest.mark.parametrize("offset", [1 << 31, 1 << 32, (1 << 63) - 8192])
def test_beyond_the_last_pfn(opened: Opened, offset: int) -> None:
    """A position beyond the memory is the end, not an error."""
    assert read_at(opened.file, PAGE, offset) == b""


def test_write(opened: Opened) -> None:
    """The kernel's file of 6.12 accepts no writes: EINVAL."""
    with pytest.raises(ViewError) as caught:
        opened.file.write(b"mode=stack", 0)
    assert caught.value.errno == errno.EINVAL


def test_many_seeks(opened: Opened, pfns: list[int]) -> None:
    """After a seek, reads interleaved with pread()s continue after the seek."""
    opened.read()
    opened.position = 0
    assert opened.read_pfn() == pfns[0]
    assert pfn_of(read_at(opened.file, PAGE, pfns[4])) == pfns[4]
    assert [opened.read_pfn() for _ in range(2)] == pfns[1:3]


def test_split_behind_the_position(source: PoolSource) -> None:
    """Reading continues at PFN + 1: a block that is split meanwhile shows its other pages."""
    with Pool.open(source.describe()["shm_path"]) as pool:
        page = pool.alloc_pages(2)
        opened = Opened(open_page_owner(source))
        opened.position = page.pfn
        assert opened.read_pfn() == page.pfn
        pool.split_page(page)
        assert [opened.read_pfn() for _ in range(3)] == [page.pfn + i for i in (1, 2, 3)]


def test_many_preads(opened: Opened, pfns: list[int]) -> None:
    """However many pread()s come between, reading continues where it was."""
    assert opened.read_pfn() == pfns[0]
    for offset in range(1, 100):
        read_at(opened.file, PAGE, offset)
    assert opened.read_pfn() == pfns[1]
    for offset in range(1, 100):
        read_at(opened.file, PAGE, offset)
    assert opened.read_pfn() == pfns[2]
