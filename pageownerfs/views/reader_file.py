"""An open text that the C renderer writes straight into the buffer of whoever reads."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Final

from .filters import Filter, parse_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pageownerfs._native import Reader

_MAX_ENDS: Final = 8


class ReaderFile:
    """
    One open page_owner: an ordinary text file of which nothing is held in memory.

    Writing sets filters, for this open file alone. It does not move the position in the kernel,
    but does so in FUSE; so it is kept here which offset stands for which place in the text.
    """

    def __init__(self, reader: Reader, nodes: Callable[[], Collection[int]]) -> None:
        """
        Read from ``reader``, which belongs to this file alone.

        :param nodes: gives those that have memory
        """
        self._reader = reader
        self._nodes = nodes
        self._lock = threading.Lock()
        self._filter = Filter()
        # Where writes have moved the position to, and what the place in the text is there.
        self._ends: dict[int, int] = {}
        # Until something is written they are the same, and nothing need be kept.
        self.read_into: Callable[[int, int, int, bool], int] = reader.read_into

    def read(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes at ``offset``."""
        buffer = ctypes.create_string_buffer(size)
        nr_bytes = self.read_into(ctypes.addressof(buffer), size, offset, False)
        return buffer.raw[:nr_bytes]

    def _read_moved(self, address: int, size: int, offset: int, fill: bool, /) -> int:
        with self._lock:
            place = self._ends.pop(offset, offset)
            nr_bytes = self._reader.read_into(address, size, place, fill)
            self._keep(offset + nr_bytes, place + nr_bytes)
            return nr_bytes

    def _keep(self, offset: int, place: int) -> None:
        self._ends.pop(offset, None)
        if offset != place:
            self._ends[offset] = place
        if len(self._ends) > _MAX_ENDS:
            del self._ends[next(iter(self._ends))]

    def write(self, data: bytes, offset: int) -> int:
        """Set filters: see filters.py. ViewError: nothing has changed."""
        with self._lock:
            self._filter = parse_filter(data, self._filter, self._nodes())
            self._reader.set_filter(*self._filter)
            self._keep(offset + len(data), self._ends.pop(offset, offset))
            self.read_into = self._read_moved
        return len(data)

    def close(self) -> None:
        """Nothing to drop: the reader goes with the handle."""
