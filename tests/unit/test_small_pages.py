"""The pages by which the tracker finds struct page, on kernels that this machine's is not."""

from __future__ import annotations

import errno
import mmap
import os

import pytest

from pageownerfs.sources.kernel import tracker


class Memory(mmap.mmap):
    """Memory of a kernel that answers madvise() with an error."""

    error = 0

    def madvise(self, *_: int) -> None:
        """Refuse."""
        raise OSError(self.error, os.strerror(self.error))


def test_no_huge_pages() -> None:
    """Without CONFIG_TRANSPARENT_HUGEPAGE, as in real-time kernels, the advice is not known."""
    with Memory(-1, mmap.PAGESIZE) as memory:
        memory.error = errno.EINVAL
        tracker._advise_small_pages(memory)


def test_another_error() -> None:
    """Anything else is an error."""
    with Memory(-1, mmap.PAGESIZE) as memory:
        memory.error = errno.ENOMEM
        with pytest.raises(OSError, match="allocate memory"):
            tracker._advise_small_pages(memory)
