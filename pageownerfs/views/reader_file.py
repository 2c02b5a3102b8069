"""An open text that the C renderer writes directly into the reader's buffer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .filters import Filter, parse_filter
from .positions import Positions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pageownerfs._native import Reader


class ReaderFile:
    """
    An open page_owner: an ordinary text file whose text is never held in memory.

    A write sets filters for this open file only. In the kernel a write does not move the position,
    but in FUSE it does; Positions therefore maps offsets to places in the text.
    """

    def __init__(self, reader: Reader, nodes: Callable[[], Collection[int]]) -> None:
        """
        Read from ``reader``, which only this file uses.

        :param nodes: returns the nodes that have memory
        """
        self._reader = reader
        self._nodes = nodes
        self._lock = threading.Lock()
        self._filter = Filter()
        self._positions = Positions()
        # Until the first write, positions are places in the text.
        self.read_into: Callable[[memoryview, int], int] = reader.read_into

    def _read_moved(self, view: memoryview, offset: int, /) -> int:
        with self._lock:
            place = self._positions.place(offset)
            nr_bytes = self._reader.read_into(view, place)
            self._positions.read(offset, offset + nr_bytes, place + nr_bytes)
            return nr_bytes

    def write(self, data: bytes, offset: int) -> int:
        """Set filters, see filters.py.

        :raises ViewError: as parse_filter(); nothing has changed
        """
        with self._lock:
            self._filter = parse_filter(data, self._filter, self._nodes())
            self._reader.set_filter(*self._filter)
            self._positions.write(offset, offset + len(data))
            self.read_into = self._read_moved
        return len(data)

    def close(self) -> None:
        """Do nothing: the reader is freed with this file."""
