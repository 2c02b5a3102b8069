"""
The kernel's read() of page_owner to the letter (read_page_owner() of 6.12), for -o kernel_abi.

One record per read() at most. A position is a PFN: a read gives the first record at or after it.
A buffer that can't hold the record and one byte more, or a record above 4095 bytes: ENOMEM, and
the position stays. The end is not sticky: a later read finds pages allocated meanwhile.

FUSE moves the position by the bytes returned, and does not tell where a seek went. So the PFN to
go on with is kept here, and an offset where an earlier read ended means "go on"; any other offset
is a PFN.
"""

from __future__ import annotations

import ctypes
import errno
import threading
from typing import TYPE_CHECKING, Final

from pageownerfs._native import PAGE_SIZE

from .filters import Filter, parse_filter
from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pageownerfs._native import Reader

_MAX_ENDS: Final = 8


class KernelAbiFile:
    """One open page_owner with the kernel's semantics."""

    def __init__(self, reader: Reader, nodes: Callable[[], Collection[int]] | None) -> None:
        """
        Read records from the first PFN on.

        :param reader: belongs to this file alone
        :param nodes: gives those that have memory; None: a kernel without filters
        """
        self._reader = reader
        self._nodes = nodes
        self._filter = Filter()
        self._lock = threading.Lock()
        # Where reads ended, and the PFN to go on with there. A read anywhere else is a seek or a
        # pread(), and only what comes next tells which: so the places before it are kept, too.
        self._ends = {0: 0}
        # The one that a read which went on has left: no number of pread()s makes it forgotten.
        self._last_end = 0

    def read(self, size: int, offset: int) -> bytes:
        """Give one record, or nothing at the end. ViewError ENOMEM: see above."""
        with self._lock:
            found = self._reader.record(self._ends.get(offset, offset))
            if found is None:
                return b""
            record, next_pfn = found
            if len(record) + 1 > min(size, PAGE_SIZE):
                raise ViewError(errno.ENOMEM)
            end = offset + len(record)
            if self._ends.pop(offset, None) is not None:
                self._last_end = end
            self._ends[end] = next_pfn
            if len(self._ends) > _MAX_ENDS:
                del self._ends[next(old for old in self._ends if old != self._last_end)]
            return record

    def read_into(self, address: int, size: int, offset: int, fill: bool, /) -> int:
        """As read(), into memory."""
        del fill
        record = self.read(size, offset)
        ctypes.memmove(address, record, len(record))
        return len(record)

    def write(self, data: bytes, offset: int) -> int:
        """Set filters; the position stays. EINVAL from a kernel without."""
        if self._nodes is None:
            raise ViewError(errno.EINVAL)
        with self._lock:
            self._filter = parse_filter(data, self._filter, self._nodes())
            self._reader.set_filter(*self._filter)
            self._ends[offset + len(data)] = self._ends.pop(offset, offset)
            self._last_end = offset + len(data)
        return len(data)

    def close(self) -> None:
        """Nothing to drop."""
