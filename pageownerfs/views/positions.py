"""
Which place a position of an open file stands for, where the two are not the same number.

FUSE moves the position by the bytes that a read() returned or a write() took, and does not tell
where a seek went. So it is remembered where reads and writes have ended: an offset where one did
means "go on", any other offset means itself.
"""

from __future__ import annotations

from typing import Final

_MAX_POSITIONS: Final = 8


class Positions:
    """Places by offset; whoever uses them keeps threads apart."""

    def __init__(self) -> None:
        """Begin at 0, which is the first place."""
        # A read anywhere else is a seek or a pread(), and only what comes next tells which: so the
        # places before it are kept, too.
        self._places = {0: 0}
        # Where the last one that went on has ended: no number of pread()s makes it forgotten.
        self._last = 0

    def place(self, offset: int) -> int:
        """Tell which place an offset stands for."""
        return self._places.get(offset, offset)

    def read(self, offset: int, end: int, place: int) -> None:
        """Take note of a read at ``offset`` that ended at ``end``; ``place`` comes next there."""
        if self._places.pop(offset, None) is not None:
            self._last = end
        self._keep(end, place)

    def write(self, offset: int, end: int) -> None:
        """Take note of a write at ``offset``: it moves the position, but not the place."""
        place = self.place(offset)
        self._places.pop(offset, None)
        self._last = end
        self._keep(end, place)

    def _keep(self, offset: int, place: int) -> None:
        self._places[offset] = place
        if len(self._places) > _MAX_POSITIONS:
            del self._places[next(old for old in self._places if old != self._last)]
