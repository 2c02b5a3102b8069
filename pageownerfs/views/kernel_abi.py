"""
The kernel's read() of page_owner to the letter (read_page_owner() of 6.12), for -o kernel_abi.

One record per read() at most. A position is a PFN: a read gives the first record at or after it.
A buffer that can't hold the record and one byte more, or a record above 4095 bytes: ENOMEM, and
the position stays. The end is not sticky: a later read finds pages allocated meanwhile.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from pageownerfs.mm.zone import PAGE_SIZE

from .filters import Filter, parse_filter
from .positions import Positions
from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pageownerfs._native import Reader


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
        # Places are PFNs.
        self._positions = Positions()

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Give one record, or nothing at the end. ViewError ENOMEM: see above."""
        with self._lock:
            found = self._reader.record(self._positions.place(offset))
            if found is None:
                return 0
            record, next_pfn = found
            if len(record) + 1 > min(len(view), PAGE_SIZE):
                raise ViewError(errno.ENOMEM)
            self._positions.read(offset, offset + len(record), next_pfn)
        view[: len(record)] = record
        return len(record)

    def write(self, data: bytes, offset: int) -> int:
        """Set filters; the position stays. EINVAL from a kernel without."""
        if self._nodes is None:
            raise ViewError(errno.EINVAL)
        with self._lock:
            self._filter = parse_filter(data, self._filter, self._nodes())
            self._reader.set_filter(*self._filter)
            self._positions.write(offset, offset + len(data))
        return len(data)

    def close(self) -> None:
        """Nothing to drop."""
