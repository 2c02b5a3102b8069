"""An open text that the C renderer writes straight into the buffer of whoever reads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .view import ViewError

if TYPE_CHECKING:
    from pageownerfs._native import Reader


class ReaderFile:
    """One open file over a Reader: an ordinary text file of which nothing is held in memory."""

    def __init__(self, reader: Reader) -> None:
        """Read from ``reader``, which belongs to this file alone."""
        self.read = reader.read
        self.read_into = reader.read_into

    def write(self, data: bytes, offset: int) -> int:
        """Refuse: EINVAL, as the kernel's file does for who may open it for writing."""
        del data, offset
        raise ViewError(errno.EINVAL)

    def close(self) -> None:
        """Nothing to drop: the reader goes with the handle."""
