"""A small text as a file: made anew whenever a reader is at its beginning, as a seq_file."""

from __future__ import annotations

import ctypes
import errno
import threading
from typing import TYPE_CHECKING

from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable


class TextFile:
    """
    One open small text, whole in memory.

    Reading at offset 0 makes the text; later offsets read on in the same one, so that one pass
    over the file sees one state.
    """

    def __init__(
        self, make: Callable[[], bytes], store: Callable[[bytes], None] | None = None
    ) -> None:
        """
        Open it.

        :param make: gives the text
        :param store: takes what is written; None: writing answers EINVAL
        """
        self._make = make
        self._store = store
        self._lock = threading.Lock()
        self._text: bytes | None = None

    def read(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes at ``offset``."""
        with self._lock:
            if offset == 0 or self._text is None:
                self._text = self._make()
            return self._text[offset : offset + size]

    def read_into(self, address: int, size: int, offset: int, fill: bool, /) -> int:
        """As read(), into memory."""
        del fill
        data = self.read(size, offset)
        ctypes.memmove(address, data, len(data))
        return len(data)

    def write(self, data: bytes, offset: int) -> int:
        """Take one write() as one value; as in debugfs, the offset does not matter."""
        del offset
        if self._store is None:
            raise ViewError(errno.EINVAL)
        self._store(data)
        return len(data)

    def close(self) -> None:
        """Nothing to drop."""
