"""
An open page_owner that behaves exactly as the kernel's (read_page_owner() of 6.12): -o kernel_abi.

A read() returns at most one record. A position is a PFN: a read returns the first record at or
after it. A read fails with ENOMEM, without moving the position, if the buffer can't hold the
record and one more byte, or if the record has more than 4095 bytes. The end is not final: a later
read finds pages that were allocated in the meantime.
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
    """An open page_owner with the kernel's semantics."""

    def __init__(self, reader: Reader, nodes: Callable[[], Collection[int]] | None) -> None:
        """
        Start at the first PFN.

        :param reader: a reader that only this file uses
        :param nodes: returns the nodes that have memory; None: the kernel has no filters
        """
        self._reader = reader
        self._nodes = nodes
        self._filter = Filter()
        self._lock = threading.Lock()
        # The places are PFNs.
        self._positions = Positions()

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Read one record, or nothing at the end.

        :raises ViewError: ENOMEM: the record does not fit, see above
        """
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
        """Set filters without moving the position.

        :raises ViewError: EINVAL: the kernel has no filters; or as parse_filter()
        """
        if self._nodes is None:
            raise ViewError(errno.EINVAL)
        with self._lock:
            self._filter = parse_filter(data, self._filter, self._nodes())
            self._reader.set_filter(*self._filter)
            self._positions.write(offset, offset + len(data))
        return len(data)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
