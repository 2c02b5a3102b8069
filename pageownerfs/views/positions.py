"""
Map the position of an open file to a place in its text, where the two differ.

FUSE moves the position by the number of bytes that a read() or write() transferred, and does not
report seeks. So this class remembers the offsets at which reads and writes ended: such an offset
means "continue", any other offset means itself.
"""

from __future__ import annotations

from typing import Final

_MAX_POSITIONS: Final = 8


class Positions:
    """Places by offset; the caller must hold a lock."""

    def __init__(self) -> None:
        """Begin at offset 0, which is the first place."""
        # A read at another offset is a seek or a pread(), and only the next read shows which. So
        # the earlier places are kept.
        self._places = {0: 0}
        # Where the last read that continued has ended: no number of pread()s drops this place.
        self._last = 0

    def place(self, offset: int) -> int:
        """Return the place of an offset."""
        return self._places.get(offset, offset)

    def read(self, offset: int, end: int, place: int) -> None:
        """Record a read from ``offset`` to ``end``; ``place`` is the place that follows it."""
        if self._places.pop(offset, None) is not None:
            self._last = end
        self._keep(end, place)

    def write(self, offset: int, end: int) -> None:
        """Record a write from ``offset`` to ``end``: it moves the position, but not the place."""
        place = self.place(offset)
        self._places.pop(offset, None)
        self._last = end
        self._keep(end, place)

    def _keep(self, offset: int, place: int) -> None:
        self._places[offset] = place
        if len(self._places) > _MAX_POSITIONS:
            del self._places[next(old for old in self._places if old != self._last)]
