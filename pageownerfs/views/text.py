"""A small text as a file: made anew whenever a reader is at its beginning, as a seq_file."""

from __future__ import annotations

import ctypes
import errno
import threading
import time
from typing import TYPE_CHECKING, Final

from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.mm.need import Need

    from .view import Source

_SIZE_NSEC: Final = 1_000_000_000
"""That a size is taken for what it was: stat() should not cost as much as reading."""


class TextFile:
    """
    One open small text, whole in memory.

    Reading at offset 0 makes the text; later offsets read on in the same one, so that one pass
    over the file sees one state.
    """

    def __init__(
        self,
        make: Callable[[], bytes],
        store: Callable[[bytes], None] | None = None,
        *,
        sized: bool = True,
    ) -> None:
        """
        Open it.

        :param make: gives the text
        :param store: takes what is written; None: writing answers EINVAL
        :param sized: the view knows the size, open or not
        """
        self._sized = sized
        self._make = make
        self._store = store
        self._lock = threading.Lock()
        self._text: bytes | None = None
        self._is_new = False

    def size(self) -> int | None:
        """Length of the text that is read; if none was yet it is made, and read next."""
        if self._sized:
            return None
        with self._lock:
            if self._text is None:
                self._text = self._make()
                self._is_new = True
            return len(self._text)

    def read(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes at ``offset``."""
        with self._lock:
            if self._text is None or (offset == 0 and not self._is_new):
                self._text = self._make()
            self._is_new = False
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


class TextView:
    """A file of which a function makes the text."""

    def __init__(
        self,
        source: Source,
        make: Callable[[], bytes],
        *needs: Need,
        mode: int = 0o400,
        sized: bool = True,
        store: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        Make it.

        :param source: that may lack what it needs
        :param make: gives the text
        :param needs: without one of these it is absent
        :param mode: permission bits
        :param sized: st_size is the length of the text, a second old at most; else it is 0, for
            what takes long to make, until the file is open
        :param store: takes what is written
        """
        self.mode = mode
        self._source = source
        self._make = make
        self._needs = needs
        self._sized = sized
        self._store = store
        self._size = 0
        self._size_until_nsec = 0

    def absent(self) -> str | None:
        """Tell what the source lacks."""
        reasons = (self._source.lacks(need) for need in self._needs)
        return next((reason for reason in reasons if reason is not None), None)

    def size(self) -> int:
        """Length of the text, or 0."""
        if self._sized and time.monotonic_ns() >= self._size_until_nsec:
            self._size = len(self._make())
            # What can be written to is small, and seen at once.
            keep_nsec = 0 if self._store is not None else _SIZE_NSEC
            self._size_until_nsec = time.monotonic_ns() + keep_nsec
        return self._size

    def open(self) -> TextFile:
        """Open it."""
        return TextFile(self._make, self._store, sized=self._sized)
