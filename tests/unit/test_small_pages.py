"""The small pages that help to find struct page, on kernels other than this machine's."""

from __future__ import annotations

import errno
import mmap
import os

import pytest

from pageownerfs.sources.kernel import tracker


class Memory(mmap.mmap):
    """Memory on a kernel where madvise() fails."""

    error = 0

    def madvise(self, *_: int) -> None:
        """Refuse."""
        raise OSError(self.error, os.strerror(self.error))


def test_no_huge_pages() -> None:
    """A kernel without transparent huge pages, such as a real-time one, rejects the advice."""
    with Memory(-1, mmap.PAGESIZE) as memory:
        memory.error = errno.EINVAL
        tracker._advise_small_pages(memory)


def test_another_error() -> None:
    """Any other error is raised."""
    with Memory(-1, mmap.PAGESIZE) as memory:
        memory.error = errno.ENOMEM
        with pytest.raises(OSError, match="allocate memory"):
            tracker._advise_small_pages(memory)
