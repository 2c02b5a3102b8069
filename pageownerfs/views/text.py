"""A small text as a file: made anew whenever a reader is at its beginning, as a seq_file."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Final

from pageownerfs.mm.vmstat import STAT_INTERVAL_NSEC

from .view import ViewError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageownerfs.mm.need import Need
    from pageownerfs.sources.base import Source

_FOREVER_NSEC: Final = 1 << 63


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

    def read_into(self, view: memoryview, offset: int, /) -> int:
        """Write what stands at ``offset`` into ``view``; number of bytes."""
        with self._lock:
            if offset == 0 or self._text is None:
                self._text = self._make()
            data = self._text[offset : offset + len(view)]
        view[: len(data)] = data
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
        measure: Callable[[], int] | None = None,
        store: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        Make it.

        :param source: that may lack what it needs
        :param make: gives the text
        :param needs: without one of these it is absent
        :param mode: permission bits
        :param measure: gives the length of the text, where that is known for less
        :param store: takes what is written
        """
        self.mode = mode
        self._source = source
        self._make = make
        self._needs = needs
        self._measure = measure or (lambda: len(make()))
        self._store = store
        self._size = 0
        self._size_until_nsec = 0

    def absent(self) -> str | None:
        """Tell what the source lacks."""
        reasons = (self._source.lacks(need) for need in self._needs)
        return next((reason for reason in reasons if reason is not None), None)

    def size(self) -> int:
        """Length of the text, STAT_INTERVAL_NSEC old at most, if it can change."""
        if time.monotonic_ns() >= self._size_until_nsec:
            self._size = self._measure()
            # What can be written to is small, and seen at once.
            if self._store is None:
                until = time.monotonic_ns() + STAT_INTERVAL_NSEC
                self._size_until_nsec = until if self._source.changes else _FOREVER_NSEC
        return self._size

    def open(self) -> TextFile:
        """Open it."""
        return TextFile(self._make, self._store)
